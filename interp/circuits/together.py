"""How do several circuits run together?

    kept = edges_kept(graph, circuits)                         # [circuit edge]
    streams = CircuitRuns(run, rest, kept).ends()           # [circuit batch pos d_model]

Layer by layer; a part that gets the same in two circuits, as in layers that they have in common,
is run once.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from interp.circuits.contributions import SummedRun
from interp.circuits.graph import Edge, Graph, Reader, Writer
from interp.circuits.shown import HEADS, apply_mlp, attend_at, project_each

Circuit = frozenset[Edge]
Kept = Bool[np.ndarray, "circuit edge"]
"""Which edges circuits keep, in the graph's order."""


def edges_kept(graph: Graph, circuits: Sequence[Iterable[Edge]]) -> Kept:
    """Which of a graph's edges each circuit keeps."""
    kept = np.zeros((len(circuits), len(graph.edges)), dtype=bool)
    for row, circuit in zip(kept, circuits, strict=True):
        row[[graph.places[edge] for edge in circuit]] = True
    return kept


def without_idle(run: SummedRun, kept: Kept, *, consistent: bool) -> Kept:
    """The same circuits without edges that can change nothing, as ``leave_idle_out`` says."""
    nodes = {writer: nodes_of_run(run, writer) for writer in run.graph.writers}
    return leave_idle_out(run.graph, kept, nodes, consistent=consistent)


def leave_idle_out(
    graph: Graph, kept: Kept, nodes: Mapping[Writer, Sequence[Reader]], *, consistent: bool
) -> Kept:
    """Circuits without edges that can change nothing, whatever the weights.

    These are edges to a part from which no kept edges lead on to the logits; and edges from one to
    which none lead from an embedding.

    Args:
        nodes: what each writer itself reads.
        consistent: whether a part all of whose edges are replaced says just what replaces it, as it
            does where that comes from one run of the model.
    """
    edges, found = slices_of(graph), kept.copy()
    moved = np.ones((len(kept), len(nodes)), dtype=bool)
    for number, reads in enumerate(nodes.values() if consistent else ()):
        for reader in reads:
            at = edges[reader]
            found[:, at] &= moved[:, : at.stop - at.start]
        if reads:
            moved[:, number] = np.any([found[:, edges[each]].any(axis=1) for each in reads], axis=0)
    found[:, edges[Reader("logits")]] &= moved
    owners: dict[Reader, list[int]] = {reader: [] for reader in graph.readers}
    for number, reads in enumerate(nodes.values()):
        for reader in reads:
            owners[reader].append(number)
    heard = np.zeros((len(kept), len(nodes)), dtype=bool)  # whether anybody reads a writer
    for reader in reversed(graph.readers):
        at = edges[reader]
        if reader.layer is not None:
            found[:, at] &= heard[:, owners[reader]].any(axis=1, keepdims=True)
        heard[:, : at.stop - at.start] |= found[:, at]
    return found


def nodes_of_run(run: SummedRun, writer: Writer) -> list[Reader]:
    """What a writer itself reads, with the key and value that its head was seen to use."""
    if writer.kind != "head" or writer.layer is None:
        return run.graph.nodes_of(writer)
    shared = int(run.blocks.sharing(writer.layer)[:, writer.head].nonzero())
    key_value = [Reader("k", writer.layer, shared), Reader("v", writer.layer, shared)]
    return [Reader("q", writer.layer, writer.head), *key_value]


def slices_of(graph: Graph) -> dict[Reader, slice]:
    """Where each reader's edges stand among all."""
    found, begin = {}, 0
    for reader in graph.readers:
        end = begin + len(graph.before(reader))
        found[reader], begin = slice(begin, end), end
    return found


def bytes_of_runs(run: SummedRun) -> tuple[int, int]:
    """What runs hold at most: however many there are; and for each."""
    size = run.blocks.last.nbytes
    readers = max(
        (parts.heads + 2 * parts.key_value_heads for parts in run.graph.layers), default=0
    )
    return size * (4 * readers + 8), size * (len(run.graph.writers) + 8)


