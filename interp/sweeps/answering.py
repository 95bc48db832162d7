"""What does every trial of a sweep give?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from interp.blocks import NotInTurnError
from interp.errors import NoEffectError
from interp.receipts import Effect
from interp.sweeps.by_block.carrying import measure_wave
from interp.sweeps.by_block.path import BlockPath
from interp.sweeps.by_block.rounds import BlockRound, prepare_block_rounds
from interp.sweeps.by_block.waves import Wave
from interp.sweeps.looping import run_one, run_unchanged
from interp.sweeps.plans import Plan
from interp.sweeps.request import Request, Routes
from interp.sweeps.resuming.answers import Answers, Recorder, RowStore
from interp.sweeps.rounds import Round, prepare_rounds
from interp.sweeps.speed.components import Components, NotRecognisedError
from interp.sweeps.speed.executing import measure_group
from interp.sweeps.speed.grouping import Group
from interp.sweeps.trials import Trial


@dataclass(frozen=True)
class Effects:
    """What every intervention of a sweep did to every example.

    Args:
        trials: one per intervention.
        values: the metric.
        baseline: the metric without any intervention.
        changed: how many numbers each intervention changed.
        plan: how it was computed.
    """

    trials: Sequence[Trial]
    values: Float[np.ndarray, "trial batch"]
    baseline: Float[np.ndarray, "batch"]
    changed: list[int]
    plan: Plan

    @property
    def skipped(self) -> Bool[np.ndarray, "trial"]:
        """Which interventions change nothing that can reach what the metric reads."""
        return np.isin(np.arange(len(self.trials)), self.plan.untouched)


@dataclass(frozen=True)
class Batch:
    """Trials that are computed together.

    Args:
        how: what, beside the trials, decides the last bit of their answer; None where the answer
            is not worth being kept.
    """

    trials: Sequence[int]
    how: tuple[Any, ...] | None
    compute: Callable[[], Answers]


@dataclass(frozen=True)
class Stage:
    """Batches that can be computed, and what making them ready showed.

    Args:
        baseline: the metric of the clean texts.
        reads: the positions that the metric reads; None where that did not matter.
    """

    batches: Iterator[Batch]
    baseline: Float[Tensor, "batch"]
    reads: list[int] | None
    groups: Sequence[Group] = ()
    waves: Sequence[Wave] = ()
    untouched: Sequence[int] = ()


def answer_request(
    request: Request,
    routes: Routes,
    store: RowStore | None,
    advance: Callable[[int], None],
    reads: list[int] | None = None,
) -> Effects:
    """Run everything, a batch at a time.

    Args:
        store: where answers are kept, and taken from where they are there already.
        advance: told how many trials were answered, each time that some were.
        reads: the positions that the metric reads; by default what it reads of the clean logits.

    Raises:
        UsageError: a store, and a model, metric or intervention that cannot be known again.
        UnforeseenReadError: the metric reads other positions of other logits.
    """
    values: dict[int, np.ndarray] = {}
    changed: dict[int, int] = {}
    groups: list[Group] = []
    waves: list[Wave] = []
    untouched: list[int] = []
    recorder = None
    for stage in make_stages(request, routes, reads):
        baseline, reads = stage.baseline, stage.reads
        groups += stage.groups
        waves += stage.waves
        untouched += stage.untouched
        if store is not None and recorder is None:  # now the clean texts have been run
            decisive = [request.tokens, request.metric_tokens, request.metric, baseline, reads]
            recorder = Recorder(store, request.model, decisive)
        for batch in stage.batches:
            if recorder is None or batch.how is None:
                found = batch.compute()
            else:
                asked = [request.trials[trial] for trial in batch.trials]
                found = recorder.answer(batch.how, asked, batch.compute)
            values.update(zip(batch.trials, found[0], strict=True))
            changed.update(zip(batch.trials, found[1], strict=True))
            advance(len(batch.trials))
            del batch  # with them the clean activations, which must not be held
            request.give_back()
        del stage  # while the next ones are made
    order = range(len(request.trials))
    return Effects(
        request.trials,
        np.stack([values[trial] for trial in order]),
        to_numbers(baseline),
        [changed[trial] for trial in order],
        Plan(request, routes, reads, groups, waves, untouched),
    )


def make_stages(request: Request, routes: Routes, reads: list[int] | None) -> Iterator[Stage]:
    """What can be computed, one stage after the other: let go of each before the next."""
    baseline, path = None, routes.fast_path
    for prepared in prepare_rounds(request, path, reads):
        assert path is not None
        baseline, reads = prepared.score.baseline, prepared.score.reads
        yield Stage(
            round_batches(request, path.components, prepared),
            baseline,
            reads,
            groups=prepared.groups,
            untouched=prepared.untouched,
        )
        del prepared
    if routes.by_block:
        for found in prepare_block_rounds(routes.by_block, reads):
            baseline = found.score.baseline if baseline is None else baseline
            reads = found.score.reads
            yield Stage(
                block_batches(routes.by_block, found),
                baseline,
                reads,
                waves=found.waves,
                untouched=found.untouched,
            )
            del found
    if not routes.looped:
        return
    if baseline is None:
        baseline = run_unchanged(
            request.model, request.tokens, request.metric_tokens, request.metric
        )
    yield Stage(other_batches(request, routes), baseline, reads)


def round_batches(request: Request, components: Components, prepared: Round) -> Iterator[Batch]:
    """The batches of a round of the fast path."""
    changes, score = prepared.changes, prepared.score

    def compute(group: Group) -> Answers:
        trials = [request.trials[trial] for trial in group.trials]
        theirs = [changes[trial] for trial in group.trials]
        values = measure_group(group, components, trials, theirs, prepared.clean, score)
        return to_numbers(values), [change.elements for change in theirs]

    yield from untouched_batch(prepared)
    for group in prepared.groups:
        yield Batch(group.trials, (group.span, group.examples), partial(compute, group))


def block_batches(path: BlockPath, prepared: BlockRound) -> Iterator[Batch]:
    """The batches of a round of the path through the model's own blocks."""
    changes, score = prepared.changes, prepared.score

    def compute(wave: Wave) -> Answers:
        try:
            values = measure_wave(path, wave, changes, score)
        except (NotInTurnError, NotRecognisedError) as error:  # on these positions and rows
            path.failures.update(dict.fromkeys(wave.trials, str(error)))
            answers = [loop_one(path.request, trial) for trial in wave.trials]
            return np.concatenate([each[0] for each in answers]), [each[1][0] for each in answers]
        return to_numbers(values), [changes[trial].elements for trial in wave.trials]

    yield from untouched_batch(prepared)
    for wave in prepared.waves:
        how = ("by block", wave.start, wave.stop, wave.examples)
        yield Batch(wave.trials, how, partial(compute, wave))


