"""What does a neuron ask, on which text does it fire, and what does it answer?

    figure = neuron_view(run.table("characters"), run.table("texts"))

A figure of result tables; nothing is computed here.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interp.characters import mark_spaces, width_of
from interp.errors import UsageError
from interp.figures.style import (
    CODE_SIZE,
    MONO,
    WIDTH,
    cell_text,
    drawable,
    print_style,
    require,
    tick_label,
    write_below,
)
from interp.verdicts import verdict_of

TEXTS = 6
ACROSS = 84  # letters of a text of tokens


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


def neuron_effects(effects: pd.DataFrame, texts: pd.DataFrame) -> Figure:
    """One panel per neuron: its effect in words, and the tokens at which it is farthest from zero.

    Args:
        effects: columns site, delta, ci_low, ci_high (nats), and what else ``verdict_of`` reads; a
            row per neuron, drawn in this order. Where it has file, line and code, they are named
            below.
        texts: one row per token: columns site, rank, pos, character (the token), activation, top.

    Raises:
        UsageError: a column is missing; no neuron.
    """
    require(effects, ["site", "delta", "ci_low", "ci_high"])
    require(texts, ["site", "rank", "pos", "character", "activation", "top"])
    if effects.empty:
        raise UsageError("the tables have no neuron to draw")
    with print_style():
        figure = Figure(figsize=(WIDTH, 0.5 + 1.45 * len(effects)), layout="constrained")
        panels = figure.subplots(len(effects), 1, squeeze=False)[:, 0]
        for axes, row in zip(panels, effects.to_dict("records"), strict=True):
            told = f"{row['site']}: at its mean, loss {row['delta']:+.4f} nats"
            if np.isfinite([row["ci_low"], row["ci_high"]]).all():
                told += f" ({row['ci_low']:+.4f} to {row['ci_high']:+.4f}): {verdict_of(row)}"
            axes.set_title(told, size=8, weight="normal", loc="left")
            draw_token_texts(axes, texts[texts["site"] == row["site"]])
        write_below(figure, effects)
        figure.draw_without_rendering()
    return figure


def draw_token_texts(axes: Axes, rows: pd.DataFrame) -> None:
    """Texts in boxes as wide as their tokens, those at which the neuron is farthest from zero one
    below the other, each as dark as it is there."""
    shown = rows[rows["rank"] < TEXTS]
    highest = max(float(shown["activation"].abs().max()), 1e-9)
    colors = sns.color_palette("Blues", as_cmap=True)
    axes.set_axis_off()
    least, most = 0.0, 1.0
    for rank, text in shown.groupby("rank"):
        y = float(str(rank))
        labels = [tick_label(token) for token in text["character"]]
        edges = np.cumsum([0.0, *(max(1, width_of(label)) + 0.6 for label in labels)])
        edges -= edges[text["top"].to_numpy().argmax()]
        least, most = min(least, edges[0]), max(most, edges[-1])
        for x, end, label, value in zip(
            edges, edges[1:], labels, text["activation"].abs() / highest, strict=False
        ):
            axes.fill_between([x, end], y, y + 0.9, color=colors(value * 0.85), linewidth=0)
            color = "white" if value > 0.7 else "black"
            place = ((x + end) / 2, y + 0.45)
            axes.text(*place, label, size=CODE_SIZE - 1, ha="center", va="center", color=color)
    tops = shown[shown["top"]]
    for y, top in zip(tops["rank"], tops["activation"], strict=True):
        axes.text(most + 1, float(y) + 0.45, f"{top:+.2f}", size=7, va="center")
    axes.set_xlim(least, max(most + 8, least + ACROSS))
    axes.set_ylim(TEXTS, 0)


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
