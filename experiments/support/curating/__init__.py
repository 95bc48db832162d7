"""The ablation of a pipeline: its steps left out, models trained without, measured and shown."""
