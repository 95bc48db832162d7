"""How do several circuits run together?

    values = CircuitRuns(run, rest, circuits).ends()    # [circuit batch pos d_model]

Layer by layer; what two circuits have in common, such as their first layers, is run once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.circuits.contributions import SummedRun
from interp.circuits.graph import Edge, Reader, Writer
from interp.circuits.reading import BlockReader

Circuit = frozenset[Edge]


def bytes_of_one(run: SummedRun) -> int:
    """What a circuit that runs with others holds at most: what its writers wrote, twice, and what
    one layer's readers take and make of it."""
    size = run.blocks.last.nbytes
    readers = max(
        (2 * parts.key_value_heads + parts.heads for parts in run.graph.layers), default=0
    )
    return size * (2 * len(run.graph.writers) + 4 * readers + 8)


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

    def ends(self, begin: int = 0) -> Float[Tensor, "circuit batch pos d_model"]:
        """The stream that each circuit's logits read.

        Args:
            begin: the first layer that some edge is missing from; those below are the model's.
        """
        graph = self.run.graph
        for writer in graph.writers:
            if writer.layer is None or writer.layer < begin:
                self.write(writer, ["whole"] * self.count, {"whole": self.run.written[writer]})
        for layer, parts in enumerate(graph.layers[begin:], start=begin):
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
