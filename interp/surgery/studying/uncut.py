"""What is known of the model as it is, before anything is cut?

How it is judged, what every expression was, the means that may stand in, what training from scratch
does to it: found once, and compared with every mutant.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

from torch import nn

from interp.errors import SurgeryError, nearest
from interp.places import Reference
from interp.surgery.cutting.kept import Kept, Name, afresh, kept_by
from interp.surgery.cutting.means import Means, join_means, needs_mean, take_means
from interp.surgery.cutting.performing import is_of_operators, perform
from interp.surgery.guarding.apart import run_apart
from interp.surgery.guarding.outcomes import is_the_machines
from interp.surgery.guarding.preserving import Snapshot
from interp.surgery.judging import (
    Call,
    Judge,
    Judgement,
    judge_model,
    same_draws,
)
from interp.surgery.judging.axes import find_axes
from interp.surgery.judging.examining import Examined, examine
from interp.surgery.judging.rebuilding import Build, Rebuilding, is_same, plan_rebuilding
from interp.surgery.judging.training import TrainingHashes, targets_of, training_fingerprint
from interp.surgery.judging.twins import Twins, found_twins, reference_means
from interp.surgery.operators import propose
from interp.surgery.operators.finding import surgeries_of
from interp.surgery.running.layers import following_layers
from interp.surgery.running.loaded import loaded_functions
from interp.surgery.running.observing import Axes, Observations, Place, observing
from interp.surgery.source.edits import Surgery, at_layers, combine
from interp.surgery.source.syntax import Edit, Source, Syntax, count_line_ends, parse

Train = Callable[[nn.Module, int], Any]


@dataclass(frozen=True)
class Uncut:
    """A model as it is, its sources, and how it is built, trained and judged; see ``study``."""

    sources: tuple[Source, ...]
    build: Build
    judge: Judge
    model: nn.Module
    train: Train | None
    reference: Judge | None
    prepare: Surgery | None
    limit_s: float
    workers: int | None
    own: tuple[Surgery, ...]
    trains: bool

    @cached_property
    def baseline(self) -> Judgement:
        """The model as it is, judged where the mutants are judged."""
        found: Judgement = self._alone("judged", lambda: self.judged_with(self.prepare))
        return found

    @cached_property
    def examined(self) -> Examined:
        """What judging it again tells; see ``Examined``."""
        baseline = self.baseline

        def again() -> Examined:
            with self.operated(self.prepare):
                return examine(self.model, self.judge, baseline)

        def other_draws() -> float:
            with self.operated(self.prepare):
                return float(judge_model(self.model, self.judge, seed=1).values.mean())

        found: Examined = self._alone("judged twice", again)
        if not found.is_finite or found.positions_first:
            return found
        return replace(found, other_draws=self._alone("judged twice", other_draws))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the model as it is and of its judge: a sentence each.

        Raises:
            SurgeryError: the judge's value is not finite, or is another each time; the model takes
                [pos batch].
        """
        return self.examined.notes(self.baseline)

    @property
    def _baseline_leaks(self) -> bool:
        """Whether the model as it is looks ahead, as a bidirectional one may."""
        return self.examined.leaks

    @property
    def positions(self) -> int:
        """The length of the texts that the judge gives the model."""
        return self.baseline.calls[0].tokens.shape[1]

    @property
    def observations(self) -> dict[Source, Observations]:
        """What every expression was when the model was built, judged and, where it trains, trained
        for two steps."""
        return self._observed[0]

    @property
    def means(self) -> dict[Source, Means]:
        """The mean over the reference texts and their positions of what each line computes."""
        return self._observed[1]

    @cached_property
    def surgeries(self) -> tuple[Surgery, ...]:
        """Every surgery that applies, in the order of the files, and those of one's own."""
        found: list[Surgery] = []
        for source in self.sources:
            means = self.means.get(source, Means())
            proposals = propose(parse(source), self.observations[source])
            cuts = surgeries_of(source, proposals)
            found += [cut for cut in cuts if means.stand_in_for(cut)]
            found += [cut for cut in self.own if cut.source == source]
        return tuple(found)

    def find(self, id: str | Surgery) -> Surgery:
        """The surgery of an id; a surgery that is given, such as a combined one, is itself.

        Raises ``SurgeryError`` with the nearest where there is none, and for one of another file.
        """
        if isinstance(id, Surgery):
            for part in id.parts:
                if part.source not in self.sources:
                    studied = ", ".join(str(source.path) for source in self.sources)
                    raise SurgeryError(
                        f"{id.id} is a cut of {part.source.path} as it was read then, and studied "
                        f"are {studied}: name that file in files, and read it again if it changed"
                    )
            return id
        for surgery in self.surgeries:
            if surgery.id == id:
                return surgery
        known = [surgery.id for surgery in self.surgeries]
        raise SurgeryError(f"no surgery is called {id!r}; nearest: {nearest(id, known)}")

    @cached_property
    def twins(self) -> Twins:
        """The interventions that are the same cut as a surgery."""
        edits = self._prepared(self.sources[0])
        positions = self.positions

        def judge_once() -> None:
            with same_draws(self.model):
                self.judge(self.model)

        def follow() -> Twins:
            return found_twins(self.model, self.sources, judge_once, edits, positions)

        found: Twins = self._alone("followed from value to value", follow)
        return found

    @cached_property
    def targets(self) -> str:
        """The parameter by which the model takes targets that the judge does not give it."""
        if not self.trains:
            return ""
        call = self._call

        def look() -> str:
            with same_draws():
                return targets_of(self.build(0), call)

        return str(self._alone("built and called", look))

    @cached_property
    def _training(self) -> TrainingHashes | None:
        """The fingerprint of two steps of training without a cut; None if it never is the same."""
        if not self.trains:
            return None
        targets, call = self.targets, self._call

        def train() -> TrainingHashes:
            with self.made_in_building(self.prepare), same_draws():
                return training_fingerprint(self.build, call, targets)

        once, again = (self._alone("trained as it is built", train) for _ in range(2))
        return once if once == again else None

    @property
    def training_notes(self) -> tuple[str, ...]:
        """What a reader must know of its training: a sentence."""
        if not self.trains or self._training is not None:
            return ()
        return (
            "Training is not repeatable: two steps of it gave other weights the second time, with "
            "the same seed. So of a cut without effect on the trained model nobody knows whether "
            "it acts in training.",
        )

    @cached_property
    def kept(self) -> tuple[Kept, ...]:
        """What the files keep from one run to the next, and can be made anew for each cut: it must
        come to what it was."""
        return tuple(self._alone("judged", partial(self._kept, source)) for source in self.sources)

    def _kept(self, source: Source) -> Kept:
        """What a file keeps, without what is set from outside: a model that is judged with such a
        name made anew is another."""
        found = kept_by(source)
        if not found.names:
            return found
        before = judge_model(self.model, self.judge)

        def is_the_same(names: Sequence[Name]) -> bool:
            try:
                with afresh([replace(found, names=tuple(names))]):
                    return is_same(judge_model(self.model, self.judge), before)
            except Exception as error:
                if is_the_machines(error):
                    raise
                return False

        if is_the_same(found.names):
            return found
        return replace(found, names=tuple(name for name in found.names if is_the_same([name])))

    @cached_property
    def rebuilding(self) -> Rebuilding:
        """How the trained model is had again from its source and its weights."""

        def plan() -> Rebuilding:
            with self.operated(self.prepare):
                return plan_rebuilding(self.build, self.model, self.judge)

        self.kept  # noqa: B018  # before a child is forked
        found: Rebuilding = self._alone("built", plan)
        return found

    @property
    def _call(self) -> Call:
        return self.baseline.calls[0]

    def _alone(self, what: str, task: Callable[[], Any]) -> Any:
        """What a task gives that leaves nothing behind: it runs in a fork, or here, and then all
        is put back.

        Raises:
            SurgeryError: the model as it is cannot be ``what``, and why.
        """
        self.spaces  # noqa: B018  # to look for them takes each fork a while
        if self.workers == 0:
            return self.snapshot().restored_after(task)
        what = f"the model as it is cannot be {what}"
        return run_apart(task, what, limit_s=600 + 10 * self.limit_s)

    def snapshot(self) -> Snapshot:
        """How the model, what judges it and the modules of its files stand now."""
        roots = (self.model, self.judge, self.build, self.train, self.reference)
        return Snapshot(*roots, spaces=self.spaces)

    @cached_property
    def spaces(self) -> list[dict[str, Any]]:
        """The globals of the studied files."""
        functions = [
            function
            for source in self.sources
            for node in parse(source).outermost_functions()
            for function in loaded_functions(source, node)
        ]
        return list({id(f.__globals__): f.__globals__ for f in functions}.values())

    @cached_property
    def hook_means(self) -> Reference:
        """What ``Mean`` gives at every hook point that a mean on a line is the same as."""
        found = [self.twins.of(surgery) for surgery in self.surgeries]
        names = {name for twin in found if twin and twin.kind == "Mean" for name in twin.names}
        reference = self.reference
        if reference is None or not names:
            return {}

        def means() -> Reference:
            with self.operated(self.prepare), same_draws(self.model):
                return reference_means(
                    cast(Any, self.model), sorted(names), lambda: reference(self.model)
                )

        found_means: Reference = self._alone("run on the reference texts", means)
        return found_means

    def judged_with(self, surgery: Surgery | None) -> Judgement:
        with self.operated(surgery):
            return judge_model(self.model, self.judge)

    @contextmanager
    def operated(self, surgery: Surgery | None, model: nn.Module | None = None) -> Iterator[None]:
        """Inside the block a surgery is made in ``model``, by default the trained one, with the
        means that it asks for."""
        with ExitStack() as stack:
            if surgery is not None:
                names: dict[str, Any] = {}
                if needs_mean(surgery):
                    asked = [self.means[part.source] for part in surgery.parts if needs_mean(part)]
                    names = stack.enter_context(join_means(asked).standing_in(self.model))
                made = perform(surgery, model or self.model, names=names, kept=self.kept)
                stack.enter_context(made)
            yield

    def made_in_building(self, surgery: Surgery | None) -> Any:
        """Where ``surgery`` is made while a model is built and trained."""
        return perform(surgery, kept=self.kept) if surgery else nullcontext()

    def with_preparation(self, surgery: Surgery) -> Surgery:
        if self.prepare is None:
            return surgery
        return at_layers(
            combine([at_layers(self.prepare, None), at_layers(surgery, None)]), surgery.layers
        )

    def _prepared(self, source: Source) -> tuple[Edit, ...]:
        """The edits of a file that are made under every other."""
        parts = self.prepare.parts if self.prepare else ()
        return tuple(edit for part in parts if part.source == source for edit in part.edits)

    @cached_property
    def _observed(self) -> tuple[dict[Source, Observations], dict[Source, Means]]:
        """One run with probes of the code as it is."""
        self.baseline, self.targets, self.kept  # noqa: B018  # found without probes, before a fork
        axes = {source: self._axes(source) for source in self.sources}

        def observe() -> tuple[dict[Source, Observations], dict[Source, Means]]:
            found = {source: self._observe(source, axes[source]) for source in self.sources}
            means = {}
            if self.reference is not None:
                run = partial(self.reference, self.model)
                for source in self.sources:
                    with same_draws(self.model):
                        edits = self._prepared(source)
                        means[source] = take_means(source, run, axes[source], edits)
            return found, means

        found: tuple[dict[Source, Observations], dict[Source, Means]]
        found = self._alone("watched", observe)
        return found

    def _observe(self, source: Source, axes: dict[Place, Axes]) -> Observations:
        noted = Observations(source)
        edits = self._prepared(source)
        kept, targets = self.kept, self.targets  # found without probes
        with (
            same_draws(self.model),
            following_layers(self.model) as layer,
            ExitStack() as stack,
        ):
            with observing(noted, "import", edits):
                stack.enter_context(afresh(kept))
            with observing(noted, "judge", edits, layer):
                judgement = judge_model(self.model, self.judge)
            with observing(noted, "build", edits):
                self.build(0)
            if self.trains:
                with observing(noted, "train", edits):
                    training_fingerprint(self.build, judgement.calls[0], targets)
        noted.axes = axes
        return noted

    def _axes(self, source: Source) -> dict[Place, Axes]:
        find = partial(find_axes, source, self.model, self._call, self._prepared(source))
        found: dict[Place, Axes] = self._alone("run with fewer positions", find)
        return found

    def phases(self, surgery: Surgery) -> set[str]:
        """The phases in which what a surgery cuts ran: its statements; of an edit by hand, which
        may do anything to a function, the whole function; of one outside functions, any."""
        if surgery.beside:
            return set().union(*map(self.phases, surgery.parts))
        noted, syntax = self.observations[surgery.source], parse(surgery.source)
        if is_of_operators(surgery):
            touched = [node for node in syntax.statements if node.lineno in surgery.lines]
        else:
            owners = {
                syntax.with_body_at(edit.line, edit.line + lines_between(syntax, edit))
                for edit in surgery.edits
            }
            if None in owners:
                return {"import", "build", "judge"}
            touched = [node for node in syntax.statements if syntax.outermost(node) in owners]
        return set().union(*map(noted.phases, touched))

    def prepare_to_fork(self) -> None:
        """Find out what a trial asks for, before there are forks that would each do so."""
        self.spaces, self.kept, self.examined, self.rebuilding  # noqa: B018
        self.means, self.hook_means, self._training, self.targets  # noqa: B018


def lines_between(syntax: Syntax, edit: Edit) -> int:
    """How many lines there are between the first that an edit touches and the last."""
    return count_line_ends(syntax.data[edit.start : edit.stop].rstrip(b"\r\n"))
