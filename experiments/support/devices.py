"""On what does a model compute, and in which numbers?"""

from typing import Literal

import torch

from gpt.errors import UsageError
from gpt.protocol import LanguageModel
from interp.runs.files import note

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
NARROW = 256  # width of the residual stream


def device_named(device: Device) -> torch.device:
    """The device that an option names. Raises ``UsageError`` where it is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device is cuda, and torch finds no GPU here: take auto or cpu")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def keep_to_one_thread(model: LanguageModel) -> None:
    """One thread for a narrow model, for the rest of this process, which is said: several spend
    their time waiting for each other, and many times it where other work shares the cores."""
    if model.config.n_embd < NARROW and torch.get_num_threads() > 1:
        note("one thread computes from here on: more are slower for a model this narrow")
        torch.set_num_threads(1)
