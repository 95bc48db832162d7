"""Which of thousands of parts are worth patching exactly?

Attribution patching (Nanda 2023): to first order, patching a part from the clean text into the
corrupted one changes the metric by (clean - corrupted) times the metric's gradient there, and one
backward pass gives the gradient everywhere. The approximation can be badly wrong, so it never comes
alone: the largest scores and as many random ones are patched exactly beside it.

    neurons = sites(model, "*mlp.hook_post", each="neuron")
    found = attribution(model, clean, corrupted, metric, neurons)
    found.table              # every site: approximate; of the audited ones also exact
    print(found.audit)       # correlation, wrong signs
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.caching import cache
from interp.errors import NonFiniteError, SiteError, UsageError
from interp.hooking import attach_hooks, evaluating
from interp.interventions import Patch
from interp.metrics import Metric
from interp.padding import check_metric, check_padding
from interp.site import Model, Part, Site, axes_of, match, names_by_point, stopping
from interp.stats import bootstrap_interval
from interp.streams import Pair, on_stream
from interp.sweep import effects_of
from interp.sweeps.resuming.answers import RowStore
from interp.sweeps.speed.fused import frozen_linear_maps
from interp.sweeps.speed.reading import behind_blocks, measure_run
from interp.verdicts import FEWEST, intervals_over_texts

EMBEDDING = "hook_embed"


@dataclass(frozen=True)
class Audit:
    """How good an approximation was where it was checked.

    Args:
        sites: how many sites were patched exactly.
        largest: how many of them because their scores were the largest; the others are random.
        correlation: Pearson's, of exact and approximate; NaN where either does not vary.
        slope: of the line through the exact values over the approximate ones (least squares); 1
            where the approximation has the right size, below 1 where it exaggerates.
        with_effect: how many have an exact effect; the others have no sign.
        wrong_signs: at how many of these the approximate sign is not that of the exact effect.
    """

    sites: int
    largest: int
    correlation: float
    slope: float
    with_effect: int
    wrong_signs: int

    def __str__(self) -> str:
        return (
            f"{self.sites} sites patched exactly ({self.largest} largest, "
            f"{self.sites - self.largest} random): correlation {self.correlation:.2f}, "
            f"slope {self.slope:.2f}, the sign differs at {self.wrong_signs} of "
            f"{self.with_effect}"
        )


@dataclass(frozen=True)
class Attribution:
    """Scores, and their audit."""

    table: pd.DataFrame
    audit: Audit

    def __str__(self) -> str:
        shown = self.table.sort_values("approximate", key=abs, ascending=False).head(10)
        columns = shown[["site", "approximate", "exact"]]
        return f"{columns.to_string(index=False)}\n{self.audit}"


def attribution(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    sites: Sequence[Site],
    *,
    steps: int = 0,
    verify: int = 16,
    seed: int = 0,
    progress: bool = True,
    run: RowStore | None = None,
) -> Attribution:
    """Score every site by what patching it, clean into corrupted, would change.

    Args:
        model: the model.
        clean: texts that the model answers.
        corrupted: as many texts of the same length, changed in what matters.
        metric: of the patched logits; differentiable. Its tokens are the clean ones.
        sites: what is scored.
        steps: 0 takes the gradient at the corrupted text; more take the mean of that many on the
            way from its embeddings to the clean text's (integrated gradients; Hanna et al. 2024).
        verify: how many of the largest scores to patch exactly, and as many random ones.
        seed: of the random ones.
        progress: show a bar over the exact ones.
        run: where the exact ones are kept as they come, as for ``interp.sweep.sweep``.

    Returns:
        The table, one row per site: its columns; ``approximate``, the mean over examples in the
        metric's units with its interval; ``exact``, the same measured, with
        ``exact_ci_low exact_ci_high exact_p_adjusted``, and ``why`` it was (largest, random),
        where it was audited; ``n`` examples. And the audit.

    Raises:
        UsageError: texts of different shape, no sites, nothing to verify, a metric without a
            gradient.
        SiteError: a part that a site's hook point does not have.
        NonFiniteError: a gradient that is not finite.
    """
    if clean.shape != corrupted.shape:
        raise UsageError(
            f"clean is {list(clean.shape)} tokens and corrupted {list(corrupted.shape)}: "
            "attribution needs pairs of equal length, position for position"
        )
    if not sites or verify < 1 or steps < 0:
        raise UsageError("attribution needs sites, verify of at least 1 and steps of at least 0")
    scores = site_scores(model, clean, corrupted, metric, sites, steps)
    approximate = scores.mean(axis=1)
    largest = np.argsort(-np.abs(approximate), kind="stable")[:verify]
    others = np.setdiff1d(np.arange(len(sites)), largest)
    random = np.random.default_rng(seed).permutation(others)[:verify]
    chosen = np.concatenate([largest, random])
    with evaluating(model):
        kept = cache(model, clean, sorted({sites[i].hook for i in chosen}))
    effects = effects_of(
        model,
        corrupted,
        [(sites[i], Patch(kept)) for i in chosen],
        metric,
        metric_tokens=clean,
        progress=progress,
        allow_no_effect=True,
        run=run,
    )
    differences = effects.values - effects.baseline
    exact = differences.mean(axis=1)
    table = pd.DataFrame([site.columns() for site in sites])
    table["approximate"] = approximate
    if scores.shape[1] >= FEWEST:
        _, table["ci_low"], table["ci_high"] = bootstrap_interval(scores)
    else:
        table[["ci_low", "ci_high"]] = np.nan
    table["exact"] = np.nan
    table.loc[chosen, "exact"] = exact
    for name, found in intervals_over_texts(differences).items():
        table[f"exact_{name}"] = np.nan
        table.loc[chosen, f"exact_{name}"] = found
    table["why"] = ""
    table.loc[largest, "why"], table.loc[random, "why"] = "largest", "random"
    table["n"] = scores.shape[1]
    return Attribution(table, audit_scores(approximate[chosen], exact, len(largest)))


def audit_scores(
    approximate: Float[np.ndarray, "site"], exact: Float[np.ndarray, "site"], largest: int
) -> Audit:
    """How well scores agree with exact effects of the same sites.

    Args:
        largest: how many of the sites were chosen because their scores are the largest.
    """
    correlation = slope = float("nan")
    if len(exact) > 1 and exact.std() > 0 and approximate.std() > 0:
        (variance, shared), _ = np.cov(approximate, exact)
        correlation, slope = float(np.corrcoef(approximate, exact)[0, 1]), float(shared / variance)
    felt = np.abs(exact) > 1e-6 * np.abs(exact).max(initial=0)
    wrong = int((np.sign(approximate) != np.sign(exact))[felt].sum())
    return Audit(len(exact), largest, correlation, slope, int(felt.sum()), wrong)


def site_scores(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metric: Metric,
    sites: Sequence[Site],
    steps: int = 0,
) -> Float[np.ndarray, "site batch"]:
    """(clean - corrupted) times the gradient, summed over each site's part, by example."""
    for tokens in (clean, corrupted):
        check_padding(model, tokens)
        check_metric(model, tokens, metric)
    hooks = list(dict.fromkeys(site.hook for site in sites))
    names = names_by_point(model)
    if steps and EMBEDDING not in model.hook_dict:
        raise UsageError(
            f"steps is {steps}, which goes from the corrupted text's embeddings to the clean ones, "
            f"but this model has no hook point {EMBEDDING} on its token embeddings: put one there, "
            "or take steps=0"
        )
    with differentiable(model), evaluating(model), frozen(model), frozen_linear_maps():
        clean, corrupted = (
            clean.clone(),
            corrupted.clone(),
        )  # inference mode's tensors have no graph
        asked = [*hooks, EMBEDDING] if steps else hooks
        there = cache(model, clean, asked, **stopping(model, asked))
        end = behind_blocks(model) if stopping(model, hooks) else None
        here, total, end = gradients(model, corrupted, clean, metric, hooks, None, end)
        if steps:
            embedded = cache(model, corrupted, EMBEDDING, **stopping(model, [EMBEDDING]))[EMBEDDING]
            total = {hook: torch.zeros_like(value) for hook, value in total.items()}
            for step in range(steps):
                share = (step + 0.5) / steps
                between = embedded + share * (there[EMBEDDING] - embedded)
                _, found, _ = gradients(model, corrupted, clean, metric, hooks, between, end)
                for hook, value in found.items():
                    total[hook] += value / steps
    scores = np.empty((len(sites), len(clean)))
    for (hook, parts), numbered in by_part(sites).items():
        change = there[hook] - here[hook]
        change = change.where(there[hook] != here[hook], 0)  # of a hidden key's minus infinity too
        product = change * total[hook]
        axes = axes_of(names[match(model, hook)[0][1]], product.ndim)
        if unknown := [part for part in parts if part not in axes]:
            raise SiteError(f"{hook} has no {unknown[0]} axis, its value is {list(axes)}")
        gone = [i for i, axis in enumerate(axes) if i and axis not in parts]
        summed = product.sum(dim=gone) if gone else product
        order = [axis for axis in axes if axis in parts]
        summed = summed.permute(0, *(1 + order.index(part) for part in parts))
        rows, index = list(numbered), np.array(list(numbered.values()))
        sizes = np.array(summed.shape[1:])
        if len(outside := np.flatnonzero(((index < -sizes) | (index >= sizes)).any(axis=1))):
            raise SiteError(f"{sites[rows[outside[0]]]} lies outside {list(product.shape)}")
        scores[rows] = summed.double().cpu().numpy()[(slice(None), *index.T)].T
    if not np.isfinite(scores).all():
        raise NonFiniteError("the gradient is not finite at some site")
    return scores


