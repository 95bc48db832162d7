"""How does a table of edges reach other people's tools?

    to_eap_json(table, "circuit.json", d_model=384)     # EAP-IG's Graph.from_json reads it
    to_mib_json(table, "submission", task="ioi", model="gpt2", method="exact", d_model=768)
    to_graphml(table, "circuit.graphml")                # networkx, Gephi, Cytoscape
    to_csv(table, "circuit.csv")                        # for a spreadsheet, which computes nothing

Tables are those of ``edge_effects`` and ``score_edges``: a row for each edge. What an edge is worth
is its ``score``, or its ``delta`` where it has no score; whether it is in a circuit is said by
``circuit``, or by the table's column ``in_circuit``.
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import networkx
import pandas as pd

from interp.characters import escape, visible
from interp.circuits.graph import Edge, Graph, Reader, Writer, WriterKind, graph_of_sizes
from interp.errors import UsageError
from interp.report.sheets import write_csv
from interp.runs.files import write_atomically

READER = re.compile(r"(?:a(\d+)\.h(\d+)\.([qkv])|m(\d+)|logits)")
WRITER = re.compile(r"(?:a(\d+)(?:\.h(\d+))?|m(\d+)|embed|pos_embed)")
THEIRS = re.compile(r"(.+)->([^<]+)(?:<([qkv])>)?")


def to_eap_json(
    table: pd.DataFrame,
    path: str | Path,
    *,
    d_model: int,
    circuit: Collection[str | Edge] | None = None,
    graph: Graph | None = None,
) -> Path:
    """Write edges as EAP-IG's ``Graph.to_json`` does.

    Args:
        table: with ``edge``, and ``score`` or ``delta``.
        path: of the file.
        d_model: the width of the model, which the format holds.
        circuit: the edges that are in the circuit; by default what ``in_circuit`` says, or none.
        graph: of the model; needed where the table does not have all of its edges.

    Raises:
        UsageError: a graph that the format cannot hold: heads that share keys and values or cannot
            be told apart, embeddings apart, layers that differ; an edge twice, an edge that there
            is not, a score that is no number.
    """
    edges, scores, kept = graded_edges(table, circuit)
    graph = graph or graph_of_edges(edges)
    check_format(graph)
    known = {*graph.edges}
    if missing := [edge for edge in edges if edge not in known]:
        raise UsageError(f"the graph has no edge {missing[0]}")
    parts = graph.layers[0]
    used = {str(edge.writer) for edge in kept}
    content = {
        "cfg": {
            "n_layers": len(graph.layers),
            "n_heads": parts.heads,
            "parallel_attn_mlp": parts.parallel,
            "d_model": d_model,
        },
        "nodes": {
            their_part(writer): {"in_graph": writer.layer is None or str(writer) in used}
            for writer in graph.writers
        }
        | {"logits": {"in_graph": True}},
        "edges": {
            their_edge(edge): {"score": score, "in_graph": edge in kept}
            for edge, score in zip(edges, scores, strict=True)
        },
    }
    return write_atomically(Path(path), json.dumps(content, allow_nan=False).encode())


def to_mib_json(
    table: pd.DataFrame,
    folder: str | Path,
    *,
    task: str,
    model: str,
    method: str,
    d_model: int,
    ablation: str = "patching",
    circuit: Collection[str | Edge] | None = None,
    graph: Graph | None = None,
) -> Path:
    """Write the importance of edges where the MIB benchmark's evaluation looks for it:
    ``method_ablation_edge/task_model/importances.json``, in EAP-IG's format.

    Args:
        folder: that the evaluation is given as its circuits.
        task, model, method, ablation: as the benchmark calls them.
        table, d_model, circuit, graph: as for ``to_eap_json``.

    Raises:
        UsageError: a name that is no name of a folder; what ``to_eap_json`` raises.
    """
    for name in (task, model, method, ablation):
        if not re.fullmatch(r"[\w.+-]+", name) or not name.strip("."):
            raise UsageError(
                f"{name!r} is to be part of a folder's name: use letters, digits, -, _, + and dots"
            )
    where = Path(folder) / f"{method}_{ablation}_edge" / f"{task.replace('_', '-')}_{model}"
    return to_eap_json(
        table, where / "importances.json", d_model=d_model, circuit=circuit, graph=graph
    )


def from_eap_json(path: str | Path) -> pd.DataFrame:
    """Read what ``to_eap_json`` or EAP-IG wrote: ``edge writer reader kind layer head from_layer
    from_head score in_circuit``, a row for each edge.

    Raises:
        UsageError: the file cannot be read, or is no such file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        config, held = content["cfg"], content["edges"]
        graph = graph_of_sizes(
            int(config["n_layers"]), int(config["n_heads"]), parallel=config["parallel_attn_mlp"]
        )
        edges = [graph.edge(our_edge(name)) for name in held]
        table = pd.DataFrame({"edge": [str(edge) for edge in edges]})
        table = table.assign(**ends_of(edges))
        table["score"] = [float(each["score"]) for each in held.values()]
        table["in_circuit"] = [bool(each["in_graph"]) for each in held.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is no graph as EAP-IG writes it ({type(error).__name__}: {error})"
        ) from error
    return table