class CircuitRuns:
    """Runs of several circuits on the same texts.

    Args:
        run: of the whole model.
        rest: what each writer says where it is not kept.
    """

    def __init__(self, run: SummedRun, rest: Mapping[Writer, Tensor], kept: Kept) -> None:
        self.run, self.rest, self.kept, self.blocks = run, rest, kept, run.blocks
        self.graph, self.edges = run.graph, slices_of(run.graph)
        self.place = {writer: number for number, writer in enumerate(self.graph.writers)}
        last = self.blocks.last
        shape = (len(kept), len(self.place), *last.shape)
        self.less = torch.empty(shape, dtype=last.dtype, device=last.device)
        """What each writer wrote in each circuit, less what replaces it."""
        self.now = np.full(shape[:2], -1)
        """The first circuit in which it wrote the same."""
        self.bases: dict[Reader, Tensor] = {}

    def ends(self, begin: int = 0) -> Float[Tensor, "circuit batch pos d_model"]:
        """The stream that each circuit's logits read.

        Args:
            begin: the first layer that some edge is missing from; those below are the model's.
        """
        for writer in self.graph.writers:
            if writer.layer is None or writer.layer < begin:
                everyone = np.zeros(len(self.kept), dtype=int)
                self.write(writer, everyone, self.run.written[writer][None])
        for layer, parts in enumerate(self.graph.layers[begin:], start=begin):
            if parts.heads:
                self.run_attention(layer)
            if parts.mlp:
                self.run_mlp(layer)
        reader = Reader("logits")
        return torch.cat([self.streams(circuit, [reader]) for circuit in range(len(self.kept))])

    def run_attention(self, layer: int) -> None:
        """The heads of a layer: their queries, keys and values of every input that they have, then
        attention for every way in which circuits combine these."""
        readers = [
            each for each in self.graph.readers if each.layer == layer and each.head is not None
        ]
        first = {each: first_alike(self.inputs(each)) for each in readers}
        made: dict[tuple[Reader, int], Tensor] = {}
        for circuit in range(len(self.kept)):
            asked = [each for each in readers if first[each][circuit] == circuit]
            if asked:
                found = self.read(layer, circuit, asked)
                made |= {(each, circuit): value for each, value in zip(asked, found, strict=True)}
        if self.blocks.shown is not None and self.run.maps[layer] is not None:
            self.attend_by_head(layer, first, made)
        else:
            self.attend_together(layer, readers, first, made)

    def read(
        self, layer: int, circuit: int, readers: Sequence[Reader]
    ) -> list[Float[Tensor, "batch pos d_head"]]:
        """What readers of one layer make of what they get in a circuit."""
        masks = np.stack([self.kept[circuit, self.edges[each]] for each in readers])
        alike = first_alike(masks)
        once = distinct(alike)
        rows = np.searchsorted(once, alike)
        x = self.streams(circuit, [readers[number] for number in once])
        if self.blocks.shown is not None:
            return project_each(self.blocks.shown[layer], x, rows.tolist(), readers)
        kinds = [kind for kind in HEADS if any(each.kind == kind for each in readers)]
        made = self.blocks.of_streams(layer, x, kinds)
        return [
            made[each.kind][row][:, :, each.head].clone()
            for each, row in zip(readers, rows, strict=True)
        ]

    def attend_by_head(
        self,
        layer: int,
        first: Mapping[Reader, Int[np.ndarray, "circuit"]],
        made: Mapping[tuple[Reader, int], Float[Tensor, "batch pos d_head"]],
    ) -> None:
        """What each head writes, run once for each query, key and value that it has."""
        W_O = self.run.maps[layer]
        assert W_O is not None
        everywhere = list(range(self.blocks.tokens.shape[1]))
        for writer in self.graph.attention_writers(layer):
            nodes = nodes_of_run(self.run, writer)
            alike = first_alike(np.stack([first[each] for each in nodes], axis=1))
            once = distinct(alike)
            q, k, v = (
                torch.cat([made[each, first[each][circuit]] for circuit in once])[:, :, None]
                for each in nodes
            )
            z = attend_at(q, k, v, everywhere)[:, :, 0]
            self.write(writer, alike, (z @ W_O[writer.head]).unflatten(0, (len(once), -1)))

    def attend_together(
        self,
        layer: int,
        readers: Sequence[Reader],
        first: Mapping[Reader, Int[np.ndarray, "circuit"]],
        made: Mapping[tuple[Reader, int], Float[Tensor, "batch pos d_head"]],
    ) -> None:
        """The same for a layer whose heads run together, as in a model that is called whole."""
        W_O = self.run.maps[layer]
        patterns = first_alike(np.stack([first[each] for each in readers], axis=1))
        once = distinct(patterns)
        setting = {}
        for kind in HEADS:
            of_kind = [each for each in readers if each.kind == kind]
            values = [
                torch.stack([made[each, first[each][circuit]] for each in of_kind], dim=2)
                for circuit in once
            ]
            setting[kind] = torch.stack(values)
        found = self.blocks.with_values(layer, setting, "attn" if W_O is None else "z")
        row = {circuit: number for number, circuit in enumerate(once)}
        for writer in self.graph.attention_writers(layer):
            if W_O is None:
                self.write(writer, patterns, found)
                continue
            nodes = nodes_of_run(self.run, writer)
            alike = first_alike(np.stack([first[each] for each in nodes], axis=1))
            at = [row[patterns[circuit]] for circuit in distinct(alike)]
            self.write(writer, alike, found[at][:, :, :, writer.head] @ W_O[writer.head])

    def run_mlp(self, layer: int) -> None:
        reader = Reader("mlp", layer)
        alike = first_alike(self.inputs(reader))
        x = torch.cat([self.streams(circuit, [reader]) for circuit in distinct(alike)])
        if self.blocks.shown is not None:
            made = apply_mlp(self.blocks.shown[layer], x)
        else:
            made = self.blocks.of_streams(layer, x, ["mlp"])["mlp"]
        self.write(Writer("mlp", layer), alike, made)

    def inputs(self, reader: Reader) -> Int[np.ndarray, "circuit writer"]:
        """What decides a reader's input in each circuit: the values of the kept writers, -1 for
        what is replaced."""
        kept = self.kept[:, self.edges[reader]]
        return np.where(kept, self.now[:, : kept.shape[1]], -1)

    def streams(
        self, circuit: int, readers: Sequence[Reader]
    ) -> Float[Tensor, "reader batch pos d_model"]:
        """What readers of one layer, that read the same writers, see in a circuit."""
        kept = np.stack([self.kept[circuit, self.edges[each]] for each in readers])
        less = self.less[circuit, : kept.shape[1]]
        mask = torch.from_numpy(kept).to(less)
        return self.base(readers[0]) + (mask @ less.flatten(1)).unflatten(1, less.shape[1:])

    def base(self, reader: Reader) -> Float[Tensor, "batch pos d_model"]:
        """What a reader sees where nothing is kept."""
        if reader not in self.bases:
            layer = reader.layer
            stream = self.blocks.last if layer is None else self.blocks.entering[layer]
            if layer is not None and reader.kind == "mlp" and not self.blocks.is_parallel(layer):
                stream = stream + self.blocks.values[layer]["attn"]
            total = stream.clone()
            for writer in self.graph.before(reader):
                total += self.rest[writer] - self.run.written[writer]
            self.bases = {reader: total}  # readers of one layer come one after the other
        return self.bases[reader]

    def write(
        self,
        writer: Writer,
        alike: Int[np.ndarray, "circuit"],
        values: Float[Tensor, "once batch pos d_model"],
    ) -> None:
        """Notes what a writer wrote in each circuit.

        Args:
            alike: the first circuit in which it wrote the same.
            values: one for each of these, in rising order.
        """
        place = self.place[writer]
        row = np.searchsorted(distinct(alike), alike)
        for circuit, at in enumerate(row):
            torch.sub(values[at], self.rest[writer], out=self.less[circuit, place])
        self.now[:, place] = alike


def first_alike(rows: Shaped[np.ndarray, "row what"]) -> Int[np.ndarray, "row"]:
    """For each row the number of the first one that is the same."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), number) for number, row in enumerate(rows)])


def distinct(numbers: Int[np.ndarray, "row"]) -> list[int]:
    """The numbers that occur, in rising order."""
    return sorted({*numbers.tolist()})
