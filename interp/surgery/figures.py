"""How do the effects of lines look?

Each function takes a table that ``annotated`` or a study has made, and gives a matplotlib
``Figure``. Nothing is computed here; whether a bar is hollow is the verdict of its row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from interp.errors import UsageError
from interp.figures import MONO, drawable, print_style
from interp.intervals import draw_intervals, reach_of
from interp.surgery.annotate import MARKS
from interp.verdicts import verdict_of, verdicts_of

TELLING = ("changed", "leak", "nonfinite", "mismatch", "error", "timeout")
DAMAGE, LEAK = "#c2571a", "#7a3b8f"
NATS = "loss with the cut, less without (nats)"
BARS = "error bars: 95 % intervals, from three texts or seeds on"
HOLLOW = "hollow: no effect shown"
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def annotated_source(lines: pd.DataFrame, trainings: pd.DataFrame | None = None) -> Figure:
    """The source with a bar on each line, post hoc and retrained side by side.

    Args:
        lines: what ``annotated`` gives; lines whose cut says something about the trained model are
            drawn, and the heads of the functions in which they are.
        trainings: ``surgery seed delta``, drawn as a point for each seed.

    Raises:
        UsageError: no line has an effect.
    """
    telling = lines["status"].isin(TELLING)
    heads = lines["code"].str.match(r"\s*(async def|def)\b")
    classes = lines["code"].str.match(r"class\b")
    kept = telling.copy()
    for head in (heads | classes, classes):  # a head is shown where something below it is
        kept |= head & telling.groupby(head.cumsum()).transform("any")
    shown = lines[kept]
    if not telling.any():
        raise UsageError("no line of the table has an effect: cut some with posthoc() first")
    y = np.arange(len(shown))
    again = shown["retrained_delta"].notna().any()
    texts = [f"{row['line']:4d}  {drawable(row['code'], MONO)}"[:112] for row in rows_of(shown)]
    widths = (1.5, 1.5 if again else 0.01, 0.055 * max(70, *map(len, texts)))  # inches
    with print_style():
        size = (0.4 + sum(widths), 1.0 + 0.145 * len(shown))
        figure = Figure(figsize=size, layout="constrained")
        left, right, code = figure.subplots(1, 3, width_ratios=widths, sharey=True)
        draw_bars(left, y, shown, "", "trained model, line cut")
        if again:
            draw_bars(right, y, shown, "retrained_", "trained without it")
            draw_seeds(right, y, shown, trainings)
        else:
            right.axis("off")
        for height, text, status in zip(y, texts, shown["status"], strict=True):
            quiet = status in ("", "dead", "equivalent")
            code.text(
                0,
                height,
                text,
                family=MONO,
                size=6,
                va="center",
                color="0.5" if quiet else "black",
            )
        code.set_xlim(0, 1)
        code.axis("off")
        left.set_ylim(len(shown) - 0.5, -0.5)
        left.set_yticks([])
        marks = "  ".join(f"{mark} {status}" for status, mark in MARKS.items() if mark)
        figure.suptitle(f"What each line of {shown['file'].iloc[0]} does for the loss")
        figure.supxlabel(f"{NATS}; {HOLLOW}\n{BARS}     {marks}", size=7)
    return figure


def draw_bars(axes: Axes, y: np.ndarray, rows: pd.DataFrame, kind: str, title: str) -> None:
    """A bar for each row with its interval and its number; hollow where no effect is shown."""
    values, low, high = (rows[f"{kind}{name}"] for name in ("delta", "ci_low", "ci_high"))
    status, verdicts = rows[f"{kind}status"], verdicts_of(rows, kind)
    leaks = status == "leak"
    sure = leaks | verdicts.map(lambda verdict: verdict.is_effect)
    colors = [LEAK if leak else DAMAGE for leak in leaks]
    bars = axes.barh(y, values.fillna(0.0), color=colors, height=0.8)
    for one, color, leak, known in zip(bars, colors, leaks, sure, strict=True):
        one.set_hatch("////" if leak else "")
        if not known:
            one.set(facecolor="white", edgecolor=color, linewidth=0.6)
    draw_intervals(axes, y, low, high, capsize=1, linewidth=0.6, color="0.2")
    least, most = reach_of(values, low, high)
    for height, row in zip(y, rows_of(rows), strict=True):
        value, end = row[f"{kind}delta"], row[f"{kind}ci_high"]
        number = "" if np.isnan(value) else f"{value:+.2g}"  # a short bar beside a long one is none
        text = f"{number} {MARKS.get(row[f'{kind}status'], '')}".strip()
        right = 0.02 * (most - least) + np.nanmax([0.0, value, end])
        axes.text(right, height, text, size=5, va="center", color="0.35")
    axes.set_xlim(least, most + 0.3 * (most - least))
    axes.set_title(title, size=7)
    axes.tick_params(labelsize=6)
    axes.grid(axis="y", visible=False)


def draw_seeds(
    axes: Axes, y: np.ndarray, rows: pd.DataFrame, trainings: pd.DataFrame | None
) -> None:
    """A point for each seed of what was retrained."""
    for height, surgery in zip(y, rows["surgery"], strict=True):
        points = seeds_of(trainings, surgery)
        axes.plot(points, [height] * len(points), "o", color="0.15", mfc="white", ms=1.8, mew=0.5)


def seeds_of(trainings: pd.DataFrame | None, surgery: str) -> list[float]:
    """The difference of each seed; the model as it is has an empty surgery."""
    if trainings is None:
        return []
    return list(trainings.loc[trainings["surgery"] == surgery, "delta"].dropna())


def damage_and_lasting_cost(lines: pd.DataFrame, trainings: pd.DataFrame | None = None) -> Figure:
    """Per line, the effect on the trained model against the effect of training without it.

    Args:
        lines: what ``annotated`` gives; lines that were retrained are drawn, those whose damage was
            not measured in a column of their own.
        trainings: ``surgery seed delta``, drawn as a point for each seed; those of the model as it
            is have an empty surgery, and stand in a column of their own: they are the noise.

    Raises:
        UsageError: no line was retrained.
    """
    drawn = lines[lines["retrained_delta"].notna()].sort_values("line")
    if drawn.empty:
        raise UsageError("no line of the table was retrained: cut some before training first")
    measured, aside = drawn[drawn["delta"].notna()], drawn[drawn["delta"].isna()]
    with print_style():
        key = [f"{row['line']:4d}  {drawable(row['after'], MONO)}"[:48] for row in rows_of(drawn)]
        figure = Figure(figsize=(10.0, 5.4), layout="constrained")
        left, axes, legend = figure.subplots(1, 3, width_ratios=(1.5, 5.6, 3.2))
        left.sharey(axes)
        legend.set_axis_off()
        legend.text(0, 1, "line  becomes", weight="bold", size=6.5, va="top", family=MONO)
        legend.text(0, 0.96, "\n".join(key), size=6.2, va="top", family=MONO, linespacing=1.5)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_yscale("symlog", linthresh=0.01)
        whole = seeds_of(trainings, "")
        left.plot([0] * len(whole), whole, "_", color="0.3", ms=10)
        for row in rows_of(measured):
            draw_point(axes, row["delta"], row, trainings)
        for row in rows_of(aside):
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
        left.set_xlim(-0.6, 1.6)
        left.set_xticks([0, 1], ["as it is,\nother seeds", "damage not\nmeasured"], size=5.5)
        axes.set_xlabel("damage: loss of the trained model with the line cut, less without (nats)")
        left.set_ylabel("lasting cost: loss when trained without the line, less with (nats)")
        figure.suptitle(f"Damage and lasting cost of the lines of {drawn['file'].iloc[0]}")
        figure.supxlabel(f"small points: seeds; {BARS}; {HOLLOW}; diamond: leak", size=7)
        figure.draw_without_rendering()
        name_points([(axes, measured), (left, aside.assign(delta=1.0))])
    return figure


def draw_point(axes: Axes, x: float, row: dict[Any, Any], trainings: pd.DataFrame | None) -> None:
    """One line's damage and lasting cost, each with its interval, and the seeds of the latter."""
    leak = "leak" in (row["status"], row["retrained_status"])
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
        for row in rows_of(rows.sort_values("retrained_delta")):
            place = row["delta"], row["retrained_delta"]
            at = axes.transData.transform(place) * to_points
            x, y = at[0] + 6, at[1] + 4
            while any(abs(x - left) < 18 and abs(y - low) < 8 for left, low in taken):
                y += 2
            taken.append((x, y))
            far = y > at[1] + 8
            axes.annotate(
                str(row["line"]),
                place,
                xytext=(x - at[0], y - at[1]),
                textcoords="offset points",
                family=MONO,
                size=7,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6"} if far else None,
            )


