"""Ours against a peer, both in one run, as a ratio: ``python -m benchmarks.NAME``."""
