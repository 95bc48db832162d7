"""How does a result table look?

Each function takes a result table and gives a matplotlib ``Figure``. Nothing is computed here but
means and spreads over seeds, nothing is written, and no global setting changes: a figure can be
drawn anywhere, any number of times.

    figure = learning_curves(run.table(), entropies)
    run.save_figure(figure, "learning_curves")

A table of learning curves is in long form, one row per evaluation:

| column  | holds                                                                      |
|---------|----------------------------------------------------------------------------|
| variant | short name: ``no residual``                                                |
| label   | the lines cut: ``model.py:201  x = x + attn_out → x = attn_out``; or none  |
| diff    | the cut as a unified diff; empty for the model as it is                    |
| seed    | of weights and batches                                                     |
| step    | of training                                                                |
| split   | ``train`` or ``val``                                                       |
| loss    | nats per character                                                         |
"""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from interp.characters import escape, visible
from interp.errors import UsageError, nearest
from interp.intervals import draw_intervals, reach_of
from interp.verdicts import FEWEST

WIDTH = 7.2  # inches: two columns of a paper
CODE_SIZE = 7.0  # points
CODE_LINE = CODE_SIZE * 1.35 / 72  # inches from one line of code to the next
CODE_COLUMNS = 108  # characters of code across a figure
DIFF_LINES = 60  # the most lines of a diff that a figure shows

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # they come with matplotlib: the same everywhere
CODE = FontProperties(family=MONO, size=CODE_SIZE)
MARKERS = "sD^vPX*<"  # not as many as colours, so that a pair of the two comes round late
LEAK = "leak: it sees the tokens to be predicted, so its loss means nothing"
MARKERS_PER_CURVE = 8
DOTS, DASHES = (0, (1, 2)), (0, (4, 2))
DIFF_TINTS = {"+": "#d6e8f7", "-": "#f7d9bd", "@": "#ededed"}  # told apart by lightness too


def learning_curves(
    table: pd.DataFrame,
    entropies: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    title: str = "Validation loss while training, one curve per cut",
    published_by: str = "the course (olinml2024/nanoGPT, one seed)",
    stopped: str = "",
) -> Figure:
    """Every variant's validation loss over training, each named by the lines that were cut.

    Args:
        table: learning curves. The line is the mean over seeds, the band runs from the lowest seed
            to the highest.
        entropies: n-gram entropies of the text (columns name, split, nats), drawn as lines across.
        published: someone else's curves (columns ablation, step, val_loss), drawn dashed in the
            colour of the variant of the same name; those of other names are left out.
        published_by: whose they are, for the legend.
        stopped: said in the title of trainings that did not come to their end.

    Raises:
        UsageError: a column is missing; no row is of the validation split; nothing published bears
            the name of a variant.
    """
    curves = curves_of(table, "val")
    looks = looks_of(curves)
    with print_style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        axes.set_title(prose(titled(title, stopped)))
        axes.set_xlabel("training step")
        axes.set_ylabel("validation loss (nats per character)")
        keys: list[Artist] = []
        names = []
        for place, (variant, look) in enumerate(looks.items()):
            rows = curves[curves["variant"] == variant]
            keys.append(draw_curve(axes, rows, look, stagger=place / len(looks)))
            names.append("\n  ".join([code(variant), *look.label]))
        if published is not None:
            drawn = draw_published(axes, published, looks)
            keys.append(Line2D([], [], color="0.3", linestyle=DASHES, linewidth=1))
            names.append(code(f"dashed: as published by {published_by}, for {', '.join(drawn)}"))
        if entropies is not None:
            keys.append(draw_entropies(axes, entropies))
            names.append("dotted: n-gram entropies of the validation text")
        figure.set_size_inches(WIDTH, 4.5 + (2 + sum(map(lines, names))) * CODE_LINE)
        figure.legend(
            keys,
            [legible(name) for name in names],
            loc="outside lower left",
            prop=CODE,
            title=spread_named(curves),
            alignment="left",
        )
        figure.draw_without_rendering()  # ticks are made late: now, in this style
    return figure


