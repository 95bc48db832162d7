"""How do the effects of lines look, on the source itself?

Each function takes the table of ``interp.surgery.lines`` or ``annotated``, and returns a matplotlib
``Figure``. Nothing is computed here; whether a bar is hollow is the verdict of its row.
"""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from interp.code_text import one_line
from interp.errors import UsageError
from interp.figures.intervals import draw_intervals, reach_of
from interp.figures.style import HOLLOW, MONO, drawable, print_style
from interp.stats import linear_up_to
from interp.status import MARKS, QUIET, TELLING, Status
from interp.verdicts import verdicts_of

DAMAGE, LEAK = "#c2571a", "#7a3b8f"
NATS = "loss with the cut, less without (nats)"
BARS = "error bars: 95 % intervals, from three texts or seeds on"
CELL = 0.27  # inches, in which a number of five letters fits
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def lines(table: pd.DataFrame, trainings: pd.DataFrame | None = None) -> Figure:
    """The source with a bar on each line, post hoc and retrained side by side.

    Args:
        lines: what ``annotated`` gives; lines whose cut says something about the trained model are
            drawn, and the heads of the functions in which they are.
        trainings: ``surgery seed delta``, drawn as a point for each seed.

    Raises:
        UsageError: no line has an effect.
    """
    telling = table["status"].isin(TELLING)
    heads = table["code"].str.match(r"\s*(async def|def)\b")
    classes = table["code"].str.match(r"class\b")
    kept = telling.copy()
    for head in (heads | classes, classes):  # a head is shown where something below it is
        kept |= head & telling.groupby(head.cumsum()).transform("any")
    shown = table[kept]
    if not telling.any():
        raise UsageError("no line of the table has an effect: cut some with posthoc() first")
    y = np.arange(len(shown))
    again = shown["retrained_delta"].notna().any()
    places = name_places(shown)
    texts = [
        f"{place:>{max(map(len, places))}}  {drawable(code, MONO)}"[:112]
        for place, code in zip(places, shown["code"], strict=True)
    ]
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
            quiet = status in QUIET
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
        seen = set(shown["status"])
        marks = "  ".join(f"{MARKS[status]} {status}" for status in MARKS if status in seen)
        words = f"{NATS}; {HOLLOW}; {BARS}" + (f"; {marks}" if marks.strip() else "")
        said = textwrap.fill(words, int(size[0] * 14))
        figure.suptitle(f"What each line of {name_files(shown['file'])} does for the loss")
        figure.supxlabel(said, size=7, x=0.01, ha="left")
    return figure


def draw_bars(axes: Axes, y: np.ndarray, rows: pd.DataFrame, kind: str, title: str) -> None:
    """A bar for each row with its interval and its number; hollow where no effect is shown."""
    values, low, high = (rows[f"{kind}{name}"] for name in ("delta", "ci_low", "ci_high"))
    status, verdicts = rows[f"{kind}status"], verdicts_of(rows, kind)
    leaks = status == Status.LEAK
    sure = leaks | verdicts.map(lambda verdict: verdict.is_effect)
    colors = [LEAK if leak else DAMAGE for leak in leaks]
    bars = axes.barh(y, values.fillna(0.0), color=colors, height=0.8)
    for one, color, leak, known in zip(bars, colors, leaks, sure, strict=True):
        one.set_hatch("////" if leak else "")
        if not known:
            one.set(facecolor="white", edgecolor=color, linewidth=0.6)
    draw_intervals(axes, y, low, high, capsize=1, linewidth=0.6, color="0.2")
    least, most = reach_of(values, low, high)
    linear = linear_up_to(values)
    for height, row in zip(y, records_of(rows), strict=True):
        value, end = row[f"{kind}delta"], row[f"{kind}ci_high"]
        number = "" if np.isnan(value) else f"{value:+.3g}"  # a short bar beside a long one is none
        text = f"{number} {MARKS.get(row[f'{kind}status'], '')}".strip()
        end = np.nanmax([0.0, value, end])
        right = end + 0.02 * (most - least) if linear is None else 1.2 * end + 0.1 * linear
        axes.text(right, height, text, size=5, va="center", color="0.35")
    axes.set_xlim(least, most + 0.3 * (most - least))
    if linear is not None:
        axes.set_xscale("symlog", linthresh=linear)
        axes.set_xlim(2 * least if least < 0 else least, 12 * most)
        ticks = linear * 100.0 ** np.arange(6)
        axes.set_xticks([*-ticks[ticks <= -least], 0, *ticks[ticks <= most]])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_xlabel(f"logarithmic beyond {linear:g}", size=5)
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


