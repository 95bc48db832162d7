"""Which trials can be carried through the model's own blocks, and is that proved?

A model says where its blocks are by calling them in turn. Before anything relies on that, the whole
model is run on all texts with noise wherever the sweep will change something, and each block alone
beside it: with other rows in its batch, from the middle of the texts on, and what gives the logits
on some positions only. What disagrees is not used.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import Blocks, NotInTurnError, find_blocks
from interp.blocks.calling import same_call
from interp.errors import UsageError
from interp.masks import LOWEST
from interp.site import axes_of, names_by_point
from interp.streams import way_around
from interp.sweeps.by_block.carrying import adding
from interp.sweeps.by_block.path import BlockPath, Entry, Where, hooked, make_beginning
from interp.sweeps.request import Request
from interp.sweeps.speed.components import NotRecognisedError
from interp.sweeps.speed.verifying import check_same_everywhere
from interp.sweeps.trials import Change

Places = dict[tuple[int, Where], dict[HookPoint, None]]
"""Hook points by where they are reached; as dicts, which keep their order."""

FEWEST = 4  # trials; a proof costs about as much as two


def find_block_path(request: Request, numbers: Sequence[int]) -> BlockPath | None:
    """The trials, of these numbers, that are carried through the model's blocks; None where there
    are too few for a proof to pay.

    Raises:
        NotRecognisedError: the model's blocks cannot be run alone.
    """
    single = [number for number in numbers if len(request.trials[number].sites) == 1]
    if len(single) < FEWEST:
        return None
    try:
        blocks = find_blocks(request.model, request.tokens)
        entries = find_entries(request, blocks, single)
        if len(entries) < FEWEST:
            return None
        clean = blocks.run(request.tokens, range(len(blocks)))
        return proved_path(BlockPath(request, blocks, entries, clean))
    except (NotRecognisedError, UsageError):
        raise
    except NotInTurnError as error:
        raise NotRecognisedError(str(error)) from error
    except Exception as error:  # whatever a block answers that expects the whole model around it
        raise NotRecognisedError(f"its blocks do not run alone ({error})") from error


def find_entries(request: Request, blocks: Blocks, numbers: Sequence[int]) -> dict[int, Entry]:
    """Where each trial's hook point is reached: once, in or before the blocks, by a value with a
    row for each text and an axis of positions."""
    points = request.model.hook_dict
    hooks = {request.trials[number].site.hook: number for number in numbers}
    reached = reached_in(request, blocks, dict.fromkeys(points[hook] for hook in hooks))
    before = [point for point, (_, where) in reached.items() if where == "before"]
    for point in mixed_in(request, blocks, before):
        del reached[point]
    entries = {}
    for number in numbers:
        hook = request.trials[number].site.hook
        if points[hook] in reached:
            entries[number] = Entry(hook, *reached[points[hook]], way_around(request.model, hook))
    return entries


def reached_in(
    request: Request, blocks: Blocks, points: Iterable[HookPoint]
) -> dict[HookPoint, tuple[int, Where]]:
    """Where a run reaches these hook points, of those that it reaches once."""
    names, last = names_by_point(request.model), len(blocks)
    started, inside = [-1], [False]  # the last block that was called, and whether it runs
    seen: set[HookPoint] = set()
    found: dict[HookPoint, tuple[int, Where]] = {}
    waiting: dict[HookPoint, Tensor] = {}  # made between two blocks

    def note(value: Any, hook: HookPoint) -> None:
        if hook in seen:
            found.pop(hook, None)
            waiting.pop(hook, None)
            return
        seen.add(hook)
        axes = axes_of(names[hook], value.ndim) if isinstance(value, Tensor) else ()
        by_text = "pos" in axes and axes[0] == "batch" and len(value) == 1
        if not by_text or not value.is_floating_point():
            return
        if inside[0]:
            found[hook] = started[0], "inside"
        elif started[0] < 0:
            found[hook] = 0, "before"
        elif started[0] < last:
            waiting[hook] = value

    def entering(layer: int) -> Callable[..., None]:
        def enter(module: Any, args: Any, kwargs: Any) -> None:
            x = blocks.stream_given(args, kwargs)
            found.update({hook: (layer, "stream") for hook, each in waiting.items() if each is x})
            waiting.clear()
            started[0], inside[0] = layer, True

        return enter

    def leave(*_: Any) -> None:
        inside[0] = False

    handles = []
    with hooked(blocks, [(point, note) for point in points]):
        try:
            for layer, module in enumerate(blocks.modules):
                enter = module.register_forward_pre_hook(entering(layer), with_kwargs=True)
                handles += [enter, module.register_forward_hook(leave)]
            blocks.run(request.tokens[:1])
        finally:
            for handle in handles:
                handle.remove()
    return found


def mixed_in(request: Request, blocks: Blocks, points: Sequence[HookPoint]) -> Iterator[HookPoint]:
    """Of hook points before the blocks, those by which more than the residual stream changes, as
    rotary angles do, or a mask."""
    tokens = request.tokens[:1]
    clean = blocks.calls(tokens) if points else []
    for point in points:
        noise = Noise(request, 0)
        with hooked(blocks, [(point, noise.adding)]):
            changed = blocks.calls(tokens)
        if not all(same_call(*pair) for pair in zip(clean, changed, strict=True)):
            yield point


def proved_path(path: BlockPath) -> BlockPath | None:
    """The path of the trials for which it is proved: all, or those at some hook points.

    Raises:
        NotRecognisedError: a block does something else when it runs alone, wherever it is changed.
    """
    try:
        return tried(path)
    except NotRecognisedError:
        kinds: dict[str, dict[int, Entry]] = {}
        for number, entry in path.entries.items():
            kinds.setdefault(re.sub(r"\d+", "*", entry.hook), {})[number] = entry
        if len(kinds) == 1:
            raise
        proved, notes, reason = {}, [], None
        for kind, entries in kinds.items():
            try:
                tried(replace(path, entries=entries))
                proved.update(entries)
            except NotRecognisedError as error:
                notes.append(f"  {kind} gets a forward pass each: {error}")
                reason = error
        if not proved and reason is not None:
            raise reason from None
        found = tried(replace(path, entries=proved))
        return replace(found, notes=[*notes, *found.notes])


def tried(path: BlockPath) -> BlockPath:
    """The path verified; whatever goes wrong with it is a ``NotRecognisedError``."""
    try:
        return verify_path(path)
    except (NotRecognisedError, UsageError):
        raise
    except Exception as error:  # whatever a block answers that expects the whole model around it
        raise NotRecognisedError(f"its blocks do not run alone ({error})") from error


def verify_path(path: BlockPath) -> BlockPath:
    """The path, with what it was seen to allow.

    Raises:
        NotRecognisedError: a block does something else when it runs alone.
    """
    request, blocks, entries, clean = path.request, path.blocks, path.entries, path.clean
    tokens, half = request.tokens, request.length // 2
    points, noise = request.model.hook_dict, Noise(request, half)
    at: Places = {}
    for entry in entries.values():
        at.setdefault((entry.layer, entry.where), {})[points[entry.hook]] = None
    everywhere = [(point, noise.adding) for here in at.values() for point in here]
    with hooked(blocks, everywhere):
        run = blocks.run(tokens, range(len(blocks)))
    noisy = BlockPath(request, blocks, entries, run)
    verify_unembedding(path, half)
    with hooked(blocks, [(point, noise.adding) for point in at.get((0, "before"), {})]):
        check_same_everywhere(blocks.embed(tokens), run.entering[0], "what comes before its blocks")
    begin = make_beginning(tokens, blocks, clean, 0)
    rows = torch.tensor([*reversed(range(len(tokens))), 0])
    for layer in range(min(entry.layer for entry in entries.values()), len(blocks)):
        x = torch.cat([run.entering[layer].flip(0), clean.entering[layer][:1]])
        add = noise.adding_to(len(tokens))
        with hooked(blocks, [(point, add) for point in at.get((layer, "inside"), {})]):
            ours = blocks.call(layer, x, begin.calls, rows)
        after = ours[:-1].flip(0)
        for point in at.get((layer + 1, "stream"), {}):
            after = after + noise.made[point]
        check_same_everywhere(after, noisy.after(layer), f"block {layer}")
        check_same_everywhere(ours[-1:], path.after(layer)[:1], f"block {layer}")
    return what_it_allows(path, noisy, at, noise, half)


def what_it_allows(
    path: BlockPath, noisy: BlockPath, at: Places, noise: "Noise", half: int
) -> BlockPath:
    """The path, with what the noise from the middle of the texts on did to the positions before."""
    causal = half > 0
    try:
        for layer in range(len(path.blocks)):
            ours, theirs = (each.after(layer)[:, :half] for each in (noisy, path))
            check_same_everywhere(ours, theirs, "an earlier position")
    except NotRecognisedError:
        causal = False
    saves, notes = False, []
    if half and not causal:
        notes.append("  all positions run: earlier ones see later ones")
    elif half:
        try:
            verify_suffix(path, noisy, at, noise, half)
            saves = True
        except (NotInTurnError, NotRecognisedError) as error:
            notes.append(f"  all positions run: {error}")
    return replace(path, causal=causal, saves_positions=saves, notes=notes)


def verify_suffix(
    path: BlockPath, noisy: BlockPath, at: Places, noise: "Noise", start: int
) -> None:
    """Every block from a position on, with clean keys and values before, beside the run whose noise
    begins there.

    Raises:
        NotInTurnError, NotRecognisedError: they disagree.
    """
    request, blocks = path.request, path.blocks
    begin, everyone = path.beginning(start, request.length), torch.arange(request.batch)
    if begin.start != start:
        raise NotRecognisedError(path.notes.pop().partition(": ")[2])
    for layer in range(len(blocks)):
        pairs = []
        for point in at.get((layer, "inside"), {}):
            change = noise.change(point, request.batch)
            edits = [(slice(0, request.batch), change)]
            pairs.append((point, adding(edits, request.length, slice(None))))
        with hooked(blocks, pairs):
            x = noisy.clean.entering[layer][:, start:]
            after = blocks.call(layer, x, begin.calls, everyone, begin.cache)
        for point in at.get((layer + 1, "stream"), {}):
            after = after + noise.made[point][:, start:]
        what = f"block {layer}, from position {start} on,"
        check_same_everywhere(after, noisy.after(layer)[:, start:], what)


def verify_unembedding(path: BlockPath, half: int) -> None:
    """What gives the logits, on some positions of some rows, beside the whole run."""
    last, logits = path.clean.last, path.clean.logits
    if path.last_only:
        ours, theirs = path.blocks.unembed(last[:, -1:]), logits
    else:
        ours, theirs = path.blocks.unembed(last[:, half:]), logits[:, half:]
    check_same_everywhere(ours, theirs, "what gives the logits")


class Noise:
    """Noise for values, the same for every text, from one position on.

    Args:
        start: the position.
    """

    def __init__(self, request: Request, start: int) -> None:
        self.names = names_by_point(request.model)
        self.start = start
        self.made: dict[HookPoint, Tensor] = {}

    def adding(self, value: Tensor, hook: HookPoint) -> Tensor:
        """A hook that adds the noise to all rows."""
        if hook not in self.made:
            self.made[hook] = self.make(value, hook)
        return value + self.made[hook]

    def adding_to(self, rows: int) -> Callable[..., Tensor]:
        """A hook that adds to the first rows what was added in the run of all texts, those in
        reverse."""

        def add(value: Tensor, hook: HookPoint) -> Tensor:
            if value.shape[1:] != self.made[hook].shape[1:] or len(value) != rows + 1:
                raise NotRecognisedError(
                    f"{self.names[hook][0]} has another shape in a block alone"
                )
            value = value.clone()
            value[:rows] += self.made[hook].flip(0)
            return value

        return add

    def change(self, hook: HookPoint, batch: int) -> Change:
        """What was added, as a trial's change of every text."""
        made = self.made[hook]
        axis = axes_of(self.names[hook], made.ndim).index("pos")
        whole = tuple(slice(None) for _ in made.shape)
        return Change(whole, made.expand(batch, *made.shape[1:]), made.numel(), axis)

    def make(self, value: Tensor, hook: HookPoint) -> Tensor:
        generator = torch.Generator().manual_seed(len(self.made))
        drawn = torch.randn(1, *value.shape[1:], generator=generator).to(value)
        axes = axes_of(self.names[hook], value.ndim)
        shown = value > LOWEST
        if "key" in axes:  # what a mask hides stays hidden
            shown &= value != 0
        size = 0.5 * value[shown].std(correction=0).nan_to_num() + 0.05
        if (value >= 0).all():  # as a variance, or attention: it stays so
            drawn, size = drawn.abs().clamp(max=1), size * value
        drawn = drawn * size * shown
        drawn.narrow(axes.index("pos"), 0, min(self.start, value.shape[axes.index("pos")])).zero_()
        return drawn
