"""How far is an approximation from the exact values that were checked?

    figure = approximate_against_exact(run.table(), run.table("audits"))
    run.save_figure(figure, "approximations")

Nothing is computed here: the tables are those of ``interp.attribution``, one after another.
"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from interp.figures import MARKERS, WIDTH, print_style, prose, require

COLUMNS = 2


def approximate_against_exact(
    table: pd.DataFrame, audits: pd.DataFrame, title: str = "What attribution says, and what is so"
) -> Figure:
    """Every site that was patched exactly: its approximate value across, its exact one upwards.

    Args:
        table: columns panel, kind, approximate, exact, why; a row for each site. Points are told
            apart by kind; those that were drawn at random are hollow.
        audits: columns panel, name, sites, correlation, slope, wrong_signs; printed on the panel.
        title: the hypothesis.
    """
    require(table, ["panel", "kind", "approximate", "exact", "why"])
    require(audits, ["panel", "name", "sites", "correlation", "slope", "wrong_signs"])
    checked = table[table["exact"].notna()]
    panels = list(checked["panel"].drop_duplicates())
    kinds = list(checked["kind"].drop_duplicates())
    colors = dict(zip(kinds, sns.color_palette("colorblind", len(kinds)), strict=True))
    marks = {kind: MARKERS[number % len(MARKERS)] for number, kind in enumerate(kinds)}
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.0 + 3.8 * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            rows = checked[checked["panel"] == panel]
            for kind in kinds:
                draw_points(axes, rows[rows["kind"] == kind], colors[kind], marks[kind])
            ends = identity_line(axes, rows)
            axes.set_xlim(ends)
            axes.set_ylim(ends)
            axes.set_box_aspect(1)
            said = [sentence(row) for row in audits[audits["panel"] == panel].to_dict("records")]
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
            title="filled: among the largest scores; hollow: drawn at random",
        )
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


def sentence(audit: dict[str, object]) -> str:
    return (
        f"{audit['name']} ({audit['sites']}): correlation {audit['correlation']:.2f}, "
        f"slope {audit['slope']:.2f}, sign differs at {audit['wrong_signs']}"
    )
