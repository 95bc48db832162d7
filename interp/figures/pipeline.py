"""What does each step of a pipeline do, for the loss and for what is learned by heart?

Each function takes a table of the steps that were left out before training and returns a matplotlib
``Figure``; nothing is computed here but means.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from interp.figures.intervals import draw_intervals, reach_of
from interp.figures.source import DAMAGE, LEAK
from interp.figures.style import (
    CODE_SIZE,
    MARKERS,
    MONO,
    SANS,
    WIDTH,
    drawable,
    finish_layout,
    print_style,
    prose,
    require,
)
from interp.status import Status
from interp.verdicts import verdicts_of

ROW = 0.17  # inches for each line of a label
UNCHANGED = "same text: nothing to train"


def pipeline_steps(
    table: pd.DataFrame,
    trainings: pd.DataFrame | None = None,
    title: str = "What leaving out each step of the pipeline does for the loss",
) -> Figure:
    """A bar for each step left out, in the pipeline's order, with the line of code that it is.

    A bar is hollow where no effect is shown. One whose training text holds what the model is
    validated on is a leak: hatched, in another colour, and its loss means nothing. A step that
    changes no text has no bar.

    Args:
        table: ``variant places status delta ci_low ci_high p_adjusted n``; ``places`` are texts,
            each of one line.
        trainings: ``variant delta``, drawn as a point for each seed.
    """
    require(
        table,
        [
            *("variant", "places", "status", "delta"),
            *("ci_low", "ci_high", "p_adjusted", "n"),
        ],
    )
    rows = table.to_dict("records")
    verdicts = list(verdicts_of(table))
    heights = [max(2, 1 + len(row["places"])) * ROW for row in rows]
    middles = np.cumsum(heights) - np.array(heights) / 2
    points = pd.DataFrame({"variant": [], "delta": []}) if trainings is None else trainings
    low, high = reach_of(
        *(table[name] for name in ("delta", "ci_low", "ci_high")),
        points.loc[points["variant"].isin(table["variant"]), "delta"],
    )
    with print_style():
        figure = Figure(figsize=(WIDTH + 1.3, 1.3 + sum(heights)), layout="constrained")
        axes = figure.subplots()
        for row, verdict, y in zip(rows, verdicts, middles, strict=True):
            own = points.loc[points["variant"] == row["variant"], "delta"]
            draw_step_left_out(axes, float(y), row, verdict.is_effect, own, high - low)
        axes.set_ylim(sum(heights), 0)
        axes.set_xlim(low, high + 0.35 * (high - low))
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(
            "validation loss without the step, less with it (nats per character)\n"
            "error bars: 95 % intervals over seeds; points: seeds"
        )
        figure.suptitle(prose(title), x=0.01, ha="left")
        axes.legend(
            handles=[
                Patch(facecolor=DAMAGE, label="an effect"),
                Patch(facecolor="white", edgecolor=DAMAGE, label="no effect shown"),
                Patch(
                    facecolor="white", edgecolor=LEAK, hatch="////", label="a leak: not an effect"
                ),
            ],
            loc="upper center",
            bbox_to_anchor=(0.4, -0.62 / sum(heights)),
            ncols=3,
        )
        finish_layout(figure)
    return figure


def draw_step_left_out(
    axes: Axes, y: float, row: dict[Any, Any], is_effect: bool, seeds: pd.Series, reach: float
) -> None:
    """One bar with its interval, its seeds, its number and the code it stands for."""
    leak = row["status"] == Status.LEAK
    color = LEAK if leak else DAMAGE
    label = "\n".join([str(row["variant"]), *(drawable(one, MONO) for one in row["places"])])
    axes.text(
        -0.015,
        y,
        label,
        transform=axes.get_yaxis_transform(),
        ha="right",
        va="center",
        family=MONO,
        size=CODE_SIZE - 1.3,
        linespacing=1.25,
    )
    if row["status"] == Status.EQUIVALENT:
        axes.text(reach * 0.012, y, UNCHANGED, va="center", size=6, color="0.35")
        return
    if not np.isfinite(row["delta"]):
        axes.text(reach * 0.012, y, str(row["status"]), va="center", size=6, color="0.35")
        return
    axes.barh(
        y,
        row["delta"],
        height=ROW,
        color=color if is_effect else "white",
        edgecolor=color,
        hatch="////" if leak else "",
        linewidth=0.6,
    )
    draw_intervals(axes, y, row["ci_low"], row["ci_high"], capsize=1.5, linewidth=0.7)
    if len(seeds) > 1:
        places = y + np.linspace(-0.05, 0.05, len(seeds))
        axes.plot(seeds, places, "o", color="white", markeredgecolor="black", markersize=2.2)
    right = np.nanmax([row["ci_high"], row["delta"], 0.0, *seeds]) + reach * 0.012
    said = f"{row['delta']:+z.3f}" + ("  a leak" if leak else "")
    axes.text(right, y, said, va="center", size=6)


def memorised(
    trained: pd.DataFrame,
    panels: dict[str, Sequence[str]],
    names: dict[str, str],
    title: str = "What each variant knows by heart",
) -> Figure:
    """A row for each variant: the mean over seeds of what was measured, each seed a small point.

    Args:
        trained: ``variant seed measure value``.
        panels: the axis' name of each panel, and the measures in it.
        names: what a measure is called in the legend.
    """
    require(trained, ["variant", "seed", "measure", "value"])
    variants = list(dict.fromkeys(trained["variant"]))
    panels = {
        axis: [one for one in measures if one in set(trained["measure"])]
        for axis, measures in panels.items()
    }
    panels = {axis: measures for axis, measures in panels.items() if measures}
    palette = sns.color_palette("colorblind")
    with print_style():
        figure = Figure(figsize=(WIDTH + 1.3, 2.2 + 0.26 * len(variants)), layout="constrained")
        drawn = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
        for axes, (axis, measures) in zip(drawn, panels.items(), strict=False):
            for number, measure in enumerate(measures):
                rows = trained[trained["measure"] == measure]
                shift = (number - (len(measures) - 1) / 2) * 0.22
                y = rows["variant"].map(variants.index) + shift
                look = {"color": palette[number], "marker": MARKERS[number], "linestyle": ""}
                axes.plot(rows["value"], y, **look, markersize=2.5, alpha=0.45)
                means = rows.groupby("variant")["value"].mean()
                places = [variants.index(one) + shift for one in means.index]
                axes.plot(means, places, **look, markersize=5.5, label=names[measure])
            axes.set_xlim(*reach_of(trained.loc[trained["measure"].isin(measures), "value"]))
            axes.set_xlabel(axis)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.7 / (0.26 * len(variants) + 1)))
        drawn[0].set_yticks(range(len(variants)), variants, family=SANS)
        drawn[0].set_ylim(len(variants) - 0.4, -0.6)
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure
