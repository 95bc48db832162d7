"""How do the effects of lines look?

Each function takes a table that ``annotated`` or a study has made, and gives a matplotlib
``Figure``. Nothing is computed here.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from interp.errors import UsageError
from interp.figures import MONO, drawable, print_style
from interp.surgery.annotate import MARKS

TELLING = ("changed", "leak", "nonfinite", "error", "timeout")
DAMAGE, LEAK = "#c2571a", "#7a3b8f"
NATS = "loss with the cut, less without (nats)"
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def annotated_source(lines: pd.DataFrame) -> Figure:
    """The source with a bar on each line, post hoc and retrained side by side.

    Args:
        lines: what ``annotated`` gives; lines whose cut says something about the trained model are
            drawn, and the heads of the functions in which they are.

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
    again = shown["retrained"].notna().any()
    texts = [f"{row['line']:4d}  {drawable(row['code'], MONO)}"[:112] for row in rows_of(shown)]
    widths = (1.5, 1.5 if again else 0.01, 0.055 * max(70, *map(len, texts)))  # inches
    with print_style():
        size = (0.4 + sum(widths), 0.9 + 0.145 * len(shown))
        figure = Figure(figsize=size, layout="constrained")
        left, right, code = figure.subplots(1, 3, width_ratios=widths, sharey=True)
        draw_bars(left, y, shown["delta"], shown["status"], "trained model, line cut")
        if again:
            status = shown["retrained_status"]
            draw_bars(right, y, shown["retrained"], status, "retrained without it")
        else:
            right.axis("off")
        noise = shown["noise"].dropna()
        if len(noise):
            right.axvspan(-noise.iloc[0], noise.iloc[0], color="0.85", zorder=0)
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
        figure.supxlabel(f"{NATS}     {marks}", size=7)
    return figure


def draw_bars(axes: Axes, y: np.ndarray, values: pd.Series, status: pd.Series, title: str) -> None:
    colors = [LEAK if state == "leak" else DAMAGE for state in status]
    hatches = ["////" if state == "leak" else "" for state in status]
    bars = axes.barh(y, values.fillna(0.0), color=colors, height=0.8)
    for one, hatch in zip(bars, hatches, strict=True):
        one.set_hatch(hatch)
    edge = max(1e-6, float(values.abs().max()) if values.notna().any() else 0.0)
    for height, value, state in zip(y, values, status, strict=True):
        number = "" if np.isnan(value) else f"{value:+.2g}"  # a short bar beside a long one is none
        text = f"{number} {MARKS.get(state, '')}".strip()
        right = 0.02 * edge + (0.0 if np.isnan(value) else max(value, 0.0))
        axes.text(right, height, text, size=5, va="center", color="0.35")
    low = min(0.0, 1.05 * float(values.min())) if values.notna().any() else 0.0
    axes.set_xlim(low, 1.3 * edge)
    axes.set_title(title, size=7)
    axes.tick_params(labelsize=6)
    axes.grid(axis="y", visible=False)


def damage_and_relearnability(lines: pd.DataFrame) -> Figure:
    """Per line, the effect on the trained model against the effect of training without it.

    Args:
        lines: what ``annotated`` gives; lines that were retrained are drawn.

    Raises:
        UsageError: no line was both cut post hoc and retrained.
    """
    drawn = lines[lines["retrained"].notna() & lines["delta"].notna()]
    if drawn.empty:
        raise UsageError("no line of the table was both cut post hoc and retrained")
    with print_style():
        drawn = drawn.sort_values("line")
        key = [f"{row['line']:4d}  {drawable(row['after'], MONO)}"[:48] for row in rows_of(drawn)]
        figure = Figure(figsize=(9.4, 5.2), layout="constrained")
        axes, legend = figure.subplots(1, 2, width_ratios=(6.2, 3.2))
        legend.set_axis_off()
        legend.text(0, 1, "line  becomes", weight="bold", size=6.5, va="top", family=MONO)
        legend.text(0, 0.96, "\n".join(key), size=6.2, va="top", family=MONO, linespacing=1.5)
        noise = drawn["noise"].iloc[0]
        if np.isfinite(noise):
            axes.axhspan(-noise, noise, color="0.88", zorder=0)
            axes.text(
                0.01,
                -noise,
                f"noise: ±{noise:.3f} nats, the 95 % reach of nothing but other seeds",
                transform=axes.get_yaxis_transform(),
                ha="left",
                va="bottom",
                size=7,
                color="0.35",
            )
        for row in rows_of(drawn):
            leak = "leak" in (row["status"], row["retrained_status"])
            spread = [[0.0], [0.0]]
            if np.isfinite(row["retrained_low"]):
                spread = [
                    [row["retrained"] - row["retrained_low"]],
                    [row["retrained_high"] - row["retrained"]],
                ]
            reach = [[0.0], [0.0]]
            if np.isfinite(row["ci_low"]):
                reach = [[row["delta"] - row["ci_low"]], [row["ci_high"] - row["delta"]]]
            axes.errorbar(
                row["delta"],
                row["retrained"],
                xerr=reach,
                yerr=spread,
                fmt="D" if leak else "o",
                mfc="white" if leak or row["status"] == "retrain-only" else DAMAGE,
                color=LEAK if leak else DAMAGE,
                lw=0.9,
                ms=5,
            )
        ends = [0.0, float(max(drawn["delta"].max(), drawn["retrained"].max()))]
        axes.plot(ends, ends, color="0.6", ls=(0, (4, 2)), lw=0.8, zorder=0)
        axes.axhline(0, color="0.7", lw=0.6)
        axes.axvline(0, color="0.7", lw=0.6)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_yscale("symlog", linthresh=0.01)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PLAIN)
        axes.set_xlim(right=2 * max(ends[1], 0.05))
        axes.set_xlabel("damage: loss of the trained model with the line cut, less without (nats)")
        axes.set_ylabel("relearnability: loss when trained without the line, less with (nats)")
        axes.set_title(f"Damage and relearnability of the lines of {drawn['file'].iloc[0]}")
        figure.draw_without_rendering()
        name_points(axes, drawn)
    return figure


def name_points(axes: Axes, drawn: pd.DataFrame) -> None:
    """Each point's line number beside it, moved upwards where another's stands already."""
    taken: list[tuple[float, float]] = []
    to_points = 72 / axes.figure.dpi
    for row in rows_of(drawn.sort_values("retrained")):
        at = axes.transData.transform((row["delta"], row["retrained"])) * to_points
        x, y = at[0] + 6, at[1] + 4
        while any(abs(x - left) < 18 and abs(y - low) < 8 for left, low in taken):
            y += 2
        taken.append((x, y))
        axes.annotate(
            str(row["line"]),
            (row["delta"], row["retrained"]),
            xytext=(x - at[0], y - at[1]),
            textcoords="offset points",
            family=MONO,
            size=7,
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6"} if y > at[1] + 8 else None,
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
