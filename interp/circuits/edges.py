"""What does each edge of a model do, alone, and exactly?

    table = edge_effects(model, clean, corrupted, metric)
    table.sort_values("delta", key=abs).tail(10)[["edge", "delta", "ci_low", "ci_high"]]

The residual stream is a sum, so that patching an edge changes what one reader takes from it by what
its writer adds in the one run less what it adds in the other. The reader's own norm sees the
changed stream: nothing is frozen there. Two meanings:

- *open*: everything after the reader follows, as in ACDC;
- *direct*: what the reader writes goes to the logits alone, through the last norm; all other parts
  stay as they are (path patching).

Each is one value at one hook point, and so an intervention: ``interp.sweep`` runs them, with its
proofs, its store and its receipts.
"""

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.contributions import SummedRun
from interp.circuits.graph import Edge, Graph, Reader, ReaderKind, Writer
from interp.circuits.measuring import (
    HELD,
    Measured,
    Patched,
    PatchEdge,
    end_site,
    measure_patches,
)
from interp.circuits.pairs import Direction, RunPair, take_pair
from interp.circuits.reading import KINDS
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.metrics import Metric, metric_name
from interp.runs.workers import Elsewhere
from interp.site import Model, Site, source_lines
from interp.sweeps.resuming.answers import RowStore
from interp.threads import quickest_threads
from interp.verdicts import intervals_over_texts

Meaning = Literal["open", "direct"]


