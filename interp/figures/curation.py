"""What is left of a pile of documents after each step of its pipeline?

run.save_figure(characters_by_step(run.table()), "steps")
"""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from interp.figures.style import (
    CODE,
    CODE_LINE,
    CODE_SIZE,
    MONO,
    WIDTH,
    drawable,
    finish_layout,
    place_and_code,
    print_style,
    prose,
    require,
)

BLUE, GREY = "#0173b2", "0.75"


def characters_by_step(table: pd.DataFrame) -> Figure:
    """A bar for each step: the characters that are left after it, and hatched those that it took.

    Args:
        table: a row for each step in order; columns step, file, line and code of its function,
            characters_in, characters_out, dropped and changed documents.

    Raises:
        UsageError: a column is missing.
    """
    require(
        table,
        [
            *("step", "file", "line", "code", "characters_in", "characters_out"),
            *("dropped", "changed"),
        ],
    )
    rows: list[dict[str, Any]] = [{**row} for row in table.to_dict("records")]  # type: ignore[dict-item]
    most = max(max(row["characters_in"], row["characters_out"]) for row in rows)
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.2 + (len(rows) + 1) * 3.6 * CODE_LINE))
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        first = rows[0]["characters_in"]
        axes.barh(0, first, height=0.42, color=GREY, edgecolor="black", linewidth=0.4)
        axes.text(0, -0.3, "as it was read", weight="bold", va="bottom", size=8)
        axes.text(first + most * 0.01, 0, f"{first:,}", va="center", size=CODE_SIZE)
        for place, row in enumerate(rows, 1):
            draw_step(axes, place, row, first, most)
        axes.set_ylim(len(rows) + 0.5, -0.8)
        axes.set_xlim(0, most * 1.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("characters left after the step; hatched: taken by it")
        figure.suptitle(prose("What each step leaves of the documents"), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def draw_step(axes: Any, place: int, row: dict[str, Any], first: int, most: int) -> None:
    """A step's bar, with its name and code above and its numbers beside it."""
    left, before = row["characters_out"], row["characters_in"]
    axes.barh(place, left, height=0.42, color=BLUE, edgecolor="black", linewidth=0.4)
    if before > left:
        axes.barh(
            place,
            before - left,
            left=left,
            height=0.42,
            color="white",
            edgecolor="black",
            hatch="////",
            linewidth=0.4,
        )
    name = drawable(str(row["step"]), MONO)
    axes.annotate(name, (0, place - 0.26), weight="bold", va="bottom", size=8)
    axes.annotate(
        place_and_code(row, 70),
        (0, place - 0.26),
        xytext=(max(8, len(name)) * 5.2 + 8, 0),
        textcoords="offset points",
        va="bottom",
        font=CODE,
    )
    said = [f"{left:,} ({left / max(first, 1):.1%})"]
    said += [f"{row['dropped']:,} documents dropped"] if row["dropped"] else []
    said += [f"{row['changed']:,} documents changed"] if row["changed"] else []
    axes.text(max(left, before) + most * 0.01, place, ", ".join(said), va="center", size=CODE_SIZE)
