"""How do effects and scores look, spread over layers, heads and positions?

Each function takes a result table and gives a matplotlib ``Figure``; nothing is computed here.
Effects are drawn in colours that part at zero, with a cross on cells that cannot be told from it.

    figure = head_effects(run.table())
    run.save_figure(figure, "head_effects")
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from interp.characters import marked
from interp.errors import UsageError
from interp.figures import SANS, WIDTH, drawable, print_style, prose, require
from interp.verdicts import Verdict, verdicts_of

CROSSED = "\N{MULTIPLICATION SIGN}: no effect shown"
UNTESTED = "fewer than three texts: no cell is known to differ from zero"
ALL_ANNOTATED = 64  # cells of a panel, above which only the largest say their number
LARGEST = 5


def head_effects(
    table: pd.DataFrame,
    title: str = "What the loss loses without each head",
    label: str = "change in loss (nats per token)",
) -> Figure:
    """Layer by head, one panel for each intervention, all on one scale.

    Args:
        table: columns layer, head, intervention, delta, p_adjusted.
        title: the hypothesis.
        label: the quantity with its unit.

    Raises:
        UsageError: a column is missing; no rows of heads.
    """
    require(table, ["layer", "head", "intervention", "delta", "p_adjusted"])
    heads = table[table["head"].notna()]
    panels = {f"{name} ablation": rows for name, rows in heads.groupby("intervention", sort=False)}
    return over_heads(panels, "delta", title, label)


def patched_heads(table: pd.DataFrame, title: str = "What each head carries") -> Figure:
    """Layer by head, one panel for each of z, q, k, v: the share of the clean answer restored.

    Args:
        table: columns component, layer, head, recovered, p_adjusted.

    Raises:
        UsageError: a column is missing; no rows of heads.
    """
    require(table, ["component", "layer", "head", "recovered", "p_adjusted"])
    rows = table[table["head"].notna()]
    panels = {
        HEAD_PARTS.get(str(name), str(name)): part
        for name, part in rows.groupby("component", sort=False)
    }
    return over_heads(panels, "recovered", title, RECOVERED, at_least=1.0)


HEAD_PARTS = {"z": "output (z)", "q": "query (q)", "k": "key (k)", "v": "value (v)"}
RECOVERED = "share restored\n(0 corrupted, 1 clean)"


def over_heads(
    panels: dict[str, pd.DataFrame], value: str, title: str, label: str, at_least: float = 0.0
) -> Figure:
    if not panels:
        raise UsageError("the table has no rows of heads to draw")
    every = pd.concat(panels.values())
    layers, heads = numbers_of(every, "layer"), numbers_of(every, "head")
    scale = centred(every[value], at_least)
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    with print_style():
        height = 1.5 + lines * (0.6 + 0.34 * len(layers))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for axes, (name, rows) in zip(grid.flat, panels.items(), strict=False):
            cells = grid_of(rows, "layer", "head", value).reindex(index=layers, columns=heads)
            unsure = not_shown(rows, "layer", "head").reindex(index=layers, columns=heads)
            digits = 3 if columns * len(heads) <= 12 else 2
            shown = (unsure == True).to_numpy()  # noqa: E712, or NaN
            draw_cells(axes, cells.to_numpy(), scale, DIVERGING, unsure=shown, digits=digits)
            axes.set_title(prose(name), weight="normal", size=9)
            axes.set_xlabel("head")
            axes.tick_params(left=axes in grid[:, 0])
            axes.set_xticks(range(len(heads)), heads)
            axes.set_yticks(range(len(layers)), layers)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        finish(figure, list(grid.flat), scale, DIVERGING, title, label, every)
    return figure


def patched_positions(
    table: pd.DataFrame,
    positions: pd.DataFrame,
    title: str = "Where the clean answer is carried",
) -> Figure:
    """Layer by position, one panel for each component: the share of the clean answer restored.

    Args:
        table: columns component, layer, pos, recovered, p_adjusted.
        positions: columns pos, clean, corrupted: the characters at each position of the first
            pair; where they differ, the tick label shows both.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no rows of positions.
    """
    require(table, ["component", "layer", "pos", "recovered", "p_adjusted"])
    require(positions, ["pos", "clean", "corrupted"])
    rows = table[table["pos"].notna()]
    if rows.empty:
        raise UsageError("the table has no rows of positions to draw")
    panels = dict(list(rows.groupby("component", sort=False)))
    layers, length = numbers_of(rows, "layer"), int(rows["pos"].max()) + 1
    scale = centred(rows["recovered"], at_least=1.0)
    ordered = positions.sort_values("pos")
    changed = (ordered["clean"] != ordered["corrupted"]).to_numpy()
    labels = [
        f"{sign(clean)}\n↓\n{sign(other)}" if clean != other else sign(clean)
        for clean, other in zip(ordered["clean"], ordered["corrupted"], strict=True)
    ]
    with print_style():
        figure = Figure(
            figsize=(WIDTH, 1.5 + len(panels) * (0.5 + 0.3 * len(layers))), layout="constrained"
        )
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
        for axes, (name, part) in zip(grid, panels.items(), strict=True):
            cells = grid_of(part, "layer", "pos", "recovered")
            unsure = not_shown(part, "layer", "pos").to_numpy()
            draw_cells(axes, cells.to_numpy(), scale, DIVERGING, unsure=unsure, spread=True)
            axes.set_title(
                COMPONENT_NAMES.get(str(name), prose(str(name))), weight="normal", size=9
            )
            axes.set_ylabel("layer")
            axes.set_yticks(range(len(layers)), layers)
        grid[-1].set_xticks(range(length), labels, size=7 if length <= 48 else 4.5)
        for tick, differs in zip(grid[-1].get_xticklabels(), changed, strict=True):
            tick.set_fontweight("bold" if differs else "normal")
        grid[-1].set_xlabel("position: character of the first clean text ↓ of the corrupted one")
        finish(figure, list(grid), scale, DIVERGING, title, RECOVERED, rows)
    return figure


COMPONENT_NAMES = {
    "resid_pre": "residual stream entering the layer",
    "resid_mid": "residual stream between attention and MLP",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
}


def head_scores(
    table: pd.DataFrame, title: str = "What kind of head each one is", by: str | None = None
) -> Figure:
    """Head by score, from 0 to 1.

    Args:
        table: columns layer, head, metric, value, and ``by``: of ``interp.head_scores``, or
            several of it one after another.
        title: the hypothesis.
        by: a column, such as the kind of text, whose values get a panel each.
    """
    require(table, ["layer", "head", "metric", "value", *([by] if by else [])])
    panels = dict(list(table.groupby(by, sort=False))) if by else {"": table}
    names = head_names(table)
    scale = Normalize(0, 1)
    with print_style():
        width = min(WIDTH, 2.0 + 2.6 * len(panels))
        figure = Figure(figsize=(width, 1.5 + 0.26 * len(names)), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, rows) in zip(grid, panels.items(), strict=True):
            metrics = list(rows["metric"].drop_duplicates())
            cells = grid_of(rows, ["layer", "head"], "metric", "value")[metrics]
            draw_cells(axes, cells.to_numpy(), scale, SEQUENTIAL, digits=2)
            axes.set_title(prose(str(name)), weight="normal", size=9)
            words = [metric.replace("_", "\n") for metric in metrics]
            axes.set_xticks(range(len(metrics)), words)
            axes.set_yticks(range(len(names)), names)
        grid[0].set_ylabel("head")
        finish(figure, list(grid), scale, SEQUENTIAL, title, "share of attention", None)
    return figure


def by_distance(
    table: pd.DataFrame, title: str = "How far back each head looks, on average"
) -> Figure:
    """Head by distance: the mean attention to the token so many positions back.

    Args:
        table: columns layer, head, distance, value.
        title: the hypothesis.
    """
    require(table, ["layer", "head", "distance", "value"])
    names = head_names(table)
    cells = grid_of(table, ["layer", "head"], "distance", "value").to_numpy()
    scale = Normalize(0, cells.max())
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.3 + 0.2 * len(names)), layout="constrained")
        axes = figure.subplots()
        draw_cells(axes, cells, scale, SEQUENTIAL, spread=True, largest=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks(range(0, cells.shape[1], max(1, cells.shape[1] // 16)))
        axes.set_xlabel("distance back (tokens; 0 is the token itself)")
        axes.set_ylabel("head")
        finish(figure, [axes], scale, SEQUENTIAL, title, "mean attention", None)
    return figure


def attention_grid(patterns: pd.DataFrame, title: str = "Where every head looks") -> Figure:
    """The pattern of every head on one text, characters on both axes.

    Args:
        patterns: columns layer, head, query, key, query_character, key_character, value.
        title: the hypothesis.
    """
    require(patterns, PATTERN_COLUMNS)
    if patterns.empty:
        raise UsageError("the table has no patterns to draw")
    layers, heads = numbers_of(patterns, "layer"), numbers_of(patterns, "head")
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
        finish(figure, list(grid.flat), Normalize(0, 1), SEQUENTIAL, title, "attention", None)
    return figure


def attention_head(patterns: pd.DataFrame, layer: int, head: int, title: str = "") -> Figure:
    """The pattern of one head, large; weights of at least a tenth say their number.

    Args:
        patterns: as for ``attention_grid``.
        layer: of the head.
        head: its number in the layer.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no such head.
    """
    require(patterns, PATTERN_COLUMNS)
    rows = patterns[(patterns["layer"] == layer) & (patterns["head"] == head)]
    if rows.empty:
        raise UsageError(f"the table has no head {head} in layer {layer}")
    length = int(rows["key"].max()) + 1
    with print_style():
        side = float(np.clip(0.22 * length + 1.6, 3.6, WIDTH - 0.6))
        figure = Figure(figsize=(WIDTH, side), layout="constrained")
        axes = figure.subplots()
        draw_pattern(axes, rows, float(np.clip(220 / length, 3.0, 8.0)), numbers=length <= 32)
        axes.set_ylabel("query: the character that looks")
        axes.set_xlabel("key: the character looked at")
        name = title or f"Where head {layer}.{head} looks"
        finish(figure, [axes], Normalize(0, 1), SEQUENTIAL, name, "attention", None)
    return figure


PATTERN_COLUMNS = ["layer", "head", "query", "key", "query_character", "key_character", "value"]
DIVERGING = sns.color_palette("vlag", as_cmap=True)
SEQUENTIAL = sns.color_palette("mako_r", as_cmap=True)


def draw_pattern(axes: Axes, rows: pd.DataFrame, points: float, numbers: bool = False) -> None:
    cells = grid_of(rows, "query", "key", "value").to_numpy(dtype=float)
    cells = np.where(np.tri(*cells.shape, dtype=bool), cells, np.nan)  # the future is no choice
    draw_cells(axes, cells, Normalize(0, 1), SEQUENTIAL, largest=0)
    axes.set_aspect("equal")
    if numbers:
        for y, x in np.argwhere(np.nan_to_num(cells) >= 0.1).tolist():
            write(axes, x, y, f"{cells[y, x]:.1f}".lstrip("0"), SEQUENTIAL(cells[y, x]), size=5.0)
    queries = rows.drop_duplicates("query").sort_values("query")["query_character"]
    keys = rows.drop_duplicates("key").sort_values("key")["key_character"]
    axes.set_yticks(range(len(queries)), [sign(c) for c in queries], size=points)
    axes.set_xticks(range(len(keys)), [sign(c) for c in keys], size=points)
    axes.tick_params(length=1, pad=1)


def draw_cells(
    axes: Axes,
    cells: Float[np.ndarray, "row column"],
    scale: Normalize,
    colors: Colormap,
    *,
    unsure: Bool[np.ndarray, "row column"] | None = None,
    spread: bool = False,
    largest: int = LARGEST,
    digits: int = 2,
) -> None:
    """One heatmap. Few cells all say their number; of many, only the largest do.

    Args:
        unsure: cells to cross.
        spread: let cells be as wide as the axes allow; else they are square or nearly so.
        largest: how many say their number, where there are too many for all.
    """
    axes.grid(False)
    axes.imshow(cells, norm=scale, cmap=colors, aspect="auto", interpolation="nearest")
    numbered = np.zeros(cells.shape, dtype=bool)
    if largest and cells.size <= ALL_ANNOTATED and not spread:
        numbered[:] = np.isfinite(cells)
    elif largest:
        sizes = np.nan_to_num(np.abs(cells))
        numbered = sizes >= max(
            np.sort(sizes, axis=None)[-largest:][0], 0.05 * float(scale.vmax or 1)
        )
    wide = cells.shape[1] <= 20
    for y, x in np.argwhere(numbered).tolist():
        text = f"{cells[y, x]:z.{digits if wide else 1}f}"
        text = text if wide else text.replace("0.", ".", 1)
        write(axes, x, y, text, colors(scale(cells[y, x])), size=7.0 if wide else 5.5)
    if unsure is not None:
        ys, xs = np.nonzero(unsure)
        aside = np.where(numbered[ys, xs], 0.38, 0.0)
        axes.plot(xs + aside, ys - aside, "x", color="0.45", markersize=2.5, markeredgewidth=0.6)


def write(
    axes: Axes,
    x: int,
    y: int,
    text: str,
    behind: tuple[float, float, float, float],
    size: float,
) -> None:
    """A cell's number, in black or white, whichever can be read on its colour."""
    red, green, blue = behind[:3]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    axes.text(x, y, text, ha="center", va="center", size=size, color="white" if dark else "black")


