"""How does a circuit look, as a graph from the embedding at the bottom to the logits at the top?

    run.save_figure(edge_graph(edge_effects(model, clean, corrupted, metric)), "edges")

Nothing is computed here: which edges have an effect is the verdict of their rows.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from interp.edge_looks import (
    edge_sentence,
    largest_effect,
    metric_of,
    one_meaning,
    opacity_of,
    strongest_edges,
)
from interp.errors import UsageError, nearest
from interp.figures.source import records_of
from interp.figures.style import (
    CODE_LINE,
    DASHES,
    DIVERGING,
    MONO,
    SAVED,
    WIDTH,
    drawable,
    finish_layout,
    name_lines,
    print_style,
    prose,
    require,
)
from interp.verdicts import Verdict, verdicts_of

NEEDED = ["edge", "writer", "reader", "kind", "layer", "head", "from_layer", "from_head"]
BOX = 0.66  # of the room that a head has
PORTS = {"q": -0.2, "k": 0.0, "v": 0.2}  # where a head's inputs are, from its middle
SHARED_PORTS = {"k": -0.18, "v": 0.18}
LETTERED = 14  # heads of a layer, above which the inputs are too small for letters
ALL_ROWS = 30  # above which rows without an edge are left out
NAMED = 10  # edges that are named below
FALLS, RISES = DIVERGING(0.0), DIVERGING(1.0)
ARRIVE = "an arc ends at a head's query (left), key (middle) or value (right)"
SHARED = "; heads that share keys and values have them below"


def edge_graph(
    table: pd.DataFrame,
    title: str = "",
    *,
    edges: Iterable[str] | None = None,
    unit: str = "nats",
    at_most: int = 60,
) -> Figure:
    """Edges as arcs between parts, layer over layer, the more opaque the larger the effect.

    Args:
        table: what ``interp.circuits.edge_effects`` returns, of one meaning.
        title: the hypothesis.
        edges: those of a circuit: they are drawn whatever each does alone. Otherwise those that
            have an effect, the largest first.
        unit: of the metric.
        at_most: how many are drawn, those of the largest effect.

    Raises:
        UsageError: a column is missing; no edge; edges of two meanings; an edge that the table
            lacks.
    """
    require(table, [*NEEDED, "delta"])
    meaning = one_meaning(table)
    if table.empty:
        raise UsageError("the table has no edges to draw")
    chosen, note = choose_drawn(table, edges, at_most)
    chart = Chart.of(table, chosen)
    top = largest_effect(chosen)
    metric = prose(metric_of(table))
    title = title or f"Which part tells which, for {metric} ({meaning})"
    listed = [
        f"{row['edge']}  {edge_sentence(row, unit)}" for row in records_of(chosen.head(NAMED))
    ]
    lines = name_ends(chosen)
    with print_style():
        height = 0.9 + 0.36 * len(chart.rows) + (3 + len(listed) + len(lines)) * CODE_LINE * 1.2
        figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=SAVED)
        axes = figure.subplots()
        draw_parts(axes, chart, chosen)
        for row in records_of(chosen[::-1]):  # the strongest last, on top
            draw_edge(axes, chart, row, opacity_of(row["delta"], top))
        axes.set_yticks(range(len(chart.rows)), [row_name(row) for row in chart.rows], size=7)
        axes.set_xticks([])
        axes.tick_params(left=False)
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlim(-0.6, chart.heads + 0.9)
        axes.set_ylim(-0.5, len(chart.rows) - 0.5)
        falls = Line2D([], [], color=FALLS, label=f"with the edge patched, {metric} falls")
        rises = Line2D([], [], color=RISES, linestyle=DASHES, label=f"{metric} rises")
        keys = [key for key, there in zip((falls, rises), signs_of(chosen), strict=True) if there]
        axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=7)
        strength = f"; opacity: size of the effect, up to {top:.3g} {unit}" if top else ""
        said = [note + strength, ARRIVE + (SHARED if chart.shared else ""), *listed, *lines]
        text = "\n".join(drawable(line, MONO) for line in said)
        label = figure.supxlabel(text, size=6.5, color="0.3", x=0.01, ha="left", family=MONO)
        label.set_linespacing(1.3)
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def choose_drawn(
    table: pd.DataFrame, edges: Iterable[str] | None, at_most: int
) -> tuple[pd.DataFrame, str]:
    """The rows that are drawn, the strongest first, and which they are in words."""
    verdicts = verdicts_of(table)
    if edges is not None:
        asked, known = list(edges), set(table["edge"])
        unknown = [edge for edge in asked if edge not in known]
        if unknown:
            raise UsageError(
                f"the table has no edge {unknown[0]!r}; nearest: "
                f"{nearest(unknown[0], list(table['edge']))}"
            )
        kept, said = table[table["edge"].isin(asked)], "edges of the circuit"
    elif len(table) and (verdicts == Verdict.UNKNOWN).all():
        kept, said = table, "edges; of fewer than three texts none is known to differ from zero"
    else:
        kept = table[[verdict.is_effect for verdict in verdicts]]
        said = "edges with an effect that shows"
    drawn = strongest_edges(kept, at_most)
    if kept.empty:
        return drawn, f"none of {len(table):,} edges has an effect that shows"
    few = len(kept) > len(drawn)
    first = f"the {len(drawn)} strongest of " if few else ""
    return drawn, f"{first}{len(kept):,} {said}, of {len(table):,}"


Row = tuple[str, int | None]  # embed, heads, mlp or logits; the layer


class Chart(NamedTuple):
    """Where each part stands: rows from the bottom; heads and MLPs that the table knows."""

    rows: list[Row]
    heads: int
    parts: dict[Row, set[int]]
    shared: dict[int, int]  # layers in which heads share keys and values: how many heads each

    @staticmethod
    def of(table: pd.DataFrame, chosen: pd.DataFrame) -> "Chart":
        parts: dict[Row, set[int]] = {}
        touched: set[Row] = set()
        for among, used in ((table, False), (chosen, True)):
            writers = among[["writer", "from_layer", "from_head"]].drop_duplicates()
            readers = among[["reader", "kind", "layer", "head"]].drop_duplicates()
            places = [
                *map(writer_place, records_of(writers)),
                *map(reader_place, records_of(readers)),
            ]
            for where, head in places:
                parts.setdefault(where, set()).update({head} if head >= 0 else ())
                touched |= {where} if used else set()
        shared = {}
        for layer, readers in table[table["head"].notna()].groupby("layer"):
            counts = {
                kind: len(set(readers.loc[readers["kind"] == kind, "head"])) for kind in PORTS
            }
            if counts["k"] == counts["v"] and 0 < counts["k"] < counts["q"]:
                shared[int(str(layer))] = counts["q"] // counts["k"]
        rows = sorted(parts, key=order_of)
        if len(rows) > ALL_ROWS:
            rows = [row for row in rows if row in touched or row[1] is None]
        heads = [head for row, found in parts.items() if row[0] == "heads" for head in found]
        return Chart(rows, max([1, *heads]) + 1, parts, shared)

    def at(self, where: Row, head: int | float) -> tuple[float, float]:
        """The middle of a part; MLPs stand beside the heads."""
        y = float(self.rows.index(where))
        middle = (self.heads - 1) / 2
        if where[0] == "mlp":
            return self.heads + 0.2, y
        if where[0] == "heads":
            return (middle if head < 0 else float(head)), y
        return middle + 1.4 * head, y


def order_of(row: Row) -> tuple[int, int]:
    """Rows from the bottom: embeddings, each layer's heads and MLP, the logits."""
    name, layer = row
    if layer is None:
        return (-1, 0) if name == "embed" else (10**9, 0)
    return layer, 0 if name == "heads" else 1


