"""The model under study: a NanoGPT with a named hook point on every value worth looking at."""

from gpt.model import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig"]