def variant_curves(
    table: pd.DataFrame, variant: str, entropies: pd.DataFrame | None = None
) -> Figure:
    """One variant's loss on both splits over training, above the diff that made it.

    The validation loss of the model as it is stands behind in grey. Arguments as for
    ``learning_curves``; raises ``UsageError`` also where the table has no such variant.
    """
    looks = looks_of(table)
    if variant not in looks:
        raise UsageError(
            f"the table has no variant {variant!r}; nearest: {nearest(variant, looks)}"
        )
    look = looks[variant]
    validation, training = curves_of(table, "val"), curves_of(table, "train")
    diff = diff_lines(look.diff)
    curves_height, diff_height = 3.7, (len(diff) + 1) * CODE_LINE * 1.15
    with print_style():
        figure = Figure(figsize=(WIDTH, curves_height + diff_height), layout="constrained")
        parts = figure.subfigures(2, squeeze=False, height_ratios=[curves_height, diff_height])
        above, below = parts[:, 0]
        above.suptitle(prose(f"{variant}: loss while training"), x=0.01, ha="left")
        axes = above.subplots()
        axes.set_xlabel("training step")
        axes.set_ylabel("loss (nats per character)")
        keys: dict[str, Artist] = {}
        for other, base in looks.items():
            if base.diff == "" and other != variant:
                rows = validation[validation["variant"] == other]
                grey = base._replace(color="0.55")
                keys[f"{other}, validation"] = draw_curve(axes, rows, grey)
        rows = training[training["variant"] == variant]
        keys["train"] = draw_curve(axes, rows, look._replace(marker=""), linestyle="--")
        rows = validation[validation["variant"] == variant]
        keys["validation"] = draw_curve(axes, rows, look, stagger=0.5)
        if entropies is not None:
            keys["entropy (validation)"] = draw_entropies(axes, entropies)
        axes.legend(
            keys.values(),
            [legible(prose(name)) for name in keys],
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(keys),
            borderaxespad=0.2,
            title=spread_named(rows),
            alignment="left",
        )
        draw_diff(below.subplots(), diff)
        figure.draw_without_rendering()
    return figure


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
                y += lines("\n".join(look.label)) + 0.2
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


class Look(NamedTuple):
    """How a variant is told from the others, in colour and without; what was cut; and whether it
    sees the future, which is drawn hollow."""

    color: str | tuple[float, float, float]
    marker: str
    leak: bool
    label: list[str]  # lines fit for a figure
    diff: str


def looks_of(table: pd.DataFrame) -> dict[str, Look]:
    """The variants, in the table's order; the model as it is is black."""
    palette = sns.color_palette("colorblind")
    colors = [palette[i] for i in (0, 3, 2, 1, 4, 9, 5, 6, 8)]  # neighbours far apart in lightness
    ahead = table.get("status", pd.Series("", table.index)) == "leak"
    leaks = set(table.loc[ahead, "variant"])
    looks: dict[str, Look] = {}
    edited = 0
    for variant, label, diff in (
        table[["variant", "label", "diff"]].drop_duplicates("variant").itertuples(index=False)
    ):
        if diff == "":
            looks[variant] = Look("black", "o", False, [], diff)
        else:
            color, marker = colors[edited % len(colors)], MARKERS[edited % len(MARKERS)]
            leak = variant in leaks
            text = code(label).split("\n") + [LEAK] * leak
            looks[variant] = Look(color, marker, leak, text, diff)
            edited += 1
    return looks


