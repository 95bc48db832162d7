"""How are two things timed on a noisy machine so that their ratio means something?"""

import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.devices import wait_for_gpu


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds that each candidate took in each round, all candidates in turn within a round.

    What slows the machine down for a while slows all of them, and ratios within a round stand.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_ in range(warmup + rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            wait_for_gpu()
            if round_ >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> tuple[float, float, float]:
    """The median over rounds of ``slow`` divided by ``fast``, and the middle half of the rounds."""
    ratios = sorted(s / f for s, f in zip(seconds[slow], seconds[fast], strict=True))
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), low, high
