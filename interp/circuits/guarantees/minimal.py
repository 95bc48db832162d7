"""Does a circuit need each of its edges?

    table = minimality(model, clean, corrupted, circuit, metric)
    table[table["verdict"] == "needed"]

Each edge is left out of the circuit, alone, and the circuit's answers are compared text by text. An
edge that is not needed while all others are there may be so because another does the same: so all
of these are left out together, too, and what that changes is said beside them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.graph import Edge
from interp.circuits.guarantees.judging import compare_circuits, tell_verdicts
from interp.circuits.running import CircuitTask, Replacement, keep_edges, prepare_circuits
from interp.circuits.together import Circuit
from interp.errors import UsageError
from interp.metrics import Metric, metric_name
from interp.site import Model
from interp.sweeps.resuming.answers import RowStore

NEEDED = "needed"
NOT_NEEDED = ("not shown to be needed", "changes nothing")


def minimality(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    circuit: Sequence[str | Edge],
    metric: Metric,
    *,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
    split_embed: bool = False,
    memory: str | int | None = None,
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """What each edge of a circuit changes when it alone is left out of it.

    Args:
        model, clean, corrupted, metric, replaced_by, seed, split_embed, memory, progress, run: as
            for ``run_circuits``.
        circuit: its edges, or its parts, as for ``run_circuits``.

    Returns:
        One row per edge of the circuit, in the graph's order: ``edge writer reader``;
        ``replaced_by``, ``metric``; ``circuit``, the metric's mean with all edges of the circuit,
        and ``value``, that without this one; ``delta``, value less circuit, with its interval over
        texts and ``p_adjusted`` (Holm over all edges), and ``of_gap``, the same in units of the gap
        from no edge to the whole model; ``verdict``: ``needed``, where an effect is shown;
        ``not shown to be needed``; ``changes nothing``, where no text's metric moves by more than
        rounding; ``not known`` from fewer than three texts; ``n`` texts. A circuit in which every
        edge is needed is 1-minimal.

        In every row also what leaving out all edges together changes that are not needed alone:
        ``together``, with ``together_ci_low``, ``together_ci_high`` and ``together_p_adjusted``
        (one question, nothing to correct for); missing where there are none.

    Raises:
        UsageError: what ``run_circuits`` raises; a circuit without edges.
    """
    options: dict[str, Any] = {"memory": memory, "progress": progress, "run": run}
    with prepare_circuits(
        *(model, clean, corrupted, metric, replaced_by, seed), split_embed=split_embed
    ) as task:
        whole = keep_edges(task.graph, "the circuit", circuit)
        if not whole:
            raise UsageError("the circuit has no edges, so that there is none to leave out")
        edges = [edge for edge in task.graph.edges if edge in whole]
        found = task.measure([whole, *(whole - {edge} for edge in edges)], **options)
        table = pd.DataFrame(
            {
                "edge": [str(edge) for edge in edges],
                "writer": [str(edge.writer) for edge in edges],
                "reader": [str(edge.reader) for edge in edges],
            }
        )
        table["replaced_by"], table["metric"] = replaced_by, metric_name(metric)
        table["circuit"], table["value"] = found[0].mean(), found[1:].mean(axis=1)
        table = table.assign(**compare_circuits(task, found[1:], found[:1]))
        table["verdict"] = tell_verdicts(table, NEEDED, *NOT_NEEDED)
        unneeded = table["verdict"].isin(NOT_NEEDED)
        left_out = {edge for edge, is_out in zip(edges, unneeded, strict=True) if is_out}
        table = table.assign(**leave_out_together(task, whole, left_out, found[:1], options))
    return table


def leave_out_together(
    task: CircuitTask,
    whole: Circuit,
    left_out: set[Edge],
    before: Float[np.ndarray, "1 text"],
    options: dict[str, Any],
) -> dict[str, float]:
    """What a circuit loses with several edges at once; ``before``, its metric with all of them."""
    columns = ("delta", "ci_low", "ci_high", "p_adjusted")
    found = dict.fromkeys(columns, math.nan)
    if left_out:
        after = task.measure([whole - left_out], **options)
        compared = compare_circuits(task, after, before)
        found = {name: compared[name][0] for name in columns}
    return {f"together{'' if name == 'delta' else '_' + name}": found[name] for name in columns}
