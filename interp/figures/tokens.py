"""Which tokens does a cut make harder to predict, and where in the text?

    run.save_figure(loss_change_by_token(run.table("by_token")), "by_token")
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

ACROSS = 64  # letters of a text in a row
PADDING = 0.5  # letters, beside a token of several


def loss_change_by_token(table: pd.DataFrame, title: str = "Which tokens suffer") -> Figure:
    """A bar for each token to be predicted: the change in its loss, with its interval.

    Args:
        table: columns token, delta, ci_low, ci_high (nats), n; drawn in this order. Where
            it has file, line and code, they are named below.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no tokens.
    """
    require(table, ["token", "delta", "ci_low", "ci_high", "n"])
    if table.empty:
        raise UsageError("the table has no tokens to draw")
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
            f"{tick_label(token)}\n{n}" for token, n in zip(table["token"], table["n"], strict=True)
        ]
        axes.set_xticks(places, names, size=7)
        axes.set_xlabel(f"{noun_of(table['token'])} to be predicted, and how often it was")
        axes.set_ylabel("change in loss (nats)")
        axes.grid(axis="x", visible=False)
        figure.suptitle(prose(title), x=0.01, ha="left")
        write_below(figure, table, notes="error bars: 95 % interval over occurrences")
        finish_layout(figure)
    return figure


def noun_of(tokens: pd.Series) -> str:
    """What tokens are called: characters, where each of them is one."""
    return "character" if (tokens.str.len() <= 1).all() else "token"


def loss_change_in_text(table: pd.DataFrame, title: str = "Where in the text it suffers") -> Figure:
    """Stretches of text, each token on the colour of the change in its loss.

    Args:
        table: columns example, pos, token, delta; one row for each token predicted. Where it has
            file, line and code, they are named below.
        title: the hypothesis.
    """
    require(table, ["example", "pos", "token", "delta"])
    rows = wrapped_rows(table)
    scale = centred(table["delta"])
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.1 + len(rows) * CODE_LINE * 1.7), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            edges = np.cumsum([0.0, *row["width"]])
            axes.pcolormesh(
                edges,
                [y + 0.05, y + 0.95],
                row["delta"].to_numpy()[None],
                norm=scale,
                cmap=DIVERGING,
            )
            for x, cell in zip(edges, row.to_dict("records"), strict=False):
                shown, size = cell_text(cell["token"], SANS, CODE_SIZE * cell["letters"])
                red, green, blue, _ = DIVERGING(scale(cell["delta"]))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(
                    x + cell["width"] / 2,
                    y + 0.5,
                    shown,
                    ha="center",
                    va="center",
                    size=min(CODE_SIZE, size),
                    linespacing=1.0,
                    color="white" if dark else "black",
                )
        axes.set_xlim(0, ACROSS)
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


def wrapped_rows(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of a text as it is drawn: as many tokens each as have room, with the ``letters`` of
    each and its ``width``. A single character takes one, also where its escape is drawn."""
    letters = [
        max(1, width_of(tick_label(token))) if len(token) > 1 else 1 for token in table["token"]
    ]
    table = table.assign(letters=letters)
    table["width"] = table["letters"] + PADDING * (table["letters"] > 1)
    rows = []
    for _, part in table.groupby("example", sort=False):
        part = part.sort_values("pos")
        row, used = [0], 0.0
        for width in part["width"]:
            used += width
            if used > ACROSS:
                row.append(row[-1] + 1)
                used = width
            else:
                row.append(row[-1])
        rows += [piece for _, piece in part.groupby(row[1:])]
    return rows