def by_part(
    sites: Sequence[Site],
) -> dict[tuple[str, tuple[Part, ...]], dict[int, tuple[int, ...]]]:
    """Sites of the same hook point and restricted to parts of the same kinds, together: of each
    one its place in ``sites`` and the numbers of its parts."""
    groups: dict[tuple[str, tuple[Part, ...]], dict[int, tuple[int, ...]]] = {}
    for row, site in enumerate(sites):
        parts = site.parts
        groups.setdefault((site.hook, tuple(parts)), {})[row] = tuple(parts.values())
    return groups


def gradients(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    metric_tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    hooks: Sequence[str],
    embedded: Tensor | None,
    end: int | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor], int | None]:
    """Values at hook points of a frozen model, and the gradient of the metric there.

    The model gets a copy of every value, so that what it writes into one takes nothing from the
    gradient of the value that was there.

    Args:
        embedded: what to put in the place of the token embeddings; a run without must come first.
        end: the layer number behind the last block, where the metric can be spared logits that it
            does not read.

    Returns:
        Both; and ``end``, None where the run proved it wrong.
    """
    values: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def keeping(name: str) -> Any:
        def keep(value: Tensor, hook: Any) -> Tensor:
            values[name] = value if value.requires_grad else value.detach().requires_grad_()
            versions[name] = values[name]._version
            return values[name].clone()

        return keep

    first: list[Pair] = []
    pairs: list[Pair] = []
    for hook in hooks:
        before, after = on_stream(model, hook, keeping(hook))
        first, pairs = first + before, pairs + after
    if embedded is not None:
        put = match(model, EMBEDDING)[0][1]
        pairs = [(put, lambda value, hook: embedded.clone()), *pairs]
    with attach_hooks(first, first=True), attach_hooks(pairs), graphs(), torch.enable_grad():
        proven = embedded is not None
        measured, end = measure_run(model, tokens, metric_tokens, metric, end, proven)
        if missed := [name for name in hooks if name not in values]:
            raise SiteError(f"the corrupted texts' run never reached {missed[0]}")
        total = measured.sum()
        if not total.requires_grad:
            raise UsageError(
                "the metric has no gradient at these sites: take one that is differentiable, such "
                "as loss or logit_difference"
            )
        if written := [name for name in hooks if values[name]._version != versions[name]]:
            raise UsageError(
                f"the model writes into the value of {written[0]} past its hook point, so that its "
                "gradient cannot be known: let it go on with what the hook point returns"
            )
        kept = [values[hook] for hook in hooks]
        found = torch.autograd.grad(total, kept, allow_unused=True)
    grads = [
        torch.zeros_like(value) if grad is None else grad
        for value, grad in zip(kept, found, strict=True)
    ]
    here = {hook: value.detach() for hook, value in values.items()}
    return here, dict(zip(hooks, grads, strict=True)), end