def writer_place(row: dict[Any, Any]) -> tuple[Row, int]:
    """The row of a writer and its head; of all heads together -1; of embeddings their number."""
    if pd.isna(row["from_layer"]):
        return ("embed", None), int(row["writer"] == "pos_embed")
    if not pd.isna(row["from_head"]):
        return ("heads", int(row["from_layer"])), int(row["from_head"])
    if str(row["writer"]).startswith("m"):
        return ("mlp", int(row["from_layer"])), 0
    return ("heads", int(row["from_layer"])), -1


def reader_place(row: dict[Any, Any]) -> tuple[Row, int]:
    """The row of a reader and its head."""
    if pd.isna(row["layer"]):
        return ("logits", None), 0
    if row["kind"] == "mlp":
        return ("mlp", int(row["layer"])), 0
    return ("heads", int(row["layer"])), int(row["head"])


def row_name(row: Row) -> str:
    name, layer = row
    if layer is None:
        return {"embed": "embedding", "logits": "logits"}[name]
    return f"layer {layer} {'MLP' if name == 'mlp' else 'heads'}"


def draw_parts(axes: Axes, chart: Chart, chosen: pd.DataFrame) -> None:
    """A box for each part, strong where an edge touches it, with the letters of what it reads."""
    rows = records_of(chosen)
    ends = {(reader_place(row), str(row["kind"])) for row in rows}
    touched = {writer_place(row) for row in rows} | {place for place, _ in ends}
    for where in chart.rows:
        heads = {head for place, head in touched if place == where} | chart.parts.get(where, set())
        for head in sorted(heads):
            x, y = chart.at(where, head)
            used = (where, head) in touched
            wide = 1.4 if where[0] == "logits" else BOX if head >= 0 else chart.heads - 0.1
            high = half_height(head)
            box = FancyBboxPatch(
                (x - wide / 2, y - high),
                wide,
                2 * high,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="white" if head >= 0 else "none",
                edgecolor="0.15" if used else "0.8",
                linewidth=0.8 if used else 0.5,
                zorder=3,
            )
            axes.add_patch(box)
            looks: dict[str, Any] = {"color": "black" if used else "0.6", "zorder": 4}
            looks["size"] = 6.5 if chart.heads <= LETTERED else 4.5
            if head >= 0:
                title = part_title(where, head, chart)
                axes.text(x, y + 0.06, title, ha="center", va="center", **looks)
    for (where, head), kind in sorted(ends, key=str):
        if kind in PORTS:
            draw_port(axes, chart, where, head, kind)