def finish(
    figure: Figure,
    axes: Sequence[Axes],
    scale: Normalize,
    colors: Colormap,
    title: str,
    label: str,
    tested: pd.DataFrame | None,
) -> None:
    """Title, colour bar, and what the crosses mean where there are any."""
    figure.suptitle(prose(title), x=0.01, ha="left")
    bar = figure.colorbar(
        ScalarMappable(scale, colors), ax=axes, label=label, fraction=0.04, pad=0.015, aspect=15
    )
    bar.outline.set_visible(False)
    for each in axes:
        for spine in each.spines.values():
            spine.set_visible(False)
    if tested is not None:
        verdicts = set(verdicts_of(tested))
        marks = {Verdict.NOT_SHOWN: CROSSED, Verdict.UNKNOWN: UNTESTED}
        said = "; ".join(mark for verdict, mark in marks.items() if verdict in verdicts)
        if said:
            figure.supxlabel(said, size=7, color="0.3", x=0.01, ha="left")
    settle(figure)


def not_shown(rows: pd.DataFrame, down: str, across: str) -> pd.DataFrame:
    """The cells for which no effect is shown."""
    marked = rows.assign(not_shown=verdicts_of(rows) == Verdict.NOT_SHOWN)
    return grid_of(marked, down, across, "not_shown") == True  # noqa: E712, or NaN