def line_by_layer(lines: pd.DataFrame, at_most: int = 45) -> Figure:
    """Each line's effect in each layer alone, and in all layers together in a column of its own:
    effects do not add up.

    Args:
        lines: what ``annotated`` gives.
        at_most: how many lines are shown, those of the largest effect.

    Raises:
        UsageError: no line was cut layer by layer.
    """
    drawn = lines[lines["layer_deltas"] != ""]
    if drawn.empty:
        raise UsageError('no line of the table was cut layer by layer: posthoc(layers="each")')
    size = drawn["delta"].abs().fillna(0.0)
    drawn = drawn.loc[size.sort_values(ascending=False).index[:at_most]].sort_values("line")
    layers = sorted({int(n) for text in drawn["layers"] for n in text.split(",")})
    grid = np.full((len(drawn), len(layers)), np.nan)
    for place, row in enumerate(drawn.to_dict("records")):
        for layer, delta in zip(
            row["layers"].split(","), row["layer_deltas"].split(","), strict=True
        ):
            grid[place, layers.index(int(layer))] = float(delta)
    together = drawn["delta"].to_numpy()[:, None]
    top = float(np.nanmax(np.abs(np.hstack([grid, together]))))
    norm = SymLogNorm(linthresh=max(top, 1e-6) / 50, vmin=-top, vmax=top)
    with print_style():
        figure = Figure(figsize=(7.6, 1.2 + 0.17 * len(drawn)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(len(layers), 1), sharey=True)
        for axes, values in ((left, grid), (right, together)):
            axes.set_facecolor("0.93")
            image = axes.imshow(values, aspect="auto", cmap="RdBu_r", norm=norm)
            for (y, x), value in np.ndenumerate(values):
                text = f"{value:.2f}" if np.isfinite(value) else "-"
                dark = np.isfinite(value) and abs(norm(value) - 0.5) > 0.35
                axes.text(x, y, text, ha="center", va="center", size=5, color="w" if dark else "k")
            axes.grid(visible=False)
        labels = [f"{r['line']}: {drawable(r['after'], MONO)}"[:60] for r in rows_of(drawn)]
        left.set_yticks(range(len(drawn)), labels, family=MONO, size=5.5)
        left.set_xticks(range(len(layers)), [str(layer) for layer in layers], size=7)
        left.set_xlabel("cut in this layer alone")
        right.set_xticks([0], ["all"], size=7)
        right.tick_params(axis="y", left=False)
        right.set_xlabel("together")
        figure.colorbar(image, ax=[left, right], shrink=0.6, label=NATS, format=PLAIN)
        figure.suptitle(f"Which layers need which lines of {drawn['file'].iloc[0]}")
    return figure


def rows_of(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")
