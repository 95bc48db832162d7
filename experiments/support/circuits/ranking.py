"""In which order do edges matter to a task, by each method, and how far is a method to be trusted?

A method that only estimates an effect is audited: of a small model all edges are measured exactly
beside it, of a large one those with the largest scores and as many random ones.
"""

import random
from dataclasses import asdict
from typing import Literal

import pandas as pd

from experiments.support.circuits.asking import answer_lead
from experiments.support.circuits.studying import CircuitStudy
from interp.circuits import edge_effects
from interp.circuits.edges import Meaning
from interp.circuits.finding import audit_edges, rank_edges, score_edges

MEANINGS: tuple[Meaning, ...] = ("open", "direct")
WAYS: tuple[Literal["signed", "absolute"], ...] = ("signed", "absolute")
RANDOM = "random"
ALL, LARGEST, DRAWN, KEPT = "all are", "largest scores", "random", "in a circuit"
"""Why an edge is measured exactly."""


def all_scores(study: CircuitStudy) -> pd.DataFrame:
    """Every edge by every method, on the pairs to find with."""
    find, asked = study.find, study.asked
    return pd.concat(
        [
            score_edges(
                *(find.model, find.clean, find.corrupted, answer_lead(find)),
                method=method,
                steps=asked.steps,
                seed=asked.seed,
                run=study.run,
            )
            for method in asked.methods
        ],
        ignore_index=True,
    ).assign(metric="logit_difference")


def exact_effects(study: CircuitStudy, scores: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Edges alone, exactly and in both meanings, on the pairs to find with; ``why`` says why each
    is measured.

    Args:
        kept: the edges of the circuits that were found.
    """
    find, reasons = study.find, chosen_edges(study, scores, kept)
    tables = [
        edge_effects(
            *(find.model, find.clean, find.corrupted, answer_lead(find)),
            meaning=meaning,
            edges=list(reasons),
            run=study.run,
            elsewhere=study.asked.elsewhere,
        )
        for meaning in MEANINGS
    ]
    whole = pd.concat(tables, ignore_index=True)
    return whole.assign(metric="logit_difference", why=whole["edge"].map(reasons))


def chosen_edges(study: CircuitStudy, scores: pd.DataFrame, kept: pd.DataFrame) -> dict[str, str]:
    """The edges that are measured exactly, in the graph's order, and why."""
    edges = [str(edge) for edge in study.graph.edges]
    if study.is_whole:
        return dict.fromkeys(edges, ALL)
    count, reasons = study.asked.verify, dict[str, str]()
    for method, rows in scores.groupby("method", sort=False):
        if method != RANDOM:
            reasons |= dict.fromkeys(rank_edges(rows)[:count], LARGEST)
    left = [edge for edge in edges if edge not in reasons]
    drawn = random.Random(study.asked.seed).sample(left, min(count, len(left)))
    reasons |= dict.fromkeys(drawn, DRAWN)
    reasons = dict.fromkeys(kept.loc[kept["tried"], "edge"], KEPT) | reasons
    return {edge: reasons[edge] for edge in edges if edge in reasons}


def rankings(scores: pd.DataFrame) -> dict[str, list[str]]:
    """Edges by each method, those first that matter most: with the sign of their scores, and
    without."""
    found = {}
    for method, rows in scores.groupby("method", sort=False):
        if method == RANDOM:
            found[RANDOM] = rank_edges(rows)
            continue
        for way in WAYS:
            found[f"{method}, {way}"] = rank_edges(rows, way)
    return found


def audits(study: CircuitStudy, scores: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame:
    """How well each method that estimates agrees with exact effects.

    Returns:
        One row per method and choice of edges: ``method``, ``of``, which edges: all that were
        measured for it, or the random ones alone; ``edges correlation rank_correlation slope
        with_effect wrong_signs``, and ``overlap``, the share of the ``top`` largest scores that are
        among the largest exact effects.
    """
    exact = effects[(effects["meaning"] == "open") & (effects["why"] != KEPT)]
    among = {"all edges" if study.is_whole else "all that were measured": exact}
    if not study.is_whole:
        among["random edges"] = exact[exact["why"] == DRAWN]
    rows = []
    for method, mine in scores.groupby("method", sort=False):
        if method in (RANDOM, "exact"):
            continue
        for name, some in among.items():
            found = asdict(audit_edges(mine, some))
            top, overlap = list(found.pop("overlap").items())[-1]
            rows.append({"method": method, "of": name, **found, "top": top, "overlap": overlap})
    columns = ["method", "of", "edges", "correlation", "rank_correlation", "slope", "with_effect"]
    return pd.DataFrame(rows, columns=[*columns, "wrong_signs", "top", "overlap"])