def grid_of(rows: pd.DataFrame, down: str | list[str], across: str, value: str) -> pd.DataFrame:
    """A table in long form as a rectangle; a cell that it has twice is an error."""
    return rows.pivot(index=down, columns=across, values=value)  # noqa: PD010


def settle(figure: Figure) -> None:
    """Lay the figure out, once: each of its formats would else do it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def centred(values: pd.Series, at_least: float = 0.0) -> Normalize:
    """A scale with zero in its middle."""
    reach = max(float(values.abs().max()), at_least) or 1.0
    return Normalize(-reach, reach)


def numbers_of(table: pd.DataFrame, column: str) -> list[int]:
    """The layers, or heads, that a table is about, in order."""
    return sorted(map(int, table[column].unique()))


def head_names(table: pd.DataFrame) -> list[str]:
    """Every head of the table as layer.head, in order."""
    heads = table[["layer", "head"]].drop_duplicates().sort_values(["layer", "head"])
    return [head_name(row) for _, row in heads.iterrows()]


def head_name(row: pd.Series) -> str:
    """The head that a row is about, as layer.head."""
    return f"{row['layer']:.0f}.{row['head']:.0f}"


def sign(character: str) -> str:
    """A character as a tick label that can be seen."""
    return drawable(marked(character), SANS)
