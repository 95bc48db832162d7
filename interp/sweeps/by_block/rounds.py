"""What do trials change in a model's blocks, and which of them run together?"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import NotInTurnError
from interp.logits import logits_of
from interp.metrics import measure, precise
from interp.sweeps.by_block.asking import AskedChanges
from interp.sweeps.by_block.path import BlockPath, Where, hooked, running_alone
from interp.sweeps.by_block.waves import Wave, make_waves
from interp.sweeps.speed.components import NotRecognisedError
from interp.sweeps.speed.scoring import Score, prepare_score
from interp.sweeps.trials import Change


@dataclass(frozen=True)
class BlockRound:
    """Trials whose changes are held together.

    Args:
        changes: what each trial changes, by its number.
        waves: the trials to be computed.
        untouched: the trials that change nothing that the metric reads.
    """

    score: Score
    changes: Mapping[int, Change]
    waves: Sequence[Wave]
    untouched: Sequence[int]


def prepare_block_rounds(path: BlockPath, reads: list[int] | None) -> Iterator[BlockRound]:
    """The rounds of a path, one at a time: let go of each before asking for the next.

    Args:
        reads: the positions that the metric reads; by default what it reads of the clean logits.
    """
    score = score_of(path, reads)
    changes = dict(path.changes)
    held = sum(change.values.nbytes for change in changes.values())
    for found in changes_by_block(path, path.entries.keys() - changes.keys()):
        own = sum(change.values.nbytes for change in found.values())
        if changes and held + own > path.request.memory // 4:
            yield arrange(path, score, changes)
            changes, held = {}, 0
            path.request.give_back()
        changes |= found
        held += own
        del found
    yield arrange(path, score, changes)


def score_of(path: BlockPath, reads: list[int] | None) -> Score:
    """The metric, read off the clean run."""
    request, logits = path.request, path.clean.logits
    if path.last_only:
        # which raises where the metric reads other positions
        measure(request.metric, logits_of(logits, request.tokens), request.metric_tokens)
        reads = [request.length - 1]

    def unembed(x: Tensor) -> Tensor:
        with running_alone():
            return precise(path.blocks.unembed(x))

    return prepare_score(
        *(request.metric, request.metric_tokens, unembed, logits.shape[2]),
        *(path.clean.last, reads),
    )


def changes_by_block(path: BlockPath, trials: Set[int]) -> Iterator[dict[int, Change]]:
    """What each of some trials changes, block by block, of the clean values of its hook point."""
    entries = {trial: path.entries[trial] for trial in sorted(trials)}
    for layer, where in sorted({(entry.layer, entry.where) for entry in entries.values()}):
        here = (
            each for each, entry in entries.items() if (entry.layer, entry.where) == (layer, where)
        )
        asked = AskedChanges(path.request, here)
        found: dict[int, Change] = {}

        def note(
            value: Tensor, hook: HookPoint, asked: AskedChanges = asked, found: Any = found
        ) -> None:
            found.update(asked.changes(value, hook))

        if where == "stream":
            for point in asked.trials:
                note(path.clean.entering[layer], point)
            yield found
            continue
        pairs = [*((point, note) for point in asked.trials), *asked.masks.pairs]
        with hooked(path.request.model, pairs):
            run_clean(path, layer, where)
        yield found


def run_clean(path: BlockPath, layer: int, where: Where) -> None:
    """Runs the clean texts through a block, or what comes before the blocks, alone; or through the
    whole model, where the block cannot be run on them so."""
    request, blocks = path.request, path.blocks
    try:
        with running_alone():
            begin = path.beginning(0, request.length)
            blocks.forget()
            if where == "before":
                blocks.embed(request.tokens)
            else:
                everyone = torch.arange(request.batch)
                blocks.call(layer, path.clean.entering[layer], begin.calls, everyone)
    except (NotInTurnError, NotRecognisedError):
        blocks.run(request.tokens)


def arrange(path: BlockPath, score: Score, changes: Mapping[int, Change]) -> BlockRound:
    """The trials in waves."""
    request = path.request
    starts: dict[int, int] = {}
    whole: dict[int, int] = {}  # those that change what the mask hides
    untouched = []
    for trial, change in changes.items():
        first, end = change.span
        if not end or not score.reads:
            untouched.append(trial)
        elif change.opens or not path.causal:
            whole[trial] = 0
        elif first > score.reads[-1]:
            untouched.append(trial)
        else:
            starts[trial] = first if path.saves_positions else 0
    wide = request.batch * max(1, len(score.reads)) * score.clean.shape[2]
    most = len(changes) if score.by_example else max(1, request.limits.logits // wide)
    waves = [
        wave
        for members, stop in ((starts, path.stop_for(score.reads)), (whole, request.length))
        for wave in make_waves(
            *(path.entries, members, stop, request.batch, len(path.blocks), request.limits, most)
        )
    ]
    return BlockRound(score, changes, waves, untouched)
