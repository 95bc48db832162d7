"""How good is a circuit: what does it keep, is all of it needed, and is anything missing?

    run.save_figure(faithfulness_curves(run.table("curves")), "faithfulness")
    run.save_figure(minimality(run.table("minimality")), "minimality")
    run.save_figure(completeness(run.table("completeness")), "completeness")

Nothing is computed here.
"""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from interp.edge_looks import edge_sentence, signed_digits, strongest_edges
from interp.errors import UsageError
from interp.figures.curves import LINES
from interp.figures.intervals import draw_intervals, reach_of
from interp.figures.source import BARS, PLAIN, records_of
from interp.figures.style import (
    CODE_LINE,
    DASHES,
    DOTS,
    HOLLOW,
    MARKERS,
    MONO,
    SAVED,
    WIDTH,
    drawable,
    finish_layout,
    legible,
    print_style,
    prose,
    require,
)
from interp.verdicts import verdict_of

POINT = "#0173b2"
NAMED_POINTS = 12  # of a scatter, beyond which names would stand on each other
PERCENT = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]


def faithfulness_curves(
    table: pd.DataFrame,
    title: str = "How much of the model's answer the best edges keep",
    *,
    over: str = "texts",
) -> Figure:
    """What is kept of the model's answer, by the share of edges that run.

    Args:
        table: one row for each method and size: columns ``method``, ``share`` (of all edges, from 0
            to 1), ``edges`` (how many), ``faithfulness`` (0: as with every edge replaced, 1: as the
            whole model), ``ci_low ci_high``; and where these are over seeds, the interval over
            texts, ``texts_low texts_high``, drawn as a band that is fainter.
        title: the hypothesis.
        over: what the intervals are over.

    Raises:
        UsageError: a column is missing; no row; a share that is not above 0; one twice.
    """
    require(table, ["method", "share", "edges", "faithfulness", "ci_low", "ci_high"])
    if table.empty:
        raise UsageError("the table has no curves to draw")
    if not (table["share"] > 0).all():
        raise UsageError("a share of edges is 0 or less: a logarithmic axis cannot show it")
    if table.duplicated(["method", "share"]).any():
        raise UsageError("the table has two rows of one method and share: give one for each")
    methods = list(table["method"].drop_duplicates())
    wider = {"texts_low", "texts_high"} <= {*table}
    colors = sns.color_palette("colorblind", len(methods))
    with print_style():
        figure = Figure(figsize=(WIDTH, 4.6 + 0.14 * len(methods)), layout="constrained", dpi=SAVED)
        axes = figure.subplots()
        axes.set_xscale("log")
        for level, line in ((1.0, DASHES), (0.0, DOTS)):
            axes.axhline(level, color="0.4", linestyle=line, linewidth=0.9, zorder=1)
        for number, (method, color) in enumerate(zip(methods, colors, strict=True)):
            rows = table[table["method"] == method].sort_values("share")
            draw_method(axes, rows, number, color, wider)
        ends = [
            "faithfulness",
            "ci_low",
            "ci_high",
            *(["texts_low", "texts_high"] if wider else []),
        ]
        low, high = reach_of([1.0], *(table[name] for name in ends))
        axes.set_ylim(low if low < 0 else -0.03 * high, high)
        name_shares(axes, table)
        axes.set_ylabel("faithfulness\n(dashed, 1: the whole model; dotted, 0: no edge kept)")
        figure.legend(loc="outside lower left", ncols=min(3, len(methods)), fontsize=7.5)
        said = f"band: 95 % interval over {over}"
        said += "; fainter band: over texts" if wider else ""
        known = table["ci_low"].notna().any()
        axes.set_title(said if known else "no intervals", size=7, weight="normal", color="0.3")
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def draw_method(axes: Axes, rows: pd.DataFrame, number: int, color: Any, wider: bool) -> None:
    """One curve with its bands; colour, marker and dashes tell it from the others."""
    looks: dict[str, Any] = {"color": color, "linewidth": 0, "zorder": 1.5}
    if wider:
        axes.fill_between(rows["share"], rows["texts_low"], rows["texts_high"], alpha=0.1, **looks)
    axes.fill_between(rows["share"], rows["ci_low"], rows["ci_high"], alpha=0.22, **looks)
    axes.plot(
        rows["share"],
        rows["faithfulness"],
        color=color,
        marker=MARKERS[number % len(MARKERS)],
        linestyle=LINES[number % len(LINES)],
        label=legible(drawable(str(rows["method"].iloc[0]), MONO)),
    )


def name_shares(axes: Axes, table: pd.DataFrame) -> None:
    """Percents below, numbers of edges above."""
    least, most = float(table["share"].min()), float(table["share"].max())
    room = (most / least) ** 0.03 if most > least else 2.0
    axes.set_xlim(least / room, most * room)
    shown = [each for each in PERCENT if least / room <= each / 100 <= most * room]
    axes.set_xticks([each / 100 for each in shown], [f"{each:g} %" for each in shown])
    axes.minorticks_off()
    axes.set_xlabel("edges that run, of all (logarithmic)")
    above = axes.twiny()
    above.set_xscale("log")
    above.set_xlim(axes.get_xlim())
    sizes = table.drop_duplicates("share").sort_values("share")
    above.set_xticks(list(sizes["share"]), [f"{count:,.0f}" for count in sizes["edges"]], size=7)
    above.minorticks_off()
    above.grid(False)
    above.spines["top"].set_visible(False)
    above.tick_params(length=0)
    above.set_xlabel("how many edges", size=8)


