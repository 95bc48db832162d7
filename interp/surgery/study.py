"""What does every line of a model file do for the loss?

    study = surgery.study(build=build, judge=judge, files=["gpt/model.py"], model=trained)
    study.enumerate()                     # every cut that applies
    study.posthoc(layers="each")          # each made on the trained model
    study.retrain(ids, seeds=[0, 1, 2])   # some made before training

Each returns one row per surgery (and layer, or seed) with the status that says what became of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from interp.errors import SurgeryError, nearest
from interp.interventions import Reference, intervene
from interp.runs import Run, identity_of
from interp.surgery.edits import Surgery, at_layers, combine
from interp.surgery.finding import surgeries_of
from interp.surgery.guarding import guarded
from interp.surgery.judging import (
    FirstNaN,
    Judge,
    Judgement,
    judged,
    own_randomness,
    sees_the_future,
    training_fingerprint,
    weights_hash,
)
from interp.surgery.modules import edited_name
from interp.surgery.observing import Observations, Place, observing, own_expressions
from interp.surgery.operators import propose, reference_places
from interp.surgery.performing import following_layers, performed
from interp.surgery.rows import (
    NO_TWIN,
    Row,
    check_same_cut,
    compared,
    failed,
    folded,
    largest_difference,
    over_seeds,
    row_of,
)
from interp.surgery.syntax import Source, parse, read_source
from interp.surgery.twins import Twins, found_twins, reference_means

MeanKey = tuple[str, int | None, tuple[int, ...]]  # the line, the layer, the mean's own shape
FLOAT_NOISE = 1e-5  # of the logits' spread: the same sum in another order
Build = Callable[[int], nn.Module]
Train = Callable[[nn.Module, int], Any]
Progress = Callable[[int, int], None]
Retrain = Callable[[Sequence[tuple[Surgery | None, int]]], list[Row]]


def study(
    *,
    build: Build,
    judge: Judge,
    files: Sequence[str | Path | ModuleType],
    model: nn.Module | None = None,
    train: Train | None = None,
    reference: Judge | None = None,
    prepare: Surgery | None = None,
    limit_s: float = 20.0,
    workers: int | None = None,
    store: Run | None = None,
    about: Mapping[str, Any] | None = None,
) -> "Study":
    """Look at what some source files compute, line by line.

    Building and judging are the caller's: any model will do whose code is in ``files``.

    Args:
        build: makes an untrained model from a seed.
        judge: says how good a model is: its loss in nats, one number or one per example. It must
            call the model so that this returns logits [batch pos vocab].
        files: the sources to operate on, imported ones.
        model: the trained model; without it one is built with seed 0, and trained.
        train: trains a model in place, with a seed; needed for ``retrain``.
        reference: calls the model on texts over which the stand-in means are taken; without it no
            mean stands in.
        prepare: a surgery that is made under every other, and under the baseline.
        limit_s: wall-clock seconds that judging one mutant may take.
        workers: processes at a time; None is one for each core, 0 is none: mutants run here,
            unguarded. It is 0 wherever torch sees a GPU: what was begun with one does not survive
            in a forked process. ``CUDA_VISIBLE_DEVICES=""`` hides it.
        store: the run in which every finished surgery is kept at once; what it holds is not done
            again.
        about: what decides the results beside the sources, the surgery, the model's weights and
            what the judge says of them: the settings of build, train and reference.

    Raises:
        SurgeryError: a file that cannot be read; a judge whose value is no number, or not finite
            on the model as it is.
    """
    sources = tuple(read_source(file) for file in files)
    if not sources:
        raise SurgeryError("files is empty: name at least one source file to operate on")
    if model is None:
        model = build(0)
        if train is not None:
            train(model, 0)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    if not on_cpu or torch.cuda.is_available():
        workers = 0
    made = Study(
        sources=sources,
        build=build,
        judge=judge,
        model=model,
        train=train,
        reference=reference,
        prepare=prepare,
        limit_s=limit_s,
        workers=workers,
        store=store,
        about=dict(about or {}),
    )
    baseline = made.baseline  # what is wrong with the judge is said now
    if not baseline.is_finite:
        raise SurgeryError(
            "the judge's value of the model as it is is not finite: nothing can be compared with it"
        )
    return made


@dataclass(frozen=True)
class Study:
    """A model, its sources, and how it is judged; see ``study``."""

    sources: tuple[Source, ...]
    build: Build
    judge: Judge
    model: nn.Module
    train: Train | None
    reference: Judge | None
    prepare: Surgery | None
    limit_s: float
    workers: int | None
    store: Run | None
    about: dict[str, Any]

    @cached_property
    def baseline(self) -> Judgement:
        """The model as it is, judged where the mutants are judged."""
        if self.workers == 0:
            return self._judged(self.prepare)
        judge = lambda: self._judged(self.prepare)  # noqa: E731
        _, outcome = next(iter(guarded([judge], limit_s=60 + self.limit_s, workers=1)))
        if outcome.status != "done":
            raise SurgeryError(f"the model as it is cannot be judged: {outcome.detail}")
        judgement: Judgement = outcome.value
        return judgement

    @property
    def positions(self) -> int:
        """The length of the texts that the judge gives the model."""
        return self.baseline.calls[0].tokens.shape[1]

    @cached_property
    def observations(self) -> dict[Source, Observations]:
        """What every expression was when the model was built, judged and trained for two steps."""
        return self._observed()[0]

    @cached_property
    def means(self) -> dict[MeanKey, Tensor]:
        """The mean over the reference texts and their positions of what each line computes, by the
        line and the layer."""
        return self._observed()[1]

    @cached_property
    def surgeries(self) -> tuple[Surgery, ...]:
        """Every surgery that applies, in the order of the files."""
        positions = self.positions
        found: list[Surgery] = []
        for source in self.sources:
            proposals = propose(parse(source), self.observations[source], positions)
            if self.reference is None:
                proposals = [p for p in proposals if p.operator != "mean"]
            found += surgeries_of(source, proposals)
        return tuple(found)

    def spelled_out(self, table: pd.DataFrame) -> "Study | None":
        """The same study with every branch forced that computes the same function another way, such
        as attention spelt out beside the fused kernel: lines that were dead run there.

        Args:
            table: what ``posthoc`` found.
        """
        same = table[
            (table["operator"] == "force-branch")
            & (table["status"] == "equivalent")
            & (table["fingerprint"] != self.baseline.fingerprint)
            & (table["file"] == self.sources[0].file)
        ]
        if same.empty or self.prepare is not None:
            return None
        return replace(self, prepare=combine([self.find(id) for id in same["id"]]))

    def find(self, id: str | Surgery) -> Surgery:
        """The surgery of an id; a surgery that is given, such as a combined one, is itself.

        Raises ``SurgeryError`` with the nearest where there is none.
        """
        if isinstance(id, Surgery):
            return id
        for surgery in self.surgeries:
            if surgery.id == id:
                return surgery
        known = [surgery.id for surgery in self.surgeries]
        raise SurgeryError(f"no surgery is called {id!r}; nearest: {nearest(id, known)}")

    def enumerate(self) -> pd.DataFrame:
        """Every surgery that applies, one row each, and every dead line."""
        rows = [self._described(surgery) for surgery in self.surgeries]
        return pd.DataFrame([*rows, *self._dead_lines()])

    def posthoc(
        self,
        ids: Iterable[str | Surgery] | None = None,
        *,
        layers: Literal["each"] | Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Make surgeries on the trained model, one at a time, and judge it.

        Args:
            ids: which, by id or themselves; None is all.
            layers: None makes each in all layers; ``"each"`` also in one layer at a time; numbers
                in these layers together.
            progress: is told how many are done, of how many.

        Returns:
            One row per surgery and layer: ``delta`` is the value with the cut less the value
            without, in the judge's units, with Student's interval over the examples; ``same_as``
            names an earlier surgery that makes the same function. Where an intervention on hook
            points is the same cut, ``intervention`` and ``hook`` say which, and ``hook_delta`` what
            that does.

        Raises:
            SurgeryError: a surgery and an intervention that are the same cut do not agree.
        """
        chosen = list(self.surgeries) if ids is None else [self.find(id) for id in ids]
        if layers is not None and layers != "each":
            chosen = [at_layers(surgery, layers) for surgery in chosen]
        outcomes = self._tried(chosen, progress)
        if layers == "each":
            single = [
                at_layers(surgery, [layer])
                for surgery, outcome in zip(chosen, outcomes, strict=True)
                if outcome["status"] in ("changed", "leak", "nonfinite")
                for layer in self._layers(surgery)
            ]
            outcomes += self._tried(single, progress)
            chosen = chosen + single
        rows = [
            {**self._described(surgery), **NO_TWIN, **outcome}
            for surgery, outcome in zip(chosen, outcomes, strict=True)
        ]
        for row in rows:
            check_same_cut(row)
        if ids is None:
            rows += [{**row, **NO_TWIN} for row in self._dead_lines()]
        return folded(pd.DataFrame(rows))

    def retrain(
        self,
        ids: Iterable[str],
        *,
        seeds: Sequence[int] = (0,),
        limit_s: float = 3600.0,
        progress: Progress | None = None,
        elsewhere: Retrain | None = None,
    ) -> pd.DataFrame:
        """Build and train anew with each surgery made, and judge what comes of it.

        Args:
            ids: which surgeries.
            seeds: one training for each; the model without a cut is trained with each too.
            limit_s: wall-clock seconds that one training may take.
            progress: is told how many are done, of how many.
            elsewhere: trains and judges instead of this study: given each surgery (None is the
                model as it is) with each seed, it returns a row for each, in order, with
                ``status``, ``detail`` and, where it trained, the ``value`` judged.

        Returns:
            One row per surgery: ``value`` is the mean over seeds, ``delta`` the mean of the paired
            differences to the uncut model, with Student's interval where there are two seeds or
            more; ``noise`` what a difference must exceed to mean anything: Student's 95 % reach of
            the difference between two trainings of the uncut model, over as many seeds.

        Raises:
            SurgeryError: no ``train`` was given, or the uncut model does not train.
        """
        chosen: list[Surgery | None] = [None, *(self.find(id) for id in ids)]
        tasks = [(surgery, seed) for surgery in chosen for seed in seeds]
        train = elsewhere or partial(self._retrained_here, limit_s=limit_s, progress=progress)
        outcomes = train(tasks)
        by_surgery = [outcomes[i : i + len(seeds)] for i in range(0, len(tasks), len(seeds))]
        if any(outcome["status"] != "changed" for outcome in by_surgery[0]):
            detail = next(o["detail"] for o in by_surgery[0] if o["status"] != "changed")
            raise SurgeryError(f"the model as it is cannot be trained and judged: {detail}")
        uncut = np.array([outcome["value"] for outcome in by_surgery[0]])
        rows = []
        for surgery, trained in zip(chosen[1:], by_surgery[1:], strict=True):
            assert surgery is not None
            rows.append({**self._described(surgery), **over_seeds(uncut, trained)})
        return pd.DataFrame(rows)

    def _retrained_here(
        self,
        tasks: Sequence[tuple[Surgery | None, int]],
        limit_s: float,
        progress: Progress | None,
    ) -> list[Row]:
        if self.train is None:
            raise SurgeryError("retraining needs train: a function that trains a model with a seed")
        trials = [lambda s=surgery, n=seed: self._retrained(s, n) for surgery, seed in tasks]
        cuts = [(surgery.identity if surgery else "", seed) for surgery, seed in tasks]
        identities = [
            self._identity("retrain", cut=cut, seed=seed, limit_s=limit_s) for cut, seed in cuts
        ]
        return self._guarded(trials, identities, limit_s, progress)

    def _judged(self, surgery: Surgery | None) -> Judgement:
        with self._operated(surgery):
            return judged(self.model, self.judge)

    def _operated(self, surgery: Surgery | None) -> Any:
        if surgery is None:
            return nullcontext()
        return performed(surgery, self.model, names={"surgery_mean": self._stand_in_mean})

    def _stand_in_mean(self, x: Tensor, key: str) -> Tensor:
        layer = self._current_layer[-1]()
        shape = list(x.shape)
        shape[0] = shape[shape.index(self.positions, 1)] = 1
        return self.means[key, layer, tuple(shape)].to(x).expand_as(x)

    @cached_property
    def _current_layer(self) -> list[Callable[[], int | None]]:
        return []

    def _with_preparation(self, surgery: Surgery) -> Surgery:
        if self.prepare is None or surgery.source != self.prepare.source:
            return surgery
        return at_layers(
            combine([at_layers(self.prepare, None), at_layers(surgery, None)]), surgery.layers
        )

    def _observed(
        self,
    ) -> tuple[dict[Source, Observations], dict[MeanKey, Tensor]]:
        """One run with probes, in this process: the code as it is, so that nothing can go wrong
        that would not without them."""
        if "_observed_once" not in self.__dict__:
            found = {}
            means: dict[MeanKey, Tensor] = {}
            for source in self.sources:
                found[source] = self._observe(source)
            if self.reference is not None:
                for source in self.sources:
                    means |= self._reference_means(source)
            self.__dict__["_observed_once"] = found, means
        once: tuple[dict[Source, Observations], dict[MeanKey, Tensor]]
        once = self.__dict__["_observed_once"]
        return once

    def _observe(self, source: Source) -> Observations:
        noted = Observations(source)
        edits = self.prepare.edits if self.prepare and self.prepare.source == source else ()
        with own_randomness(self.model), following_layers(self.model) as layer:
            with observing(noted, "judge", edits, layer):
                judgement = judged(self.model, self.judge)
            with observing(noted, "build", edits):
                self.build(0)
            with observing(noted, "train", edits):
                training_fingerprint(self.build, judgement.calls[0])
        return noted

    def _reference_means(self, source: Source) -> dict[MeanKey, Tensor]:
        assert self.reference is not None
        positions = self.positions
        keys = reference_places(parse(source))
        sums: dict[MeanKey, Tensor] = {}
        counts: dict[MeanKey, int] = {}

        def add(place: Place, value: Any) -> None:
            if place not in keys or not isinstance(value, Tensor):
                return
            if positions not in value.shape[1:]:
                return
            axes = [0, value.shape.index(positions, 1)]
            total = value.detach().double().sum(dim=axes, keepdim=True)
            key = keys[place], layer(), tuple(total.shape)
            sums[key] = sums[key] + total if key in sums else total
            counts[key] = counts.get(key, 0) + value.shape[axes[0]] * value.shape[axes[1]]

        edits = self.prepare.edits if self.prepare and self.prepare.source == source else ()
        noted = Observations(source)
        with (
            following_layers(self.model) as layer,
            observing(noted, "reference", edits, layer, watch=add),
            torch.no_grad(),
        ):
            self.reference(self.model)
        return {key: (total / counts[key]).float() for key, total in sums.items()}

    def _layers(self, surgery: Surgery) -> list[int]:
        """The layers in which what a surgery cuts ran when the model was judged."""
        noted = self.observations[surgery.source]
        lines = set(surgery.lines)
        layers: set[int] = set()
        for node in parse(surgery.source).statements:
            if node.lineno in lines:
                layers |= noted.layers(node, "judge")
        return sorted(layers)

    def _described(self, surgery: Surgery) -> dict[str, Any]:
        layers = surgery.layers
        noted = self.observations[surgery.source]
        phases: set[str] = set()
        for node in parse(surgery.source).statements:
            if node.lineno in surgery.lines:
                phases |= noted.phases(node)
        return {
            "id": surgery.id,
            "surgery": at_layers(surgery, None).id,
            "file": surgery.file,
            "qualname": surgery.qualname,
            "line": surgery.line,
            "lines": ",".join(map(str, surgery.lines)),
            "operator": surgery.operator,
            "target": surgery.target,
            "code": surgery.before,
            "after": surgery.after,
            "reading": surgery.reading,
            "phases": ",".join(sorted(phases)),
            "layer": ",".join(map(str, layers)) if layers is not None else "all",
        }

    def _dead_lines(self) -> list[dict[str, Any]]:
        """A row for every statement in a function that never ran."""
        rows = []
        for source in self.sources:
            syntax = parse(source)
            noted = self.observations[source]
            for node in syntax.statements:
                if own_expressions(node) and not noted.phases(node):
                    rows.append(
                        {
                            "id": f"{source.file}:{node.lineno}:dead",
                            "surgery": f"{source.file}:{node.lineno}:dead",
                            "file": source.file,
                            "qualname": syntax.qualname[node],
                            "line": node.lineno,
                            "lines": str(node.lineno),
                            "operator": "",
                            "code": syntax.shown(node),
                            "layer": "all",
                            "status": "dead",
                            "detail": "the line never ran",
                        }
                    )
        return rows

    def _tried(
        self, surgeries: Sequence[Surgery], progress: Progress | None
    ) -> list[dict[str, Any]]:
        self.observations  # noqa: B018  # before the children are forked
        self.baseline  # noqa: B018
        self.means  # noqa: B018
        self._training  # noqa: B018
        self._baseline_leaks  # noqa: B018
        self._hook_means  # noqa: B018
        trials = [lambda s=surgery: self._trial(s) for surgery in surgeries]
        parts = {
            "prepared": self.prepare.identity if self.prepare else "",
            "weights": weights_hash(self.model),
            "uncut": self.baseline.values.tolist(),
            "limit_s": self.limit_s,
        }
        identities = [self._identity("posthoc", cut=cut.identity, **parts) for cut in surgeries]
        return self._guarded(trials, identities, self.limit_s, progress)

    def _guarded(
        self,
        trials: Sequence[Callable[[], Any]],
        identities: Sequence[str],
        limit_s: float,
        progress: Progress | None,
    ) -> list[Row]:
        """The rows of all trials, in their order; those in the store are not tried again."""
        rows: dict[int, Row] = {}
        if self.store is not None:
            for index, identity in enumerate(identities):
                if kept := self.store.task(identity):
                    rows[index] = kept[0]
        left = [index for index in range(len(trials)) if index not in rows]
        runs = guarded([trials[i] for i in left], limit_s=limit_s, workers=self.workers)
        for number, outcome in runs:
            index, row = left[number], row_of(outcome)
            if self.store is not None:
                row = self.store.record(identities[index], [row])[0]
            rows[index] = row
            if progress is not None:
                progress(len(rows), len(trials))
        return [rows[index] for index in range(len(trials))]

    def _identity(self, what: str, **parts: Any) -> str:
        return identity_of(what=what, **self._decided_by, **parts)

    @cached_property
    def _decided_by(self) -> dict[str, Any]:
        """What decides every result of this study, beside the surgery."""
        return {
            "sources": [source.text for source in self.sources],
            "files": [str(source.path) for source in self.sources],
            "judged": [call.tokens.tolist() for call in self.baseline.calls],
            "about": self.about,
        }

    @cached_property
    def _training(self) -> str:
        """The fingerprint of two steps of training without a cut."""

        def train() -> str:
            with performed(self.prepare) if self.prepare else nullcontext():
                return training_fingerprint(self.build, self.baseline.calls[0])

        if self.workers == 0:
            return train()
        _, outcome = next(iter(guarded([train], limit_s=60 + self.limit_s, workers=1)))
        if outcome.status != "done":
            raise SurgeryError(f"a model as it is built does not train: {outcome.detail}")
        return str(outcome.value)

    @cached_property
    def twins(self) -> Twins:
        """The interventions that are the same cut as a surgery."""
        edits = self.prepare.edits if self.prepare else ()
        positions = self.positions
        return found_twins(
            self.model, self.sources, lambda: self.judge(self.model), edits, positions
        )

    @cached_property
    def _hook_means(self) -> Reference:
        """What ``Mean`` gives at every hook point that a mean on a line is the same as."""
        found = [self.twins.of(surgery) for surgery in self.surgeries]
        names = {name for twin in found if twin and twin.kind == "Mean" for name in twin.names}
        if self.reference is None or not names:
            return {}
        with self._operated(self.prepare):
            reference = self.reference
            return reference_means(
                cast(Any, self.model), sorted(names), lambda: reference(self.model)
            )

    def _trial(self, surgery: Surgery) -> Row:
        """One surgery on the trained model, and the intervention that is the same cut."""
        row = self._cut(surgery)
        twin = self.twins.of(surgery)
        if twin is None or row["status"] in ("error", "timeout"):
            return row
        changes = twin.interventions(self._hook_means)
        with (
            self._operated(self.prepare),
            intervene(cast(Any, self.model), changes, allow_no_effect=True),
        ):
            judgement = judged(self.model, self.judge)
        delta = float((judgement.values - self.baseline.values).mean())
        return {**row, "intervention": twin.kind, "hook": twin.hook, "hook_delta": delta}

    def _cut(self, surgery: Surgery) -> Row:
        made = self._with_preparation(surgery)
        filenames = {edited_name(made), *(str(source.path) for source in self.sources)}
        baseline = self.baseline
        with following_layers(self.model) as layer, self._operated(made):
            self._current_layer.append(layer)
            try:
                judgement = judged(self.model, self.judge)
                if judgement.fingerprint != baseline.fingerprint and judgement.is_finite:
                    leaks = self._leaks(judgement)
                elif not judgement.is_finite:
                    return self._nonfinite(judgement, filenames)
            except Exception as error:
                return failed("judge", error, filenames)
            finally:
                self._current_layer.pop()
        if judgement.fingerprint == baseline.fingerprint and np.array_equal(
            judgement.values, baseline.values
        ):
            return self._trial_of_training(surgery, made, filenames)
        row = compared(judgement.values, baseline.values)
        row["fingerprint"] = judgement.fingerprint
        difference = largest_difference(judgement, baseline)
        if difference is not None and difference < FLOAT_NOISE:
            detail = f"the same logits, up to {difference:.1g} of their spread"
            return {**row, "status": "equivalent", "detail": detail}
        if judgement.fingerprint != baseline.fingerprint and leaks:
            detail = "earlier logits depend on later tokens"
            return {**row, "status": "leak", "detail": detail}
        return {**row, "status": "changed", "detail": ""}

    def _leaks(self, judgement: Judgement) -> bool:
        call = judgement.calls[0]
        return not self._baseline_leaks and sees_the_future(self.model, call)

    @cached_property
    def _baseline_leaks(self) -> bool:
        """Whether the model as it is looks ahead, as a bidirectional one may."""
        with performed(self.prepare) if self.prepare else nullcontext():
            return sees_the_future(self.model, self.baseline.calls[0])

    def _trial_of_training(
        self, surgery: Surgery, made: Surgery, filenames: set[str]
    ) -> dict[str, Any]:
        """What a surgery without effect on the trained model does to building and training one."""
        same: dict[str, Any] = {
            "value": self.baseline.values.mean(),
            "baseline": self.baseline.values.mean(),
            "delta": 0.0,
            "ci_low": 0.0,
            "ci_high": 0.0,
            "n": len(self.baseline.values),
            "fingerprint": self.baseline.fingerprint,
        }
        if surgery.layers is not None:
            return {**same, "status": "equivalent", "detail": "the same logits, to the bit"}
        try:
            with performed(made):
                fingerprint = training_fingerprint(self.build, self.baseline.calls[0])
        except Exception as error:
            return failed("build or train", error, filenames)
        if fingerprint == self._training:
            return {**same, "status": "equivalent", "detail": "the same logits, to the bit"}
        phases = self._described(surgery)["phases"].split(",")
        if "judge" not in phases and "build" in phases:
            return {**same, "status": "retrain-only", "detail": "acts when a model is built"}
        return {**same, "status": "train-only", "detail": "acts in training only"}

    def _nonfinite(self, judgement: Judgement, filenames: set[str]) -> dict[str, Any]:
        call = judgement.calls[0]
        with FirstNaN(filenames) as first, torch.no_grad():
            self.model(*call.args, **call.kwargs)
        where = "" if first.line is None else f" on line {first.line}"
        detail = f"the first NaN is made by {first.operation}{where}"
        if first.operation is None:
            detail = "an infinity, and no NaN before the loss"
        return {"status": "nonfinite", "detail": detail, "fingerprint": judgement.fingerprint}

    def _retrained(self, surgery: Surgery | None, seed: int) -> dict[str, Any]:
        assert self.train is not None
        sources = {str(source.path) for source in self.sources}
        filenames = sources | ({edited_name(surgery)} if surgery else set())
        stage = "build"
        try:
            with performed(surgery) if surgery else nullcontext():
                torch.manual_seed(seed)
                model = self.build(seed)
                stage = "train"
                self.train(model, seed)
                stage = "judge"
                judgement = judged(model, self.judge)
                if not judgement.is_finite:
                    return {
                        "status": "nonfinite",
                        "detail": "the trained model's loss is no number",
                    }
                leaks = sees_the_future(model, judgement.calls[0])
        except Exception as error:
            return failed(stage, error, filenames)
        row = {"value": float(judgement.values.mean()), "n": len(judgement.values)}
        if leaks and surgery is not None and not self._baseline_leaks:
            return {**row, "status": "leak", "detail": "earlier logits depend on later tokens"}
        return {**row, "status": "changed", "detail": ""}
