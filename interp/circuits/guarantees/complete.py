"""Does a circuit do what the model does when the same is cut from both?

    table = completeness(model, clean, corrupted, ["a0.h1", "a1.h0"], metric)
    table.head()[["cut", "circuit", "model", "difference", "verdict"]]

A circuit can be faithful and still lack what the model falls back on, or hold it. So parts are cut
from the circuit and from the model, each alone and two at a time: what is left of either should be
the same (Wang et al. 2022).
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Int
from torch import Tensor

from interp.circuits.graph import Edge, Graph
from interp.circuits.guarantees.judging import compare_circuits, tell_verdicts
from interp.circuits.running import Replacement, keep_edges, prepare_circuits
from interp.circuits.together import Circuit
from interp.errors import UsageError
from interp.metrics import Metric, metric_name
from interp.site import Model
from interp.sweeps.resuming.answers import RowStore

MOST = 10_000
"""Knock-outs that are run at one call."""
Cut = Literal["parts", "edges"]


def completeness(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    circuit: Sequence[str | Edge],
    metric: Metric,
    *,
    cut: Cut = "parts",
    pairs: bool = True,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    split_embed: bool = False,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """A circuit beside the model, with the same cut from both.

    Args:
        model, clean, corrupted, metric, replaced_by, seed, split_embed, memory, progress, run: as
            for ``run_circuits``.
        circuit: its edges, or its parts, as for ``run_circuits``.
        cut: what is cut: ``parts``, heads and MLPs from which the circuit has edges, with all edges
            that each has in circuit and model; or ``edges``, those of the circuit.
        pairs: two at a time as well.

    Returns:
        One row per choice of what is cut, nothing included, the largest difference first: ``cut``,
        their names, and ``without``, the same in words; ``replaced_by``, ``metric``;
        ``circuit`` and ``model``, the metric's mean of what is left of either; ``delta``,
        circuit less model, with its interval over texts and ``p_adjusted`` (Holm over all rows);
        ``difference``, the same in units of the gap from no edge to the whole model;
        ``verdict``: ``differ``, where a difference is shown; ``not shown to differ``; ``the same``,
        but for rounding; ``not known`` from fewer than three texts; ``n`` texts. A complete circuit
        differs nowhere.

    Raises:
        UsageError: what ``run_circuits`` raises; nothing to cut, or more than 10,000 choices.
    """
    if cut not in get_args(Cut):
        raise UsageError(f"cut is {cut!r}; it must be 'parts' or 'edges'")
    with prepare_circuits(
        *(model, clean, corrupted, metric, replaced_by, seed), split_embed=split_embed
    ) as task:
        mine = keep_edges(task.graph, "the circuit", circuit)
        gone = choose_cuts(task.graph, mine, cut, pairs)
        everything = frozenset(task.graph.edges)
        circuits = [whole - out for whole in (mine, everything) for out in gone.values()]
        found = task.measure(circuits, memory=memory, progress=progress, run=run)
    left, model_left = np.split(found, 2)
    table = pd.DataFrame({"cut": list(gone)})
    table["without"] = [" and ".join(names) or "nothing cut" for names in gone]
    table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
    table["circuit"], table["model"] = left.mean(axis=1), model_left.mean(axis=1)
    table = table.assign(**compare_circuits(task, left, model_left))
    table = table.rename(columns={"of_gap": "difference"})
    table["verdict"] = tell_verdicts(table, "differ", "not shown to differ", "the same")
    order = np.argsort(-table["difference"].abs().to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def choose_cuts(
    graph: Graph, circuit: Circuit, cut: Cut, pairs: bool
) -> dict[tuple[str, ...], Circuit]:
    """The edges of each choice of what is cut, by the names of that.

    Raises:
        UsageError: nothing can be cut, or too much.
    """
    ours = [edge for edge in graph.edges if edge in circuit]
    if cut == "edges":
        each = {str(edge): frozenset([edge]) for edge in ours}
    else:
        parts = [writer for writer in graph.writers if writer.layer is not None]
        held = {edge.writer for edge in ours}
        each = {
            str(part): frozenset(edge for edge in graph.edges if edge.writer == part)
            for part in parts
            if part in held
        }
    if not each:
        raise UsageError(f"the circuit has no {cut} that could be cut from it")
    count = 1 + len(each) + (len(each) * (len(each) - 1) // 2 if pairs else 0)
    if count > MOST:
        less = "pairs=False" if pairs else "a smaller circuit"
        raise UsageError(
            f"{len(each)} {cut} give {count:,} choices, more than {MOST:,}: give {less}"
            + (", or cut='parts'" if cut == "edges" else "")
        )
    gone: dict[tuple[str, ...], Circuit] = {(): frozenset()}
    for size in (1, 2) if pairs else (1,):
        for names in combinations(each, size):
            gone[names] = frozenset().union(*(each[name] for name in names))
    return gone