def minimality(
    table: pd.DataFrame,
    title: str = "Is every edge of the circuit needed?",
    *,
    unit: str = "nats",
    at_most: int = 60,
) -> Figure:
    """Each edge of a circuit: what the circuit's answer changes by without it.

    Args:
        table: columns ``edge delta ci_low ci_high p_adjusted n``; hollow points show no effect:
            their edge may not be needed.
        title: the hypothesis.
        unit: of the metric.
        at_most: how many edges are drawn, those of the largest effect.

    Raises:
        UsageError: a column is missing; no row.
    """
    require(table, ["edge", "delta", "ci_low", "ci_high", "p_adjusted", "n"])
    if table.empty:
        raise UsageError("the table has no edges to draw")
    drawn = strongest_edges(table, at_most)
    title = f"{title} ({len(drawn)} of {len(table)})" if len(drawn) < len(table) else title
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.2 + 0.17 * len(drawn)), layout="constrained", dpi=SAVED)
        axes = figure.subplots()
        low, high = reach_of(*(drawn[name] for name in ("delta", "ci_low", "ci_high")))
        for place, row in enumerate(records_of(drawn)):
            draw_intervals(
                axes, float(place), row["ci_low"], row["ci_high"], capsize=1.5, color="0.2"
            )
            sure = verdict_of(row).is_effect
            color = POINT if sure else "white"
            axes.plot(row["delta"], place, "o", mfc=color, mec=POINT, mew=0.9, zorder=3)
            far = np.nanmax([0.0, row["delta"], row["ci_high"]]) + 0.015 * (high - low)
            axes.text(far, place, signed_digits(row["delta"]), va="center", size=6, color="0.3")
        axes.axvline(0, color="black", linewidth=0.8)
        names = [drawable(str(edge), MONO) for edge in drawn["edge"]]
        axes.set_yticks(range(len(drawn)), names, family=MONO, size=6.5)
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlim(low, high + 0.14 * (high - low))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"circuit without the edge, less the circuit ({unit})\n{BARS}; {HOLLOW}")
        axes.xaxis.label.set_fontsize(8)
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def completeness(
    table: pd.DataFrame,
    title: str = "Does the circuit miss what the whole model still has?",
    *,
    unit: str = "nats",
) -> Figure:
    """Parts cut from the circuit and from the whole model: both answers, side by side.

    A complete circuit loses by each cut what the model loses: its points lie on the line.

    Args:
        table: one row for each cut: columns ``without`` (what was cut), ``model`` (the whole
            model's answer without it), ``circuit`` (the circuit's), their difference ``delta`` with
            ``ci_low ci_high p_adjusted n``. Points with a difference are filled, and the largest
            are named.
        title: the hypothesis.
        unit: of the metric.

    Raises:
        UsageError: a column is missing; no row.
    """
    numbers = ["model", "circuit", "delta", "ci_low", "ci_high"]
    require(table, ["without", *numbers, "p_adjusted", "n"])
    if table.empty:
        raise UsageError("the table has no cuts to draw")
    found = strongest_edges(table, len(table))
    differing = [row for row in records_of(found) if verdict_of(row).is_effect][:NAMED_POINTS]
    said = [f"filled: they differ; hollow: no difference shown; dashed: alike; {BARS}"]
    for number, row in enumerate(differing, 1):
        said.append(f"{number}  {row['without']}  {edge_sentence(row, unit)}")
    with print_style():
        height = 4.6 + CODE_LINE * 1.2 * len(said)
        figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=SAVED)
        axes = figure.subplots()
        both = found[["model", "circuit"]].to_numpy(dtype=float)
        low, high = float(np.nanmin(both)), float(np.nanmax(both))
        room = 0.06 * (high - low or 1.0)
        axes.plot(*[(low - room, high + room)] * 2, color="0.4", linestyle=DASHES, linewidth=0.8)
        axes.set_xlim(low - room, high + room)
        for row in records_of(found[::-1]):
            draw_cut(axes, row)
        for number, row in enumerate(differing, 1):
            place = row["model"], row["circuit"]
            looks: dict[str, Any] = {"textcoords": "offset points", "size": 6.5, "zorder": 5}
            axes.annotate(f"{number}", place, xytext=(4, 3), **looks)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PLAIN)
        axes.set_xlabel(f"the whole model without the part ({unit})")
        axes.set_ylabel(f"the circuit without the part ({unit})")
        text = "\n".join(drawable(line, MONO) for line in said)
        label = figure.supxlabel(text, size=6.5, color="0.3", x=0.01, ha="left", family=MONO)
        label.set_linespacing(1.3)
        figure.suptitle(prose(title), x=0.01, ha="left")
        finish_layout(figure)
    return figure


def draw_cut(axes: Axes, row: dict[Any, Any]) -> None:
    """One part cut from both: a point, with the interval of the difference."""
    low, high = (row["model"] + row[end] for end in ("ci_low", "ci_high"))
    draw_intervals(axes, row["model"], low, high, along="y", capsize=0, color="0.6")
    color = POINT if verdict_of(row).is_effect else "white"
    axes.plot(row["model"], row["circuit"], "o", mfc=color, mec=POINT, ms=4, mew=0.8, zorder=3)
