"""How do effects and scores look, spread over layers, heads and positions?

Each function takes a result table and gives a matplotlib ``Figure``; nothing is computed here.
Effects are drawn in colours that part at zero, with a cross on cells that cannot be told from it.

    figure = head_effects(run.table())
    run.save_figure(figure, "head_effects")
"""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.figures.cells import (
    draw_cells,
    finish,
    grid_of,
    head_names,
    not_shown,
    numbers_in_column,
)
from interp.figures.style import (
    DIVERGING,
    SEQUENTIAL,
    WIDTH,
    centred,
    print_style,
    prose,
    require,
    tick_label,
)

FEW_LAYERS = 12  # that have room for rows of a comfortable height
MANY = 48  # heads, above which each cannot have a row of its own
ABREAST = 36  # positions of all components, below which many layers stand beside each other


def heads(table: pd.DataFrame, title: str = "", label: str = "") -> Figure:
    """Layer by head, one panel for each intervention or each part of a head, all on one scale.

    Args:
        table: of ``interp.ablate``, columns layer, head, intervention, delta, p_adjusted: the
            change of the metric; or of ``interp.patch``, columns component, layer, head, recovered,
            p_adjusted: the share of the clean answer that is restored.
        title: the hypothesis.
        label: the quantity with its unit.

    Raises:
        UsageError: a column is missing; no rows of heads.
    """
    patched = "recovered" in table
    value, by = ("recovered", "component") if patched else ("delta", "intervention")
    require(table, ["layer", "head", by, value, "p_adjusted"])
    rows = table[table["head"].notna()]
    if rows.empty:
        raise UsageError('the table has no rows of heads to draw: ask for them with each="head"')
    named = HEAD_PARTS.get if patched else "{} ablation".format
    panels = {named(str(name)) or str(name): part for name, part in rows.groupby(by, sort=False)}
    title = title or ("What each head carries" if patched else "What each head does for the loss")
    label = label or (RECOVERED if patched else CHANGE)
    return draw_heads(panels, value, title, label, by if patched else "", 1.0 if patched else 0.0)


HEAD_PARTS = {"z": "output (z)", "q": "query (q)", "k": "key (k)", "v": "value (v)"}
CHANGE = "change in loss (nats per token)"
RECOVERED = "share restored\n(0 corrupted, 1 clean)"


def draw_heads(
    panels: dict[str, pd.DataFrame],
    value: str,
    title: str,
    label: str,
    by: str,
    at_least: float,
) -> Figure:
    every = pd.concat(panels.values())
    layers, heads = numbers_in_column(every, "layer"), numbers_in_column(every, "head")
    scale = centred(every[value], at_least)
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    with print_style():
        height = 1.5 + lines * (0.6 + (0.34 if len(layers) <= FEW_LAYERS else 0.21) * len(layers))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        own = [numbers_in_column(rows, "head") for rows in panels.values()]  # keys may have fewer
        if lines > 1:
            own = [heads] * len(panels)
        ratios = [len(numbers) for numbers in own[:columns]]
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True, width_ratios=ratios)
        for axes, (name, rows), heads in zip(grid.flat, panels.items(), own, strict=False):
            cells = grid_of(rows, "layer", "head", value).reindex(index=layers, columns=heads)
            unsure = not_shown(rows, "layer", "head").reindex(index=layers, columns=heads)
            digits = 3 if columns * len(heads) <= 12 else 2
            shown = (unsure == True).to_numpy()  # noqa: E712, or NaN
            draw_cells(
                axes,
                cells.to_numpy(),
                scale,
                DIVERGING,
                unsure=shown,
                digits=digits,
                beside=columns,
            )
            axes.set_title(prose(name), weight="normal", size=9)
            axes.set_xlabel("head")
            axes.tick_params(left=axes in grid[:, 0])
            axes.set_xticks(range(len(heads)), heads)
            axes.set_yticks(range(len(layers)), layers)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        finish(figure, list(grid.flat), scale, DIVERGING, title, label, every, tested=True, by=by)
    return figure


