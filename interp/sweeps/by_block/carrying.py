"""How is a wave of trials carried through a model's own blocks, to the metric?

Rows are [trial example], positions are those from the wave's start on: earlier ones are as in the
clean run, whose keys and values are in the model's own cache.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.sweeps.by_block.path import BlockPath, hooked, running_alone
from interp.sweeps.by_block.waves import Wave
from interp.sweeps.speed.scoring import Score, measure_carried
from interp.sweeps.trials import Change

Edit = tuple[slice, Change]
"""The rows of a batch that a trial has, and what it changes."""


def measure_wave(
    path: BlockPath, wave: Wave, changes: Mapping[int, Change], score: Score
) -> Float[Tensor, "trial batch"]:
    """The metric of every trial of a wave."""
    fresh = [read for read in score.reads if read >= wave.start]

    def carried(examples: slice) -> tuple[Tensor, list[int]]:
        with running_alone():
            x = carry_wave(path, wave, changes, examples)
        return x[:, [read - wave.start for read in fresh]], fresh

    return measure_carried(score, len(wave.trials), wave.examples, carried)


def carry_wave(
    path: BlockPath, wave: Wave, changes: Mapping[int, Change], examples: slice
) -> Float[Tensor, "row pos d_model"]:
    """The residual stream behind the last block, row by row."""
    blocks, entries = path.blocks, path.entries
    begin = path.beginning(wave.start, wave.stop)
    start, stop = begin.start, begin.stop
    blocks.forget()
    chosen = torch.arange(path.request.batch)[examples]
    points = path.request.model.hook_dict
    x: Tensor | None = None
    joined = 0
    for layer in range(entries[wave.trials[0]].layer, len(blocks)):
        entering = [trial for trial in wave.trials if entries[trial].layer == layer]
        early: dict[HookPoint, list[Edit]] = {}  # before the blocks
        inside: dict[HookPoint, list[Edit]] = {}
        direct: list[Edit] = []  # on the stream that enters
        for offset, trial in enumerate(entering):
            entry, change = entries[trial], changes[trial]
            own = slice(offset * len(chosen), (offset + 1) * len(chosen))
            if entry.where == "inside":
                base = joined * len(chosen)
                rows = slice(base + own.start, base + own.stop)
                inside.setdefault(points[entry.hook], []).append((rows, change))
                if entry.behind is not None:
                    added = replace(change, zeroes=False)
                    inside.setdefault(entry.behind, []).append((rows, added))
            elif entry.where == "before":  # these come first
                early.setdefault(points[entry.hook], []).append((own, change))
            else:
                direct.append((own, change))
        if entering:
            new = path.clean.entering[layer][examples, start:stop].repeat(len(entering), 1, 1)
            if early:
                edited = embed_edited(path, early, examples)[:, start:stop]
                new[: len(edited)] = edited
            add_changes(new, direct, stop, examples)
            x = new if x is None else torch.cat([x, new])
            joined += len(entering)
        assert x is not None
        pairs = [(point, adding(edits, stop, examples)) for point, edits in inside.items()]
        with hooked(path.request.model, pairs):
            x = blocks.call(layer, x, begin.calls, chosen.repeat(joined), begin.cache)
    assert x is not None
    return x[:, wave.start - start :]


def embed_edited(
    path: BlockPath, edits: Mapping[HookPoint, Sequence[Edit]], examples: slice
) -> Float[Tensor, "row pos d_model"]:
    """What enters the first block where something before it is changed."""
    tokens, length = path.request.tokens[examples], path.request.length
    count = max(rows.stop for each in edits.values() for rows, _ in each) // len(tokens)
    pairs = [(point, adding(each, length, examples)) for point, each in edits.items()]
    with hooked(path.request.model, pairs):
        return path.blocks.embed(tokens.repeat(count, 1))


def adding(edits: Sequence[Edit], stop: int, examples: slice) -> Callable[..., Tensor]:
    """A hook that adds each trial's change to its rows."""

    def add(value: Tensor, hook: HookPoint) -> Tensor:
        value = value.clone()
        add_changes(value, edits, stop, examples)
        return value

    return add


def add_changes(value: Tensor, edits: Sequence[Edit], stop: int, examples: slice) -> None:
    """Makes changes in their rows of a value, whose last position is the one before ``stop``."""
    for rows, change in edits:
        axis, part = change.axis, change.values[examples]
        begins = change.index[axis].start or 0
        start = stop - value.shape[axis]  # of keys, a cache holds some that come before
        first, last = max(start, begins), min(stop, begins + part.shape[axis])
        if first >= last:
            continue
        part = part.narrow(axis, first - begins, last - first)
        for later in range(axis + 1, value.ndim):
            size = value.shape[later]
            if part.shape[later] > size > 1:  # keys: neither those after the last that runs
                part = part.narrow(later, stop - size, size)  # nor those behind a window
        index = [slice(None), *change.index[1:]]
        index[axis] = slice(first - start, last - start)
        if change.zeroes:
            value[rows][tuple(index)] = 0
        else:
            value[rows][tuple(index)] += part
