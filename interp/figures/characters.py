"""Which characters does a cut make harder to predict, and where in the text?

    run.save_figure(loss_change_by_character(run.table("characters")), "characters")
    run.save_figure(loss_change_in_text(run.table("tokens")), "text")

Each function takes a result table and returns a matplotlib ``Figure``; nothing is computed here.
"""

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from interp.characters import width_of
from interp.errors import UsageError
from interp.figures.intervals import draw_intervals
from interp.figures.style import (
    CODE_LINE,
    CODE_SIZE,
    DIVERGING,
    SANS,
    WIDTH,
    cell_text,
    centred,
    finish_layout,
    print_style,
    prose,
    require,
    tick_label,
    write_below,
)


def loss_change_by_character(table: pd.DataFrame, title: str = "Which characters suffer") -> Figure:
    """A bar for each character to be predicted: the change in its loss, with its interval.

    Args:
        table: columns character, delta, ci_low, ci_high (nats), n; drawn in this order. Where
            it has file, line and code, they are named below.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no characters.
    """
    require(table, ["character", "delta", "ci_low", "ci_high", "n"])
    if table.empty:
        raise UsageError("the table has no characters to draw")
    with print_style():
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(table))
        scale = centred(table["delta"])
        axes.bar(
            places,
            table["delta"],
            color=DIVERGING(scale(table["delta"].to_numpy())),
            edgecolor="black",
            linewidth=0.4,
        )
        draw_intervals(axes, places, table["ci_low"], table["ci_high"], along="y", linewidth=0.7)
        axes.axhline(0, color="black", linewidth=0.8)
        names = [
            f"{tick_label(character)}\n{n}"
            for character, n in zip(table["character"], table["n"], strict=True)
        ]
        axes.set_xticks(places, names, size=7)
        axes.set_xlabel("character to be predicted, and how often it was")
        axes.set_ylabel("change in loss (nats)")
        axes.grid(axis="x", visible=False)
        figure.suptitle(prose(title), x=0.01, ha="left")
        write_below(figure, table, notes="error bars: 95 % interval over occurrences")
        finish_layout(figure)
    return figure


def loss_change_in_text(table: pd.DataFrame, title: str = "Where in the text it suffers") -> Figure:
    """Stretches of text, each character on the colour of the change in its loss.

    Args:
        table: columns example, pos, character, delta; one row for each character predicted. Where
            it has file, line and code, they are named below.
        title: the hypothesis.
    """
    require(table, ["example", "pos", "character", "delta"])
    examples = list(table["example"].drop_duplicates())
    # cells as wide as the longest token needs, a character's escape as one in two rows
    widest = max(
        (width_of(tick_label(token)) if len(token) > 1 else 1 for token in table["character"]),
        default=1,
    )
    wrapped = max(6, 64 // widest)
    rows = []
    for example in examples:
        part = table[table["example"] == example].sort_values("pos")
        rows += [part.iloc[start : start + wrapped] for start in range(0, len(part), wrapped)]
    scale = centred(table["delta"])
    width = min(wrapped, max(len(row) for row in rows))
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.1 + len(rows) * CODE_LINE * 1.7), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.imshow(
                row["delta"].to_numpy()[None],
                extent=(0, len(row), y + 0.95, y + 0.05),
                norm=scale,
                cmap=DIVERGING,
                aspect="auto",
                interpolation="nearest",
            )
            for x, (character, delta) in enumerate(
                zip(row["character"], row["delta"], strict=True)
            ):
                shown, size = cell_text(character, SANS, CODE_SIZE * widest)
                red, green, blue, _ = DIVERGING(scale(delta))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(
                    x + 0.5,
                    y + 0.5,
                    shown,
                    ha="center",
                    va="center",
                    size=min(CODE_SIZE, size),
                    linespacing=1.0,
                    color="white" if dark else "black",
                )
        axes.set_xlim(0, width)
        axes.set_ylim(len(rows), 0)
        axes.set_axis_off()
        figure.colorbar(
            ScalarMappable(scale, DIVERGING),
            ax=axes,
            label="change in loss (nats)",
            fraction=0.04,
            pad=0.015,
            aspect=12,
        ).outline.set_visible(False)
        figure.suptitle(prose(title), x=0.01, ha="left")
        write_below(figure, table)
        finish_layout(figure)
    return figure