def curves_of(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one split, once it is sure that they are learning curves."""
    require(table, ["variant", "label", "diff", "seed", "step", "split", "loss"])
    curves = table[table["split"] == split]
    if curves.empty:
        raise UsageError(f"the table has no rows of the split {split!r} to draw")
    twice = curves[curves.duplicated(["variant", "seed", "step"])]
    if not twice.empty:
        row = twice.iloc[0]
        raise UsageError(
            f"the table has two {split} losses of {row['variant']!r}, "
            f"seed {row['seed']}, at step {row['step']}"
        )
    return curves


def require(table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise UsageError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table))}"
        )


def draw_curve(
    axes: Axes, rows: pd.DataFrame, look: Look, stagger: float = 0.0, linestyle: str = "-"
) -> Line2D:
    """The mean over seeds within a band from the lowest to the highest; its key for a legend.

    A step that some seed lacks, or where it is NaN, is a gap: a mean of those that survived would
    flatter the variant. ``stagger`` shifts the markers, so that those of close curves do not meet.
    """
    by_seed = rows.pivot(index="step", columns="seed", values="loss")  # noqa: PD010, keeps NaN
    steps = by_seed.index.to_numpy()
    every = max(1, len(steps) // MARKERS_PER_CURVE)
    (curve,) = axes.plot(
        steps,
        by_seed.mean(axis=1, skipna=False),
        color=look.color,
        marker=look.marker,
        markerfacecolor="white" if look.leak else look.color,
        markevery=(int(stagger * every), every),
        linestyle=linestyle,
    )
    if by_seed.shape[1] > 1:
        low, high = by_seed.min(axis=1, skipna=False), by_seed.max(axis=1, skipna=False)
        axes.fill_between(steps, low, high, color=look.color, alpha=0.25, linewidth=0)
    return curve


def draw_published(axes: Axes, published: pd.DataFrame, looks: dict[str, Look]) -> list[str]:
    """Published curves in the looks of our variants of the same names; the names drawn."""
    require(published, ["ablation", "step", "val_loss"])
    names = published["ablation"].str.replace("_", " ")
    drawn = [variant for variant in looks if variant.replace("_", " ") in set(names)]
    if not drawn:
        raise UsageError(
            f"no variant of {', '.join(looks)} is among the published {', '.join(names.unique())}"
        )
    for variant in drawn:
        rows, look = published[names == variant.replace("_", " ")], looks[variant]
        axes.plot(
            rows["step"],
            rows["val_loss"],
            color=look.color,
            linestyle=DASHES,
            linewidth=1,
            marker=look.marker,
            markerfacecolor="white",
            markevery=max(1, len(rows) // MARKERS_PER_CURVE),
        )
    return drawn


def draw_entropies(axes: Axes, entropies: pd.DataFrame) -> Line2D:
    """The validation text's n-gram entropies, named at the right edge; their key for a legend."""
    require(entropies, ["name", "split", "nats"])
    levels = entropies[entropies["split"] == "val"].sort_values("nats")
    if levels.empty:
        raise UsageError("the entropies have no rows of the split 'val' to draw")
    for nats in levels["nats"]:
        line = axes.axhline(nats, zorder=1, color="0.25", linestyle=DOTS, linewidth=1.1)
    bottom, top = axes.get_ylim()
    apart = (top - bottom) * 0.055  # a line of this text, in nats
    heights = spread_out(levels["nats"].tolist(), apart)
    for name, nats, height in zip(levels["name"], levels["nats"], heights, strict=True):
        axes.text(
            1.01,
            height,
            f"{prose(name)} {nats:.2f}",
            transform=axes.get_yaxis_transform(),
            va="center",
            size="small",
            color="0.25",
        )
    return line


def spread_out(heights: list[float], apart: float) -> list[float]:
    """Ascending heights, each moved up until it is ``apart`` from the one below."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + apart) if moved else height)
    return moved


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


def titled(title: str, stopped: str) -> str:
    return f"{title} ({stopped})" if stopped else title


def draw_diff(axes: Axes, diff: list[str]) -> None:
    """A diff as monospaced text, lines taken out and put in told by sign, tint and lightness."""
    axes.set_axis_off()
    axes.set_ylim(len(diff), 0)
    for line, text in enumerate(diff):
        kind = "@" if text.startswith(("---", "+++")) and line < 2 else text[:1]
        if kind in DIFF_TINTS:
            axes.axhspan(line, line + 1, color=DIFF_TINTS[kind], linewidth=0)
        axes.text(0.005, line + 0.5, text, font=CODE, va="center")


def diff_lines(diff: str) -> list[str]:
    """A diff's lines, cut to what a figure can show."""
    if diff == "":
        return ["(no edit: the model as it is)"]
    shown = [
        line if len(line) <= CODE_COLUMNS else line[: CODE_COLUMNS - 1] + "…"
        for line in drawable(diff, MONO).splitlines()
    ]
    if len(shown) <= DIFF_LINES:
        return shown
    return [*shown[:DIFF_LINES], f"… {len(shown) - DIFF_LINES} lines more"]


def spread_named(curves: pd.DataFrame) -> str:
    """What line and band mean, for a legend's title."""
    seeds = curves.groupby("variant")["seed"].nunique()
    fewest, most = seeds.min(), seeds.max()
    if most == 1:
        return "one seed"
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean of {count} seeds; band: lowest to highest seed"


def code(text: str) -> str:
    """Text for the monospaced font, its lines wrapped to the figure's width."""
    return "\n".join(
        "\n".join(
            textwrap.wrap(
                line,
                CODE_COLUMNS - 10,
                subsequent_indent="    ",
                replace_whitespace=False,
                break_on_hyphens=False,
            )
        )
        for line in drawable(text, MONO).splitlines()
    )


def prose(text: str) -> str:
    """Text for the proportional font, wrapped to the figure's width."""
    return textwrap.fill(drawable(text, SANS), 84)


def drawable(text: str, family: str) -> str:
    """``text`` with what the font cannot draw written as escapes."""
    font = get_font(findfont(family))
    return "".join(
        c if c == "\n" or font.get_char_index(ord(c)) else escape(c)
        for c in visible(text).expandtabs(4)
    )


def legible(name: str) -> str:
    """A legend leaves out names that begin with an underscore, unless something stands before."""
    return f" {name}" if name.startswith("_") else name


def lines(text: str) -> int:
    return text.count("\n") + 1


def print_style() -> AbstractContextManager[None]:
    """Settings for print, in force within a ``with`` block alone."""
    return mpl.rc_context(
        sns.axes_style("ticks")
        | sns.plotting_context("paper")
        | {
            "font.family": SANS,
            "text.parse_math": False,  # a dollar sign in code is a dollar sign
            "axes.grid": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "figure.titlesize": 10,
            "figure.titleweight": "bold",
            "axes.spines.right": False,
            "axes.spines.top": False,
            "grid.color": "0.92",
            "hatch.linewidth": 0.6,
            "legend.frameon": False,
            "legend.handlelength": 3.5,
            "legend.title_fontsize": 8,
            "lines.linewidth": 1.4,
            "lines.markersize": 4.5,
        }
    )