def untouched_batch(prepared: Round | BlockRound) -> Iterator[Batch]:
    """The trials that change nothing that the metric reads: they give what the clean texts give."""
    trials, changes = prepared.untouched, prepared.changes

    def give_baseline() -> Answers:
        same = prepared.score.baseline.expand(len(trials), -1)
        return to_numbers(same), [changes[trial].elements for trial in trials]

    if trials:
        yield Batch(trials, None, give_baseline)


def other_batches(request: Request, routes: Routes) -> Iterator[Batch]:
    """The batches of one forward pass each."""
    for trial in routes.looped:
        yield Batch([trial], ("loop",), partial(loop_one, request, trial))


def loop_one(request: Request, trial: int) -> Answers:
    """One trial, in a forward pass of its own."""
    values, effects = run_one(
        *(request.model, request.tokens, request.metric_tokens),
        *(request.trials[trial], request.metric),
    )
    return to_numbers(values[None]), [count_changed(effects)]


def to_numbers(values: Tensor) -> Float[np.ndarray, "..."]:
    return values.double().cpu().numpy()


def count_changed(effects: Sequence[Effect]) -> int:
    """How many numbers an intervention changed.

    Raises:
        NoEffectError: a site that no run reached.
    """
    for effect in effects:
        if effect.missed:
            raise NoEffectError(
                f"{effect.intervention} never fired at {effect.missed[0]}: no run reached it"
            )
    return sum(effect.changed for effect in effects)