def lines_by_layer(table: pd.DataFrame, layers: pd.DataFrame, at_most: int = 45) -> Figure:
    """Each line's effect in each layer alone, and in all layers together in a column of its own:
    effects do not add up.

    Args:
        table: as for ``lines``.
        layers: columns surgery, layer, delta: what each cut does in one layer alone.
        at_most: how many lines are shown, those of the largest effect.

    Raises:
        UsageError: no line was cut layer by layer.
    """
    drawn = table[table["surgery"].isin(set(layers["surgery"]))]
    if drawn.empty:
        raise UsageError('no line of the table was cut layer by layer: posthoc(layers="each")')
    drawn = drawn[drawn["status"].isin(TELLING)]
    size = drawn["delta"].abs().fillna(0.0)
    drawn = drawn.loc[size.sort_values(ascending=False).index[:at_most]]
    drawn = sort_by_line(drawn, table)
    alone = layers.pivot_table("delta", "surgery", "layer", dropna=False)
    grid = alone.reindex(drawn["surgery"]).to_numpy(dtype=float)
    together = drawn["delta"].to_numpy()[:, None]
    top = float(np.nanmax(np.abs(np.hstack([grid, together]))))
    norm = SymLogNorm(linthresh=max(top, 1e-6) / 50, vmin=-top, vmax=top)
    with print_style():
        columns = grid.shape[1] + 1
        inches = (max(7.6, 4.6 + CELL * columns), 1.2 + 0.17 * len(drawn))
        figure = Figure(figsize=inches, layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(grid.shape[1], 1), sharey=True)
        for axes, values in ((left, grid), (right, together)):
            axes.set_facecolor("0.93")
            image = axes.imshow(values, aspect="auto", cmap="RdBu_r", norm=norm)
            for (y, x), value in np.ndenumerate(values):
                text = number_in_cell(value) if np.isfinite(value) else "-"
                dark = np.isfinite(value) and abs(norm(value) - 0.5) > 0.35
                axes.text(x, y, text, ha="center", va="center", size=5, color="w" if dark else "k")
            axes.grid(visible=False)
        places = name_places(drawn)
        labels = [layer_label(*pair) for pair in zip(places, records_of(drawn), strict=True)]
        left.set_yticks(range(len(drawn)), labels, family=MONO, size=5.5)
        left.set_xticks(range(grid.shape[1]), [str(layer) for layer in alone.columns], size=7)
        left.set_xlabel("cut in this layer alone")
        right.set_xticks([0], ["all"], size=7)
        right.tick_params(axis="y", left=False)
        right.set_xlabel("together")
        ticks = [tick for tick in (-10, -1, 0, 1, 10) if abs(tick) <= top] + [-top, top]
        bar = figure.colorbar(image, ax=[left, right], shrink=0.6, label=NATS, ticks=ticks)
        bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks])
        figure.suptitle(f"Which layers need which lines of {name_files(drawn['file'])}")
    return figure


def number_in_cell(value: float) -> str:
    """Two decimals, and of large numbers fewer; no zero has a sign."""
    size = abs(value)
    text = f"{value:.{0 if size >= 99.95 else 1 if size >= 9.995 else 2}f}"
    return text.lstrip("-") if not float(text) else text


def layer_label(place: str, row: dict) -> str:
    """A line of source and what becomes of it, as short as a label must be."""
    text = f"{place.strip()}: {cut_in_words(row)}"
    return text if len(text) <= 76 else f"{text[:75]}…"


def cut_in_words(row: dict) -> str:
    """A line's code, without its comment, and what becomes of it."""
    code, after = (drawable(one_line(row[name]), MONO) for name in ("code", "after"))
    return f"{code} → {after}"


def name_places(rows: pd.DataFrame) -> list[str]:
    """What each line is called: its number; where there are several files, with its file's name."""
    if rows["file"].nunique() < 2:
        return [f"{line:4d}" for line in rows["line"]]
    return [f"{row['file']}:{row['line']}" for row in records_of(rows)]


def name_files(files: pd.Series) -> str:
    """The file of some lines; of several the first, and how many more."""
    first, *others = dict.fromkeys(files)
    if len(others) < 2:
        return " and ".join([first, *others])
    return f"{first} and {len(others)} more files"


def sort_by_line(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Some lines of a table in the order of its files and of their lines."""
    place = {file: number for number, file in enumerate(dict.fromkeys(table["file"]))}
    keyed = rows.assign(file_number=rows["file"].map(place))
    return keyed.sort_values(["file_number", "line"]).drop(columns="file_number")


def records_of(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")
