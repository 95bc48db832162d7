"""What does a part of the model's graph do, when all the rest says something else?

    circuits = {"found": ["embed -> *", "a0.h1 -> a1.h0.k", "a1.h0 -> logits"], "heads": ["a0.h1"]}
    table = run_circuits(model, clean, corrupted, circuits, metric)

In a circuit's run each reader takes what the kept writers give in this very run, and of all others
what replaces them. With all edges kept it is the model; with none, the run of what replaces them.
Circuits run together: what two of them have in common, such as their first layers, is run once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.edges import choose_edges
from interp.circuits.graph import Edge, Graph, Writer
from interp.circuits.pairs import check_pair
from interp.circuits.rounding import tolerance_for
from interp.circuits.together import (
    Circuit,
    CircuitRuns,
    Kept,
    bytes_of_runs,
    edges_kept,
    without_idle,
)
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.metrics import Metric, metric_name
from interp.site import Model
from interp.sweeps.budget import parse_memory
from interp.sweeps.resuming.answers import Answers, Recorder, RowStore
from interp.sweeps.speed.scoring import UnforeseenReadError, measure_carried, prepare_score
from interp.threads import quickest_threads
from interp.verdicts import intervals_over_texts

Replacement = Literal["corrupted", "mean", "resample"]


def run_circuits(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    circuits: Mapping[str, Sequence[str | Edge]],
    metric: Metric,
    *,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    split_embed: bool = False,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """Each circuit alone, in one table.

    Args:
        model: as for ``edge_effects``.
        clean: texts that the model answers; circuits run on them.
        corrupted: texts from which the rest has its values: as many, and as long.
        circuits: by name, what is kept. Edges as they are written, where ``*`` stands for anything;
            or parts, such as ``a1.h2`` and ``m0``: then all edges from these, and from the
            embedding, are kept.
        metric: of the logits; its tokens are the clean ones.
        replaced_by: what everything else says: ``corrupted``, what it says on the corrupted text of
            the same number; ``mean``, what it says at this position on average over the corrupted
            texts; ``resample``, what it says on another corrupted text, drawn for each text.
        seed: of that draw.
        split_embed: the position embedding as a writer of its own.
        memory: what circuits that run together may hold, beside the model and its runs on both
            texts, such as "512MiB": the less, the fewer run together. As for
            ``interp.sweep.sweep``.
        progress: show a bar.
        run: where answers are kept as they come, as for ``interp.sweep.sweep``.

    Returns:
        One row per circuit: ``circuit``, ``edges`` that it keeps and their ``share``;
        ``replaced_by``; ``metric``; ``baseline``, the whole model's mean, and ``nothing``, that
        with no edge kept; ``value``; ``delta``, value less baseline, with its interval over texts
        and ``p_adjusted``; ``faithfulness``, how far the value is from nothing (0) to the model
        (1); ``changed``, how many of the numbers that readers take were replaced by others (0: what
        is left out says just what replaces it, so that the run is the model's); ``n`` texts.

    Raises:
        UsageError: what ``edge_effects`` raises; no circuits; a part or edge that there is not; one
            text, which has no other to be drawn; a metric that is the same with no edge as with
            all; memory that does not hold one circuit.
    """
    if not circuits:
        raise UsageError("there are no circuits to run: give at least one, by name")
    with prepare_circuits(
        *(model, clean, corrupted, metric, replaced_by, seed), split_embed=split_embed
    ) as task:
        kept = [keep_edges(task.graph, name, what) for name, what in circuits.items()]
        found = task.measure(kept, memory=memory, progress=progress, run=run)
    deltas = found - task.whole
    table = pd.DataFrame(
        {
            "circuit": list(circuits),
            "edges": [len(each) for each in kept],
            "share": [len(each) / len(task.graph.edges) for each in kept],
        }
    )
    table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
    table["baseline"], table["nothing"] = task.whole.mean(), task.nothing.mean()
    table["value"], table["delta"] = found.mean(axis=1), deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["faithfulness"] = (table["value"] - table["nothing"]) / task.gap
    table["changed"] = [task.changed_by(each) for each in kept]
    table["n"] = len(task.whole)
    return table


@contextmanager
def prepare_circuits(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    *,
    split_embed: bool = False,
) -> Iterator["CircuitTask"]:
    """A task whose circuits can be run inside the block, in which the model stays as it is. Raises
    what ``run_circuits`` raises before it runs one."""
    if replaced_by not in get_args(Replacement):
        raise UsageError(
            f"replaced_by is {replaced_by!r}; it must be 'corrupted', 'mean' or 'resample'"
        )
    check_pair(clean, corrupted)
    with evaluating(model), quickest_threads(model) as ask:
        run = take_apart(model, clean, split_embed=split_embed)
        source = take_apart(model, corrupted, split_embed=split_embed, like=run)
        rest = replacements(source, replaced_by, seed)
        ends: list[Circuit] = [frozenset(run.graph.edges), frozenset()]
        whole, nothing = measure_circuits(run, rest, ends, metric)
        gap = abs(whole.mean() - nothing.mean())
        if gap <= 1e-6 * max(np.abs(whole).max(), np.abs(nothing).max()):
            raise UsageError(
                f"the metric is {whole.mean():.6g} with all edges and with none, so that no "
                "circuit can be more or less like the model"
            )
        decisive = (clean, corrupted, metric, replaced_by, seed, split_embed, whole)
        consistent = replaced_by != "mean"
        yield CircuitTask(model, run, rest, metric, whole, nothing, consistent, decisive, ask)


@dataclass(frozen=True, eq=False)
class CircuitTask:
    """A model on pairs of texts, ready to run circuits.

    Args:
        run: of the clean texts.
        rest: what each writer says where it is not kept.
        whole: the metric with every edge.
        nothing: the metric with none.
        consistent: whether what replaces all writers comes from one run of the model.
        decisive: what decides all answers, beside the model.
        ask: to be called now and then, for how many threads are quickest.
    """

    model: Model
    run: SummedRun
    rest: Mapping[Writer, Float[Tensor, "batch pos d_model"]]
    metric: Metric
    whole: Float[np.ndarray, "batch"]
    nothing: Float[np.ndarray, "batch"]
    consistent: bool
    decisive: tuple[Any, ...]
    ask: Callable[[], None]
    _recorders: dict[int, Recorder] = field(default_factory=dict, init=False, repr=False)

    @property
    def graph(self) -> Graph:
        return self.run.graph

    @property
    def gap(self) -> float:
        """The mean with every edge, less that with none."""
        return float(self.whole.mean() - self.nothing.mean())

    def changed_by(self, circuit: Circuit) -> int:
        """How many of the numbers that readers take are others, where only this circuit is kept."""
        return sum(self._differing[e.writer] for e in self.graph.edges if e not in circuit)

    @cached_property
    def _differing(self) -> dict[Writer, int]:
        """In how many numbers what replaces a writer is not what it wrote."""
        found = {}
        for writer, value in self.run.written.items():
            apart = (value - self.rest[writer]).abs()
            found[writer] = int((apart > tolerance_for(value)).sum())
        return found

    def measure(
        self,
        circuits: Sequence[Circuit],
        *,
        memory: str | int | None = None,
        progress: bool = False,
        run: RowStore | None = None,
    ) -> Float[np.ndarray, "circuit batch"]:
        """The metric of each circuit, text by text; one that is given twice is run once.

        Args:
            memory, progress, run: as for ``run_circuits``.
        """
        together = self.count_together(parse_memory(memory, self.run.blocks.last.device))
        rows = edges_kept(self.graph, circuits)
        rows = without_idle(self.run, rows, consistent=self.consistent)
        asked, row = np.unique(rows, axis=0, return_inverse=True)
        recorder = None if run is None else self._recorder(run)
        found = []
        bars = Progress(console=Console(stderr=True), transient=True, disable=not progress)
        with bars:
            bar = bars.add_task("circuits", total=len(asked))
            for begin in range(0, len(asked), together):
                some = asked[begin : begin + together]

                def compute(some: Kept = some) -> Answers:
                    values = measure_rows(self.run, self.rest, some, self.metric)
                    return values, some.sum(axis=1).tolist()

                if recorder is None:
                    values, _ = compute()
                else:
                    values, _ = recorder.answer(["circuits", some], [], compute)
                found.append(values)
                bars.advance(bar, len(some))
                self.ask()
        return np.concatenate(found)[row.flatten()]

    def _recorder(self, store: RowStore) -> Recorder:
        """What knows answers again; made once for a store, for it reads every weight."""
        if id(store) not in self._recorders:
            self._recorders[id(store)] = Recorder(store, self.model, self.decisive)
        return self._recorders[id(store)]

    def count_together(self, memory: int) -> int:
        """How many circuits run together within so many bytes.

        Raises:
            UsageError: not one.
        """
        always, each = bytes_of_runs(self.run)
        if memory < always + each:
            raise UsageError(
                f"memory is {memory / 2**20:.0f} MiB; one circuit needs "
                f"{(always + each) / 2**20:.0f} MiB: give more, or fewer texts at a time"
            )
        return (memory - always) // each


def keep_edges(graph: Graph, name: str, what: Sequence[str | Edge]) -> Circuit:
    """The edges that a circuit keeps.

    Raises:
        UsageError: edges and parts together; one that there is not.
    """
    given = [what] if isinstance(what, str | Edge) else list(what)
    edges = [isinstance(each, Edge) or "->" in each for each in given]
    if not given:
        return frozenset()
    if all(edges):
        return frozenset(choose_edges(graph, given))
    if any(edges):
        raise UsageError(
            f"circuit {name!r} names edges and parts: give either all edges that it keeps, or the "
            "parts all of whose edges it keeps"
        )
    writers = {graph.writer(str(each)) for each in given} | set(graph.embeddings)
    return frozenset(edge for edge in graph.edges if edge.writer in writers)


def replacements(source: SummedRun, replaced_by: Replacement, seed: int) -> dict[Writer, Tensor]:
    """What each writer says where it is not kept, [batch pos d_model]."""
    batch = len(source.blocks.tokens)
    if replaced_by == "mean":
        return {
            writer: value.mean(dim=0, keepdim=True).expand(value.shape)
            for writer, value in source.written.items()
        }
    if replaced_by == "corrupted":
        return dict(source.written)
    if batch == 1:
        raise UsageError("there is one corrupted text, and no other to be drawn for it")
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, batch, (batch,), generator=generator)
    drawn = (torch.arange(batch) + steps) % batch
    return {writer: value[drawn] for writer, value in source.written.items()}


def measure_circuits(
    run: SummedRun, rest: Mapping[Writer, Tensor], circuits: Sequence[Circuit], metric: Metric
) -> Float[np.ndarray, "circuit batch"]:
    """The metric of each circuit, text by text; all of them run together."""
    return measure_rows(run, rest, edges_kept(run.graph, circuits), metric)


def measure_rows(
    run: SummedRun, rest: Mapping[Writer, Tensor], kept: Kept, metric: Metric
) -> Float[np.ndarray, "circuit batch"]:
    """The same, of circuits by which edges they keep."""
    return measure_streams(run, CircuitRuns(run, rest, kept).ends(), metric)


def measure_streams(
    run: SummedRun, streams: Float[Tensor, "circuit batch pos d_model"], metric: Metric
) -> Float[np.ndarray, "circuit batch"]:
    """The metric of what the logits read, text by text."""
    blocks, tokens = run.blocks, run.blocks.tokens
    unembed = blocks.blocks.unembed
    vocab = unembed(blocks.last[:1, :1]).shape[-1]

    def values(reads: list[int] | None) -> Tensor:
        score = prepare_score(metric, tokens, unembed, vocab, blocks.last, reads)

        def carried(examples: slice) -> tuple[Tensor, list[int]]:
            return streams[:, examples, score.reads].flatten(0, 1), score.reads

        return measure_carried(score, len(streams), len(tokens), carried)

    try:
        found = values(None)
    except UnforeseenReadError:  # a metric that reads where its logits tell it to
        found = values(list(range(tokens.shape[1])))
    return found.double().cpu().numpy()
