"""What does every line of a model file do for the loss?

    study = surgery.study(build=build, judge=judge, files=["gpt/model.py"], model=trained)
    study.enumerate()                     # every cut that applies
    study.posthoc(layers="each")          # each made on the trained model
    study.retrain(ids, seeds=[0, 1, 2])   # some made before training

Each returns one row per surgery (and layer, or seed) with the status that says what became of it.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from interp.errors import SurgeryError, SurgeryWarning
from interp.runs import Run, identity_of
from interp.status import UNJUDGED, Status
from interp.surgery.cutting.means import needs_mean
from interp.surgery.judging import Judge, weights_hash
from interp.surgery.judging.rows import (
    NO_TWIN,
    Row,
    checked_by_hook,
    mark_duplicates,
    over_seeds,
    with_columns,
    with_twin,
)
from interp.surgery.running.layers import check_layers
from interp.surgery.source.edits import Surgery, at_layers, combine
from interp.surgery.source.imports import hash_of_imports
from interp.surgery.source.syntax import read_source, tell_apart
from interp.surgery.studying.describing import describe_cut, lines_without_cut
from interp.surgery.studying.one_layer import LayerPlan, plan_layers
from interp.surgery.studying.posthoc import try_cut, try_twin
from interp.surgery.studying.retraining import retrain, warn_of_changes
from interp.surgery.studying.single_layers import cuts_in_layers, goes_by_blocks, try_in_layers
from interp.surgery.studying.trying import Progress, try_all
from interp.surgery.studying.uncut import Build, Train, Uncut

METHOD = 3
"""Of judging: what was kept when another was in use is found anew."""

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
    own: Iterable[Surgery] = (),
    trains: bool = True,
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
        own: cuts of one's own, to be made beside those that are found.
        trains: whether it is asked what a cut does in training; not of a model that comes trained,
            for which two steps of training would take longer than all else.
        limit_s: seconds that judging one mutant may take, of those in which it could run.
        workers: processes at a time; None is one for each core, 0 is none: mutants run here,
            unguarded, and what each has changed is put back. It is 0 wherever torch sees a GPU:
            what was begun with one does not survive in a forked process.
            ``CUDA_VISIBLE_DEVICES=""`` hides it.
        store: the run in which every finished surgery is kept at once; what it holds is not done
            again.
        about: what decides the results beside the sources, the surgery, the model's weights and
            what the judge says of them: the settings of build, train and reference.

    Raises:
        SurgeryError: a file that cannot be read; a judge whose value is no number, not finite on
            the model as it is, or another each time; a model that takes [pos batch].

    Warns:
        SurgeryWarning: judging draws random numbers; the model as it is sees the future; training
            is not repeatable. ``Study.notes`` holds the first two.
    """
    if not limit_s >= 0 or (workers is not None and workers < 0):
        raise SurgeryError(
            f"limit_s is {limit_s} and workers {workers}: give seconds, and processes or None"
        )
    sources = tuple(tell_apart([read_source(file) for file in files]))
    if not sources:
        raise SurgeryError("files is empty: name at least one source file to operate on")
    if model is None:
        model = build(0)
        if train is not None:
            train(model, 0)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    if not on_cpu or torch.cuda.is_available() or not hasattr(os, "fork"):
        workers = 0
    made = Study(
        sources=sources,
        build=build,
        judge=judge,
        model=model,
        train=train,
        reference=reference,
        prepare=prepare,
        own=tuple(own),
        trains=trains,
        limit_s=limit_s,
        workers=workers,
        store=store,
        about=dict(about or {}),
    )
    for cut in made.own:
        made.find(cut)
    for note in made.notes:  # what is wrong with the judge is said now
        warnings.warn(note, SurgeryWarning, stacklevel=2)
    return made


