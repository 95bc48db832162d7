"""What do the trainings of our own model say of its lines, and how is a trained one judged?

ours = Trainings(run, preset, data, tokenizer, text, seeds, workers)
judge, reference = judges(data, block_size, texts=24)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpt.model
from experiments.support.cli import progress
from experiments.support.pages.joining import HANDED_ON
from experiments.support.retraining import run_all
from experiments.support.trainings.executors import Processes
from experiments.support.trainings.tasks import tasks_of
from experiments.support.variants import BASELINE
from gpt import checkpoint
from gpt.model import GPT
from gpt.text import CharTokenizer, Data, evaluation_blocks
from gpt.train import Preset
from interp import surgery
from interp.runs import Run
from interp.status import WITH_LOSS, Status
from interp.surgery import Study, Surgery
from interp.surgery.judging import logits_in
from interp.verdicts import correct


@dataclass(frozen=True)
class Trainings:
    """Trainings of our own model, which runs beside this one share."""

    run: Run
    preset: Preset
    data: Data
    tokenizer: CharTokenizer
    text: str
    seeds: list[int]
    workers: int

    def model(self) -> nn.Module:
        """The model as it is, trained with the first seed."""
        self.curves({BASELINE: None}, self.seeds[:1])
        path = self.run.folder / "models" / f"{BASELINE}-{self.seeds[0]}.safetensors"
        return checkpoint.load(path).model

    def outcomes(self, tasks: Sequence[tuple[Surgery | None, int]]) -> list[dict[str, Any]]:
        """What became of each surgery (None is the model as it is) with each seed: the last
        validation loss, in nats."""
        cuts = {cut.id if cut else BASELINE: cut for cut, _ in tasks}
        curves = self.curves(cuts, self.seeds)
        last = curves[curves["split"] == "val"].drop_duplicates(["variant", "seed"], keep="last")
        by_task: dict[Any, Any] = last.set_index(["variant", "seed"]).to_dict("index")
        rows = []
        for cut, seed in tasks:
            found = by_task[cut.id if cut else BASELINE, seed]
            row = {"status": found["status"], "detail": found["detail"]}
            if row["status"] == Status.UNCHECKED:  # trained before leaks were looked for
                row = {"status": Status.CHANGED, "detail": "not tested for leaks"}
            if row["status"] in WITH_LOSS:
                row["value"] = found["loss"]
            rows.append(row)
        return rows

    def curves(self, variants: dict[str, Surgery | None], seeds: Sequence[int]) -> pd.DataFrame:
        tasks = tasks_of(
            self.run,
            variants,
            seeds,
            self.preset,
            self.text,
            keep=lambda variant, seed: variant == BASELINE and seed == self.seeds[0],
        )
        texts = {self.text: (self.data, self.tokenizer)}
        rows = run_all(self.run, tasks, texts, Processes(self.workers))
        return pd.DataFrame(rows)


def untrained_study(
    preset: Preset,
    data: Data,
    build: Callable[[int], nn.Module] | None = None,
    modules: Sequence[ModuleType] = (gpt.model,),
) -> Study:
    """A model as it is before it is trained, by default our own, judged on two texts: what applies,
    what runs."""
    judge, _ = judges(data, preset.model.block_size, 2)
    make = build or (lambda seed: GPT(preset.model, seed=seed))
    return surgery.study(build=make, judge=judge, files=modules)


def trained_study(path: Path, preset: Preset, data: Data, texts: int) -> Study:
    """Our trained model, judged on some validation texts: what cutting its lines does.

    Args:
        path: of the checkpoint.
    """
    judge, reference = judges(data, preset.model.block_size, texts)
    return surgery.study(
        build=lambda seed: GPT(preset.model, seed=seed),
        judge=judge,
        files=[gpt.model],
        model=checkpoint.load(path).model,
        reference=reference,
    )


def judges(
    data: Data, block_size: int, texts: int
) -> tuple[Callable[[nn.Module], Tensor], Callable[[nn.Module], Any]]:
    """The mean loss of each validation text, in nats; and what calls a model on training texts."""
    tokens, targets = evaluation_blocks(data.val, block_size, texts)
    others, _ = evaluation_blocks(data.train, block_size, texts)

    @torch.no_grad()
    def judge(model: nn.Module) -> Tensor:
        model.eval()
        logits = logits_in(model(tokens)).double()  # the mean of many losses to more than 1e-6
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=1)

    def reference(model: nn.Module) -> None:
        model.eval()
        model(others)

    return judge, reference


def posthoc(
    study: Study, single: Literal["each", "headlines"] = "each", within: Sequence[int] = ()
) -> pd.DataFrame:
    """Every surgery on the trained model; then, on branches that compute the same another way, the
    lines that were dead.

    Args:
        single: which are also made in one layer at a time, as ``Study.posthoc`` takes it.
        within: in which layers; empty is all.
    """
    with progress("cutting lines") as tell:
        table = study.posthoc(layers=single, within=within or None, progress=tell)
    other = study.spelled_out(table)
    if other is None:
        return correct(table).assign(prepared="")
    file = study.sources[0].file
    dead = set(table.loc[(table["status"] == Status.DEAD) & (table["file"] == file), "line"])
    ids = [cut.id for cut in other.surgeries if cut.file == file and cut.line in dead]
    with progress("cutting lines of other branches") as tell:
        more = other.posthoc(ids, layers=single, within=within or None, progress=tell)
    assert other.prepare is not None
    known = set(more["line"])
    known_now = (table["file"] == file) & table["line"].isin(known)
    table = table[~((table["status"] == Status.DEAD) & known_now)]
    return correct(
        pd.concat(
            [table.assign(prepared=""), more.assign(prepared=other.prepare.id)], ignore_index=True
        )
    )


def trained_without(
    study: Study, table: pd.DataFrame, top: int, seeds: list[int], ours: Trainings
) -> pd.DataFrame:
    """The lines of the largest effect cut before training, and a cut that should do nothing: a row
    for each training, ``delta`` what it differs by from the mean of the model as it is."""
    ids = most_harmful(table[table["prepared"] == ""], top)
    null = table[(table["operator"] == "set-constant") & (table["code"].str.contains("eps"))]
    ids += list(null["id"][:1])
    ids += [cut.id for cut in study.own if cut.id not in ids]
    if study.train is None:
        trainings = study.trainings(ids, seeds=seeds, elsewhere=ours.outcomes)
    else:
        with progress("training without lines") as tell:
            trainings = study.trainings(ids, seeds=seeds, progress=tell)
    whole = trainings.loc[trainings["id"] == "", "value"].to_numpy().mean()
    return trainings.assign(delta=trainings["value"] - whole)


def most_harmful(table: pd.DataFrame, count: int) -> list[str]:
    """The ids of the headline surgeries that change the trained model's loss most, each function
    once; hook points are instruments, not lines that do something."""
    lines = surgery.headlines(table)
    lines = lines[lines["status"].isin(WITH_LOSS) & ~lines["code"].str.contains(HANDED_ON)]
    lines = lines[lines["operator"] != "mean"]  # its stand-in is of the trained model
    lines = surgery.one_per_function(lines)
    order = lines["delta"].abs().sort_values(ascending=False, kind="stable").index
    return list(lines.loc[order, "id"][:count])
