"""Is it proved that a model's blocks, run alone, give what the whole model gives?

The whole model is run on all texts with noise wherever the sweep will change something, from one
position on, and each block beside it: with other rows in its batch, with clean keys and values
before that position, and what gives the logits on some positions only. What disagrees is not used.
"""

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import NotInTurnError
from interp.deciding import Decisions
from interp.masks import LOWEST
from interp.site import axes_of, names_by_point
from interp.sweeps.by_block.carrying import adding
from interp.sweeps.by_block.path import (
    Beginning,
    BlockPath,
    Where,
    hooked,
    make_beginning,
    running_alone,
)
from interp.sweeps.request import Request
from interp.sweeps.running import batch_slices
from interp.sweeps.speed.components import NotRecognisedError
from interp.sweeps.speed.verifying import check_same_everywhere
from interp.sweeps.trials import Change

Places = dict[tuple[int, Where], dict[HookPoint, None]]
"""Hook points by where they are reached; as dicts, which keep their order."""


def proved_path(path: BlockPath) -> BlockPath:
    """The path of the trials for which it is proved: all, or those at some hook points.

    Raises:
        NotRecognisedError: a block does something else when it runs alone, wherever it is changed.
    """
    try:
        return tried(path)
    except NotRecognisedError as whole:
        kinds: dict[str, list[int]] = {}
        for number, entry in path.entries.items():
            kinds.setdefault(re.sub(r"\d+", "*", entry.hook), []).append(number)
        proved: list[int] = []
        notes = []
        for kind, numbers in kinds.items():
            try:
                tried(path.of(numbers))
                proved += numbers
            except NotRecognisedError as error:
                notes.append(f"  {kind} gets a forward pass each: {error}")
        if not proved or len(kinds) == 1:
            raise whole
        found = tried(path.of(sorted(proved)))
        return replace(found, notes=[*notes, *found.notes])


def tried(path: BlockPath) -> BlockPath:
    """The path verified; whatever goes wrong with it is a ``NotRecognisedError``."""
    try:
        with running_alone():
            return verify_path(path)
    except NotInTurnError as error:
        raise NotRecognisedError(str(error)) from error


def verify_path(path: BlockPath) -> BlockPath:
    """The path, with what it was seen to allow.

    Raises:
        NotRecognisedError: a block does something else when it runs alone.
    """
    request, blocks = path.request, path.blocks
    start = usual_start(path)
    points, noise = request.model.hook_dict, ProofNoise(request, start)
    at: Places = {}
    for entry in path.entries.values():
        at.setdefault((entry.layer, entry.where), {})[points[entry.hook]] = None
    decisions = Decisions()

    def add_noise(value: Tensor, hook: HookPoint) -> Tensor:
        with decisions.resting():
            return decisions.follow(noise.adding(value, hook))

    everywhere = [(point, add_noise) for here in at.values() for point in here]
    with hooked(request.model, everywhere), decisions:
        run = blocks.run(request.tokens)
    if decisions.found:
        raise NotRecognisedError(decisions.sentence)
    for point, made in noise.made.items():
        if not made.any():  # as where all is hidden, or as an additive mask
            raise NotRecognisedError(f"no noise can be put on {noise.names[point][0]}")
    noisy = replace(path, clean=run)
    verify_unembedding(noisy, start)
    before = [(point, noise.adding) for point in at.get((0, "before"), {})]
    if before:
        with hooked(request.model, before):
            ours = blocks.embed(request.tokens)
        check_same_everywhere(ours, run.entering[0], "what comes before its blocks")
        mixed = torch.tensor([*reversed(range(request.batch)), 0])
        ours = blocks.embed(request.tokens[mixed.to(request.tokens.device)])
        what = "what comes before its blocks, in another batch,"
        check_same_everywhere(ours, path.clean.entering[0][mixed], what)
    proof = Proof(path, noisy, at, noise)
    causal = start > 0 and proof.is_causal(start)
    saves, notes = False, []
    if start and not causal:
        notes.append("  all positions run: earlier ones see later ones")
    elif start:
        try:
            with running_alone():
                proof.check_blocks(start)
            saves = True
        except (NotInTurnError, NotRecognisedError) as error:
            notes.append(f"  all positions run: {error}")
    starts_at_once = any(each.span[0] == 0 < each.span[1] for each in path.changes.values())
    if not saves or starts_at_once or path.entries.keys() - path.changes.keys():
        proof.check_blocks(0)
    return replace(path, causal=causal, saves_positions=saves, notes=notes)


