"""Which edges can go, one after the other, and the model still does the task?

    tries = remove_greedily(model, clean, corrupted, metric, threshold=0.05)
    circuit = tries.loc[tries["kept"], "edge"]

The order is that of ACDC (Conmy et al. 2023): from the logits down, each edge into a reader is left
out where that changes the metric by less than a threshold, given all that was left out before.
Values are exact. Several tries are run together, each as if those before it had succeeded; the
first that does not is the last of them that counts. Layers below the reader still have all their
edges, and are not run.
"""

from collections import Counter
from collections.abc import Sequence, Set
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional as F

from interp.circuits.edges import choose_edges
from interp.circuits.graph import Edge, Graph, Reader, Writer
from interp.circuits.running import CircuitTask, Replacement, measure_streams, prepare_circuits
from interp.circuits.together import Circuit, CircuitRuns, edges_kept, nodes_of_run
from interp.errors import UsageError
from interp.metrics import Metric, metric_name
from interp.site import Model
from interp.sweeps.budget import parse_memory
from interp.sweeps.resuming.answers import Answers, Recorder, RowStore
from interp.sweeps.speed.scoring import prepare_score

MeasuredBy = Literal["metric", "KL"]
MOST = 64  # tries that run together


def remove_greedily(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    *,
    threshold: float,
    order: Literal["ACDC"] | Sequence[str | Edge] = "ACDC",
    measured_by: MeasuredBy = "metric",
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    split_embed: bool = False,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """Leave out edges one after the other, as long as it does not matter.

    Args:
        model, clean, corrupted, replaced_by, seed, split_embed, memory, run: as for
            ``run_circuits``.
        metric: of the logits.
        threshold: an edge stays out where that changes the mean over texts by less.
        order: in which edges are tried. ``ACDC``: readers from the logits down, of each the last
            writer first. Or the edges themselves, such as the end of a ranking first; others are
            kept.
        measured_by: what must change by less: ``metric``, up or down; or ``KL``, which must not
            grow by more: how far next-token probabilities are from the whole model's, in nats, at
            the positions that the metric reads.
        progress: show a bar.

    Returns:
        One row per try: its number in ``order``; ``edge writer reader``; ``before`` and ``after``,
        what decides (the mean metric, or the mean divergence) without and with the edge left out,
        ``change`` between them, and whether the edge is ``kept``; ``value``, the mean metric with
        it left out; ``edges`` left after the try; ``skipped``, where the edge can change nothing,
        as where nobody reads what its reader makes; ``measured_by threshold replaced_by metric n``.

    Raises:
        UsageError: what ``run_circuits`` raises; a threshold that is not above zero.
    """
    if not threshold > 0:
        raise UsageError(f"threshold is {threshold}; it must be above 0")
    if measured_by not in get_args(MeasuredBy):
        raise UsageError(f"measured_by is {measured_by!r}; it must be 'metric' or 'KL'")
    with prepare_circuits(
        *(model, clean, corrupted, metric, replaced_by, seed), split_embed=split_embed
    ) as task:
        removal = GreedyRemoval(task, threshold, measured_by, run)
        asked = acdc_order(task.graph) if order == "ACDC" else choose_edges(task.graph, order)
        most = task.count_together(parse_memory(memory, task.run.blocks.last.device))
        rows = removal.try_all(asked, min(most, MOST), progress)
    table = pd.DataFrame(rows)
    table["measured_by"], table["threshold"] = measured_by, threshold
    table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
    table["n"] = len(clean)
    return table


def acdc_order(graph: Graph) -> list[Edge]:
    """All edges, by reader from the logits down, and for each by writer from the last one on."""
    return [
        Edge(writer, reader)
        for reader in reversed(graph.readers)
        for writer in reversed(graph.before(reader))
    ]


class GreedyRemoval:
    """What is left of a model's edges while one after the other is tried.

    Of what is left, only that is held which says something: edges into parts that nobody reads any
    more, and from a position embedding that is the same in both runs, can go without being run.

    Args:
        task: the model on its texts.
        threshold: a smaller change does not matter.
        measured_by: of what.
        run: where answers are kept as they come.
    """

    def __init__(
        self, task: CircuitTask, threshold: float, measured_by: MeasuredBy, run: RowStore | None
    ) -> None:
        self.task, self.threshold, self.measured_by = task, threshold, measured_by
        self.recorder = None
        if run is not None:
            self.recorder = Recorder(run, task.model, [*task.decisive, measured_by])
        graph, self.metrics = task.graph, [task.metric]
        value = decisive = float(task.whole.mean())
        if measured_by == "KL":
            self.metrics.append(divergence_from_whole(task))
            decisive = 0.0
        self.now = (value, decisive)
        self.owners: dict[Reader, list[Writer]] = {}
        for writer in graph.writers:
            for reader in nodes_of_run(task.run, writer):
                self.owners.setdefault(reader, []).append(writer)
        same = {
            each
            for each in graph.embeddings
            if torch.equal(task.rest[each], task.run.written[each])
        }
        self.left: Circuit = frozenset(edge for edge in graph.edges if edge.writer not in same)
        self.all = Counter(edge.reader for edge in self.left)
        self.count = len(graph.edges)

    def try_all(self, edges: Sequence[Edge], most: int, progress: bool) -> list[dict[str, Any]]:
        """One row for each edge, in their order; at most so many run together."""
        rows: list[dict[str, Any]] = []
        together = 1
        with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bars:
            bar = bars.add_task("edges", total=len(edges))
            while len(rows) < len(edges):
                some = self.next_ones(edges[len(rows) :], together)
                found = self.measure([left for _, left in some])
                for (edge, left), values in zip(some, found, strict=True):
                    rows.append({"order": len(rows), **self.decide(edge, left, *values)})
                    if rows[-1]["kept"]:
                        break  # those after it were run without an edge that stays
                together = max(1, together // 2) if rows[-1]["kept"] else min(2 * together, most)
                bars.update(bar, completed=len(rows))
                self.task.ask()
        return rows

    def next_ones(self, edges: Sequence[Edge], count: int) -> list[tuple[Edge, Circuit]]:
        """The next edges, each with what would be left without it and those before it: as many as
        have to be run together, and those between that need not be."""
        left, found = self.left, []
        for edge in edges:
            before, left = left, self.without(left, edge)
            count -= left is not before
            if count < 0:
                break
            found.append((edge, left))
        return found

    def without(self, left: Circuit, edge: Edge) -> Circuit:
        """What would be left without an edge; the very same where it says nothing."""
        if edge not in left:
            return left
        left = left - {edge}
        if any(each.writer == edge.writer for each in left):
            return left
        for reader in reversed(self.task.graph.readers):  # a part may go with all that it read
            if not self.is_read(reader, {each.writer for each in left}):
                left = frozenset(each for each in left if each.reader != reader)
        return left

    def is_read(self, reader: Reader, writers: Set[Writer]) -> bool:
        """Whether what a reader's part makes is read by somebody, given who is."""
        return reader.layer is None or not writers.isdisjoint(self.owners[reader])

    def measure(self, circuits: Sequence[Circuit]) -> list[tuple[float, float]]:
        """The mean metric of each circuit, and the mean of what decides."""
        known = {self.left: self.now}
        if asked := [each for each in dict.fromkeys(circuits) if each not in known]:
            for each, row in zip(asked, self.answer(asked), strict=True):
                known[each] = (float(row[0].mean()), float(row[-1].mean()))
        return [known[each] for each in circuits]

    def answer(self, circuits: Sequence[Circuit]) -> Float[np.ndarray, "circuit metric batch"]:
        """The metrics of each circuit, text by text."""
        kept = edges_kept(self.task.graph, circuits)

        def compute() -> Answers:
            runs = CircuitRuns(self.task.run, self.task.rest, kept)
            streams = runs.ends(self.first_layer(circuits))
            found = [measure_streams(self.task.run, streams, metric) for metric in self.metrics]
            return np.stack(found, axis=1), [len(each) for each in circuits]

        if self.recorder is None:
            return compute()[0]
        return self.recorder.answer(["greedy", kept], [], compute)[0]

    def first_layer(self, circuits: Sequence[Circuit]) -> int:
        """The first layer in which a part that is read lacks an edge."""
        graph, first = self.task.graph, len(self.task.graph.layers)
        for left in circuits:
            counts = Counter(edge.reader for edge in left)
            writers = {edge.writer for edge in left}
            for reader in graph.readers:
                if reader.layer is None or reader.layer >= first:
                    break
                if counts[reader] < self.all[reader] and self.is_read(reader, writers):
                    first = reader.layer
        return first

    def decide(self, edge: Edge, left: Circuit, value: float, after: float) -> dict[str, Any]:
        """The row of an edge that was tried; it stays out where that does not matter."""
        before = self.now[1]
        change = after - before
        kept = not (change if self.measured_by == "KL" else abs(change)) < self.threshold
        skipped = left is self.left
        if not kept:
            self.left, self.now = left, (value, after)
            self.count -= 1
        return {
            "edge": str(edge),
            "writer": str(edge.writer),
            "reader": str(edge.reader),
            "before": before,
            "after": after,
            "change": change,
            "kept": kept,
            "value": value,
            "edges": self.count,
            "skipped": skipped,
        }


def divergence_from_whole(task: CircuitTask) -> Metric:
    """How far next-token probabilities are from the whole model's, in nats: the mean over the
    positions that the task's metric reads, of each text."""
    blocks = task.run.blocks
    unembed, last = blocks.blocks.unembed, blocks.last
    vocab = unembed(last[:1, :1]).shape[-1]
    score = prepare_score(task.metric, blocks.tokens, unembed, vocab, last)
    whole, reads = F.log_softmax(score.clean.double(), dim=-1), score.reads

    def divergence(
        logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch"]:
        here = F.log_softmax(logits[:, reads].double(), dim=-1)
        return F.kl_div(here, whole, reduction="none", log_target=True).sum(dim=-1).mean(dim=-1)

    return divergence
