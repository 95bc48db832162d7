"""Which parts of a model can hand something to which?

A writer adds to the residual stream: the embedding, a head, an MLP. A reader takes from it: a
head's query, key or value, an MLP, the logits. An edge is a writer and a later reader.

    graph = graph_of_sizes(layers=6, heads=6)
    len(graph.edges)                          # 2188
    edge = graph.edge("a1.h2 -> a3.h0.k")     # the key of head 3.0 reads what head 1.2 wrote
    str(edge)                                 # "a1.h2 -> a3.h0.k"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from interp.errors import UsageError, nearest

WriterKind = Literal["embed", "pos_embed", "head", "attn", "mlp"]
ReaderKind = Literal["q", "k", "v", "mlp", "logits"]
ARROW = " -> "


@dataclass(frozen=True)
class Writer:
    """A part that adds to the residual stream.

    Args:
        kind: ``attn`` is all heads of a layer together, where they cannot be told apart.
        layer: None for embeddings.
        head: of ``head``.
    """

    kind: WriterKind
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        if self.kind == "head":
            return f"a{self.layer}.h{self.head}"
        if self.kind in ("attn", "mlp"):
            return f"{self.kind[0]}{self.layer}"
        return self.kind


@dataclass(frozen=True)
class Reader:
    """A part that takes from the residual stream.

    Args:
        kind: ``q``, ``k`` and ``v`` of a head, an MLP, or the logits.
        layer: None for the logits.
        head: of ``q``, ``k`` and ``v``; where query heads share keys and values, the number of the
            shared one.
    """

    kind: ReaderKind
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        if self.kind == "logits":
            return "logits"
        return f"m{self.layer}" if self.kind == "mlp" else f"a{self.layer}.h{self.head}.{self.kind}"


@dataclass(frozen=True)
class Edge:
    """What a writer adds to the residual stream, as one reader sees it."""

    writer: Writer
    reader: Reader

    def __str__(self) -> str:
        return f"{self.writer}{ARROW}{self.reader}"


@dataclass(frozen=True)
class LayerParts:
    """What one layer has.

    Args:
        heads: query heads; 0 where there is no attention.
        key_value_heads: how many keys and values they share.
        mlp: whether there is one.
        parallel: whether the MLP reads what the attention reads, and not what it wrote.
        apart: whether what each head writes can be told; else all of them are one writer.
    """

    heads: int
    key_value_heads: int
    mlp: bool = True
    parallel: bool = False
    apart: bool = True


@dataclass(frozen=True)
class Graph:
    """All writers, readers and edges of a model, in the order in which they run."""

    layers: tuple[LayerParts, ...]
    split_embed: bool = False

    def __str__(self) -> str:
        writers, readers = len(self.writers), len(self.readers)
        return f"{len(self.edges):,} edges from {writers:,} writers to {readers:,} readers"

    @cached_property
    def writers(self) -> tuple[Writer, ...]:
        found = [*self.embeddings]
        for layer in range(len(self.layers)):
            found += [*self.attention_writers(layer), *self.mlp_writers(layer)]
        return tuple(found)

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        found = []
        for layer, parts in enumerate(self.layers):
            found += [Reader("q", layer, head) for head in range(parts.heads)]
            shared = range(parts.key_value_heads if parts.heads else 0)
            found += [Reader(kind, layer, head) for kind in KEY_VALUE for head in shared]
            found += [Reader("mlp", layer)] if parts.mlp else []
        return (*found, Reader("logits"))

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """By reader, and for each by writer."""
        return tuple(Edge(w, reader) for reader in self.readers for w in self.before(reader))

    @cached_property
    def places(self) -> dict[Edge, int]:
        """Where each edge stands among all."""
        return {edge: place for place, edge in enumerate(self.edges)}

    @property
    def embeddings(self) -> tuple[Writer, ...]:
        return (Writer("embed"), *([Writer("pos_embed")] if self.split_embed else []))

    def attention_writers(self, layer: int) -> list[Writer]:
        parts = self.layers[layer]
        if not parts.heads:
            return []
        if not parts.apart:
            return [Writer("attn", layer)]
        return [Writer("head", layer, head) for head in range(parts.heads)]

    def mlp_writers(self, layer: int) -> list[Writer]:
        return [Writer("mlp", layer)] if self.layers[layer].mlp else []

    def before(self, reader: Reader) -> tuple[Writer, ...]:
        """The writers whose sum a reader takes, in their order."""
        if reader.layer is None:
            return self.writers
        end = sum(
            len(self.attention_writers(each)) + len(self.mlp_writers(each))
            for each in range(reader.layer)
        ) + len(self.embeddings)
        if reader.kind == "mlp" and not self.layers[reader.layer].parallel:
            end += len(self.attention_writers(reader.layer))
        return self.writers[:end]

    def nodes_of(self, writer: Writer) -> list[Reader]:
        """What a writer itself reads: of a head its query, and its key and value, which it may
        share with others; nothing of an embedding."""
        if writer.layer is None:
            return []
        if writer.kind == "mlp":
            return [Reader("mlp", writer.layer)]
        parts = self.layers[writer.layer]
        heads = range(parts.heads) if writer.head is None else [writer.head]
        found = [Reader("q", writer.layer, head) for head in heads]
        shared = dict.fromkeys(head * parts.key_value_heads // parts.heads for head in heads)
        return [*found, *(Reader(k, writer.layer, head) for k in KEY_VALUE for head in shared)]

    def writer(self, text: str) -> Writer:
        """The writer that is called so. Raises ``UsageError`` where there is none."""
        if text not in self._writers:
            raise UsageError(
                f"this model has no writer {text!r}; nearest: {nearest(text, self._writers)}"
            )
        return self._writers[text]

    def reader(self, text: str) -> Reader:
        """The reader that is called so. Raises ``UsageError`` where there is none."""
        if text not in self._readers:
            raise UsageError(
                f"this model has no reader {text!r}; nearest: {nearest(text, self._readers)}"
            )
        return self._readers[text]

    def edge(self, text: "str | Edge") -> Edge:
        """The edge that is written so: ``a1.h2 -> a3.h0.k``.

        Raises:
            UsageError: it is not written so, there is no such writer or reader, or the writer comes
                after the reader.
        """
        text = str(text)
        if text in self._edges:
            return self._edges[text]
        ends = [end.strip() for end in text.split("->")]
        if len(ends) != 2:
            raise UsageError(
                f"{text!r} is no edge: write it as a writer and a reader, such as a1.h2 -> a3.h0.k"
            )
        edge = Edge(self.writer(ends[0]), self.reader(ends[1]))
        if edge not in self.places:
            last = self.before(edge.reader)[-1]
            raise UsageError(
                f"{edge} is no edge: {edge.reader} reads nothing that is written after {last}"
            )
        return edge

    @cached_property
    def _edges(self) -> dict[str, Edge]:
        return {str(edge): edge for edge in self.edges}

    @cached_property
    def _writers(self) -> dict[str, Writer]:
        return {str(writer): writer for writer in self.writers}

    @cached_property
    def _readers(self) -> dict[str, Reader]:
        return {str(reader): reader for reader in self.readers}


KEY_VALUE: Sequence[Literal["k", "v"]] = ("k", "v")


def graph_of_sizes(
    layers: int,
    heads: int,
    key_value_heads: int | None = None,
    *,
    mlp: bool = True,
    parallel: bool = False,
    split_embed: bool = False,
) -> Graph:
    """The graph of a model whose layers are all alike.

    Args:
        layers: how many.
        heads: query heads of each.
        key_value_heads: keys and values that they share; by default each head has its own.
        mlp: whether layers have MLPs.
        parallel: whether an MLP reads the stream before its layer's attention adds to it.
        split_embed: the position embedding as a writer of its own.

    Raises:
        UsageError: no layers, or heads that cannot share so many keys and values.
    """
    shared = heads if key_value_heads is None else key_value_heads
    if layers < 1 or heads < 0 or (heads and (shared < 1 or heads % shared)):
        raise UsageError(
            f"a graph of {layers} layers, {heads} heads and {shared} keys and values for them "
            "cannot be: it needs a layer, and heads that share keys and values evenly"
        )
    parts = LayerParts(heads, shared, mlp, parallel)
    return Graph((parts,) * layers, split_embed)
