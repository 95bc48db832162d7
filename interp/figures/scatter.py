"""How do two measurements of the same things agree: damage and lasting cost, approximate and exact?

    figure = damage_and_lasting_cost(run.table("lines"), run.table("trainings"))
    figure = approximate_against_exact(run.table(), run.table("audits"))

Nothing is computed here.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from interp.errors import UsageError
from interp.figures.intervals import draw_intervals, reach_of
from interp.figures.source import (
    BARS,
    DAMAGE,
    LEAK,
    PLAIN,
    cut_in_words,
    name_files,
    name_places,
    records_of,
    seeds_of,
    sort_by_line,
)
from interp.figures.style import (
    CODE,
    CODE_COLUMNS,
    CODE_LINE,
    HOLLOW,
    MARKERS,
    MONO,
    WIDTH,
    drawable,
    name_lines,
    print_style,
    prose,
    require,
)
from interp.status import Status
from interp.verdicts import verdict_of


def damage_and_lasting_cost(
    lines: pd.DataFrame, trainings: pd.DataFrame | None = None, metric: str = "loss"
) -> Figure:
    """Per line, the effect on the trained model against the effect of training without it.

    Args:
        lines: what ``annotated`` gives; lines that were retrained are drawn, those whose damage was
            not measured in a column of their own. Where it has a column ``edge``, each row is an
            edge that was cut in the source: it is numbered, and the key names it.
        trainings: ``surgery seed delta``, drawn as a point for each seed; those of the model as it
            is have an empty surgery, and stand in a column of their own: they are the noise.
        metric: what was measured, in words.

    Raises:
        UsageError: no line was retrained.
    """
    drawn = sort_by_line(lines[lines["retrained_delta"].notna()], lines)
    if drawn.empty:
        raise UsageError("no line of the table was retrained: cut some before training first")
    whose, places = "line", name_places(drawn)
    if "edge" in drawn:
        whose, places = "edge", [f"{number:3d}" for number in range(1, len(drawn) + 1)]
    drawn = drawn.assign(place=[place.strip() for place in places])
    measured, aside = drawn[drawn["delta"].notna()], drawn[drawn["delta"].isna()]
    with print_style():
        key = [key_line(*pair) for pair in zip(places, records_of(drawn), strict=True)]
        sides = 1.0 if aside.empty else 1.6
        below = (len(key) + 1) * CODE_LINE * 1.1
        figure = Figure(figsize=(WIDTH, 4.4 + below), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(sides, 6.0), height_ratios=(4.0, below))
        left = figure.add_subplot(grid[0, 0])
        axes = figure.add_subplot(grid[0, 1], sharey=left)
        legend = figure.add_subplot(grid[1, :])
        legend.set_axis_off()
        legend.text(0, 1, "\n".join([whose, *key]), font=CODE, va="top", linespacing=1.3)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_yscale("symlog", linthresh=0.01)
        whole = seeds_of(trainings, "")
        left.plot([0] * len(whole), whole, "_", color="0.3", ms=10)
        for row in records_of(measured):
            draw_point(axes, row["delta"], row, trainings)
        for row in records_of(aside):
            draw_point(left, 1.0, row, trainings)
        _, right = reach_of(measured["delta"], measured["ci_high"])
        end = float(max(measured["delta"].max(), drawn["retrained_delta"].max(), 0.0))
        axes.plot([0, end], [0, end], color="0.6", ls=(0, (4, 2)), lw=0.8, zorder=0)
        axes.axvline(0, color="0.7", lw=0.6)
        axes.set_xlim(right=2 * max(right, 0.05))
        for each in (left, axes):
            each.axhline(0, color="0.7", lw=0.6)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PLAIN)
        axes.tick_params(labelleft=False)
        names = ["as it is,\nother seeds", *([] if aside.empty else ["damage not\nmeasured"])]
        left.set_xlim(-0.6, len(names) - 0.4)
        left.set_xticks(range(len(names)), names, size=6)
        damage = f"damage: {metric} of the trained model with the {whose} cut, less without (nats)"
        axes.set_xlabel(textwrap.fill(damage, 74))
        left.set_ylabel(
            f"lasting cost: {metric} when trained\nwithout the {whose}, less with (nats)"
        )
        figure.suptitle(f"Damage and lasting cost of the {whose}s of {name_files(drawn['file'])}")
        figure.supxlabel(f"small points: seeds; {BARS}; {HOLLOW}; diamond: leak", size=6.5)
        figure.draw_without_rendering()
        name_points([(axes, measured), (left, aside.assign(delta=1.0))])
    return figure


def key_line(place: str, row: dict[Any, Any]) -> str:
    """A line of source and what became of it, for the key; before it the edge that it cuts."""
    edge = f"{drawable(str(row['edge']), MONO)}  {row['line']}: " if "edge" in row else ""
    text = f"{place}  {edge}{cut_in_words(row)}"
    return text if len(text) <= CODE_COLUMNS else f"{text[: CODE_COLUMNS - 1]}…"


def draw_point(axes: Axes, x: float, row: dict[Any, Any], trainings: pd.DataFrame | None) -> None:
    """One line's damage and lasting cost, each with its interval, and the seeds of the latter."""
    leak = Status.LEAK in (row["status"], row["retrained_status"])
    color = LEAK if leak else DAMAGE
    sure = verdict_of(row, "retrained_").is_effect
    looks: dict[str, Any] = {"capsize": 0, "linewidth": 0.9, "color": color}
    seeds = seeds_of(trainings, row["surgery"])
    axes.plot([x] * len(seeds), seeds, "o", color=color, mfc="white", ms=2, mew=0.5)
    draw_intervals(axes, row["retrained_delta"], row["ci_low"], row["ci_high"], **looks)
    low, high = row["retrained_ci_low"], row["retrained_ci_high"]
    draw_intervals(axes, x, low, high, along="y", **looks)
    axes.plot(
        x,
        row["retrained_delta"],
        "D" if leak else "o",
        color=color,
        mfc=color if sure and not leak else "white",
        ms=5,
    )


