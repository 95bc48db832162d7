"""The parts of an exact sweep: what the model is made of, the plan, and its execution."""