def edge_effects(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    *,
    meaning: Meaning = "open",
    edges: Sequence[str | Edge] | None = None,
    direction: Direction = "corrupted into clean",
    split_embed: bool = False,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> pd.DataFrame:
    """Every edge alone, in one table.

    Args:
        model: our GPT, TransformerLens' bridge, or a view by ``interp.hook_lines``.
        clean: texts that the model answers.
        corrupted: the same number of texts of the same length, changed in what matters.
        metric: of the patched logits; its tokens are the clean ones in every run.
        meaning: ``open``, everything after the reader follows; ``direct``, the reader's answer goes
            to the logits alone.
        edges: which ones, as they are written; ``*`` stands for anything. All by default.
        direction: which run's values are put into which.
        split_embed: the position embedding as a writer of its own.
        progress: show a bar.
        run, elsewhere: as for ``interp.sweep.sweep``.

    Returns:
        One row per edge: ``edge writer reader meaning direction``; the reader's ``kind``, ``layer``
        and ``head``, the writer's ``from_layer`` and ``from_head``; ``metric``, ``baseline``,
        ``value`` and ``delta``, means over examples, with the delta's interval and ``p_adjusted``
        as ``interp.sweep.sweep`` has them; ``changed`` numbers and ``skipped``, where the change
        cannot reach what the metric reads; ``n`` examples; ``file line code`` of the writer and
        ``reader_file reader_line reader_code``.

    Raises:
        UsageError: texts of different shape or the same ones; an edge that there is not; a model
            whose parts do not sum to its residual stream, or are not named.
        NonFiniteError: a metric that is not a number.
    """
    with evaluating(model), quickest_threads(model):
        pair = take_pair(model, clean, corrupted, direction, split_embed)
        chosen = choose_edges(pair.graph, edges)
        found = measure_edges(
            *(pair, chosen, metric, meaning), progress=progress, run=run, elsewhere=elsewhere
        )
        lines = source_lines(model, clean[:1])
    table = edges_table(pair, chosen, found, lines)
    table.insert(3, "meaning", meaning)
    table.insert(4, "direction", direction)
    table.insert(list(table).index("baseline"), "metric", metric_name(metric))
    return table


def choose_edges(graph: Graph, edges: Sequence[str | Edge] | None) -> list[Edge]:
    """The edges that are meant, in the graph's order where all are, else as they are given.

    Raises:
        UsageError: none, or one that there is not.
    """
    if edges is None:
        return list(graph.edges)
    if isinstance(edges, str | Edge):
        edges = [edges]
    found: dict[Edge, None] = {}
    for each in edges:
        if isinstance(each, str) and "*" in each:
            pattern = " -> ".join(end.strip() for end in each.split("->"))
            matched = [edge for edge in graph.edges if fnmatchcase(str(edge), pattern)]
            if not matched:
                raise UsageError(f"no edge of this model is like {each!r}; it has {graph}")
            found |= dict.fromkeys(matched)
        else:
            found[graph.edge(each)] = None
    if not found:
        raise UsageError("there are no edges to patch: name at least one")
    return list(found)


def measure_edges(
    pair: RunPair,
    edges: Sequence[Edge],
    metric: Metric,
    meaning: Meaning = "open",
    *,
    progress: bool = False,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> Measured:
    """What ``edge_effects`` tells, example by example."""
    if meaning not in get_args(Meaning):
        raise UsageError(f"meaning is {meaning!r}; it must be 'open' or 'direct'")
    options = {"progress": progress, "run": run, "elsewhere": elsewhere}
    if meaning == "open":
        return measure_patches(pair, open_patches(pair, edges), metric, options)
    end = end_site(pair, metric)
    return measure_patches(pair, direct_patches(pair, edges, end), metric, options)


def open_patches(pair: RunPair, edges: Sequence[Edge]) -> Iterator[tuple[int, Patched]]:
    """Each edge's number, and the value of its reader that it makes."""
    blocks = pair.patched.blocks
    for layer, kinds, writers, asked in by_reading(pair, edges):
        deltas = torch.stack([pair.deltas[writer] for writer in writers])
        if layer is None:
            for number, edge in asked:
                delta = pair.deltas[edge.writer]
                yield number, (Site(pair.end), PatchEdge(str(edge), delta))
            continue
        made = blocks.changes(layer, deltas, kinds)
        place = {writer: row for row, writer in enumerate(writers)}
        for number, edge in asked:
            kind, head = edge.reader.kind, edge.reader.head
            change = made[kind][place[edge.writer]]
            if head is not None:
                change = change[:, :, head : head + 1]
            site = Site(f"blocks.{layer}.{KINDS[kind]}", head=head)
            change = blocks.as_made(layer, kind, change).clone()
            yield number, (site, PatchEdge(str(edge), change))


def direct_patches(
    pair: RunPair, edges: Sequence[Edge], end: Site
) -> Iterator[tuple[int, Patched]]:
    """Each edge's number, and what its reader adds to the stream that the logits read."""
    run = pair.patched
    at = slice(None) if end.pos is None else slice(end.pos, end.pos + 1)
    for layer, kinds, writers, asked in by_reading(pair, edges):
        deltas = torch.stack([pair.deltas[writer] for writer in writers])
        read = {}
        if layer is None:
            read["logits"] = deltas[:, :, at]
        elif "mlp" in kinds and end.pos is not None:
            read["mlp"] = run.blocks.mlp_changes_at(layer, deltas, end.pos)
        elif "mlp" in kinds:
            read["mlp"] = run.blocks.changes(layer, deltas, kinds)["mlp"]
        else:
            for kind, change in run.blocks.changes(layer, deltas, kinds).items():
                read[kind] = run.blocks.effects_inside(layer, kind, change, "z", end.pos)
        place = {writer: row for row, writer in enumerate(writers)}
        for number, edge in asked:
            row, reader = place[edge.writer], edge.reader
            change = read[reader.kind][row : row + 1]
            if reader.head is not None:
                change = write_read(run, reader, change)
            yield number, (end, PatchEdge(str(edge), change[0].clone()))


def write_read(
    run: SummedRun, reader: Reader, read: Float[Tensor, "change batch some head d_head"]
) -> Float[Tensor, "change batch some d_model"]:
    """What a reader's heads write, of a change in what all heads of its layer read out."""
    assert reader.layer is not None and reader.head is not None
    sharing = run.blocks.sharing(reader.layer)
    heads = [reader.head]
    if reader.kind != "q":
        heads = sharing[reader.head].nonzero().flatten().tolist()
    W_O = run.maps[reader.layer]
    if W_O is not None:
        return read[..., heads, :].flatten(-2) @ W_O[heads].flatten(0, 1)
    alone = torch.zeros_like(read)
    alone[..., heads, :] = read[..., heads, :]
    return run.blocks.effects_inside(reader.layer, "z", alone, "attn")


def by_reading(
    pair: RunPair, edges: Sequence[Edge]
) -> Iterator[tuple[int | None, list[ReaderKind], list[Writer], list[tuple[int, Edge]]]]:
    """Edges that one run of one layer answers: the layer, None for the logits; the kinds of reader;
    the writers; and the edges with their numbers."""
    groups: dict[tuple[int | None, bool], list[tuple[int, Edge]]] = {}
    for number, edge in enumerate(edges):
        key = (edge.reader.layer, edge.reader.kind == "mlp")
        groups.setdefault(key, []).append((number, edge))
    size = next(iter(pair.deltas.values())).nbytes
    most = max(1, HELD // (4 * size))
    ordered = sorted(groups, key=lambda key: (key[0] is None, key[0] or 0, key[1]))
    for layer, mlp in ordered:
        asked = groups[layer, mlp]
        writers = list(dict.fromkeys(edge.writer for _, edge in asked))
        for begin in range(0, len(writers), most):
            some = writers[begin : begin + most]
            theirs = [(number, edge) for number, edge in asked if edge.writer in set(some)]
            kinds = list(dict.fromkeys(edge.reader.kind for _, edge in theirs))
            yield layer, kinds, some, theirs


def edges_table(
    pair: RunPair, edges: Sequence[Edge], found: Measured, lines: dict[str, Any]
) -> pd.DataFrame:
    """One row per edge, as ``edge_effects`` returns them."""
    deltas = found.values - found.baseline
    table = name_edges(edges)
    table["baseline"] = found.baseline.mean()
    table["value"] = found.values.mean(axis=1)
    table["delta"] = deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["changed"], table["skipped"] = found.changed, found.skipped
    table["n"] = len(found.baseline)
    return add_lines(table, edges, lines)


def name_edges(edges: Sequence[Edge]) -> pd.DataFrame:
    """One row per edge: how it is written, and what its ends are."""
    return pd.DataFrame(
        {
            "edge": [str(edge) for edge in edges],
            "writer": [str(edge.writer) for edge in edges],
            "reader": [str(edge.reader) for edge in edges],
            "kind": [edge.reader.kind for edge in edges],
            "layer": pd.array([edge.reader.layer for edge in edges], dtype="Int64"),
            "head": pd.array([edge.reader.head for edge in edges], dtype="Int64"),
            "from_layer": pd.array([edge.writer.layer for edge in edges], dtype="Int64"),
            "from_head": pd.array([edge.writer.head for edge in edges], dtype="Int64"),
        }
    )


def add_lines(table: pd.DataFrame, edges: Sequence[Edge], lines: dict[str, Any]) -> pd.DataFrame:
    """The same table with the source lines of both ends."""
    hooks = {
        "": [writer_hook(edge.writer) for edge in edges],
        "reader_": [reader_hook(edge.reader, lines) for edge in edges],
    }
    for prefix, names in hooks.items():
        sources = [lines.get(name) for name in names]
        table[f"{prefix}file"] = [source.file if source else "" for source in sources]
        numbers = [source.line if source else None for source in sources]
        table[f"{prefix}line"] = pd.array(numbers, dtype="Int64")
        table[f"{prefix}code"] = [source.code if source else "" for source in sources]
    return table


def writer_hook(writer: Writer) -> str:
    """The hook point of what a writer, with others of its layer, adds to the stream."""
    if writer.layer is None:
        return f"hook_{writer.kind}"
    return f"blocks.{writer.layer}.hook_{'mlp' if writer.kind == 'mlp' else 'attn'}_out"


def reader_hook(reader: Reader, lines: Collection[str]) -> str:
    """The hook point of what a reader makes of the stream, of those whose line is known."""
    if reader.layer is None:  # bridges and views call it as the second
        return "hook_logits" if "hook_logits" in lines else "unembed.hook_out"
    return f"blocks.{reader.layer}.{KINDS[reader.kind]}"
