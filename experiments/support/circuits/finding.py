"""What is a task's circuit, step by step, each step a table of the run?

save_tables(study)        # a table is made once: a run that was killed goes on from there
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.circuits.asking import answer_lead, metric_after, uses
from experiments.support.circuits.searching import first_enough, leave_out
from experiments.support.pairs import PairTask
from experiments.support.trainings.finished import identity_of_tables
from interp.circuits import CircuitLattice, Graph, edge_effects, every_circuit
from interp.circuits.edges import Meaning
from interp.circuits.guarantees import MIB_SIZES, curve_areas, faithfulness_curve
from interp.circuits.guarantees.shares import share_intervals
from interp.circuits.running import CircuitTask, Replacement, prepare_circuits
from interp.runs import Run
from interp.runs.workers import Elsewhere
from interp.surgery.judging import weights_hash

MEANINGS: tuple[Meaning, ...] = ("open", "direct")
FEW = 8  # circuits that need no bar
FEW_PARTS = 12
"""Heads and MLPs of which every choice is run."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
"""First edges of a ranking that are tried at first."""


@dataclass(frozen=True)
class CircuitOptions:
    """What is asked of a task.

    Args:
        level: how much of the model's answer a circuit must keep, 0 to 1.
        replaced_by: what is said in place of what is left out.
        seed: of what is drawn.
    """

    level: float
    replaced_by: Replacement
    seed: int
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class CircuitStudy:
    """A task on a run's way to its tables.

    Args:
        find, judge: the pairs to find with, and those to judge by.
        graph: of the model.
    """

    run: Run
    task: PairTask
    find: PairTask
    judge: PairTask
    graph: Graph
    asked: CircuitOptions

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of the run: as it is kept where it is of the same weights, settings and code,
        else made now."""
        model: Any = self.task.model
        made_of = identity_of_tables(
            table=name,
            weights=weights_hash(model),
            config=self.run.description["config"],
        )
        if self.run.task(made_of) != [{"digest": self.run.digests().get(name)}] or (
            not self.run.is_sound(name)
        ):
            self.run.save_table(make(), name)
            self.run.forget(made_of)
            self.run.record(made_of, [{"digest": self.run.digests()[name]}])
        return self.run.table(name)


class CircuitValues:
    """How faithful circuits are on some pairs; each is run once, and kept in the run's store."""

    def __init__(self, circuits: CircuitTask, run: Run) -> None:
        self.circuits, self.run = circuits, run
        self.known: dict[frozenset[str], float] = {}

    def __call__(self, asked: Sequence[Sequence[str]]) -> list[float]:
        sets = [frozenset(each) for each in asked]
        new = [each for each in dict.fromkeys(sets) if each not in self.known]
        if new:
            shares, _, _ = self.intervals(new)
            self.known.update(zip(new, shares.tolist(), strict=True))
        return [self.known[each] for each in sets]

    def intervals(
        self, asked: Sequence[Iterable[str]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faithfulness, and the ends of its intervals over texts."""
        task = self.circuits
        sets = [frozenset(map(task.graph.edge, each)) for each in asked]
        values = task.measure(sets, progress=len(sets) > FEW, run=self.run)
        return share_intervals(values - task.nothing, task.whole - task.nothing)


@contextmanager
def values_on(study: CircuitStudy, pairs: PairTask) -> Iterator[CircuitValues]:
    """The values of circuits on some pairs of a study."""
    asked, metric = study.asked, answer_lead(pairs)
    given = (pairs.model, pairs.clean, pairs.corrupted, metric, asked.replaced_by, asked.seed)
    with prepare_circuits(*given) as circuits:
        yield CircuitValues(circuits, study.run)


def save_tables(study: CircuitStudy) -> None:
    """All tables of a run; ``results`` comes last, so that a run that has it is finished."""
    study.table("pairs", lambda: pairs_table(study))
    effects = study.table("effects", lambda: all_effects(study))
    ranked = rankings(study, effects)
    kept = study.table("kept", lambda: find_circuits(study, ranked))
    study.table("found", lambda: judge_circuits(study, kept, ranked))
    curve = study.table("curve", lambda: judge_rankings(study, ranked))
    study.table("areas", lambda: areas(curve))
    if len(parts := heads_and_mlps(study.graph)) <= FEW_PARTS:
        lattice = partial(every_choice, study, parts)
        study.table("shapley", lambda: lattice().shapley())
        study.table("minimal", lambda: lattice().minimal(within=1 - study.asked.level))
    study.table("results", lambda: effects)


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


def all_effects(study: CircuitStudy) -> pd.DataFrame:
    """Every edge, in both meanings, on the pairs to find with."""
    find = study.find
    return pd.concat(
        [
            edge_effects(
                *(find.model, find.clean, find.corrupted, answer_lead(find)),
                meaning=meaning,
                run=study.run,
                elsewhere=study.asked.elsewhere,
            )
            for meaning in MEANINGS
        ],
        ignore_index=True,
    )


def rankings(study: CircuitStudy, effects: pd.DataFrame) -> dict[str, list[str]]:
    """Edges by how much each method says they matter, most first."""
    opened = effects[effects["meaning"] == "open"]
    ordered = opened.sort_values("delta", key=lambda delta: -towards(study) * delta, kind="stable")
    drawn = list(opened["edge"])
    random.Random(study.asked.seed).shuffle(drawn)
    return {"exact": list(ordered["edge"]), "random": drawn}


def towards(study: CircuitStudy) -> float:
    """The sign of the change of the metric from the whole model to no edge at all."""
    pairs = study.run.table("pairs")
    return float(np.sign((pairs["corrupted_value"] - pairs["clean_value"]).mean()))


def find_circuits(study: CircuitStudy, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The edges of the circuit that each ranking leads to: ``ranking edge``."""
    mean, level = study.asked.replaced_by == "mean", study.asked.level
    rows: list[dict[str, Any]] = []
    with values_on(study, study.find) as values:
        for ranking, edges in ranked.items():
            first = first_enough(values, edges, level, SIZES)
            left = {*leave_out(values, study.graph, first, level, mean=mean)}
            kept = [str(edge) for edge in study.graph.edges if str(edge) in left]
            rows += [{"ranking": ranking, "edge": edge, "first": len(first)} for edge in kept]
    return pd.DataFrame(rows)


def judge_circuits(
    study: CircuitStudy, kept: pd.DataFrame, ranked: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Each ranking's circuit, on the pairs that it was found on and on the others.

    Returns:
        ``ranking``; ``first``, how many of its first edges were enough; ``edges`` that are left of
        these, of ``of``; ``found_on``, faithfulness on the pairs to find with; ``faithfulness`` on
        the pairs to judge by, with its interval, ``ci_low ci_high``; of these there are ``n``.
    """
    circuits = [list(kept.loc[kept["ranking"] == each, "edge"]) for each in ranked]
    with values_on(study, study.find) as values:
        found_on = values(circuits)
    with values_on(study, study.judge) as values:
        faithfulness, low, high = values.intervals(circuits)
    first = kept.drop_duplicates("ranking").set_index("ranking")["first"]
    return pd.DataFrame(
        {
            "ranking": list(ranked),
            "first": first[list(ranked)].to_numpy(),
            "edges": [len(each) for each in circuits],
            "of": len(study.graph.edges),
            "found_on": found_on,
            "faithfulness": faithfulness,
            "ci_low": low,
            "ci_high": high,
            "n": len(study.judge.clean),
        }
    )


def judge_rankings(study: CircuitStudy, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The faithfulness of each ranking's circuits of many sizes, on the pairs to judge by."""
    judge, count = study.judge, len(study.graph.edges)
    sizes = {round(size / count, 12) for size in SIZES if size < count}
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


def heads_and_mlps(graph: Graph) -> list[str]:
    """All heads and MLPs."""
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