def to_graphml(
    table: pd.DataFrame, path: str | Path, *, circuit: Collection[str | Edge] | None = None
) -> Path:
    """Write edges as GraphML.

    A node is a writer or a reader, by its name; a head's query, key and value are nodes of their
    own. Each edge has ``score``, ``in_circuit`` and every other column of the table. Edges of
    ``kind`` ``within`` lead from what a part reads to what it writes.

    Args:
        table, circuit: as for ``to_eap_json``.

    Raises:
        UsageError: an edge that is not written as one, or twice; a score that is no number.
    """
    edges, scores, kept = graded_edges(table, circuit)
    graph = networkx.DiGraph()
    for edge in edges:
        for part in (edge.writer, edge.reader):
            graph.add_node(str(part), **facts_of(part))
    for writer in dict.fromkeys(edge.writer for edge in edges):
        for kind in ("q", "k", "v"):
            reader = f"{writer}.{kind}"
            if reader in graph and writer.kind == "head":
                graph.add_edge(reader, str(writer), kind="within")
    rows = table.drop(columns=["edge", "writer", "reader", "score", "in_circuit"], errors="ignore")
    for edge, score, row in zip(edges, scores, rows.to_dict("records"), strict=True):
        known = {in_xml(str(name)): plain_value(value) for name, value in row.items()}
        known = {name: value for name, value in known.items() if value is not None}
        known |= {"kind": edge.reader.kind, "score": score, "in_circuit": edge in kept}
        graph.add_edge(str(edge.writer), str(edge.reader), **known)
    return write_atomically(Path(path), "\n".join(networkx.generate_graphml(graph)).encode())


def from_graphml(path: str | Path) -> pd.DataFrame:
    """Read what ``to_graphml`` wrote, in the columns of ``from_eap_json``.

    Raises:
        UsageError: the file cannot be read, or holds other nodes.
    """
    try:
        graph = networkx.read_graphml(path)
        found = [
            (parse_edge(f"{one} -> {other}"), facts)
            for one, other, facts in graph.edges(data=True)
            if facts.get("kind") != "within"
        ]
    except (OSError, ValueError, KeyError, networkx.NetworkXError, SyntaxError) as error:
        raise UsageError(f"{path} is no graph of edges ({error})") from error
    edges = [edge for edge, _ in found]
    table = pd.DataFrame({"edge": [str(edge) for edge in edges]}).assign(**ends_of(edges))
    table["score"] = [float(facts["score"]) for _, facts in found]
    table["in_circuit"] = [bool(facts["in_circuit"]) for _, facts in found]
    return table


def to_csv(
    table: pd.DataFrame, path: str | Path, *, circuit: Collection[str | Edge] | None = None
) -> Path:
    """Write all of a table for a spreadsheet, which computes no cell of it, with ``in_circuit``.

    Args:
        table, circuit: as for ``to_eap_json``.

    Raises:
        UsageError: as ``to_graphml``; the file cannot be written.
    """
    edges, _, kept = graded_edges(table, circuit)
    return write_csv(Path(path), table.assign(in_circuit=[edge in kept for edge in edges]))


def graded_edges(
    table: pd.DataFrame, circuit: Collection[str | Edge] | None
) -> tuple[list[Edge], list[float], set[Edge]]:
    """A table's edges, what each is worth, and which of them are in a circuit."""
    column = next((name for name in ("score", "delta") if name in table), None)
    if "edge" not in table or column is None:
        raise UsageError(
            f"a table of edges has columns edge and score, or delta; this one has {list(table)}"
        )
    edges = [parse_edge(text) for text in table["edge"]]
    if len({*edges}) < len(edges):
        twice = next(edge for edge in edges if edges.count(edge) > 1)
        raise UsageError(f"{twice} has several rows: give one table for each meaning or method")
    scores = [float(value) for value in table[column]]
    if wrong := [e for e, score in zip(edges, scores, strict=True) if not math.isfinite(score)]:
        raise UsageError(f"the {column} of {wrong[0]} is no number, and the file would be no graph")
    if circuit is None:
        flags = table["in_circuit"] if "in_circuit" in table else [False] * len(edges)
        return edges, scores, {e for e, kept in zip(edges, flags, strict=True) if bool(kept)}
    kept = {parse_edge(str(each)) for each in circuit}
    if unknown := kept - {*edges}:
        raise UsageError(f"the circuit holds {min(map(str, unknown))}, which the table does not")
    return edges, scores, kept