def name_points(drawn: Sequence[tuple[Axes, pd.DataFrame]]) -> None:
    """Each point's line number beside it, moved upwards where another's stands already."""
    for axes, rows in drawn:
        taken: list[tuple[float, float]] = []
        to_points = 72 / axes.figure.dpi
        for row in records_of(rows.sort_values("retrained_delta")):
            place = row["delta"], row["retrained_delta"]
            at = axes.transData.transform(place) * to_points
            x, y = at[0] + 6, at[1] + 4
            while any(abs(x - left) < 18 and abs(y - low) < 8 for left, low in taken):
                y += 2
            taken.append((x, y))
            far = y > at[1] + 8
            axes.annotate(
                row["place"],
                place,
                xytext=(x - at[0], y - at[1]),
                textcoords="offset points",
                family=MONO,
                size=7,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6"} if far else None,
            )


COLUMNS = 2
FILLED = "filled: among the largest scores; hollow: drawn at random"


def approximate_against_exact(
    table: pd.DataFrame, audits: pd.DataFrame, title: str = "What attribution says, and what is so"
) -> Figure:
    """Every site that was patched exactly: its approximate value across, its exact one upwards.

    Args:
        table: columns panel, kind, approximate, exact, why; a row for each site. Points are told
            apart by kind; those that were drawn at random are hollow.
        audits: columns panel, name, sites, correlation, slope, wrong_signs, with_effect; printed
            on the panel.
        title: the hypothesis.
    """
    require(table, ["panel", "kind", "approximate", "exact", "why"])
    columns = ["panel", "name", "sites", "correlation", "slope", "wrong_signs", "with_effect"]
    require(audits, columns)
    checked = table[table["exact"].notna()]
    panels = list(checked["panel"].drop_duplicates())
    kinds = list(checked["kind"].drop_duplicates())
    colors = dict(zip(kinds, sns.color_palette("colorblind", len(kinds)), strict=True))
    marks = {kind: MARKERS[number % len(MARKERS)] for number, kind in enumerate(kinds)}
    across = min(COLUMNS, len(panels))
    lines = -(-len(panels) // across)
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.0 + 3.8 * lines), layout="constrained")
        grid = figure.subplots(lines, across, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            rows = checked[checked["panel"] == panel]
            for kind in kinds:
                draw_points(axes, rows[rows["kind"] == kind], colors[kind], marks[kind])
            ends = identity_line(axes, rows)
            axes.set_xlim(ends)
            axes.set_ylim(ends)
            axes.set_box_aspect(1)
            said = [
                audit_sentence(row) for row in audits[audits["panel"] == panel].to_dict("records")
            ]
            axes.set_title(
                "\n".join(prose(line) for line in (str(panel), *said)),
                weight="normal",
                size=6,
                loc="left",
            )
            axes.set_xlabel("approximate (nats)")
            axes.set_ylabel("exact (nats)")
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        keys = [
            Line2D([], [], linestyle="", marker=marks[kind], color=colors[kind], label=kind)
            for kind in kinds
        ]
        keys.append(Line2D([], [], color="0.4", linewidth=0.8, label="exact = approximate"))
        legend = figure.legend(
            handles=keys,
            loc="outside lower left",
            ncols=len(keys),
            title="\n".join([FILLED, *name_lines(checked, by="kind")]),
        )
        legend.get_title().set(family=MONO, size=6.5, linespacing=1.3)
        legend.set_alignment("left")
        figure.suptitle(prose(title), x=0.01, ha="left")
        figure.draw_without_rendering()  # ticks are made late: now, in this style
    return figure


def draw_points(axes: Axes, rows: pd.DataFrame, color: Any, mark: str) -> None:
    for why, face in (("random", "none"), ("largest", color)):
        chosen = rows[rows["why"] == why]
        axes.scatter(
            chosen["approximate"],
            chosen["exact"],
            s=14,
            marker=mark,
            facecolors=face,
            edgecolors=[color] * len(chosen),
            linewidths=0.7,
            zorder=3,
        )


def identity_line(axes: Axes, rows: pd.DataFrame) -> tuple[float, float]:
    """Draw it, and give the ends of both axes."""
    values = rows[["approximate", "exact"]].to_numpy()
    low, high = float(np.min(values, initial=0)), float(np.max(values, initial=0))
    room = 0.06 * (high - low or 1.0)
    ends = (low - room, high + room)
    axes.plot(ends, ends, color="0.4", linewidth=0.8, zorder=1)
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.axvline(0, color="0.8", linewidth=0.6, zorder=0)
    return ends


def audit_sentence(audit: dict[str, object]) -> str:
    return (
        f"{audit['name']} ({audit['sites']}): correlation {audit['correlation']:.2f}, "
        f"slope {audit['slope']:.2f}, sign differs at {audit['wrong_signs']} "
        f"of {audit['with_effect']}"
    )
