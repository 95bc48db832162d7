"""How does a ladder of models look, from a table of letter pairs to a transformer?

Each function takes a result table and gives a matplotlib ``Figure``; nothing is computed here.

    figure = staircase(run.table("summary"), run.table("entropies"))
    run.save_figure(figure, "staircase")
"""

import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.figures.curves import draw_entropies
from interp.figures.diffs import draw_diff
from interp.figures.style import (
    CODE_LINE,
    MONO,
    WIDTH,
    drawable,
    print_style,
    prose,
    require,
)

STEP_LINES = 14  # the most lines of a step that the figure of all steps shows


def staircase(
    summary: pd.DataFrame,
    entropies: pd.DataFrame | None = None,
    title: str = "What each idea buys: validation loss, rung by rung",
) -> Figure:
    """The loss of each rung as a step down from the one before.

    Args:
        summary: one row per rung, in order: columns rung, train, val (nats per character), and
            published_low, published_high (NaN where nobody published a loss).
        entropies: n-gram entropies of the text (columns name, split, nats), drawn as lines across.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no rungs.
    """
    require(summary, ["rung", "train", "val", "published_low", "published_high"])
    if summary.empty:
        raise UsageError("the table has no rungs to draw")
    places = np.arange(len(summary))
    val = summary["val"].to_numpy()
    with print_style():
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(prose(title))
        axes.set_ylabel("loss (nats per character)")
        edges = np.append(places - 0.5, places[-1] + 0.5)
        axes.stairs(val, edges, baseline=None, color="black", linewidth=2, label="validation")
        axes.plot(places - 0.28, summary["train"], "^", color="0.45", label="train")
        low, high = summary["published_low"], summary["published_high"]
        known = low.notna().to_numpy()
        if known.any():
            middle = ((low + high) / 2)[known]
            axes.errorbar(
                places[known] + 0.28,
                middle,
                yerr=[middle - low[known], high[known] - middle],
                fmt="D",
                markerfacecolor="white",
                color=sns.color_palette("colorblind")[0],
                capsize=3,
                label="published (range of logs)",
            )
        floors = summary[["train", "val", "published_low"]].min(axis=1)  # a tread's free side
        for place, loss, floor in zip(places, val, floors, strict=True):
            axes.annotate(
                f"{loss:.4f}",
                (float(place), floor),
                xytext=(4, -6),
                textcoords="offset points",
                ha="center",
                va="top",
                size=8,
            )
        axes.set_xticks(places, [textwrap.fill(prose(name), 9) for name in summary["rung"]])
        axes.grid(axis="x", visible=False)
        axes.margins(y=0.1)
        if entropies is not None:
            draw_entropies(axes, entropies).set_label("n-gram entropies of the text")
        figure.legend(loc="outside lower center", ncols=4)
        figure.draw_without_rendering()
    return figure


def steps(summary: pd.DataFrame) -> Figure:
    """What each step changes in the code, beside what it gains.

    Args:
        summary: one row per rung, in order: columns rung, diff (a unified diff against the rung
            before; rows where it is empty are left out) and gain (nats per character).

    Raises:
        UsageError: a column is missing; no row has a diff.
    """
    require(summary, ["rung", "diff", "gain"])
    rows = summary[summary["diff"] != ""]
    if rows.empty:
        raise UsageError("no rung of the table has a diff to draw: climb at least two")
    shown = [changed(diff) for diff in rows["diff"]]
    heights = [(len(lines) + 2.6) * CODE_LINE * 1.1 for lines in shown]
    span = np.nan_to_num([0.0, rows["gain"].min(), rows["gain"].max()])
    low, high = min(span) * 1.1, max(max(span), np.ptp(span) * 0.5, 1e-3) * 1.6
    with print_style():
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(
            len(rows), 2, squeeze=False, width_ratios=[1, 3.4], height_ratios=heights
        )
        for (bar, text), row, lines in zip(grid, rows.to_dict("records"), shown, strict=True):
            gain = row["gain"]
            color = "#4c8cb5" if gain >= 0 else "#c2571a"
            bar.barh(0, gain, height=0.5, color=color, hatch="" if gain >= 0 else "////")
            bar.axvline(0, color="black", linewidth=0.8)
            bar.set_xlim(low, high)
            bar.set_ylim(-1, 1)
            said = f"{gain:+.3f}" if np.isfinite(gain) else "unknown"
            bar.text(max(np.nan_to_num(gain), 0), 0, f" {said}", va="center", size=8)
            bar.set_title(prose(row["rung"]), size=9)
            bar.set_yticks([])
            bar.tick_params(labelbottom=False, bottom=False)
            bar.grid(False)
            for side in ("left", "bottom"):
                bar.spines[side].set_visible(False)
            draw_diff(text, lines)
        figure.suptitle(
            "What each step gains (nats per character, one seed), and its code", ha="left", x=0
        )
        figure.draw_without_rendering()
    return figure


def changed(diff: str) -> list[str]:
    """The lines of a diff that are put in or taken out, as many as a figure can show."""
    kept = [
        line
        for line in drawable(diff, MONO).splitlines()
        if line[:1] in "+-" and line[:3] not in ("---", "+++") and line[1:].strip()
    ]
    kept += [""] * (4 - len(kept))  # so that the rows of a figure are lines of one height
    cut = [line if len(line) <= 84 else line[:83] + "…" for line in kept]
    if len(cut) <= STEP_LINES:
        return cut
    return [*cut[: STEP_LINES - 1], f" … {len(cut) - STEP_LINES + 1} changed lines more"]


def scaled_scores(table: pd.DataFrame) -> Figure:
    """Why attention divides its scores: their variance, and the entropy of attention.

    Args:
        table: one row per head size and way: columns d_head, scaled (bool), variance, variance_sd,
            entropy, entropy_sd (nats), uniform (nats: the entropy of looking everywhere alike). An
            error bar is one standard deviation over draws.
    """
    columns = ["d_head", "scaled", "variance", "variance_sd", "entropy", "entropy_sd", "uniform"]
    require(table, columns)
    palette = sns.color_palette("colorblind")
    looks = {False: ("as they are", palette[3], "s"), True: ("divided by √d_k", palette[0], "o")}
    with print_style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for scaled, (name, color, marker) in looks.items():
            rows = table[table["scaled"] == scaled].sort_values("d_head")
            for axes, value in ((left, "variance"), (right, "entropy")):
                axes.errorbar(
                    rows["d_head"],
                    rows[value],
                    yerr=rows[f"{value}_sd"],
                    color=color,
                    marker=marker,
                    linestyle="-" if scaled else "--",
                    capsize=2,
                    label=f"scores {name}",
                )
        right.axhline(table["uniform"].iloc[0], color="0.25", linestyle=":", linewidth=1.1)
        right.text(
            table["d_head"].max(),
            table["uniform"].iloc[0],
            "looks everywhere alike",
            ha="right",
            va="bottom",
            size=8,
            color="0.25",
        )
        left.set_yscale("log", base=2)
        left.set_ylabel("variance of scores")
        right.set_ylabel("entropy of attention (nats)")
        right.set_ylim(0, table["uniform"].max() * 1.12)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xlabel("width of the head, d_k")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.legend(loc="upper left")
        figure.suptitle(
            "Unscaled, a wide head looks at one token alone (queries and keys of variance 1)",
            x=0.01,
            ha="left",
        )
        figure.draw_without_rendering()
    return figure
