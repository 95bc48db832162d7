"""Short scripts, one question each. ``python -m experiments`` lists them."""
