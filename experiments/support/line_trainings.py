"""What do the trainings of our own model say of its lines, and how is a trained one judged?

ours = Trainings(run, preset, data, tokenizer, text, seeds, workers)
judge, reference = judges(data, block_size, texts=24)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.support.executors import Processes
from experiments.support.retraining import run_all, tasks_of
from experiments.support.variants import BASELINE
from gpt import checkpoint
from gpt.text import CharTokenizer, Data, evaluation_blocks
from gpt.train import Preset
from interp.runs import Run
from interp.status import WITH_LOSS, Status
from interp.surgery import Surgery
from interp.surgery.judging import logits_in


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
        rows = run_all(self.run, tasks, self.data, self.tokenizer, Processes(self.workers))
        return pd.DataFrame(rows)


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