@dataclass(frozen=True)
class Study(Uncut):
    """A model, its sources, and how it is judged; see ``study``."""

    store: Run | None
    about: dict[str, Any]

    def spelled_out(self, table: pd.DataFrame) -> "Study | None":
        """The same study with every branch forced that computes the same function another way, such
        as attention spelt out beside the fused kernel: lines that were dead run there.

        Args:
            table: what ``posthoc`` found.
        """
        same = table[
            (table["operator"] == "force-branch")
            & (table["status"] == Status.EQUIVALENT)
            & (table["fingerprint"] != self.baseline.fingerprint)
            & (table["file"] == self.sources[0].file)
        ]
        if same.empty or self.prepare is not None:
            return None
        return replace(self, prepare=combine([self.find(id) for id in same["id"]]))

    def enumerate(self) -> pd.DataFrame:
        """Every surgery that applies, one row each, and every line without one."""
        rows = [describe_cut(self, surgery) for surgery in self.surgeries]
        return pd.DataFrame([*rows, *lines_without_cut(self)])

    def posthoc(
        self,
        ids: Iterable[str | Surgery] | None = None,
        *,
        layers: Literal["each", "headlines"] | Sequence[int] | None = None,
        within: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Make surgeries on the trained model, one at a time, and judge it.

        Args:
            ids: which, by id or themselves; None is all.
            layers: None makes each in all layers; ``"each"`` also in one layer at a time,
                ``"headlines"`` of these what a line shows; numbers in these layers together.
            within: of the layers that are cut one at a time, these alone.
            progress: is told how many are done, of how many.

        Returns:
            One row per surgery and layer: ``delta`` is the value with the cut less the value
            without, in the judge's units, with Student's interval over three examples or more, and
            ``p``, of this cut alone: ``interp.verdicts.correct`` corrects those of a whole table.
            ``same_as`` names an earlier surgery that makes the same function. Where an
            intervention on hook points is the same cut, ``intervention`` and ``hook`` say which,
            and ``hook_delta`` what that does:
            where the two differ by more than 1e-6, the status is ``mismatch``.

        Raises:
            SurgeryError: an id or a layer that is not there; nothing that can be cut.
        """
        chosen = self._chosen(ids)
        by_layer = layers in ("each", "headlines")
        if layers is not None and not by_layer:
            check_layers(self.model, cast(Any, layers))
            chosen = [at_layers(surgery, cast(Any, layers)) for surgery in chosen]
        if within is not None:
            check_layers(self.model, within)
        outcomes = self._tried(chosen, progress)
        if by_layer:
            single = cuts_in_layers(self, chosen, outcomes, layers == "headlines", within)
            outcomes += try_in_layers(self, single, progress)
            chosen += [at_layers(cut, [layer]) for cut, inside in single for layer in inside]
        rows = [
            {**describe_cut(self, surgery), **NO_TWIN, **outcome}
            for surgery, outcome in zip(chosen, outcomes, strict=True)
        ]
        rows = [checked_by_hook(row) for row in rows]
        if ids is None:
            rows += [{**row, **NO_TWIN} for row in lines_without_cut(self)]
        return mark_duplicates(with_columns(rows))

    def _chosen(self, ids: Iterable[str | Surgery] | None) -> list[Surgery]:
        if ids is None:
            if not self.surgeries and not lines_without_cut(self):
                files = ", ".join(source.file for source in self.sources)
                raise SurgeryError(
                    f"there is nothing to cut in {files}: none of its lines ran when the model was "
                    "built, judged and trained, or none computes anything that can be left out"
                )
            return list(self.surgeries)
        return [self.find(id) for id in ([ids] if isinstance(ids, (str, Surgery)) else ids)]

    def retrain(
        self,
        ids: Iterable[str | Surgery],
        *,
        seeds: Sequence[int] = (0,),
        limit_s: float = 3600.0,
        progress: Progress | None = None,
        elsewhere: Retrain | None = None,
    ) -> pd.DataFrame:
        """Build and train anew with each surgery made, and judge what comes of it.

        Arguments as for ``trainings``.

        Returns:
            One row per surgery, its trainings reduced by ``over_seeds``: ``delta`` is the lasting
            cost, the mean over seeds less that of the uncut model; from three seeds on it has an
            interval.

        Raises:
            SurgeryError: no ``train`` was given, a surgery puts in a mean of the trained model, or
                the uncut model does not train.
        """
        return over_seeds(
            self.trainings(
                ids, seeds=seeds, limit_s=limit_s, progress=progress, elsewhere=elsewhere
            )
        )

    def trainings(
        self,
        ids: Iterable[str | Surgery],
        *,
        seeds: Sequence[int] = (0,),
        limit_s: float = 3600.0,
        progress: Progress | None = None,
        elsewhere: Retrain | None = None,
    ) -> pd.DataFrame:
        """Build, train and judge the model as it is and with each surgery made, seed by seed.

        Args:
            ids: which surgeries.
            seeds: one training for each; the model without a cut is trained with each too.
            limit_s: wall-clock seconds that one training may take.
            progress: is told how many are done, of how many.
            elsewhere: trains and judges instead of this study: given each surgery (None is the
                model as it is) with each seed, it returns a row for each, in order, with
                ``status``, ``detail`` and, where it trained, the ``value`` judged.

        Returns:
            One row per surgery and seed, the model as it is first, without an ``id``: ``seed
            status detail``, and ``value``, the mean that the judge gave, NaN where there is none.

        Raises:
            SurgeryError: no ``train`` was given, or no seed.
        """
        if not seeds:
            raise SurgeryError("seeds is empty: name at least one to train with, as in seeds=[0]")
        cuts = self._chosen(ids)
        if means := [cut.id for cut in cuts if needs_mean(cut)]:
            raise SurgeryError(
                f"{means[0]} puts in the mean of a trained model, which there is none of while "
                "one is trained: retrain with the line's zero, or without it"
            )
        chosen: list[Surgery | None] = [None, *cuts]
        tasks = [(surgery, seed) for surgery in chosen for seed in seeds]
        train = elsewhere or partial(self._retrained_here, limit_s=limit_s, progress=progress)
        rows = []
        for (surgery, seed), outcome in zip(tasks, train(tasks), strict=True):
            named = describe_cut(self, surgery) if surgery else {"id": "", "surgery": "", "line": 0}
            known = {name: outcome[name] for name in ("status", "detail")}
            rows.append({**named, "seed": seed, **known, "value": outcome.get("value", np.nan)})
        return pd.DataFrame(rows)

    def _retrained_here(
        self,
        tasks: Sequence[tuple[Surgery | None, int]],
        limit_s: float,
        progress: Progress | None,
    ) -> list[Row]:
        if self.train is None:
            raise SurgeryError("retraining needs train: a function that trains a model with a seed")
        self.spaces, self.kept, self.examined  # noqa: B018  # before there are forks
        again = [(surgery, seed) for surgery, seed in tasks if surgery is None][:1]
        all_tasks = [*tasks, *again]  # one is trained twice: is training repeatable?
        identities = [
            self._identity(
                "retrain",
                cut=surgery.identity if surgery else "",
                seed=seed,
                limit_s=limit_s,
                **({} if number < len(tasks) else {"again": True}),
            )
            for number, (surgery, seed) in enumerate(all_tasks)
        ]
        trials = [partial(retrain, self, surgery, seed) for surgery, seed in all_tasks]
        *rows, second = try_all(self, trials, identities, self.store, limit_s, progress)
        first = rows[tasks.index(again[0])]
        warn_of_changes(first, second, again[0][1])
        return rows

    def _tried(
        self, surgeries: Sequence[Surgery], progress: Progress | None
    ) -> list[dict[str, Any]]:
        for note in self.training_notes:
            warnings.warn(note, SurgeryWarning, stacklevel=3)
        self.prepare_to_fork()
        parts = self._parts
        rows = try_all(
            self,
            [partial(try_cut, self, surgery) for surgery in surgeries],
            [self._identity("posthoc", cut=cut.identity, **parts) for cut in surgeries],
            self.store,
            self.limit_s,
            progress,
        )
        judged_well = [row["status"] not in (*UNJUDGED, Status.RETRAIN_ONLY) for row in rows]
        by_row = [
            self.twins.of(surgery) if well else None
            for surgery, well in zip(surgeries, judged_well, strict=True)
        ]
        twins = list(dict.fromkeys(twin for twin in by_row if twin is not None))
        by_hook = try_all(
            self,
            [partial(try_twin, self, twin) for twin in twins],
            [self._identity("twin", twin=[t.kind, *t.names], **parts) for t in twins],
            self.store,
            self.limit_s,
            None,
        )
        found = dict(zip(twins, by_hook, strict=True))
        return [
            with_twin(row, twin, found[twin]) if twin else row
            for row, twin in zip(rows, by_row, strict=True)
        ]

    @cached_property
    def layer_plan(self) -> LayerPlan | str:
        """How the model's blocks run alone, for cuts in one layer, or why they do not; empty where
        those are compared with hook points instead."""
        self.prepare_to_fork()
        return plan_layers(self) if goes_by_blocks(self) else ""

    @cached_property
    def _parts(self) -> dict[str, Any]:
        """What decides what becomes of a cut, beside what decides all of the study."""
        return {
            "prepared": self.prepare.identity if self.prepare else "",
            "weights": weights_hash(self.model),
            "uncut": self.baseline.values.tolist(),
            "limit_s": self.limit_s,
        }

    def _identity(self, what: str, **parts: Any) -> str:
        return identity_of(what=what, **self._decided_by, **parts)

    @cached_property
    def _decided_by(self) -> dict[str, Any]:
        """What decides every result of this study, beside the surgery."""
        return {
            "method": METHOD,
            "sources": [source.text for source in self.sources],
            "files": [str(source.path) for source in self.sources],
            "imports": hash_of_imports(self.sources),
            "judged": [call.tokens.tolist() for call in self.baseline.calls],
            "about": self.about,
            **({} if self.trains else {"trains": False}),
        }
