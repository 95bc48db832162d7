"""Where do attention heads look?

    figure = attention(interp.attention(model, text), layer=0, head=1)

Takes a table of patterns and returns a matplotlib ``Figure``; nothing is computed here.
"""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.figures.cells import (
    draw_cells,
    finish,
    grid_of,
    head_names,
    numbers_in_column,
    write_number,
)
from interp.figures.style import SEQUENTIAL, WIDTH, print_style, require, tick_label

PATTERN_COLUMNS = ["layer", "head", "query", "key", "query_character", "key_character", "value"]

MANY = 48  # heads, above which a pattern is too small for labels of its own


def attention(
    patterns: pd.DataFrame,
    layer: int | None = None,
    head: int | None = None,
    title: str = "",
) -> Figure:
    """The attention patterns of one text, tokens on both axes; of one head, large.

    Args:
        patterns: of ``interp.attention``, columns layer, head, query, key, query_character,
            key_character, value.
        layer: of the heads to draw; without one, all layers.
        head: its number in the layer; without one, all heads.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; the table has no such layer or head.
    """
    require(patterns, PATTERN_COLUMNS)
    asked = {name: n for name, n in (("layer", layer), ("head", head)) if n is not None}
    rows = patterns
    for name, number in asked.items():
        rows = rows[rows[name] == number]
    if rows.empty:
        words = " ".join(f"{name} {number}" for name, number in asked.items())
        there = ", ".join(head_names(patterns)) or "none"
        raise UsageError(f"the table has no patterns of {words or 'any head'}; heads: {there}")
    if layer is not None and head is not None:
        return draw_head(rows, title or f"Where head {layer}.{head} looks")
    if len(rows[["layer", "head"]].drop_duplicates()) > MANY:
        return draw_tiles(rows, title or "Where every head looks")
    return draw_grid(rows, title or "Where every head looks")


def draw_tiles(patterns: pd.DataFrame, title: str) -> Figure:
    """So many heads that each is a tile without labels: queries down, keys across."""
    layers, heads = numbers_in_column(patterns, "layer"), numbers_in_column(patterns, "head")
    length = int(patterns["key"].max()) + 1
    side = length + max(1, length // 8)  # with a margin
    down = np.searchsorted(layers, patterns["layer"]) * side + patterns["query"]
    across = np.searchsorted(heads, patterns["head"]) * side + patterns["key"]
    cells = np.full((side * len(layers), side * len(heads)), np.nan)
    cells[down, across] = patterns["value"]
    with print_style():
        each = (WIDTH - 1.4) / len(heads)
        figure = Figure(figsize=(WIDTH, 1.1 + each * len(layers)), layout="compressed")
        axes = figure.subplots()
        draw_cells(axes, cells, Normalize(0, 1), SEQUENTIAL, largest=0)
        axes.set_aspect("equal")
        middle = (length - 1) / 2
        axes.set_xticks(middle + side * np.arange(len(heads)), map(str, heads))
        axes.set_yticks(middle + side * np.arange(len(layers)), map(str, layers))
        axes.set_xlabel("head; in each tile the key, the token looked at")
        axes.set_ylabel("layer; in each tile the query, the token that looks")
        finish(figure, [axes], Normalize(0, 1), SEQUENTIAL, title, "attention", patterns)
    return figure


def draw_grid(patterns: pd.DataFrame, title: str) -> Figure:
    layers, heads = numbers_in_column(patterns, "layer"), numbers_in_column(patterns, "head")
    with print_style():
        length = int(patterns["key"].max()) + 1
        each = min(max(2.2, 0.075 * length), 14.0 / len(heads))  # inches: labels of 5 points fit
        size = (max(WIDTH, each * len(heads) + 0.9), 0.9 + (each + 0.2) * len(layers))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(layers), len(heads), squeeze=False, sharex=True, sharey=True)
        points = float(np.clip(60 * each / length, 2.5, 7.0))
        panels = dict(list(patterns.groupby(["layer", "head"])))
        for axes, place in zip(grid.flat, product(layers, heads), strict=True):
            if place in panels:
                draw_pattern(axes, panels[place], points)
                axes.set_title("{}.{}".format(*place), weight="normal", size=8, pad=2)
            else:
                axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("query")
        for axes in grid[-1]:
            axes.set_xlabel("key")
        finish(figure, list(grid.flat), Normalize(0, 1), SEQUENTIAL, title, "attention", patterns)
    return figure


def draw_head(rows: pd.DataFrame, title: str) -> Figure:
    """Weights of at least a tenth say their number."""
    length = int(rows["key"].max()) + 1
    with print_style():
        side = float(np.clip(0.22 * length + 1.6, 3.6, WIDTH - 0.6))
        figure = Figure(figsize=(WIDTH, side), layout="compressed")  # for squares, with their bar
        axes = figure.subplots()
        draw_pattern(axes, rows, float(np.clip(220 / length, 3.0, 8.0)), numbers=length <= 32)
        axes.set_ylabel("query: the token that looks")
        axes.set_xlabel("key: the token looked at")
        finish(figure, [axes], Normalize(0, 1), SEQUENTIAL, title, "attention", rows)
    return figure


def draw_pattern(axes: Axes, rows: pd.DataFrame, points: float, numbers: bool = False) -> None:
    cells = grid_of(rows, "query", "key", "value").to_numpy(dtype=float)
    cells = np.where(np.tri(*cells.shape, dtype=bool), cells, np.nan)  # the future is no choice
    draw_cells(axes, cells, Normalize(0, 1), SEQUENTIAL, largest=0)
    axes.set_aspect("equal")
    if numbers:
        for y, x in np.argwhere(np.nan_to_num(cells) >= 0.1).tolist():
            write_number(
                axes, x, y, f"{cells[y, x]:.1f}".lstrip("0"), SEQUENTIAL(cells[y, x]), size=5.0
            )
    queries = rows.drop_duplicates("query").sort_values("query")["query_character"]
    keys = rows.drop_duplicates("key").sort_values("key")["key_character"]
    axes.set_yticks(range(len(queries)), [tick_label(c) for c in queries], size=points)
    axes.set_xticks(range(len(keys)), [tick_label(c) for c in keys], size=points)
    axes.tick_params(length=1, pad=1)