def usual_start(path: BlockPath) -> int:
    """The position from which the sweep's changes are made, or else the middle of the texts."""
    starts = sorted(change.span[0] for change in path.changes.values() if change.span[0])
    return starts[len(starts) // 2] if starts else path.request.length // 2


@dataclass(frozen=True)
class Proof:
    """A run with noise at the sweep's hook points, beside which blocks are run alone."""

    path: BlockPath
    noisy: BlockPath
    at: Places
    noise: "ProofNoise"

    def is_causal(self, start: int) -> bool:
        """Whether noise from a position on left those before as they were, in every block."""
        for layer in range(len(self.path.blocks)):
            ours, theirs = (each.after(layer)[:, :start] for each in (self.noisy, self.path))
            try:
                check_same_everywhere(ours, theirs, "an earlier position")
            except NotRecognisedError:
                return False
        return True

    def check_blocks(self, start: int) -> None:
        """Every block from a position on, with clean keys and values before: the noisy texts, in
        reverse, and the clean ones, as rows of one batch.

        Raises:
            NotInTurnError, NotRecognisedError: a block gives something else.
        """
        request, blocks = self.path.request, self.path.blocks
        begin = make_beginning(request.tokens, blocks, self.path.clean, start)
        blocks.forget()
        for examples in batch_slices(request.tokens):
            for layer in range(min(each.layer for each in self.path.entries.values()), len(blocks)):
                self.check_block(layer, begin, examples)
        self.path.know(begin)

    def check_block(self, layer: int, begin: Beginning, examples: slice) -> None:
        """One block, on some of the texts."""
        request, start = self.path.request, begin.start
        chosen = torch.arange(request.batch)[examples]
        pairs = []
        for point in self.at.get((layer, "inside"), {}):
            change = self.noise.change(point, request.batch, examples)
            edits = [(slice(0, len(chosen)), change)]
            pairs.append((point, adding(edits, request.length, slice(None))))
        noisy, clean = (
            run.clean.entering[layer][examples, start:] for run in (self.noisy, self.path)
        )
        with hooked(request.model, pairs):
            ours = self.path.blocks.call(
                *(layer, torch.cat([noisy.flip(0), clean]), begin.calls),
                *(torch.cat([chosen.flip(0), chosen]), begin.cache),
            )
        after = ours[: len(chosen)].flip(0)
        for point in self.at.get((layer + 1, "stream"), {}):
            made = self.noise.made[point].expand(request.batch, -1, -1)
            after = after + made[examples, start:]
        what = f"block {layer}, from position {start} on," if start else f"block {layer}"
        check_same_everywhere(after, self.noisy.after(layer)[examples, start:], what)
        check_same_everywhere(ours[len(chosen) :], self.path.after(layer)[examples, start:], what)


def verify_unembedding(path: BlockPath, start: int) -> None:
    """What gives the logits, on some positions of some rows, beside the whole run."""
    logits = path.clean.logits
    positions = slice(-1, None) if path.last_only else slice(start, None)
    for examples in batch_slices(path.request.tokens, logits.shape[2]):
        ours = path.blocks.unembed(path.clean.last[examples, positions])
        check_same_everywhere(ours, logits[examples, positions], "what gives the logits")


class ProofNoise:
    """ProofNoise for values, from one position on.

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

    def change(self, hook: HookPoint, batch: int, examples: slice) -> Change:
        """What was added to some texts, as a trial's change, the texts in reverse."""
        made = self.made[hook]
        axis = axes_of(self.names[hook], made.ndim).index("pos")
        whole = tuple(slice(None) for _ in made.shape)
        values = made.expand(batch, *made.shape[1:])[examples].flip(0)
        return Change(whole, values, made.numel(), axis)

    def make(self, value: Tensor, hook: HookPoint) -> Tensor:
        generator = torch.Generator().manual_seed(len(self.made))
        drawn = torch.randn(1, *value.shape[1:], generator=generator).to(value)
        axes = axes_of(self.names[hook], value.ndim)
        shown = value > LOWEST
        if "key" in axes:  # what a mask hides stays hidden
            shown &= value != 0
        seen = value[shown]
        size = 0.05 + (0.5 * seen.std(correction=0) if len(seen) > 1 else 0)
        if (value >= 0).all():  # as a variance, or attention: it stays so
            drawn = drawn.abs()
        drawn = drawn * size * shown
        drawn.narrow(axes.index("pos"), 0, min(self.start, value.shape[axes.index("pos")])).zero_()
        return drawn
