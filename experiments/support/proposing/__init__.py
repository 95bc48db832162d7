"""What does a proposal of a model quote: numbers of its data, abilities, probes, filters, costs."""