def positions(
    table: pd.DataFrame,
    texts: pd.DataFrame | None = None,
    title: str = "Where the clean answer is carried",
) -> Figure:
    """Layer by position, one panel for each component: the share of the clean answer restored.

    Args:
        table: of ``interp.patch``: columns component, layer, pos, recovered, p_adjusted,
            clean_token and corrupted_token; where the last two differ, the tick label shows both.
        texts: columns pos, clean, corrupted of one pair, for a table that has not got them.
        title: the hypothesis.

    Raises:
        UsageError: a column is missing; no rows of positions.
    """
    require(table, ["component", "layer", "pos", "recovered", "p_adjusted"])
    rows = table[table["pos"].notna()]
    if rows.empty:
        raise UsageError("the table has no rows of positions to draw")
    if texts is None:
        tokens = {"clean_token": "clean", "corrupted_token": "corrupted"}
        require(rows, list(tokens))
        texts = rows[["pos", *tokens]].drop_duplicates("pos").rename(columns=tokens)
    require(texts, ["pos", "clean", "corrupted"])
    panels = dict(list(rows.groupby("component", sort=False)))
    layers, length = numbers_in_column(rows, "layer"), int(rows["pos"].max()) + 1
    scale = centred(rows["recovered"], at_least=1.0)
    ordered = texts.sort_values("pos")
    changed = (ordered["clean"] != ordered["corrupted"]).to_numpy()
    labels = [
        f"{tick_label(clean)}\n↓\n{tick_label(other)}" if clean != other else tick_label(clean)
        for clean, other in zip(ordered["clean"], ordered["corrupted"], strict=True)
    ]
    many = len(layers) > FEW_LAYERS
    beside = len(panels) if many and length * len(panels) <= ABREAST else 1
    down = -(-len(panels) // beside)
    with print_style():
        height = 1.5 + down * (0.5 + (0.21 if many else 0.3) * len(layers))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(down, beside, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (name, part) in zip(grid, panels.items(), strict=True):
            cells = grid_of(part, "layer", "pos", "recovered")
            unsure = not_shown(part, "layer", "pos").to_numpy()
            draw_cells(
                axes,
                cells.to_numpy(),
                scale,
                DIVERGING,
                unsure=unsure,
                spread=True,
                beside=beside,
            )
            called = COMPONENT_NAMES.get(str(name), prose(str(name)))
            axes.set_title(textwrap.fill(called, 84 // beside), weight="normal", size=9)
            axes.set_yticks(range(len(layers)), layers)
        for axes in grid[::beside]:
            axes.set_ylabel("layer")
        for axes in grid[-beside:]:
            axes.set_xticks(range(length), labels, size=7 if length <= 48 else 4.5)
            for tick, differs in zip(axes.get_xticklabels(), changed, strict=True):
                tick.set_fontweight("bold" if differs else "normal")
        grid[len(grid) - beside + beside // 2].set_xlabel(
            "position: token of the first clean text ↓ of the corrupted one"
        )
        finish(
            figure,
            list(grid),
            scale,
            DIVERGING,
            title,
            RECOVERED,
            rows,
            tested=True,
            by="component",
        )
    return figure


COMPONENT_NAMES = {
    "resid_pre": "residual stream entering the layer",
    "resid_mid": "residual stream between attention and MLP",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
}


def head_scores(
    table: pd.DataFrame, title: str = "What kind of head each one is", by: str | None = None
) -> Figure:
    """Head by score, from 0 to 1.

    Args:
        table: columns layer, head, metric, value, and ``by``: of ``interp.head_scores``, or
            several of it one after another.
        title: the hypothesis.
        by: a column, such as the kind of text, whose values get a panel each.
    """
    require(table, ["layer", "head", "metric", "value", *([by] if by else [])])
    panels = dict(list(table.groupby(by, sort=False))) if by else {"": table}
    names = head_names(table)
    scale = Normalize(0, 1)
    if len(names) > MANY:
        return many_head_scores(panels, table, scale, title)
    with print_style():
        width = min(WIDTH, 2.0 + 2.6 * len(panels))
        figure = Figure(figsize=(width, 1.5 + 0.26 * len(names)), layout="constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, rows) in zip(grid, panels.items(), strict=True):
            metrics = list(rows["metric"].drop_duplicates())
            cells = grid_of(rows, ["layer", "head"], "metric", "value")[metrics]
            draw_cells(axes, cells.to_numpy(), scale, SEQUENTIAL, digits=2)
            axes.set_title(prose(str(name)), weight="normal", size=9)
            words = [metric.replace("_", "\n") for metric in metrics]
            axes.set_xticks(range(len(metrics)), words)
            axes.set_yticks(range(len(names)), names)
        grid[0].set_ylabel("head")
        finish(figure, list(grid), scale, SEQUENTIAL, title, "share of attention", table)
    return figure


def many_head_scores(
    panels: dict[Any, pd.DataFrame], table: pd.DataFrame, scale: Normalize, title: str
) -> Figure:
    """Layer by head, a heatmap for each kind of text and score: of so many heads, each cannot have
    a row."""
    layers, heads = numbers_in_column(table, "layer"), numbers_in_column(table, "head")
    metrics = list(table["metric"].drop_duplicates())
    with print_style():
        height = 1.2 + len(panels) * (0.6 + 0.14 * len(layers))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(len(panels), len(metrics), squeeze=False, sharey=True, sharex=True)
        for row, (name, rows) in zip(grid, panels.items(), strict=True):
            for axes, metric in zip(row, metrics, strict=True):
                part = rows[rows["metric"] == metric]
                cells = grid_of(part, "layer", "head", "value").reindex(index=layers, columns=heads)
                draw_cells(
                    axes, cells.to_numpy(), scale, SEQUENTIAL, largest=3, beside=len(metrics)
                )
                axes.set_title(metric.replace("_", " "), weight="normal", size=8)
                axes.set_yticks(range(len(layers)), layers, size=5)
                axes.set_xticks(range(len(heads)), heads, size=6)
            row[0].set_ylabel(f"{prose(str(name))}\nlayer" if name else "layer", size=8)
        for axes in grid[-1]:
            axes.set_xlabel("head", size=8)
        finish(figure, list(grid.flat), scale, SEQUENTIAL, title, "share of attention", table)
    return figure


def by_distance(
    table: pd.DataFrame, title: str = "How far back each head looks, on average"
) -> Figure:
    """Head by distance: the mean attention to the token so many positions back.

    Args:
        table: columns layer, head, distance, value.
        title: the hypothesis.
    """
    require(table, ["layer", "head", "distance", "value"])
    names = head_names(table)
    cells = grid_of(table, ["layer", "head"], "distance", "value").to_numpy()
    scale = Normalize(0, cells.max())
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.3 + 0.2 * len(names)), layout="constrained")
        axes = figure.subplots()
        draw_cells(axes, cells, scale, SEQUENTIAL, spread=True, largest=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks(range(0, cells.shape[1], max(1, cells.shape[1] // 16)))
        axes.set_xlabel("distance back (tokens; 0 is the token itself)")
        axes.set_ylabel("head")
        finish(figure, [axes], scale, SEQUENTIAL, title, "mean attention", table)
    return figure
