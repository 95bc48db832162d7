"""What does a neuron ask, on which text does it fire, and what does it answer?

    figure = neuron_view(run.table("characters"), run.table("texts"))

A figure of result tables; nothing is computed here.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interp.characters import mark_spaces
from interp.errors import UsageError
from interp.figures.style import (
    CODE_SIZE,
    MONO,
    WIDTH,
    cell_text,
    drawable,
    print_style,
    require,
    write_below,
)

TEXTS = 6


def neuron_view(characters: pd.DataFrame, texts: pd.DataFrame) -> Figure:
    """One row per neuron: its question, the texts that fire it most, its answer.

    Args:
        characters: columns site, kind (``asks``, ``promotes`` or ``suppresses``), character, value.
            Where it has file, line and code, they are named below.
        texts: one row per character: columns site, rank, pos, character, activation; of rank 0 is
            the text with the highest activation.

    Raises:
        UsageError: a column is missing; no neuron.
    """
    require(characters, ["site", "kind", "character", "value"])
    require(texts, ["site", "rank", "pos", "character", "activation"])
    names = list(dict.fromkeys(characters["site"]))
    if not names:
        raise UsageError("the tables have no neuron to draw")
    with print_style():
        figure = Figure(figsize=(WIDTH, 0.5 + 1.75 * len(names)), layout="constrained")
        rows = figure.subfigures(len(names), 1, squeeze=False)[:, 0]
        for row, name in zip(rows, names, strict=True):
            row.suptitle(name, x=0.01, ha="left", size=9)
            asks, fires, answers = row.subplots(1, 3, width_ratios=[1, 1.5, 1.3])
            own = characters[characters["site"] == name]
            draw_values(asks, own[own["kind"] == "asks"], "embedding · W_in row")
            draw_texts(fires, texts[texts["site"] == name])
            draw_values(answers, own[own["kind"] != "asks"], "logit per unit of activation")
            for axes, title in ((asks, "asks for"), (fires, "fires most at"), (answers, "answers")):
                axes.set_title(title, size=8, weight="normal")
        write_below(figure, characters)
        figure.draw_without_rendering()
    return figure


def draw_values(axes: Axes, rows: pd.DataFrame, label: str) -> None:
    """Bars, largest first, named by characters as they can be seen."""
    values = rows.sort_values("value", ascending=False)
    places = np.arange(len(values))
    colors = ["#4c8cb5" if value >= 0 else "#c2571a" for value in values["value"]]
    axes.barh(places, values["value"], color=colors, height=0.7)
    names = [drawable(mark_spaces(character), MONO) for character in values["character"]]
    axes.set_yticks(places, names, family=MONO, size=7)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label, size=8)


def draw_texts(axes: Axes, rows: pd.DataFrame) -> None:
    """Texts in boxes, each character's as dark as the neuron's activation at it is high."""
    shown = rows[rows["rank"] < TEXTS]
    highest = max(float(shown["activation"].max()), 1e-9)
    colors = sns.color_palette("Blues", as_cmap=True)
    axes.set_axis_off()
    for row in shown.to_dict("records"):
        strength = max(row["activation"], 0.0) / highest
        x, y = row["pos"], row["rank"]
        axes.fill_between([x, x + 1], y, y + 0.9, color=colors(strength * 0.85), linewidth=0)
        letter, size = cell_text(row["character"], MONO, CODE_SIZE)
        axes.text(
            x + 0.5,
            y + 0.45,
            letter,
            family=MONO,
            size=size,
            linespacing=1.0,
            ha="center",
            va="center",
            color="white" if strength > 0.7 else "black",
        )
    for rank, top in shown.groupby("rank")["activation"].max().items():
        at = shown["pos"].max() + 1.3
        axes.text(at, float(str(rank)) + 0.45, f"{top:.2f}", size=7, va="center")
    axes.set_xlim(0, max(shown["pos"].max() + 3.5, 11))
    axes.set_ylim(TEXTS, 0)
