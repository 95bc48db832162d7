"""What does a part of the model's graph do, when all the rest says something else?

    circuits = {"found": ["embed -> *", "a0.h1 -> a1.h0.k", "a1.h0 -> logits"], "heads": ["a0.h1"]}
    table = run_circuits(model, clean, corrupted, circuits, metric)

In a circuit's run each reader takes what the kept writers give in this very run, and of all others
what replaces them. With all edges kept it is the model; with none, the run of what replaces them.
Circuits run together: what two of them have in common, such as their first layers, is run once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.edges import choose_edges
from interp.circuits.graph import Edge, Graph, Reader, Writer
from interp.circuits.pairs import check_pair
from interp.circuits.reading import BlockReader
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.logits import logits_of
from interp.metrics import Metric, measure, metric_name
from interp.site import Model
from interp.sweeps.speed.scoring import check_scores
from interp.threads import quickest_threads
from interp.verdicts import intervals_over_texts

Replacement = Literal["corrupted", "mean", "resample"]
Circuit = frozenset[Edge]
HELD = 2**28  # bytes of what the writers of circuits that run together write


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

    Returns:
        One row per circuit: ``circuit``, ``edges`` that it keeps and their ``share``;
        ``replaced_by``; ``metric``; ``baseline``, the whole model's mean, and ``nothing``, that
        with no edge kept; ``value``; ``delta``, value less baseline, with its interval over texts
        and ``p_adjusted``; ``faithfulness``, how far the value is from nothing (0) to the model
        (1); ``n`` texts.

    Raises:
        UsageError: what ``edge_effects`` raises; no circuits; a part or edge that there is not; one
            text, which has no other to be drawn; a metric that is the same with no edge as with
            all.
    """
    if replaced_by not in get_args(Replacement):
        raise UsageError(
            f"replaced_by is {replaced_by!r}; it must be 'corrupted', 'mean' or 'resample'"
        )
    if not circuits:
        raise UsageError("there are no circuits to run: give at least one, by name")
    check_pair(clean, corrupted)
    with evaluating(model), quickest_threads(model):
        run = take_apart(model, clean, split_embed=split_embed)
        source = take_apart(model, corrupted, split_embed=split_embed, like=run)
        kept = [keep_edges(run.graph, name, what) for name, what in circuits.items()]
        ends: list[Circuit] = [frozenset(run.graph.edges), frozenset()]
        rest = replacements(source, replaced_by, seed)
        values = measure_circuits(run, rest, [*ends, *kept], metric)
    whole, nothing, found = values[0], values[1], values[2:]
    gap = whole.mean() - nothing.mean()
    if abs(gap) <= 1e-6 * max(np.abs(whole).max(), np.abs(nothing).max()):
        raise UsageError(
            f"the metric is {whole.mean():.6g} with all edges and with none, so that no circuit "
            "can be more or less like the model"
        )
    deltas = found - whole
    table = pd.DataFrame(
        {
            "circuit": list(circuits),
            "edges": [len(each) for each in kept],
            "share": [len(each) / len(run.graph.edges) for each in kept],
        }
    )
    table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
    table["baseline"], table["nothing"] = whole.mean(), nothing.mean()
    table["value"], table["delta"] = found.mean(axis=1), deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["faithfulness"] = (table["value"] - table["nothing"]) / gap
    table["n"] = len(whole)
    return table


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
    """The metric of each circuit, text by text."""
    own = sum(value.nbytes for value in run.written.values())
    together = max(1, HELD // own)
    values = []
    for begin in range(0, len(circuits), together):
        some = circuits[begin : begin + together]
        streams = CircuitRuns(run, rest, some).ends()
        tokens = run.blocks.tokens
        for stream in streams:
            logits = run.blocks.blocks.unembed(stream)
            score = measure(metric, logits_of(logits, tokens), tokens)
            values.append(check_scores(score, len(tokens)).double().cpu().numpy())
    return np.stack(values)


@dataclass
class Written:
    """What writers wrote in some circuits' runs, each value once.

    Args:
        numbers: of each value, by what decides it.
        less: each value less what replaces its writer.
    """

    numbers: dict[Any, int] = field(default_factory=dict)
    less: list[Float[Tensor, "batch pos d_model"]] = field(default_factory=list)

    def add(self, decided_by: Any, less: Tensor) -> None:
        self.numbers[decided_by] = len(self.less)
        self.less.append(less)

    def sums(self, keys: Sequence[tuple[int, ...]]) -> Float[Tensor, "key batch pos d_model"]:
        """For each key, the sum of the values of these numbers."""
        chosen = torch.zeros(len(keys), len(self.less))
        for row, key in zip(chosen, keys, strict=True):
            row[list(key)] = 1
        stacked = torch.stack(self.less)
        return (chosen.to(stacked) @ stacked.flatten(1)).view(len(keys), *stacked.shape[1:])


class CircuitRuns:
    """Runs of several circuits on the same texts, layer by layer.

    Args:
        run: of the whole model.
        rest: what each writer says where it is not kept.
    """

    def __init__(
        self, run: SummedRun, rest: Mapping[Writer, Tensor], circuits: Sequence[Circuit]
    ) -> None:
        self.run, self.rest = run, rest
        self.blocks: BlockReader = run.blocks
        self.count = len(circuits)
        place = {writer: number for number, writer in enumerate(run.graph.writers)}
        self.kept: list[dict[Reader, list[int]]] = [{} for _ in circuits]
        for mine, circuit in zip(self.kept, circuits, strict=True):
            for edge in circuit:
                mine.setdefault(edge.reader, []).append(place[edge.writer])
            for numbers in mine.values():
                numbers.sort()
        self.place = place
        self.written = Written()
        self.now: list[dict[int, int]] = [{} for _ in circuits]  # by writer, its value's number

    def ends(self) -> Float[Tensor, "circuit batch pos d_model"]:
        """The stream that each circuit's logits read."""
        graph = self.run.graph
        for writer in graph.embeddings:
            self.write(writer, ["embedding"] * self.count, {"embedding": self.run.written[writer]})
        for layer, parts in enumerate(graph.layers):
            if parts.heads:
                self.run_attention(layer)
            if parts.mlp:
                self.run_mlp(layer)
        reader = Reader("logits")
        keys = [self.key(circuit, reader) for circuit in range(self.count)]
        return self.streams(reader, keys)

    def run_attention(self, layer: int) -> None:
        """The heads of a layer: queries, keys and values of every input that some reader has, then
        attention for every way in which circuits combine them."""
        readers = [each for each in self.run.graph.readers if each.layer == layer]
        readers = [each for each in readers if each.head is not None]
        keys = [
            {each: self.key(circuit, each) for each in readers} for circuit in range(self.count)
        ]
        inputs = list(dict.fromkeys(key for mine in keys for key in mine.values()))
        number = {key: row for row, key in enumerate(inputs)}
        made = self.blocks.of_streams(layer, self.streams(readers[0], inputs), ["q", "k", "v"])
        rows = [tuple(number[mine[each]] for each in readers) for mine in keys]
        patterns = list(dict.fromkeys(rows))
        setting = {}
        for kind in ("q", "k", "v"):
            at = [i for i, each in enumerate(readers) if each.kind == kind]
            whole = [
                torch.stack([made[kind][row[i]][:, :, head] for head, i in enumerate(at)], dim=2)
                for row in patterns
            ]
            setting[kind] = torch.stack(whole)
        writers, W_O = self.run.graph.attention_writers(layer), self.run.maps[layer]
        seen = "attn" if W_O is None else "z"
        found = self.blocks.with_values(layer, setting, seen)
        sharing = self.blocks.sharing(layer) if W_O is not None else None
        for writer in writers:
            if W_O is None or sharing is None or writer.head is None:
                self.write(writer, rows, dict(zip(patterns, found, strict=True)))
                continue
            shared = int(sharing[:, writer.head].nonzero())
            theirs = [
                i
                for i, each in enumerate(readers)
                if each.head == (writer.head if each.kind == "q" else shared)
            ]
            decided = [tuple(row[i] for i in theirs) for row in rows]
            values = {
                tuple(row[i] for i in theirs): z[:, :, writer.head] @ W_O[writer.head]
                for row, z in zip(patterns, found, strict=True)
            }
            self.write(writer, decided, values)

    def run_mlp(self, layer: int) -> None:
        reader = Reader("mlp", layer)
        keys = [self.key(circuit, reader) for circuit in range(self.count)]
        inputs = list(dict.fromkeys(keys))
        made = self.blocks.of_streams(layer, self.streams(reader, inputs), ["mlp"])["mlp"]
        self.write(Writer("mlp", layer), keys, dict(zip(inputs, made, strict=True)))

    def key(self, circuit: int, reader: Reader) -> tuple[int, ...]:
        """What decides a reader's input: the values of the kept writers."""
        now = self.now[circuit]
        return tuple(now[writer] for writer in self.kept[circuit].get(reader, ()))

    def streams(
        self, reader: Reader, keys: Sequence[tuple[int, ...]]
    ) -> Float[Tensor, "key batch pos d_model"]:
        """What a reader sees, for each choice of what is kept."""
        return self.base(reader) + self.written.sums(keys)

    def base(self, reader: Reader) -> Float[Tensor, "batch pos d_model"]:
        """What a reader sees where nothing is kept."""
        layer = reader.layer
        stream = self.blocks.last if layer is None else self.blocks.entering[layer]
        if layer is not None and reader.kind == "mlp" and not self.blocks.is_parallel(layer):
            stream = stream + self.blocks.values[layer]["attn"]
        total = stream.clone()
        for writer in self.run.graph.before(reader):
            total += self.rest[writer] - self.run.written[writer]
        return total

    def write(
        self, writer: Writer, decided_by: Iterable[Any], values: Mapping[Any, Tensor]
    ) -> None:
        """Notes what a writer wrote in each circuit."""
        for circuit, decided in enumerate(decided_by):
            known = (writer, decided)
            if known not in self.written.numbers:
                self.written.add(known, values[decided] - self.rest[writer])
            self.now[circuit][self.place[writer]] = self.written.numbers[known]
