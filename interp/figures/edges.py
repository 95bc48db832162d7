"""How large is the effect of every edge, all of them at once?

    run.save_figure(edge_heatmap(edge_effects(model, clean, corrupted, metric)), "edges")

Nothing is computed here: which edges have an effect is the verdict of their rows.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure

from interp.edge_looks import metric_of, one_meaning
from interp.errors import UsageError
from interp.figures.cells import ALL_ANNOTATED, CROSSED, UNTESTED, draw_cells, grid_of
from interp.figures.circuit_graph import NEEDED, name_ends
from interp.figures.style import (
    CODE_LINE,
    DIVERGING,
    MONO,
    SAVED,
    WIDTH,
    drawable,
    finish_layout,
    print_style,
    prose,
    require,
)
from interp.verdicts import Verdict, verdicts_of

PANELS = {"q": "queries", "k": "keys", "v": "values", "mlp": "MLPs and logits", "logits": ""}
NAMED_CELLS = 26  # writers or readers along an axis, above which only layers are named
MARKED = 60  # along an axis, above which a cell has no room for a sign
SIGNED = "+ \N{MINUS SIGN}: an effect that shows, and its sign"


def edge_heatmap(table: pd.DataFrame, title: str = "", *, unit: str = "nats") -> Figure:
    """Writers across, readers down, a panel for each kind of reader, all on one scale.

    Args:
        table: what ``interp.circuits.edge_effects`` returns, of one meaning. Where there are few
            edges, each says its number and those without an effect are crossed; of many, those
            with an effect bear their sign.
        title: the hypothesis.
        unit: of the metric.

    Raises:
        UsageError: a column is missing; edges of two meanings; no edge; an edge twice.
    """
    require(table, [*NEEDED, "delta"])
    meaning = one_meaning(table)
    if table.empty:
        raise UsageError("the table has no edges to draw")
    twice = table[table["edge"].duplicated()]
    if len(twice):
        raise UsageError(f"the table has two rows of the edge {twice['edge'].iloc[0]!r}")
    table = table.assign(verdict=verdicts_of(table))
    writers = named_by_layer(table, "writer", "from_layer")
    kinds = [kind for kind in ("q", "k", "v", "mlp") if (panel_of(table) == kind).any()]
    readers = {
        kind: named_by_layer(table[panel_of(table) == kind], "reader", "layer") for kind in kinds
    }
    scale = scale_of(table["delta"])
    top = float(scale.vmax or 1.0)
    ticks = [-top, -top / 10, 0.0, top / 10, top]
    few = all(len(rows) * len(writers) <= ALL_ANNOTATED for rows in readers.values())
    longest = max(len(writers), *(len(rows) for rows in readers.values()))
    beside = 2 if len(kinds) > 1 else 1
    lines = [kinds[place : place + beside] for place in range(0, len(kinds), beside)]
    heights = [max(len(readers[kind]) for kind in line) for line in lines]
    notes = [
        *name_marks(table["verdict"], few, signed=longest <= MARKED),
        f"colours are logarithmic beyond {top / 50:.2g} {unit}; grey: no such edge",
        *name_ends(table),
    ]
    cell = min(0.26, max(2.6 / max(heights), 0.02))
    with print_style():
        height = 1.5 + sum(0.75 + cell * each for each in heights) + len(notes) * CODE_LINE * 1.2
        figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=SAVED)
        grid = figure.subplots(
            len(lines), beside, squeeze=False, height_ratios=[0.1 + each for each in heights]
        )
        shown: list[Axes] = []
        for line, row in zip(lines, grid, strict=True):
            for axes in row[len(line) :]:
                axes.set_axis_off()
            for kind, axes in zip(line, row, strict=False):
                rows = table[panel_of(table) == kind]
                draw_panel(axes, rows, writers, readers[kind], scale, few)
                axes.set_title(f"into {PANELS[kind]}", weight="normal", size=9)
                shown.append(axes)
            row[0].set_ylabel("reader")
        for axes in grid[-1]:
            axes.set_xlabel("writer")
        bar = figure.colorbar(
            ScalarMappable(scale, DIVERGING),
            ax=shown,
            label=prose(f"change of {metric_of(table)} ({unit})"),
            fraction=0.04,
            pad=0.015,
            aspect=15,
            ticks=ticks,
        )
        bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks])
        bar.outline.set_visible(False)
        text = "\n".join(drawable(line, MONO) for line in notes)
        label = figure.supxlabel(text, size=6.5, color="0.3", x=0.01, ha="left", family=MONO)
        label.set_linespacing(1.3)
        title = title or f"What each of {len(table):,} edges carries ({meaning})"
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def panel_of(table: pd.DataFrame) -> pd.Series:
    """The panel of each edge; the logits stand with the MLPs."""
    return table["kind"].replace("logits", "mlp")


def named_by_layer(table: pd.DataFrame, column: str, layer: str) -> pd.Series:
    """The layer of each writer or reader, missing outside of layers, by its name, in their order:
    a reader is read in the order of the table, which is that of the model."""
    known = table.drop_duplicates(column).set_index(column)[layer]
    if column == "reader":
        return known
    inside = known[known.notna()]
    heads = table.drop_duplicates(column).set_index(column)["from_head"]
    last = heads[inside.index].fillna(10**6)  # an MLP follows the heads of its layer
    order = np.lexsort((last.to_numpy(float), inside.to_numpy(float)))
    return pd.concat([known[known.isna()].astype("Int64"), inside.iloc[order]])


def scale_of(deltas: pd.Series) -> SymLogNorm:
    """Zero in the middle; logarithmic beyond a fiftieth of the largest, which would hide others."""
    top = float(deltas.abs().max())
    top = top if np.isfinite(top) and top > 0 else 1.0
    return SymLogNorm(linthresh=top / 50, vmin=-top, vmax=top)


def draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    writers: pd.Series,
    readers: pd.Series,
    scale: Normalize,
    few: bool,
) -> None:
    """The edges into one kind of reader; grey where a writer comes after a reader."""
    axes.set_facecolor("0.93")
    cells, verdicts = (
        grid_of(rows, "reader", "writer", name).reindex(index=readers.index, columns=writers.index)
        for name in ("delta", "verdict")
    )
    unsure = (verdicts == Verdict.NOT_SHOWN).to_numpy() if few else None
    draw_cells(
        axes,
        cells.to_numpy(dtype=float),
        scale,
        DIVERGING,
        unsure=unsure,
        beside=2,
        largest=5 if few else 0,
    )
    if not few and max(cells.shape) <= MARKED:
        draw_signs(axes, cells.to_numpy(dtype=float), verdicts, scale)
    name_axis(axes, "x", writers)
    name_axis(axes, "y", readers)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_signs(axes: Axes, cells: np.ndarray, verdicts: pd.DataFrame, scale: Normalize) -> None:
    """The sign of each effect that shows: in grey, both ends of the colours are dark."""
    size = min(5.0, 160 / max(cells.shape))
    for marker, verdict in (("+", Verdict.RAISES), ("_", Verdict.LOWERS)):
        ys, xs = np.nonzero((verdicts == verdict).to_numpy())
        dark = np.abs(np.asarray(scale(cells[ys, xs])) - 0.5) > 0.3
        for shade, color in ((dark, "white"), (~dark, "black")):
            axes.plot(
                xs[shade],
                ys[shade],
                linestyle="",
                marker=marker,
                color=color,
                markersize=size,
                markeredgewidth=0.6,
            )


def name_axis(axes: Axes, along: str, names: pd.Series) -> None:
    """Each part where there is room for all; else each layer, with a line between layers."""
    axis = axes.xaxis if along == "x" else axes.yaxis
    draw_line: Any = axes.axvline if along == "x" else axes.axhline
    layers = ["" if pd.isna(layer) else f"layer {layer}" for layer in names]
    begins = [n for n in range(1, len(layers)) if layers[n] != layers[n - 1]]
    for begin in begins:
        draw_line(begin - 0.5, color="white", linewidth=0.8)
    if len(names) <= NAMED_CELLS:
        axis.set_ticks(range(len(names)), [prose(str(name)) for name in names.index])
        axis.set_tick_params(labelsize=6, rotation=90 if along == "x" else 0)
        return
    starts, ends = [0, *begins], [*begins, len(layers)]
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    labels = [layers[start] or prose(str(names.index[start])) for start in starts]
    axis.set_ticks(middles, labels)
    axis.set_tick_params(labelsize=6, rotation=90 if along == "x" else 0, length=0)


def name_marks(verdicts: pd.Series, few: bool, signed: bool) -> list[str]:
    """What the marks on cells mean, of those that are there."""
    there = set(verdicts)
    effects = sum(verdict.is_effect for verdict in verdicts)
    notes = [CROSSED] if few and Verdict.NOT_SHOWN in there else []
    notes += [SIGNED] if signed and not few and effects else []
    notes += [UNTESTED] if Verdict.UNKNOWN in there else []
    have = "has" if effects <= 1 else "have"
    return [*notes, f"{effects or 'none'} of {len(verdicts):,} edges {have} an effect that shows"]