def draw_port(axes: Axes, chart: Chart, where: Row, head: int, kind: str) -> None:
    """The letter of what a head reads; a box of its own where heads share it."""
    x, y = port_of(chart, where, head, kind)
    if heads_sharing(chart, where, kind) > 1:
        box = FancyBboxPatch(
            (x - 0.15, y),
            0.3,
            0.2,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="white",
            edgecolor="0.4",
            linewidth=0.5,
            zorder=5,
        )
        axes.add_patch(box)
        axes.text(x, y + 0.09, f"{kind}{head}", ha="center", va="center", size=4.5, zorder=6)
    elif chart.heads <= LETTERED:
        axes.text(x, y + 0.09, kind, ha="center", va="center", size=4.5, zorder=4)


def half_height(head: int) -> float:
    """Of a part's box; all heads of a layer together are a frame around them."""
    return 0.25 if head >= 0 else 0.33


def part_title(where: Row, head: int, chart: Chart) -> str:
    if where[0] == "heads":
        return f"h{head}" if chart.heads <= LETTERED else f"{head}"
    if where[0] == "embed":
        return "pos" if head else "embed"
    return where[0] if where[1] is None else f"m{where[1]}"


def heads_sharing(chart: Chart, where: Row, kind: str) -> int:
    """How many heads read one key or value of a layer."""
    if where[0] != "heads" or where[1] is None or kind == "q":
        return 1
    return chart.shared.get(where[1], 1)


def port_of(chart: Chart, where: Row, head: int, kind: str) -> tuple[float, float]:
    """Where an arc ends: below the part that reads, in the middle of heads that share a key."""
    sharing = heads_sharing(chart, where, kind)
    x, y = chart.at(where, head * sharing + (sharing - 1) / 2)
    if sharing > 1:
        return x + SHARED_PORTS[kind], y - 0.45
    return x + PORTS.get(kind, 0.0), y - 0.25


def draw_edge(axes: Axes, chart: Chart, row: dict[Any, Any], opacity: float) -> None:
    """One arc, from the top of its writer to the bottom of its reader."""
    (where, head), (to, reader) = writer_place(row), reader_place(row)
    x, y = chart.at(where, head)
    end, above = port_of(chart, to, reader, str(row["kind"]))
    y += half_height(head)
    rise = above - y
    aside = 0.45 if rise > 1.2 and abs(end - x) < 0.5 else 0.0  # around the boxes between
    points = [
        (x, y),
        (x + aside, y + 0.45 * rise),
        (end + aside, above - 0.45 * rise),
        (end, above),
    ]
    risen = row["delta"] > 0
    patch = PathPatch(
        Path(points, [Path.MOVETO, *[Path.CURVE4] * 3]),
        facecolor="none",
        edgecolor=RISES if risen else FALLS,
        linestyle=DASHES if risen else "-",
        linewidth=0.6 + 1.6 * opacity,
        alpha=opacity,
        zorder=2,
    )
    patch.set_gid(str(row["edge"]))
    axes.add_patch(patch)


def signs_of(table: pd.DataFrame) -> tuple[bool, bool]:
    """Whether any effect falls, and whether any rises."""
    return bool((table["delta"] <= 0).any()), bool((table["delta"] > 0).any())


def name_ends(table: pd.DataFrame) -> list[str]:
    """The lines of code that edges lead from and to, each after the parts that are on it."""
    columns = ["file", "line", "code"]
    there = [*columns, *(f"reader_{name}" for name in columns)]
    if not set(there) <= {*table}:
        return []
    writers = table[columns].assign(part=[WRITES[writer_row(row)] for row in records_of(table)])
    readers = table[there[3:]].set_axis(columns, axis=1)
    readers["part"] = [READS[str(kind)] for kind in table["kind"]]
    return [*name_lines(writers, by="part"), *name_lines(readers, by="part")]


WRITES = {"embed": "from embeddings", "heads": "from heads", "mlp": "from MLPs"}
READS = {"q": "to queries", "k": "to keys", "v": "to values", "mlp": "to MLPs"} | {
    "logits": "to logits"
}


def writer_row(row: dict[Any, Any]) -> str:
    return writer_place(row)[0][0]