def parse_edge(text: str) -> Edge:
    """An edge as it is written; whether a model has it is not asked. Raises ``UsageError``."""
    ends = [end.strip() for end in str(text).split("->")]
    writer = WRITER.fullmatch(ends[0])
    reader = READER.fullmatch(ends[1]) if len(ends) == 2 else None
    if writer is None or reader is None:
        raise UsageError(f"{text!r} is no edge: write it as a1.h2 -> a3.h0.k")
    layer, head, mlp = writer.groups()
    if layer is not None:
        kind: WriterKind = "attn" if head is None else "head"
        made = Writer(kind, int(layer), None if head is None else int(head))
    else:
        made = Writer(ends[0]) if mlp is None else Writer("mlp", int(mlp))  # type: ignore[arg-type]
    layer, head, letter, mlp = reader.groups()
    if layer is not None:
        return Edge(made, Reader(letter, int(layer), int(head)))  # type: ignore[arg-type]
    return Edge(made, Reader("logits") if mlp is None else Reader("mlp", int(mlp)))


def graph_of_edges(edges: Sequence[Edge]) -> Graph:
    """The graph whose edges these are, all of them.

    Raises:
        UsageError: they are not all edges of any graph whose layers are alike.
    """
    ends = [part for edge in edges for part in (edge.writer, edge.reader)]
    layers = 1 + max((part.layer for part in ends if part.layer is not None), default=-1)
    heads = 1 + max((part.head for part in ends if part.head is not None), default=-1)
    split = any(edge.writer.kind == "pos_embed" for edge in edges)
    for parallel in (False, True):
        for shared in (each for each in range(heads, 0, -1) if heads % each == 0):
            found = graph_of_sizes(
                max(layers, 1), heads, shared, parallel=parallel, split_embed=split
            )
            if {*found.edges} == {*edges}:
                return found
    raise UsageError(
        f"the table has {len(edges)} edges, which are not all of a model with {layers} layers of "
        f"{heads} heads: give graph=, as take_apart(model, tokens).graph"
    )


def check_format(graph: Graph) -> None:
    """Raises ``UsageError`` where EAP-IG's format cannot hold a graph."""
    parts = graph.layers[0]
    why = ""
    if len({*graph.layers}) > 1:
        why = "its layers differ"
    elif graph.split_embed:
        why = "its embeddings are two writers"
    elif parts.key_value_heads != parts.heads:
        why = f"{parts.heads} heads share {parts.key_value_heads} keys and values"
    elif not parts.apart:
        why = "what its heads write cannot be told apart"
    elif not parts.mlp:
        why = "its layers have no MLPs"
    if why:
        raise UsageError(f"EAP-IG's format cannot hold this graph, for {why}; GraphML and CSV can")


def their_part(writer: Writer) -> str:
    return "input" if writer.kind == "embed" else str(writer)


def their_edge(edge: Edge) -> str:
    """``a0.h1->a1.h0<k>``."""
    reader = edge.reader
    name = f"a{reader.layer}.h{reader.head}<{reader.kind}>" if reader.kind in "qkv" else str(reader)
    return f"{their_part(edge.writer)}->{name}"


def our_edge(name: str) -> str:
    matched = THEIRS.fullmatch(name)
    if matched is None:
        raise ValueError(f"{name!r} is no edge")
    writer, reader, kind = matched.groups()
    return f"{'embed' if writer == 'input' else writer} -> {reader}{f'.{kind}' if kind else ''}"


def ends_of(edges: Sequence[Edge]) -> dict[str, Any]:
    """The columns that say which parts edges are between."""
    return {
        "writer": [str(edge.writer) for edge in edges],
        "reader": [str(edge.reader) for edge in edges],
        "kind": [edge.reader.kind for edge in edges],
        "layer": pd.array([edge.reader.layer for edge in edges], dtype="Int64"),
        "head": pd.array([edge.reader.head for edge in edges], dtype="Int64"),
        "from_layer": pd.array([edge.writer.layer for edge in edges], dtype="Int64"),
        "from_head": pd.array([edge.writer.head for edge in edges], dtype="Int64"),
    }


def facts_of(part: Writer | Reader) -> dict[str, Any]:
    """What a node says of itself."""
    facts = {"part": part.kind, "layer": part.layer, "head": part.head}
    return {name: value for name, value in facts.items() if value is not None}


def plain_value(value: Any) -> Any:
    """A cell as GraphML can hold it; None where it is empty, and is left out."""
    if value is None or value is pd.NA or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return value if isinstance(value, (bool, int, float)) else in_xml(str(value))


def in_xml(text: str) -> str:
    """Text without characters that no XML may hold: they are written as escapes."""
    return re.sub("[\ufffe\uffff]", lambda match: escape(match[0]), visible(text))
