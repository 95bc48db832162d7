"""What is a task's circuit, step by step, each step a table of the run?

save_circuits(study)        # a table is made once: a run that was killed goes on from there
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from experiments.support.circuits.asking import answer_lead, metric_after, uses
from experiments.support.circuits.ranking import (
    RANDOM,
    all_scores,
    rankings,
)
from experiments.support.circuits.searching import connected, first_enough, leave_out
from experiments.support.circuits.studying import CircuitStudy
from interp.architecture import architecture
from interp.circuits import CircuitLattice, Graph, every_circuit
from interp.circuits.finding import remove_greedily
from interp.circuits.guarantees import MIB_SIZES, curve_areas, faithfulness_curve

FEW_PARTS = 12
"""Heads and MLPs of which every choice is run."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
"""First edges of a ranking that are tried at first."""
GREEDY = "ACDC"
LITTLE = 0.01
"""Of the difference between both texts: what one edge may change and still be left out."""
MOST_TRIED = 150
"""Edges of a circuit that are left out one by one, to see which can be missed."""


def save_circuits(study: CircuitStudy) -> None:
    """The tables of a study that say how edges rank, and which circuits that leads to."""
    study.table("pairs", partial(pairs_table, study))
    study.table("boxes", lambda: architecture(study.task.model, study.task.clean[:1]))
    scores = study.table("scores", partial(all_scores, study))
    ranked = rankings(scores)
    curve = study.table("curve", partial(judge_rankings, study, ranked))
    study.table("areas", partial(areas, curve))
    kept = study.table("kept", partial(find_circuits, study, ranked))
    study.table("found", partial(judge_circuits, study, kept))
    if len(parts := heads_and_mlps(study.graph)) <= FEW_PARTS:
        study.table("shapley", lambda: every_choice(study, parts).shapley())
        level = study.asked.level
        study.table("minimal", lambda: every_choice(study, parts).minimal(within=1 - level))


def pairs_table(study: CircuitStudy) -> pd.DataFrame:
    """One row per pair: ``clean corrupted answer wrong`` as text; the metric after either text,
    ``clean_value corrupted_value``; and what the pair is for, ``use``."""
    task = study.task
    names = task.tokenizer.names
    clean, corrupted = (values.numpy() for values in metric_after(task))
    return pd.DataFrame(
        {
            "clean": ["".join(names(row)) for row in task.clean],
            "corrupted": ["".join(names(row)) for row in task.corrupted],
            "answer": names(task.answer),
            "wrong": names(task.wrong),
            "clean_value": clean,
            "corrupted_value": corrupted,
            "use": uses(len(task.clean)),
        }
    )


def judge_rankings(study: CircuitStudy, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The faithfulness of each ranking's circuits of many sizes, on the pairs to judge by."""
    judge, count = study.judge, len(study.graph.edges)
    sizes = {size / count for size in SIZES if size < count} if study.is_whole else {*()}
    return faithfulness_curve(
        *(judge.model, judge.clean, judge.corrupted, answer_lead(judge), ranked),
        sizes=sorted({*MIB_SIZES, *sizes}),
        replaced_by=study.asked.replaced_by,
        seed=study.asked.seed,
        run=study.run,
    )


def areas(curve: pd.DataFrame) -> pd.DataFrame:
    """CPR and CMD, over the sizes that the MIB benchmark has and no others."""
    return curve_areas(curve[curve["share"].isin(MIB_SIZES)])


def leave_out_greedily(study: CircuitStudy) -> pd.DataFrame:
    """Each edge in ACDC's order, left out where that changes little."""
    find, asked, pairs = study.find, study.asked, study.run.table(f"pairs{study.suffix}")
    gap = (pairs["clean_value"] - pairs["corrupted_value"]).mean()
    return remove_greedily(
        *(find.model, find.clean, find.corrupted, answer_lead(find)),
        threshold=LITTLE * abs(float(gap)),
        replaced_by=asked.replaced_by,
        seed=asked.seed,
        run=study.run,
    )


def find_circuits(study: CircuitStudy, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The circuit that each ranking leads to, on the pairs to find with, and that to which ACDC's
    order leads; of a large model neither this nor random order leads to any.

    Returns:
        One row per edge of a circuit: ``ranking edge``; ``first``, how many of the ranking's first
        edges were enough; ``tried``, whether each edge was seen to be needed.
    """
    mean, level = study.asked.replaced_by == "mean", study.asked.level
    rows: list[dict[str, Any]] = []
    starts = dict(ranked)
    if study.is_whole:
        tries = study.table("greedy", partial(leave_out_greedily, study))
        starts[GREEDY] = list(tries.loc[tries["kept"], "edge"])
    with study.values_on(study.find) as values:
        for ranking, edges in starts.items():
            if ranking.endswith("absolute") or (ranking == RANDOM and not study.is_whole):
                continue
            first = edges if ranking == GREEDY else first_enough(values, edges, level, SIZES)
            left = connected(study.graph, first, mean=mean)
            tried = len(left) <= MOST_TRIED
            if tried:
                left = leave_out(values, study.graph, left, level, mean=mean)
            chosen = {*left}
            kept = [name for edge in study.graph.edges if (name := str(edge)) in chosen]
            about = {"ranking": ranking.partition(",")[0], "first": len(first), "tried": tried}
            rows += [about | {"edge": edge} for edge in kept]
    return pd.DataFrame(rows)


def judge_circuits(study: CircuitStudy, kept: pd.DataFrame) -> pd.DataFrame:
    """Each ranking's circuit, on the pairs that it was found on and on the others.

    Returns:
        ``ranking``; ``first``, how many of its first edges were enough; ``tried``; ``edges`` that
        are left of these, of ``of``; ``found_on``, faithfulness on the pairs to find with;
        ``faithfulness`` on the pairs to judge by, with its interval, ``ci_low ci_high``; of these
        there are ``n``.
    """
    table = kept.drop_duplicates("ranking")[["ranking", "first", "tried"]].reset_index(drop=True)
    circuits = [list(kept.loc[kept["ranking"] == each, "edge"]) for each in table["ranking"]]
    with study.values_on(study.find) as values:
        found_on = values(circuits)
    with study.values_on(study.judge) as values:
        faithfulness, low, high = values.intervals(circuits)
    return table.assign(
        edges=[len(each) for each in circuits],
        of=len(study.graph.edges),
        found_on=found_on,
        faithfulness=faithfulness,
        ci_low=low,
        ci_high=high,
        n=len(study.judge.clean),
    )


def heads_and_mlps(graph: Graph) -> list[str]:
    """All parts but the embeddings."""
    return [str(writer) for writer in graph.writers if writer.layer is not None]


def every_choice(study: CircuitStudy, parts: Sequence[str]) -> CircuitLattice:
    """Every choice of parts, on all pairs: nothing is chosen by them."""
    task, asked = study.task, study.asked
    return every_circuit(
        *(task.model, task.clean, task.corrupted, answer_lead(task)),
        parts=parts,
        replaced_by=asked.replaced_by,
        seed=asked.seed,
    )
