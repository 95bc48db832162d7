"""Which parts of a model matter most, and which characters suffer without one?

    run.save_figure(ranked_effects(run.table()), "components")
    run.save_figure(suffering_characters(run.table("characters")), "characters")
    run.save_figure(suffering_text(run.table("tokens")), "text")

Each function takes a result table and gives a matplotlib ``Figure``; nothing is computed here.
"""

from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from interp.characters import marked
from interp.errors import UsageError
from interp.figures import (
    CODE_LINE,
    CODE_SIZE,
    MONO,
    SANS,
    WIDTH,
    drawable,
    print_style,
    prose,
    require,
)
from interp.heatmaps import DIVERGING, centred, settle, sign
from interp.intervals import draw_intervals, reach_of
from interp.verdicts import verdict_of, verdicts_of

HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "oo", "++")
HOLLOW = "hollow: no effect shown"
CODE_SHOWN = 44  # characters of code beside a bar


def ranked_effects(
    table: pd.DataFrame, title: str = "What the loss loses without each part"
) -> Figure:
    """One pair of bars for each part, the largest effect on top, each with its interval.

    Args:
        table: columns site, kind, intervention, delta, ci_low, ci_high, p_adjusted, file, line,
            code; a row for each part and intervention. Bars are coloured and hatched by kind.
        title: the hypothesis.
    """
    require(
        table,
        [
            *("site", "kind", "intervention", "file", "line", "code"),
            *("delta", "ci_low", "ci_high", "p_adjusted"),
        ],
    )
    ways = list(table["intervention"].drop_duplicates())
    order = table.groupby("site")["delta"].max().sort_values(ascending=False).index
    looks = looks_of(table)
    with print_style():
        figure = Figure(
            figsize=(WIDTH + 1.3, 1.5 + len(order) * (len(ways) * 0.14 + 0.12)),
            layout="constrained",
        )
        axes = figure.subplots()
        low, high = reach_of(*(table[name] for name in ("delta", "ci_low", "ci_high")))
        for place, site in enumerate(order):
            rows = table[table["site"] == site].set_index("intervention")
            for number, way in enumerate(ways):
                if way in rows.index:
                    y = place + (number - (len(ways) - 1) / 2) * 0.4
                    draw_effect(axes, y, rows.loc[way].to_dict(), way, looks, high - low)
            first = rows.iloc[0].to_dict()
            axes.text(
                -0.015,
                place,
                f"{part_name(first)}\n{where(first)}",
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
                family=MONO,
                size=CODE_SIZE - 1.5,
                linespacing=1.2,
            )
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(low, high + 0.3 * (high - low))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("change in loss (nats per token); error bars: 95 % interval over texts")
        figure.suptitle(prose(title), x=0.01, ha="left")
        keys = [
            Patch(facecolor=color, hatch=hatch, edgecolor="black", linewidth=0.4, label=kind)
            for kind, (color, hatch) in looks.items()
        ]
        legend = axes.legend(handles=keys, loc="lower right", title=marks_meaning(table))
        legend.set_alignment("left")
        settle(figure)
    return figure


def looks_of(table: pd.DataFrame) -> dict[str, tuple[Any, str]]:
    """A colour and a hatch for each kind, so that they are told apart in grey too."""
    kinds = list(table["kind"].drop_duplicates())
    palette = sns.color_palette("colorblind", len(kinds))
    return {
        kind: (palette[number], HATCHES[number % len(HATCHES)]) for number, kind in enumerate(kinds)
    }


def marks_meaning(table: pd.DataFrame) -> str:
    hollow = not all(verdict.is_effect for verdict in verdicts_of(table))
    return HOLLOW if hollow else "kind of part"


def draw_effect(
    axes: Axes,
    y: float,
    row: dict[str, Any],
    way: str,
    looks: dict[str, tuple[Any, str]],
    reach: float,
) -> None:
    """One bar with its interval, its number and the name of the intervention."""
    color, hatch = looks[row["kind"]]
    sure = verdict_of(row).is_effect
    axes.barh(
        y,
        row["delta"],
        height=0.36,
        color=color if sure else "white",
        edgecolor="black" if sure else color,
        hatch=hatch,
        linewidth=0.4,
    )
    draw_intervals(axes, y, row["ci_low"], row["ci_high"], capsize=1.5, linewidth=0.7)
    right = np.nanmax([row["ci_high"], row["delta"], 0.0]) + reach * 0.012
    axes.text(right, y, f"{way} {row['delta']:+z.3f}", va="center", size=5.5)


def part_name(row: dict[str, Any]) -> str:
    return drawable(str(row["site"]), MONO)


def where(row: dict[str, Any]) -> str:
    """File, line and code; an edited file by the name of the file that was edited."""
    code = drawable(str(row["code"]), MONO)
    code = code if len(code) <= CODE_SHOWN else code[: CODE_SHOWN - 1] + "…"
    return f"{PurePosixPath(str(row['file'])).name.partition(':')[0]}:{row['line']:.0f} {code}"


def suffering_characters(table: pd.DataFrame, title: str = "Which characters suffer") -> Figure:
    """A bar for each character to be predicted: the change in its loss, with its interval.

    Args:
        table: columns character, delta, ci_low, ci_high (nats), n; drawn in this order.
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
            f"{sign(character)}\n{n}"
            for character, n in zip(table["character"], table["n"], strict=True)
        ]
        axes.set_xticks(places, names, size=7)
        axes.set_xlabel("character to be predicted, and how often it was")
        axes.set_ylabel("change in loss (nats)")
        axes.grid(axis="x", visible=False)
        figure.suptitle(prose(title), x=0.01, ha="left")
        settle(figure)
    return figure


def suffering_text(table: pd.DataFrame, title: str = "Where in the text it suffers") -> Figure:
    """Stretches of text, each character on the colour of the change in its loss.

    Args:
        table: columns example, pos, character, delta; one row for each character predicted.
        title: the hypothesis.
    """
    require(table, ["example", "pos", "character", "delta"])
    examples = list(table["example"].drop_duplicates())
    wrapped = 64
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
                shown = drawable(marked(character), SANS)
                red, green, blue, _ = DIVERGING(scale(delta))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(
                    x + 0.5,
                    y + 0.5,
                    shown,
                    ha="center",
                    va="center",
                    size=CODE_SIZE if len(shown) == 1 else CODE_SIZE - 3,
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
        settle(figure)
    return figure
