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

from interp.errors import SurgeryError
from interp.places import Reference
from interp.surgery.axes import find_axes
from interp.surgery.edits import Surgery, at_layers, combine
from interp.surgery.finding import surgeries_of
from interp.surgery.guarding import guarded
from interp.surgery.judging import (
    Call,
    Judge,
    Judgement,
    judged,
    own_randomness,
    sees_the_future,
)
from interp.surgery.kept import Kept, Name, afresh, kept_by
from interp.surgery.means import Means, needs_mean, take_means
from interp.surgery.observing import Axes, Observations, Place, observing
from interp.surgery.operators import propose
from interp.surgery.performing import following_layers, performed
from interp.surgery.rebuilding import Build, Rebuilding, is_same, plan_rebuilding
from interp.surgery.syntax import Edit, Source, parse
from interp.surgery.training import Training, targets_of, training_fingerprint
from interp.surgery.twins import Twins, found_twins, reference_means

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

    @cached_property
    def baseline(self) -> Judgement:
        """The model as it is, judged where the mutants are judged."""
        found: Judgement = self._alone("judged", lambda: self.judged_with(self.prepare))
        return found

    @property
    def positions(self) -> int:
        """The length of the texts that the judge gives the model."""
        return self.baseline.calls[0].tokens.shape[1]

    @cached_property
    def observations(self) -> dict[Source, Observations]:
        """What every expression was when the model was built, judged and trained for two steps."""
        return {source: self._observe(source) for source in self.sources}

    @cached_property
    def means(self) -> dict[Source, Means]:
        """The mean over the reference texts and their positions of what each line computes."""
        if self.reference is None:
            return {}
        run = partial(self.reference, self.model)
        return {
            source: take_means(source, run, noted.axes, self._prepared(source))
            for source, noted in self.observations.items()
        }

    @cached_property
    def surgeries(self) -> tuple[Surgery, ...]:
        """Every surgery that applies, in the order of the files."""
        found: list[Surgery] = []
        for source in self.sources:
            means = self.means.get(source, Means())
            proposals = propose(parse(source), self.observations[source])
            cuts = surgeries_of(source, proposals)
            found += [cut for cut in cuts if means.stand_in_for(cut)]
        return tuple(found)

    @cached_property
    def twins(self) -> Twins:
        """The interventions that are the same cut as a surgery."""
        edits = self.prepare.edits if self.prepare else ()
        positions = self.positions
        return found_twins(
            self.model, self.sources, lambda: self.judge(self.model), edits, positions
        )

    @cached_property
    def targets(self) -> str:
        """The parameter by which the model takes targets that the judge does not give it."""
        return str(self._alone("built and called", lambda: targets_of(self.build(0), self._call)))

    @cached_property
    def _training(self) -> Training:
        """The fingerprint of two steps of training without a cut."""
        targets = self.targets

        def train() -> Training:
            with self.made_in_building(self.prepare):
                return training_fingerprint(self.build, self._call, targets)

        found: Training = self._alone("trained as it is built", train)
        return found

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
        before = judged(self.model, self.judge)

        def is_the_same(names: Sequence[Name]) -> bool:
            try:
                with afresh([replace(found, names=tuple(names))]):
                    return is_same(judged(self.model, self.judge), before)
            except Exception:
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

        found: Rebuilding = self._alone("built", plan)
        return found

    @property
    def _call(self) -> Call:
        return self.baseline.calls[0]

    def _alone(self, what: str, task: Callable[[], Any]) -> Any:
        """What a task gives where the mutants are judged."""
        if self.workers == 0:
            return task()
        _, outcome = next(iter(guarded([task], limit_s=60 + self.limit_s, workers=1)))
        if outcome.status != "done":
            raise SurgeryError(f"the model as it is cannot be {what}: {outcome.detail}")
        return outcome.value

    @cached_property
    def _baseline_leaks(self) -> bool:
        """Whether the model as it is looks ahead, as a bidirectional one may."""
        with self.made_in_building(self.prepare):
            return sees_the_future(self.model, self.baseline.calls[0])

    @cached_property
    def hook_means(self) -> Reference:
        """What ``Mean`` gives at every hook point that a mean on a line is the same as."""
        found = [self.twins.of(surgery) for surgery in self.surgeries]
        names = {name for twin in found if twin and twin.kind == "Mean" for name in twin.names}
        if self.reference is None or not names:
            return {}
        with self.operated(self.prepare):
            reference = self.reference
            return reference_means(
                cast(Any, self.model), sorted(names), lambda: reference(self.model)
            )

    def judged_with(self, surgery: Surgery | None) -> Judgement:
        with self.operated(surgery):
            return judged(self.model, self.judge)

    @contextmanager
    def operated(self, surgery: Surgery | None, model: nn.Module | None = None) -> Iterator[None]:
        """Inside the block a surgery is made in ``model``, by default the trained one, with the
        means that it asks for."""
        with ExitStack() as stack:
            if surgery is not None:
                names: dict[str, Any] = {}
                if needs_mean(surgery):
                    names = stack.enter_context(self.means[surgery.source].standing_in())
                made = performed(surgery, model or self.model, names=names, kept=self.kept)
                stack.enter_context(made)
            yield

    def made_in_building(self, surgery: Surgery | None) -> Any:
        """Where ``surgery`` is made while a model is built and trained."""
        return performed(surgery, kept=self.kept) if surgery else nullcontext()

    def with_preparation(self, surgery: Surgery) -> Surgery:
        if self.prepare is None or surgery.source != self.prepare.source:
            return surgery
        return at_layers(
            combine([at_layers(self.prepare, None), at_layers(surgery, None)]), surgery.layers
        )

    def _prepared(self, source: Source) -> tuple[Edit, ...]:
        """The edits of a file that are made under every other."""
        return self.prepare.edits if self.prepare and self.prepare.source == source else ()

    def _observe(self, source: Source) -> Observations:
        noted = Observations(source)
        edits = self._prepared(source)
        kept, targets = self.kept, self.targets  # found without probes
        with (
            own_randomness(self.model),
            following_layers(self.model) as layer,
            ExitStack() as stack,
        ):
            with observing(noted, "import", edits):
                stack.enter_context(afresh(kept))
            with observing(noted, "judge", edits, layer):
                judgement = judged(self.model, self.judge)
            with observing(noted, "build", edits):
                self.build(0)
            with observing(noted, "train", edits):
                training_fingerprint(self.build, judgement.calls[0], targets)
        noted.axes = self._axes(source)
        return noted

    def _axes(self, source: Source) -> dict[Place, Axes]:
        find = partial(find_axes, source, self.model, self._call, self._prepared(source))
        found: dict[Place, Axes] = self._alone("run with fewer positions", find)
        return found

    def phases(self, surgery: Surgery) -> set[str]:
        """The phases in which a statement that a surgery cuts ran."""
        noted = self.observations[surgery.source]
        phases: set[str] = set()
        for node in parse(surgery.source).statements:
            if node.lineno in surgery.lines:
                phases |= noted.phases(node)
        return phases
