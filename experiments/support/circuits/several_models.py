"""Is it the same circuit in models that differ in their seed alone?

A head's number means nothing from one training to the next. So on repeated strings heads are told
by what they look at: the head below that looks one token back, and those above that look at what
followed the last time (Olsson et al. 2022). A circuit of induction has the edge from the one to a
key of another.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from experiments.support.circuits.asking import in_halves
from experiments.support.circuits.finding import (
    find_circuits,
    judge_circuits,
    judge_rankings,
    pairs_table,
)
from experiments.support.circuits.ranking import all_scores, rankings
from experiments.support.circuits.studying import CircuitStudy
from experiments.support.pairs import PairTask
from interp.circuits.graph import ARROW
from interp.circuits.guarantees import band_over_seeds
from interp.heads import head_scores

ALSO = 0.5
"""A head is an induction head too whose score is at least this share of the best one's."""


def save_models(study: CircuitStudy, others: Mapping[int, Callable[[], PairTask]]) -> None:
    """The tables ``models``, the circuits found in each model, and ``bands``, the curves over
    seeds.

    Args:
        study: of the first seed, with its tables.
        others: by seed, what trains another model and makes its pairs.
    """
    seed = study.asked.seed
    found, curves = {seed: one_model(study, seed)}, {seed: study.run.table("curve")}
    for number, make in others.items():
        task = make()
        find, judge = in_halves(task)
        suffix = f"-seed-{number}"
        other = replace(study, task=task, find=find, judge=judge, suffix=suffix)
        other.table("pairs", partial(pairs_table, other))
        scores = other.table("scores", partial(all_scores, other))
        ranked = rankings(scores)
        curves[number] = other.table("curve", partial(judge_rankings, other, ranked))
        kept = other.table("kept", partial(find_circuits, other, ranked))
        other.table("found", partial(judge_circuits, other, kept))
        found[number] = one_model(other, number)
    study.table("models", lambda: pd.concat(list(found.values()), ignore_index=True))
    study.table("bands", lambda: band_over_seeds(curves))


def one_model(study: CircuitStudy, seed: int) -> pd.DataFrame:
    """The circuits found in one model, and whether each has the edge of induction.

    Returns:
        What ``judge_circuits`` does, with ``seed``; of repeated strings also ``previous``, the head
        that looks one token back, ``induction``, the head that looks at what followed, and
        ``has_edge``, whether an edge from the first to a key of such a head is in the circuit.
    """
    found, kept = (study.run.table(f"{name}{study.suffix}") for name in ("found", "kept"))
    found.insert(0, "seed", seed)
    if study.task.config["task"] != "induction":
        return found
    scores = head_scores(study.find.model, study.find.clean, "with_target")
    name = "a" + scores["layer"].astype(str) + ".h" + scores["head"].astype(str)
    by_head = {
        metric: rows.set_index(name[rows.index])["value"]
        for metric, rows in scores.groupby("metric")
    }
    last = f"a{scores['layer'].max()}."
    below = by_head["previous_token"].filter(regex=rf"^(?!{last})")
    above = by_head["induction"].filter(regex=rf"^{last}")
    reading = above[above >= ALSO * above.max()].index
    wanted = {f"{below.idxmax()}{ARROW}{head}.k" for head in reading}
    has_edge = [
        bool(wanted & {*kept.loc[kept["ranking"] == ranking, "edge"]})
        for ranking in found["ranking"]
    ]
    found["previous"], found["induction"] = str(below.idxmax()), str(above.idxmax())
    return found.assign(has_edge=has_edge)
