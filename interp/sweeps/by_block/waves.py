"""Which trials run together through a model's blocks?

Trials that start at nearly the same position run as one wave: its rows are joined block by block,
each where it is changed. A wave costs what starting its blocks costs, however few rows it has, so
that few full waves are best; and a trial in a wave that starts earlier than it need costs those
positions. What costs least is found by dynamic programming over the starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interp.sweeps.by_block.path import BlockEntry
from interp.sweeps.speed.grouping import BatchLimits


@dataclass(frozen=True)
class Wave:
    """Trials that run together.

    Args:
        trials: which ones, in the order of the blocks that they change.
        start: the first position that runs.
        stop: the one after the last.
        examples: how many texts at a time.
        tokens: how many tokens all its blocks run on, for all texts.
    """

    trials: Sequence[int]
    start: int
    stop: int
    examples: int
    tokens: int


def make_waves(
    entries: Mapping[int, BlockEntry],
    starts: Mapping[int, int],
    stop: int,
    batch: int,
    layers: int,
    limits: BatchLimits,
    most: int,
) -> list[Wave]:
    """The waves that cost least.

    Args:
        entries: where each trial is changed.
        starts: the first position that each trial changes.
        stop: the position after the last that runs.
        batch: texts.
        layers: blocks.
        limits: what the device has under way at a time.
        most: trials that may run together whatever their size.
    """
    waves = []
    for start, members in join_starts(starts, stop, batch, limits):
        length = stop - start
        examples = max(1, min(batch, limits.rows // length))
        together = max(1, min(most, limits.rows // (examples * length)))
        ordered = sorted(
            members, key=lambda trial: (entries[trial].layer, entries[trial].where, trial)
        )
        for begin in range(0, len(ordered), together):
            trials = ordered[begin : begin + together]
            blocks = sum(layers - entries[trial].layer for trial in trials)
            waves.append(Wave(trials, start, stop, examples, blocks * batch * length))
    return waves


def join_starts(
    starts: Mapping[int, int], stop: int, batch: int, limits: BatchLimits
) -> list[tuple[int, list[int]]]:
    """Trials by the position from which they run together."""
    by_start: dict[int, list[int]] = {}
    for trial, start in sorted(starts.items(), key=lambda pair: pair[1]):
        by_start.setdefault(start, []).append(trial)
    ordered = list(by_start)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(ordered) + 1):
        choices, count = [], 0
        for begin in range(end - 1, -1, -1):
            count += len(by_start[ordered[begin]])
            tokens = count * batch * (stop - ordered[begin])
            batches = -(-tokens // limits.rows)
            choices.append((best[begin][0] + tokens + limits.setup * batches, begin))
        best.append(min(choices))
    joined: list[tuple[int, list[int]]] = []
    end = len(ordered)
    while end:
        begin = best[end][1]
        members = [trial for start in ordered[begin:end] for trial in by_start[start]]
        joined.append((ordered[begin], members))
        end = begin
    return joined[::-1]
