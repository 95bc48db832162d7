"""How large are losses and effects, side by side?

    run.save_figure(loss_bars(run.table()), "losses")
    run.save_figure(ranked_effects(run.table()), "components")

Each function takes a result table and returns a matplotlib ``Figure``; nothing is computed here
but means and spreads over seeds.
"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from interp.figures.curves import Look, curves_of, looks_of, titled
from interp.figures.intervals import draw_intervals, reach_of
from interp.figures.style import (
    CODE,
    CODE_LINE,
    CODE_SIZE,
    HOLLOW,
    MONO,
    WIDTH,
    count_lines,
    drawable,
    finish_layout,
    place_and_code,
    print_style,
    prose,
    require,
)
from interp.verdicts import FEWEST, verdict_of, verdicts_of


def loss_bars(table: pd.DataFrame, stopped: str = "") -> Figure:
    """Each variant's best and last validation loss: bars to the mean over seeds, a point for each
    seed, an error bar of one standard deviation over seeds where there are three or more.

    ``stopped`` is said in the title of trainings that did not come to their end.

    Raises:
        UsageError: a column is missing; no row is of the validation split.
    """
    curves = curves_of(table, "val")
    looks = looks_of(curves)
    by_seed = curves.sort_values("step").groupby(["variant", "seed"])["loss"]
    best = by_seed.agg(lambda losses: losses.min(skipna=False))
    last = by_seed.agg(lambda losses: losses.iloc[-1])
    low, high = reach_of(*(ends(losses[v]) for losses in (best, last) for v in looks), room=0.0)
    longest = max(high, 1e-6)
    with print_style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        axes.set_title(prose(titled("Best and last validation loss of every variant", stopped)))
        most = int(best.groupby("variant").size().max())
        spread = {1: "one seed, no spread", 2: "points: seeds"}
        said = spread.get(most, "points: seeds; error bars: ± sd over three seeds or more")
        axes.set_xlabel(f"validation loss (nats per character); {said}")
        y = 0.0  # in lines of code, from the top
        for variant, look in looks.items():
            y += 1.5
            axes.text(0, y, prose(variant), weight="bold", va="bottom")
            if look.label:
                y += count_lines("\n".join(look.label)) + 0.2
                axes.text(0, y, "\n".join(look.label), font=CODE, va="bottom", linespacing=1.25)
            draw_bar(axes, y + 0.9, "best", best[variant], look, longest, hatch="")
            draw_bar(axes, y + 2.4, "last", last[variant], look, longest, hatch="////")
            y += 4.0
        figure.set_size_inches(WIDTH, 0.9 + y * CODE_LINE)
        axes.set_ylim(y, 0)
        axes.set_xlim(low, longest * 1.3)
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        figure.draw_without_rendering()
    return figure


def draw_bar(
    axes: Axes,
    y: float,
    kind: str,
    losses: pd.Series,
    look: Look,
    longest: float,
    hatch: str,
) -> None:
    """A bar to the mean over seeds, the seeds on it, and the numbers beside it."""
    mean = losses.mean(skipna=False)
    if not np.isfinite(mean):
        axes.text(longest * 0.02, y, f"{kind}: not finite", va="center", size="small")
        return
    blend = sns.blend_palette(["white", look.color], 3)
    light = blend[0] if look.leak else blend[1]  # points and error bars stay visible on it
    axes.barh(y, mean, height=1.3, color=light, edgecolor=look.color, hatch=hatch, linewidth=0.8)
    low, high, *_ = ends(losses)
    draw_intervals(axes, y, low, high, capsize=3, linewidth=1)
    if len(losses) > 1:
        rows = y + np.linspace(-0.35, 0.35, len(losses))
        axes.plot(losses, rows, "o", color="white", markeredgecolor="black", markersize=3)
    text = f"{kind} {mean:.3f}" + (f" ± {(high - low) / 2:.3f}" if np.isfinite(low) else "")
    right = np.nanmax(ends(losses)) + longest * 0.02
    axes.text(right, y, text, va="center", size="small")


def ends(losses: pd.Series) -> list[float]:
    """What a bar's error bar reaches, NaN from fewer than three seeds; and the seeds."""
    spread = losses.std() if len(losses) >= FEWEST else np.nan
    return [losses.mean() - spread, losses.mean() + spread, *losses]


HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "oo", "++")


PARTS_SHOWN = 60
"""Parts of a ranking: more would make a figure longer than a page."""


def ranked_effects(
    table: pd.DataFrame, title: str = "What the loss loses without each part"
) -> Figure:
    """One pair of bars for each part, the largest effect on top, each with its interval.

    Args:
        table: columns site, kind, intervention, delta, ci_low, ci_high, p_adjusted, file, line,
            code; a row for each part and intervention. Bars are coloured and hatched by kind.
        title: the hypothesis. Of more than ``PARTS_SHOWN`` parts the ones with the largest effects
            are shown, and it says so.
    """
    require(
        table,
        [
            *("site", "kind", "intervention", "file", "line", "code"),
            *("delta", "ci_low", "ci_high", "p_adjusted"),
        ],
    )
    largest = table["delta"].abs().groupby(table["site"], sort=False).max()
    if len(largest) > PARTS_SHOWN:
        title = f"{title} (the {PARTS_SHOWN} of {len(largest)} with the largest effects)"
        table = table[table["site"].isin(largest.nlargest(PARTS_SHOWN).index)]
    ways = list(table["intervention"].drop_duplicates())
    order = table.groupby("site")["delta"].max().sort_values(ascending=False).index
    looks = looks_of_kinds(table)
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
                f"{part_name(first)}\n{place_and_code(first)}",
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
        legend = figure.legend(  # below: bars to the left have their numbers wherever there is room
            handles=keys, loc="outside lower right", ncols=4, title=marks_meaning(table)
        )
        legend.set_alignment("left")
        finish_layout(figure)
    return figure


def looks_of_kinds(table: pd.DataFrame) -> dict[str, tuple[Any, str]]:
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