@contextmanager
def differentiable(model: Model) -> Iterator[None]:
    """Out of inference mode, in which torch keeps no graph.

    Raises:
        UsageError: the model was made in it.
    """
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    if any(weight.is_inference() for weight in weights):
        raise UsageError(
            "this model was made under torch.inference_mode, whose tensors have no gradients: make "
            "or load it outside"
        )
    with torch.inference_mode(False):
        yield


@contextmanager
def graphs() -> Iterator[None]:
    """Says in a sentence what cannot take part in a graph.

    Raises:
        UsageError: a tensor made in inference mode, or a metric that leaves torch.
    """
    try:
        yield
    except RuntimeError as error:
        if "nference tensor" in str(error):
            raise UsageError(
                "the metric or the model holds a tensor made under torch.inference_mode, which has "
                "no gradients: make it outside, or give its clone() made outside"
            ) from error
        if "modified" in str(error) and "inplace" in str(error):
            raise UsageError(
                "the model writes into a value where torch then has no gradient: let it make a new "
                f"one there (torch says: {str(error).partition('. ')[0]})"
            ) from error
        if "numpy() on Tensor that requires grad" in str(error):
            raise UsageError(
                "the metric turns logits into numpy arrays, which have no gradients: attribution "
                "needs a metric made of torch's functions alone"
            ) from error
        raise


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """No gradients for the weights; which of them take some is as before afterwards."""
    weights = list(model.parameters()) if isinstance(model, nn.Module) else []
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, takes in zip(weights, before, strict=True):
            weight.requires_grad_(takes)
