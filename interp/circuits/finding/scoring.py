"""Which edges matter, exactly or by gradients?

    scores = score_edges(model, clean, corrupted, metric, method="EAP")
    exact = score_edges(model, clean, corrupted, metric, method="exact", edges=some)
    print(audit_edges(scores, exact))

To first order an edge changes the metric by what its writer adds in the other run, less here, times
the metric's gradient at what its reader sees: one run of each text and one gradient score all edges
(edge attribution patching, EAP). Taking the mean gradient on the way to the other run helps where
the metric is not a straight line (integrated gradients, EAP-IG). None of these is exact, so that
each wants its audit.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from interp.circuits.edges import add_lines, choose_edges, measure_edges, name_edges
from interp.circuits.finding.estimating import EdgeEstimate
from interp.circuits.graph import Edge
from interp.circuits.pairs import Direction, RunPair, take_pair
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.logits import logits_of
from interp.metrics import Metric, measure, metric_name
from interp.site import Model, source_lines
from interp.stats import bootstrap_interval
from interp.sweeps.resuming.answers import RowStore
from interp.sweeps.speed.scoring import check_scores
from interp.threads import quickest_threads
from interp.verdicts import FEWEST

Method = Literal["exact", "EAP", "EAP-IG inputs", "EAP-IG activations", "random"]
MANY = 4096  # edges


def score_edges(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    *,
    method: Method,
    steps: int = 5,
    seed: int = 0,
    edges: Sequence[str | Edge] | None = None,
    split_embed: bool = False,
    direction: Direction = "corrupted into clean",
    progress: bool = True,
    run: RowStore | None = None,
) -> pd.DataFrame:
    """How much each edge matters, by one of several methods.

    Args:
        model, clean, corrupted, edges, split_embed, direction: as for ``edge_effects``.
        metric: of the logits; differentiable, but for ``exact`` and ``random``.
        method:

            - ``exact``: what ``edge_effects`` measures, open.
            - ``EAP``: the gradient in the run that is patched (Syed et al. 2023).
            - ``EAP-IG inputs``: the mean of the gradients in runs whose embeddings lie between
              those of both texts (Hanna et al. 2024).
            - ``EAP-IG activations``: for each writer the mean of the gradients in runs where what
              it writes, with the other heads of its layer, lies between both (the same, with Marks
              et al. 2024); several runs for each layer.
            - ``random``: the edges' numbers in a random order, as a baseline.

        steps: how many runs lie between, at the middles of as many equal parts of the way.
        seed: of ``random``.
        progress, run: as for ``edge_effects``; of ``exact``.

    Returns:
        One row per edge: ``edge writer reader kind layer head from_layer from_head``; ``method``;
        ``score``, the mean over texts, in the metric's units, signed as the ``delta`` of
        ``edge_effects`` that it estimates (``random``: a share of all edges), with ``ci_low
        ci_high`` over texts (bootstrap; NaN below three texts and for ``random``) and ``n`` texts;
        ``direction metric``; ``baseline`` and ``nothing``, the metric's mean in the run that is
        patched and in the other one, and ``towards``, the sign of the way from the first to the
        second; ``file line code`` of the writer and ``reader_file reader_line reader_code``.

    Raises:
        UsageError: what ``edge_effects`` raises; a method that there is not; no steps; a metric
            without a gradient.
        NonFiniteError: a metric or a gradient that is not finite.
    """
    if method not in get_args(Method):
        raise UsageError(f"method is {method!r}; it must be one of {', '.join(get_args(Method))}")
    if steps < 1:
        raise UsageError(f"steps is {steps}; there must be at least 1 run between both texts")
    with evaluating(model), quickest_threads(model):
        if method in ("exact", "random"):
            pair = take_pair(model, clean, corrupted, direction, split_embed)
            chosen = choose_edges(pair.graph, edges)
            baseline, nothing = means_of_both(pair, metric)
        if method == "exact":
            measured = measure_edges(pair, chosen, metric, progress=progress, run=run)
            scores = measured.values - measured.baseline
        elif method == "random":
            order = np.random.default_rng(seed).permutation(len(chosen)) + 1
            scores = np.tile(order[:, None] / len(chosen), len(clean))
        else:
            estimate = EdgeEstimate(model, clean, corrupted, metric, direction, split_embed)
            chosen = choose_edges(estimate.graph, edges)
            scores = estimate.scores(chosen, method, steps)
            baseline, nothing = estimate.ends
        lines = source_lines(model, clean[:1])
    table = name_edges(chosen)
    table["method"], table["score"] = method, scores.mean(axis=1)
    table["ci_low"] = table["ci_high"] = np.nan
    if len(clean) >= FEWEST and method != "random":
        resamples = 10_000 if len(chosen) <= MANY else 1_000
        _, table["ci_low"], table["ci_high"] = bootstrap_interval(scores, resamples=resamples)
    table["n"], table["direction"], table["metric"] = len(clean), direction, metric_name(metric)
    table["baseline"], table["nothing"] = baseline, nothing
    table["towards"] = int(np.sign(nothing - baseline))
    return add_lines(table, chosen, lines)


def means_of_both(pair: RunPair, metric: Metric) -> tuple[float, float]:
    """The metric's mean in the run that is patched, and in the other one."""
    blocks = pair.patched.blocks
    with torch.no_grad():
        found = []
        for stream in (blocks.last, blocks.last + sum(pair.deltas.values())):
            logits = logits_of(blocks.blocks.unembed(stream), pair.tokens)
            value = measure(metric, logits, pair.metric_tokens)
            found.append(float(check_scores(value, len(pair.tokens)).double().mean()))
    return found[0], found[1]
