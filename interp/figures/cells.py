"""How is one heatmap drawn: its cells, their numbers, and a cross where no effect is shown?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from interp.figures.style import (
    finish_layout,
    prose,
    write_below,
)
from interp.verdicts import Verdict, verdicts_of

CROSSED = "\N{MULTIPLICATION SIGN}: no effect shown"
UNTESTED = "fewer than three texts: no cell is known to differ from zero"
ALL_ANNOTATED = 64  # cells of a panel, above which only the largest say their number
LARGEST = 5
WIDE = 20  # cells across a figure that have room for a number in full


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
    beside: int = 1,
) -> None:
    """One heatmap. Few cells all say their number; of many, only the largest do.

    Args:
        unsure: cells to cross.
        spread: let cells be as wide as the axes allow; else they are square or nearly so.
        largest: how many say their number, where there are too many for all.
        digits: of the numbers, behind the point.
        beside: how many heatmaps share the figure's width.
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
    across = cells.shape[1] * beside
    if cells.shape[1] > WIDE:
        digits = 1
    for y, x in np.argwhere(numbered).tolist():
        text = f"{cells[y, x]:z.{digits}f}"
        text = text if across <= WIDE else text.replace("0.", ".", 1)
        size = 7.0 if across <= WIDE else 5.5 if digits == 1 else 4.5
        write_number(axes, x, y, text, colors(scale(cells[y, x])), size=size)
    if unsure is not None:
        ys, xs = np.nonzero(unsure)
        aside = np.where(numbered[ys, xs], 0.38, 0.0)
        axes.plot(xs + aside, ys - aside, "x", color="0.45", markersize=2.5, markeredgewidth=0.6)


def write_number(
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
    table: pd.DataFrame,
    *,
    tested: bool = False,
    by: str = "",
) -> None:
    """Title, colour bar, what the crosses mean where there are any, and the lines of code.

    Args:
        table: what is drawn; its columns file, line and code, where it has them, are the lines.
        tested: whether its rows say if their effect is told from zero.
        by: a column of the table by which the lines differ.
    """
    figure.suptitle(prose(title), x=0.01, ha="left")
    bar = figure.colorbar(
        ScalarMappable(scale, colors), ax=axes, label=label, fraction=0.04, pad=0.015, aspect=15
    )
    bar.outline.set_visible(False)
    for each in axes:
        for spine in each.spines.values():
            spine.set_visible(False)
    verdicts = set(verdicts_of(table)) if tested else set()
    marks = {Verdict.NOT_SHOWN: CROSSED, Verdict.UNKNOWN: UNTESTED}
    said = "; ".join(mark for verdict, mark in marks.items() if verdict in verdicts)
    write_below(figure, table, by=by, notes=said)
    finish_layout(figure)


def not_shown(rows: pd.DataFrame, down: str, across: str) -> pd.DataFrame:
    """The cells for which no effect is shown."""
    marked = rows.assign(not_shown=verdicts_of(rows) == Verdict.NOT_SHOWN)
    return grid_of(marked, down, across, "not_shown") == True  # noqa: E712, or NaN


def grid_of(rows: pd.DataFrame, down: str | list[str], across: str, value: str) -> pd.DataFrame:
    """A table in long form as a rectangle; a cell that it has twice is an error."""
    return rows.pivot(index=down, columns=across, values=value)  # noqa: PD010


def numbers_in_column(table: pd.DataFrame, column: str) -> list[int]:
    """The layers, or heads, that a table is about, in order."""
    return sorted(map(int, table[column].unique()))


def head_names(table: pd.DataFrame) -> list[str]:
    """Every head of the table as layer.head, in order."""
    heads = table[["layer", "head"]].drop_duplicates().sort_values(["layer", "head"])
    return [head_name(row) for _, row in heads.iterrows()]


def head_name(row: pd.Series) -> str:
    """The head that a row is about, as layer.head."""
    return f"{row['layer']:.0f}.{row['head']:.0f}"
