"""What is a task's circuit, step by step, each step a table of the run?

save_tables(study)        # a table is made once: a run that was killed goes on from there
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.circuits.asking import metric_of, uses, values_of
from experiments.support.circuits.searching import first_enough, leave_out
from experiments.support.pairs import PairTask
from experiments.support.trainings.finished import identity_of_tables
from interp.circuits import CircuitLattice, Graph, edge_effects, every_circuit, run_circuits
from interp.circuits.edges import Meaning
from interp.circuits.running import Replacement
from interp.runs import Run
from interp.runs.workers import Elsewhere
from interp.surgery.judging import weights_hash

MEANINGS: tuple[Meaning, ...] = ("open", "direct")
FEW_PARTS = 12
"""Heads and MLPs of which every choice is run."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
"""First edges of a ranking that are tried at first."""


@dataclass(frozen=True)
class Asked:
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
class Study:
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
    asked: Asked

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


@dataclass
class CircuitValues:
    """How faithful circuits are on some pairs; each is run once."""

    task: PairTask
    asked: Asked
    known: dict[frozenset[str], float] = field(default_factory=dict)

    def __call__(self, circuits: Sequence[Sequence[str]]) -> list[float]:
        asked = [frozenset(each) for each in circuits]
        new = [each for each in dict.fromkeys(asked) if each not in self.known]
        if new:
            table = self.run({str(number): sorted(each) for number, each in enumerate(new)})
            self.known.update(zip(new, table["faithfulness"], strict=True))
        return [float(self.known[each]) for each in asked]

    def run(self, circuits: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        return run_circuits(
            *(self.task.model, self.task.clean, self.task.corrupted, circuits),
            metric_of(self.task),
            replaced_by=self.asked.replaced_by,
            seed=self.asked.seed,
        )


def save_tables(study: Study) -> None:
    """All tables of a run; ``results`` comes last, so that a run that has it is finished."""
    study.table("pairs", lambda: pairs_table(study))
    effects = study.table("effects", lambda: all_effects(study))
    ranked = rankings(study, effects)
    kept = study.table("kept", lambda: find_circuits(study, ranked))
    study.table("found", lambda: judge_circuits(study, kept, ranked))
    if len(parts := parts_of(study.graph)) <= FEW_PARTS:
        lattice = partial(every_choice, study, parts)
        study.table("shapley", lambda: lattice().shapley())
        study.table("minimal", lambda: lattice().minimal(within=1 - study.asked.level))
    study.table("results", lambda: effects)


def pairs_table(study: Study) -> pd.DataFrame:
    """One row per pair: ``clean corrupted answer wrong`` as text; the metric after either text,
    ``clean_value corrupted_value``; and what the pair is for, ``use``."""
    task = study.task
    names = task.tokenizer.names
    clean, corrupted = (values.numpy() for values in values_of(task))
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


def all_effects(study: Study) -> pd.DataFrame:
    """Every edge, in both meanings, on the pairs to find with."""
    find = study.find
    return pd.concat(
        [
            edge_effects(
                *(find.model, find.clean, find.corrupted, metric_of(find)),
                meaning=meaning,
                run=study.run,
                elsewhere=study.asked.elsewhere,
            )
            for meaning in MEANINGS
        ],
        ignore_index=True,
    )


def rankings(study: Study, effects: pd.DataFrame) -> dict[str, list[str]]:
    """Edges by how much each method says they matter, most first."""
    opened = effects[effects["meaning"] == "open"]
    ordered = opened.sort_values("delta", key=lambda delta: -towards(study) * delta, kind="stable")
    drawn = list(opened["edge"])
    random.Random(study.asked.seed).shuffle(drawn)
    return {"exact": list(ordered["edge"]), "random": drawn}


def towards(study: Study) -> float:
    """The sign of the change of the metric from the whole model to no edge at all."""
    pairs = study.run.table("pairs")
    return float(np.sign((pairs["corrupted_value"] - pairs["clean_value"]).mean()))


def find_circuits(study: Study, ranked: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The edges of the circuit that each ranking leads to: ``ranking edge``."""
    values, mean = CircuitValues(study.find, study.asked), study.asked.replaced_by == "mean"
    level, rows = study.asked.level, []
    for ranking, edges in ranked.items():
        first = first_enough(values, edges, level, SIZES)
        left = {*leave_out(values, study.graph, first, level, mean=mean)}
        kept = [str(edge) for edge in study.graph.edges if str(edge) in left]
        rows += [{"ranking": ranking, "edge": edge, "first": len(first)} for edge in kept]
    return pd.DataFrame(rows)


def judge_circuits(
    study: Study, kept: pd.DataFrame, ranked: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Each ranking's circuit, on the pairs that it was found on and on the others.

    Returns:
        ``ranking``; ``first``, how many of its first edges were enough; ``edges`` that are left of
        these, of ``of``; ``found_on``, faithfulness on the pairs to find with; ``faithfulness`` on
        the pairs to judge by, of which there are ``n``.
    """
    circuits = {each: list(kept.loc[kept["ranking"] == each, "edge"]) for each in ranked}
    tables = [CircuitValues(half, study.asked).run(circuits) for half in (study.find, study.judge)]
    rows = kept.drop_duplicates("ranking").set_index("ranking")
    return pd.DataFrame(
        {
            "ranking": list(circuits),
            "first": [rows["first"][each] for each in circuits],
            "edges": [len(each) for each in circuits.values()],
            "of": len(study.graph.edges),
            "found_on": tables[0]["faithfulness"],
            "faithfulness": tables[1]["faithfulness"],
            "n": tables[1]["n"],
        }
    )


def parts_of(graph: Graph) -> list[str]:
    """All heads and MLPs."""
    return [str(writer) for writer in graph.writers if writer.layer is not None]


def every_choice(study: Study, parts: Sequence[str]) -> CircuitLattice:
    """Every choice of parts, on all pairs: nothing is chosen by them."""
    task, asked = study.task, study.asked
    return every_circuit(
        *(task.model, task.clean, task.corrupted, metric_of(task)),
        parts=parts,
        replaced_by=asked.replaced_by,
        seed=asked.seed,
    )
