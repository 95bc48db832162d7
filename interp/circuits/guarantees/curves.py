"""How much of a model's answer do its most important edges carry, by how many they are?

    curve = faithfulness_curve(model, clean, corrupted, metric, {"EAP": ranked, "random": shuffled})
    curve_areas(curve)

A ranking is judged by its circuits of all sizes, not by one of them: the first 0.1 % of the edges,
0.2 %, up to all (MIB, arXiv 2504.13151). Faithfulness is how far a circuit's metric is from that of
no edge (0) to that of the model (1). CPR is the area under it, larger is better; CMD the area
between it and 1, smaller is better.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.graph import Edge, Graph
from interp.circuits.guarantees.shares import share_intervals
from interp.circuits.running import Replacement, prepare_circuits
from interp.errors import UsageError
from interp.metrics import Metric, metric_name
from interp.site import Model
from interp.sweeps.resuming.answers import RowStore

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of all edges at which the MIB benchmark looks."""
BY_TEXT = ("gain_by_text", "gap_by_text")


def faithfulness_curve(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    ranked: Mapping[str, Sequence[str | Edge]],
    *,
    sizes: Sequence[float] = MIB_SIZES,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    split_embed: bool = False,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """The faithfulness of the first edges of each ranking, for many sizes.

    All circuits run together, and a circuit that several rankings have in common is run once.

    Args:
        model, clean, corrupted, metric, replaced_by, seed, split_embed, memory, progress, run: as
            for ``run_circuits``.
        ranked: by method, edges as they are written, the most important first. Whether effects are
            ranked with their sign or without changes the curve: rank both ways and name them.
        sizes: shares of all edges, 0 to 1, in rising order. A circuit has the whole part of so many
            edges: 0.001 of 110 edges is none.

    Returns:
        One row per method and size: ``method``, ``share``, ``edges``; ``replaced_by``, ``metric``;
        ``baseline`` and ``nothing``, as for ``run_circuits``; ``value``, the mean over texts;
        ``faithfulness`` with its interval over texts, ``ci_low ci_high``: a bootstrap of the ratio
        of means, in which the gap varies too; ``changed`` as for ``run_circuits``; ``n`` texts; and
        ``gain_by_text`` and ``gap_by_text``, whose means' ratio is the faithfulness, for
        ``curve_areas``.

    Raises:
        UsageError: what ``run_circuits`` raises; no ranking, one that names an edge twice or fewer
            edges than a size takes; sizes that are no shares or do not rise.
    """
    if not ranked:
        raise UsageError("there are no rankings: give at least one, by the name of its method")
    shares = check_shares(sizes)
    with prepare_circuits(
        *(model, clean, corrupted, metric, replaced_by, seed), split_embed=split_embed
    ) as task:
        counts = [count_edges(share, len(task.graph.edges)) for share in shares]
        orders = {
            method: check_ranking(task.graph, method, edges, max(counts))
            for method, edges in ranked.items()
        }
        circuits = [frozenset(order[:n]) for order in orders.values() for n in counts]
        values = task.measure(circuits, memory=memory, progress=progress, run=run)
    gains, gap = values - task.nothing, task.whole - task.nothing
    faithfulness, low, high = share_intervals(gains, gap)
    table = pd.DataFrame(
        {
            "method": np.repeat([*orders], len(shares)),
            "share": np.tile(shares, len(orders)),
            "edges": np.tile(counts, len(orders)),
        }
    )
    table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
    table["baseline"], table["nothing"] = task.whole.mean(), task.nothing.mean()
    table["value"], table["faithfulness"] = values.mean(axis=1), faithfulness
    table["ci_low"], table["ci_high"] = low, high
    table["changed"] = [task.changed_by(each) for each in circuits]
    table["n"] = len(gap)
    table["gain_by_text"] = [tuple(each) for each in gains.tolist()]
    table["gap_by_text"] = [tuple(gap.tolist())] * len(table)
    return table


def curve_areas(curve: pd.DataFrame) -> pd.DataFrame:
    """The area under each method's curve, and that between the curve and 1, as MIB has them.

    Trapezoids over the shares that the curve has, from the smallest to the largest; shares as they
    are, not their logarithms.

    Args:
        curve: what ``faithfulness_curve`` returns, or some rows of it.

    Returns:
        One row per method: ``method``; ``CPR`` with ``CPR_ci_low CPR_ci_high`` and ``CMD`` with
        ``CMD_ci_low CMD_ci_high``, bootstrap intervals over texts; ``sizes``, how many points the
        curve has; ``n`` texts.

    Raises:
        UsageError: a table that is no such curve; a method with one size only, or one twice.
    """
    needed = ["method", "share", "n", *BY_TEXT]
    if missing := [name for name in needed if name not in curve]:
        raise UsageError(
            f"this table has no column {missing[0]}: give what faithfulness_curve returns"
        )
    rows = []
    for method, points in curve.groupby("method", sort=False):
        points = points.sort_values("share")
        shares = points["share"].to_numpy(dtype=float)
        if len(shares) < 2 or (np.diff(shares) <= 0).any():
            raise UsageError(
                f"the curve of {method!r} has the shares {shares.tolist()}: an area needs two or "
                "more, each once; give one seed's curve at a time"
            )
        gains, gap = (
            np.array(points["gain_by_text"].tolist()),
            np.array(points["gap_by_text"].iloc[0]),
        )
        values, low, high = share_intervals(gains, gap, partial(areas_of, shares))
        row: dict[str, Any] = {"method": method}
        for number, name in enumerate(("CPR", "CMD")):
            row |= {name: values[number]}
            row |= {f"{name}_ci_low": low[number], f"{name}_ci_high": high[number]}
        rows.append(row | {"sizes": len(shares), "n": len(gap)})
    return pd.DataFrame(rows)


def areas_of(
    shares: Float[np.ndarray, "size"], faithfulness: Float[np.ndarray, "size draw"]
) -> Float[np.ndarray, "area draw"]:
    """CPR and CMD of curves."""
    both = np.stack([faithfulness, np.abs(1 - faithfulness)])
    return np.trapezoid(both, shares, axis=1)


def check_shares(sizes: Sequence[float]) -> list[float]:
    """Raises ``UsageError`` where sizes are no shares, or do not rise."""
    shares = [float(size) for size in sizes]
    rising = all(one < other for one, other in pairwise(shares))
    if not shares or not rising or shares[0] < 0 or shares[-1] > 1:
        raise UsageError(
            f"sizes are {shares}; give shares of all edges in rising order, from 0 to 1, such as "
            "MIB_SIZES"
        )
    return shares


def count_edges(share: float, edges: int) -> int:
    """How many edges a share of them is: the whole part, but for rounding."""
    return int(share * edges + 1e-9)


def check_ranking(graph: Graph, method: str, edges: Sequence[str | Edge], most: int) -> list[Edge]:
    """A ranking's edges.

    Raises:
        UsageError: an edge that there is not, or twice; fewer than a size takes.
    """
    order = [graph.edge(each) for each in edges]
    if len({*order}) < len(order):
        twice = next(str(each) for each in order if order.count(each) > 1)
        raise UsageError(f"the ranking {method!r} names {twice} more than once")
    if len(order) < most:
        raise UsageError(
            f"the ranking {method!r} has {len(order)} edges and the largest size takes {most} of "
            f"{len(graph.edges)}: rank every edge, or give smaller sizes"
        )
    return order
