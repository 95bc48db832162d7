"""What does every line of a model file do for the loss?

    study = surgery.study(build=build, judge=judge, files=["gpt/model.py"], model=trained)
    study.enumerate()                     # every cut that applies
    study.posthoc(layers="each")          # each made on the trained model
    study.retrain(ids, seeds=[0, 1, 2])   # some made before training

Each returns one row per surgery (and layer, or seed) with the status that says what became of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from interp.errors import SurgeryError, nearest
from interp.runs import Run, identity_of
from interp.surgery.edits import Surgery, at_layers, combine
from interp.surgery.guarding import guarded
from interp.surgery.imports import hash_of_imports
from interp.surgery.judging import (
    Judge,
    weights_hash,
)
from interp.surgery.loaded import scripted_names
from interp.surgery.means import needs_mean
from interp.surgery.observing import why_without_cut
from interp.surgery.posthoc import try_cut
from interp.surgery.retraining import retrain
from interp.surgery.rows import (
    NO_TWIN,
    Row,
    checked_by_hook,
    folded,
    over_seeds,
    row_of,
)
from interp.surgery.syntax import parse, read_source
from interp.surgery.uncut import Build, Train, Uncut

METHOD = 2
"""Of judging: what was kept when another was in use is found anew."""

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
        """Every surgery that applies, one row each, and every line without one."""
        rows = [self._described(surgery) for surgery in self.surgeries]
        return pd.DataFrame([*rows, *self._lines_without_cut()])

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
            without, in the judge's units, with Student's interval over three examples or more, and
            ``p``, of this cut alone: ``interp.verdicts.correct`` corrects those of a whole table.
            ``same_as`` names an earlier surgery that makes the same function. Where an
            intervention on hook points is the same cut, ``intervention`` and ``hook`` say which,
            and ``hook_delta`` what that does:
            where the two differ by more than 1e-6, the status is ``mismatch``.
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
        rows = [checked_by_hook(row) for row in rows]
        if ids is None:
            rows += [{**row, **NO_TWIN} for row in self._lines_without_cut()]
        return folded(pd.DataFrame(rows))

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
            SurgeryError: no ``train`` was given.
        """
        cuts = [self.find(id) for id in ids]
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
            named = self._described(surgery) if surgery else {"id": "", "surgery": "", "line": 0}
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
        trials = [lambda s=surgery, n=seed: retrain(self, s, n) for surgery, seed in tasks]
        cuts = [(surgery.identity if surgery else "", seed) for surgery, seed in tasks]
        identities = [
            self._identity("retrain", cut=cut, seed=seed, limit_s=limit_s) for cut, seed in cuts
        ]
        return self._guarded(trials, identities, limit_s, progress)

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

    def _lines_without_cut(self) -> list[dict[str, Any]]:
        """A row for every statement that never ran, and for every one that ran and is not cut."""
        rows = []
        for source in self.sources:
            syntax = parse(source)
            noted, scripted = self.observations[source], scripted_names(source, self.model)
            edits = [edit for cut in self.surgeries if cut.source == source for edit in cut.edits]
            cut = {syntax.statement_at(edit.start) for edit in edits}
            for node in syntax.statements:
                status, detail = why_without_cut(node, ran=bool(noted.phases(node)))
                if status == "dead" and syntax.qualname[node].partition(".")[0] in scripted:
                    status = "scripted"
                    detail = "not cut: TorchScript runs this line, and no cut of Python reaches it"
                if node not in cut and status:
                    name = f"{source.file}:{node.lineno}:{'dead' if status == 'dead' else 'none'}"
                    rows.append(
                        {
                            "id": name,
                            "surgery": name,
                            "file": source.file,
                            "qualname": syntax.qualname[node],
                            "line": node.lineno,
                            "lines": str(node.lineno),
                            "operator": "",
                            "code": syntax.shown(node),
                            "phases": ",".join(sorted(noted.phases(node))),
                            "layer": "all",
                            "status": status,
                            "detail": detail,
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
        self.rebuilding  # noqa: B018
        self.kept  # noqa: B018
        self._baseline_leaks  # noqa: B018
        self.hook_means  # noqa: B018
        trials = [lambda s=surgery: try_cut(self, s) for surgery in surgeries]
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
            if self.store is not None and row["status"] != "lost":
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
            "method": METHOD,
            "sources": [source.text for source in self.sources],
            "files": [str(source.path) for source in self.sources],
            "imports": hash_of_imports(self.sources),
            "judged": [call.tokens.tolist() for call in self.baseline.calls],
            "about": self.about,
        }
