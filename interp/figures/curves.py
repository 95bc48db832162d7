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
| label   | the lines cut: ``model.py:197  x = x + attn_out → x = attn_out``; or none  |
| diff    | the cut as a unified diff; empty for the model as it is                    |
| seed    | of weights and batches                                                     |
| step    | of training                                                                |
| split   | ``train`` or ``val``                                                       |
| loss    | nats per character                                                         |
"""

from typing import NamedTuple

import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from interp.errors import UsageError, nearest
from interp.figures.diffs import diff_lines, draw_diff
from interp.figures.style import (
    CODE,
    CODE_LINE,
    DASHES,
    DOTS,
    MARKERS,
    WIDTH,
    code,
    count_lines,
    legible,
    print_style,
    prose,
    require,
)
from interp.status import Status

LEAK = "leak: it sees the tokens to be predicted, so its loss means nothing"
MARKERS_PER_CURVE = 8
Dashes = str | tuple[float, tuple[float, ...]]
SOLID = "-"
# neither the dots of entropies nor the dashes of published curves; as many as share no factor with
# markers and colours, so that all three come round together late
LINES: tuple[Dashes, ...] = (
    SOLID,
    (0, (9, 1.5)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (14, 2, 3, 2)),
)


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
        UsageError: a column is missing; no row is of the validation split; nothing published has
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
            if published is not None:
                look = look._replace(line=SOLID)  # dashes are theirs
            keys.append(draw_curve(axes, rows, look, stagger=place / len(looks)))
            names.append("\n  ".join([code(variant), *look.label]))
        if published is not None:
            drawn = draw_published(axes, published, looks)
            keys.append(Line2D([], [], color="0.3", linestyle=DASHES, linewidth=1))
            names.append(code(f"dashed: as published by {published_by}, for {', '.join(drawn)}"))
        if entropies is not None:
            keys.append(draw_entropies(axes, entropies))
            names.append("dotted: n-gram entropies of the validation text")
        figure.set_size_inches(WIDTH, 4.5 + (2 + sum(map(count_lines, names))) * CODE_LINE)
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
        keys["train"] = draw_curve(axes, rows, look._replace(marker="", line=DASHES))
        rows = validation[validation["variant"] == variant]
        keys["validation"] = draw_curve(axes, rows, look._replace(line=SOLID), stagger=0.5)
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


class Look(NamedTuple):
    """How a variant is told from the others: by colour, and in print by marker and dashes; what was
    cut; and whether it sees the future, which is drawn hollow."""

    color: str | tuple[float, float, float]
    marker: str
    line: Dashes
    leak: bool
    label: list[str]  # lines fit for a figure
    diff: str


def looks_of(table: pd.DataFrame) -> dict[str, Look]:
    """The variants, in the table's order; the model as it is is black."""
    palette = sns.color_palette("colorblind")
    colors = [palette[i] for i in (0, 3, 2, 1, 4, 9, 5, 6, 8)]  # neighbours far apart in lightness
    ahead = table.get("status", pd.Series("", table.index)) == Status.LEAK
    leaks = set(table.loc[ahead, "variant"])
    looks: dict[str, Look] = {}
    edited = 0
    for variant, label, diff in (
        table[["variant", "label", "diff"]].drop_duplicates("variant").itertuples(index=False)
    ):
        if diff == "":
            looks[variant] = Look("black", "o", SOLID, False, [], diff)
        else:
            color, marker = colors[edited % len(colors)], MARKERS[edited % len(MARKERS)]
            line = LINES[edited % len(LINES)]
            leak = variant in leaks
            text = code(label).split("\n") + [LEAK] * leak
            looks[variant] = Look(color, marker, line, leak, text, diff)
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


def draw_curve(axes: Axes, rows: pd.DataFrame, look: Look, stagger: float = 0.0) -> Line2D:
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
        linestyle=look.line,
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


def titled(title: str, stopped: str) -> str:
    return f"{title} ({stopped})" if stopped else title


def spread_named(curves: pd.DataFrame) -> str:
    """What line and band mean, for a legend's title."""
    seeds = curves.groupby("variant")["seed"].nunique()
    fewest, most = seeds.min(), seeds.max()
    if most == 1:
        return "one seed"
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean of {count} seeds; band: lowest to highest seed"
