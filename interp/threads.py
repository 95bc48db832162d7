"""Do several threads compute faster than one, on this machine and just now?

    with quickest_threads(model) as ask:
        ...
        ask()           # now and then: other work may have come, or gone

Threads share one operation, and wait for each other at its end. Where other work holds a core, a
small operation waits for it to be given back: on a busy machine with two cores, two threads can
take many times as long as one. So it is measured, with a linear map of the model's own size.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 32  # tokens
REPEATS = 5
PATIENCE = 5.0  # seconds for which a measurement counts
WIDEST = 20_000  # a vocabulary is wider than what a model computes with


@contextmanager
def quickest_threads(model: Any) -> Iterator[Callable[[], None]]:
    """Inside the block torch computes with one thread, or with as many as it had, whichever is
    faster; the function that is given measures again, at most every few seconds.

    It is left as it is where torch has one thread, and for a model that is not on the processor.
    """
    most = torch.get_num_threads()
    weight = typical_weight(model)
    if most == 1 or weight is None or weight.device.type != "cpu":
        yield lambda: None
        return
    measured = [-PATIENCE]

    def ask() -> None:
        if time.monotonic() - measured[0] > PATIENCE:
            torch.set_num_threads(faster_of(weight, most))
            measured[0] = time.monotonic()

    try:
        ask()
        yield ask
    finally:
        torch.set_num_threads(most)


def typical_weight(model: Any) -> Tensor | None:
    """The largest linear map of a model, but for those of its vocabulary."""
    if not isinstance(model, nn.Module):
        return None
    weights = [each for each in model.parameters() if each.ndim == 2 and max(each.shape) < WIDEST]
    return max(weights, key=lambda each: each.numel(), default=None)


def faster_of(weight: Tensor, most: int) -> int:
    """One, or ``most``: as many threads as make products with a weight fastest."""
    x = torch.ones(ROWS, weight.shape[1], dtype=weight.dtype)
    seconds: dict[int, list[float]] = {1: [], most: []}
    with torch.no_grad():
        for _ in range(REPEATS):
            for threads, taken in seconds.items():
                torch.set_num_threads(threads)
                start = time.perf_counter()
                nn.functional.linear(x, weight)
                taken.append(time.perf_counter() - start)
    return min(seconds, key=lambda threads: statistics.mean(seconds[threads][1:]))
