"""How is a circuit's study kept, so that a run that was killed goes on and ends the same?

study.table("scores", make)          # made once: afterwards as it is kept
with study.values_on(study.judge) as values:
    values([circuit, another])       # how faithful they are; each is run once
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.circuits.asking import answer_lead
from experiments.support.pairs import PairTask
from experiments.support.trainings.finished import identity_of_tables
from interp.circuits import Graph
from interp.circuits.finding import Method
from interp.circuits.guarantees.shares import share_intervals
from interp.circuits.running import CircuitTask, Replacement, prepare_circuits
from interp.runs import Run
from interp.runs.workers import Elsewhere
from interp.surgery.judging import weights_hash

MANY = 8
"""Circuits that are worth a bar."""


@dataclass(frozen=True)
class CircuitOptions:
    """What is asked of a task.

    Args:
        level: how much of the model's answer a circuit must keep, 0 to 1.
        replaced_by: what is said in place of what is left out.
        methods: by which edges are ranked.
        steps: of those that integrate.
        verify: how many of the largest scores are measured exactly, and as many random edges, where
            not all are.
        seed: of what is drawn.
    """

    level: float
    replaced_by: Replacement
    methods: tuple[Method, ...]
    steps: int
    verify: int
    seed: int
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class CircuitStudy:
    """A task on a run's way to its tables.

    Args:
        find, judge: the pairs to find with, and those to judge by.
        graph: of the model.
        is_whole: whether all edges are measured exactly.
        suffix: of the names of its tables, where another study has those without.
    """

    run: Run
    task: PairTask
    find: PairTask
    judge: PairTask
    graph: Graph
    is_whole: bool
    asked: CircuitOptions
    suffix: str = ""

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of the run: as it is kept where it is of the same weights, settings and code,
        else made now."""
        name += self.suffix
        made_of = identity_of_tables(
            table=name, weights=self.weights, config=self.run.description["config"]
        )
        kept = self.run.task(made_of) == [{"digest": self.run.digests().get(name)}]
        if not (kept and self.run.is_sound(name)):
            self.run.save_table(make(), name)
            self.run.forget(made_of)
            self.run.record(made_of, [{"digest": self.run.digests()[name]}])
        return self.run.table(name)

    @cached_property
    def weights(self) -> str:
        """The hash of the model's weights."""
        model: Any = self.task.model
        return weights_hash(model)

    @contextmanager
    def values_on(self, pairs: PairTask) -> Iterator["CircuitValues"]:
        """The values of circuits on some pairs."""
        given = (pairs.model, pairs.clean, pairs.corrupted, answer_lead(pairs))
        with prepare_circuits(*given, self.asked.replaced_by, self.asked.seed) as circuits:
            yield CircuitValues(circuits, self.run)


class CircuitValues:
    """How faithful circuits are on some pairs; each is run once, and kept in the run's store."""

    def __init__(self, circuits: CircuitTask, run: Run) -> None:
        self.circuits, self.run = circuits, run
        self.known: dict[frozenset[str], float] = {}

    def __call__(self, asked: Sequence[Iterable[str]]) -> list[float]:
        sets = [frozenset(each) for each in asked]
        if new := [each for each in dict.fromkeys(sets) if each not in self.known]:
            gains = self.measure(new) - self.circuits.nothing
            shares = gains.mean(axis=1) / self.circuits.gap
            self.known.update(zip(new, shares.tolist(), strict=True))
        return [self.known[each] for each in sets]

    def intervals(
        self, asked: Sequence[Iterable[str]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faithfulness, and the ends of its intervals over texts."""
        task = self.circuits
        return share_intervals(self.measure(asked) - task.nothing, task.whole - task.nothing)

    def measure(self, asked: Sequence[Iterable[str]]) -> np.ndarray:
        """The metric of circuits, text by text."""
        sets = [frozenset(map(self.circuits.graph.edge, each)) for each in asked]
        return self.circuits.measure(sets, progress=len(sets) > MANY, run=self.run)
