"""What does a model lose that never had an edge, beside what the trained one loses without it?

    save_lasting(study, 10, partial(repeated_strings, recipe), recipe, effects)

Each edge is cut by an edit of the source: its reader reads the stream less what the writer wrote,
and nothing in its place. A head is what it became in one training, and in another it may become
something else; so an edge that the trained model needs may cost nothing to train without.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.support.circuits.guaranteeing import Effects
from experiments.support.circuits.studying import CircuitStudy
from experiments.support.circuits.telling import tell_lasting
from experiments.support.cli import progress
from experiments.support.pairs import PairTask
from experiments.support.trainings.executors import one_thread
from experiments.support.trainings.small import BatchOf, SmallRecipe, train_on
from interp import figures, surgery
from interp.circuits import edge_twin
from interp.circuits.lasting import cut_before_training
from interp.circuits.twins.places import EdgeLines
from interp.logits import logits_of
from interp.report import Figure, Section
from interp.runs import Run, SavedRun

SEEDS = 3
"""Trainings without each edge."""
FIGURE = "lasting"
METRIC = "loss of the answer"


def save_lasting(
    study: CircuitStudy, count: int, batch_of: BatchOf, recipe: SmallRecipe, effects: Effects
) -> None:
    """The tables ``lasting``, of the strongest edges cut in the trained model and before training,
    and ``trainings``, a row for each training.

    Args:
        count: of edges.
        batch_of, recipe: by which the model was trained.
        effects: finds those of all edges.
    """

    @cache
    def cut() -> tuple[pd.DataFrame, pd.DataFrame]:
        opened = effects().query("meaning == 'open'")
        strongest = opened.sort_values("delta", key=abs, ascending=False, kind="stable")
        return cut_edges(study, list(strongest["edge"].head(count)), batch_of, recipe)

    study.table("lasting", lambda: cut()[0].assign(metric=METRIC))
    study.table("trainings", lambda: cut()[1])


def cut_edges(
    study: CircuitStudy, edges: Sequence[str], batch_of: BatchOf, recipe: SmallRecipe
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``cut_before_training`` gives of them."""
    model: Any = study.judge.model
    tokens = study.judge.clean
    lines = EdgeLines.of(model, tokens)
    twins = [edge_twin(model, edge, tokens, lines=lines) for edge in edges]
    with one_thread(), progress("training without edges") as tell:
        return cut_before_training(
            surgery.study(
                build=untrained_like(model),
                judge=answer_loss(study.judge),
                files=[sys.modules[type(model).__module__]],
                model=model,
                train=lambda model, seed: train_on(cast(Any, model), recipe, batch_of, seed),
                trains=False,
                store=study.run,
                about={"model": study.task.config["model"]},
            ),
            twins,
            seeds=range(study.asked.seed, study.asked.seed + SEEDS),
            progress=tell,
        )


def untrained_like(model: Any) -> Callable[[int], nn.Module]:
    """What builds such a model, untrained, from a seed."""
    return lambda seed: type(model)(model.config, seed=seed)


def answer_loss(task: PairTask) -> Callable[[nn.Module], Tensor]:
    """What says how well a model answers the clean texts: the loss of each text's answer, in nats,
    after its last token."""

    @torch.no_grad()
    def judge(model: nn.Module) -> Tensor:
        model.eval()
        logits = logits_of(model(task.clean), task.clean)[:, -1].double()
        return F.cross_entropy(logits, task.answer, reduction="none")

    return judge


def draw_lasting(run: Run) -> None:
    """The figure, from the saved tables alone."""
    table, trainings = run.table("lasting"), run.table("trainings")
    run.save_figure(figures.damage_and_lasting_cost(table, trainings, METRIC), FIGURE)


def show_lasting(run: SavedRun) -> Section:
    """What the page shows of them."""
    table = run.table("lasting")
    kinds = ["delta", "ci_low", "ci_high", "verdict"]
    shown = table[["edge", *kinds, *(f"retrained_{kind}" for kind in kinds), "line", "code"]]
    caption = "Damage to the trained model against lasting cost, that of training without the edge."
    return Section(
        "Trained without an edge",
        text=tell_lasting(run),
        figures=[Figure.saved(caption, run.figure(FIGURE))],
        table=shown,
        code=str(table["diff"].iloc[0]),
        saved=table,
    )
