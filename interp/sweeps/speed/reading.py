"""How is a metric's gradient spared the logits that it does not read?

Unembedding into a large vocabulary costs as much as several blocks, forwards and backwards, and
most metrics of patching read one position. Where a model runs from behind its last block on, and
gives the same logits there for these positions alone as in a whole run of all texts, only those
that the metric reads get a gradient; the others are NaN, so that a read that was not foreseen
cannot pass for a result.
"""

import inspect
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from interp.hooking import attach_hooks
from interp.logits import ReadLogits, Reads, found_in, logits_of
from interp.metrics import Metric, measure, precise
from interp.site import Model, stopping
from interp.sweeps.speed.scoring import check_scores
from interp.sweeps.speed.verifying import check_same_everywhere, watched_by


def behind_blocks(model: Any) -> int | None:
    """The layer number from which a model seems to do nothing but unembed; None where it does not
    look so, or its vocabulary is too small for it to matter."""
    if not isinstance(model, nn.Module) or watched_by(model):
        return None
    unembedding = getattr(model, "W_U", None)  # [d_model vocab]
    starts = "start_at_layer" in inspect.signature(model.forward).parameters
    if not starts or unembedding is None or unembedding.shape[1] < unembedding.shape[0]:
        return None
    end = stopping(cast(Model, model), ["blocks.*"]).get("stop_at_layer")
    final = f"blocks.{(end or 0) - 1}.hook_resid_post"
    return end if final in cast(Model, model).hook_dict else None


def measure_run(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    metric_tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    end: int | None,
    verified: bool,
) -> tuple[Float[Tensor, "batch"], int | None]:
    """A metric of one run, with its gradient.

    Args:
        metric_tokens: the tokens that the metric is given.
        end: what ``behind_blocks`` said.
        verified: whether an earlier run showed that to be so.

    Returns:
        The metric; and ``end``, None where it proved wrong.
    """
    try:
        value = (
            None
            if end is None
            else measure_spared(model, tokens, metric_tokens, metric, end, verified)
        )
    except Exception:  # whatever a model answers to arguments that it takes in its own way
        value = None
    if value is not None:
        return value, end
    logits = precise(found_in(model(tokens)))
    seen = logits_of(logits.detach(), tokens)
    if isinstance(seen, ReadLogits):  # of the last position only, which is an error to read past
        with torch.no_grad():
            measure(metric, seen, metric_tokens)
        logits = F.pad(logits, (0, 0, tokens.shape[1] - 1, 0), value=torch.nan)
    return check_scores(measure(metric, logits, metric_tokens), len(tokens), finite=False), None


def measure_spared(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    metric_tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    end: int,
    verified: bool,
) -> Float[Tensor, "batch"] | None:
    """A metric whose gradient is spared the logits that it does not read; None where the model
    gives others for them alone, or the metric reads what it was not expected to."""
    kept: list[Tensor] = []

    def ending(value: Tensor, hook: Any) -> Tensor:
        kept.append(value)
        return value.detach().clone()  # what follows in this run is seen, and takes no gradient

    with attach_hooks([(model.hook_dict[f"blocks.{end - 1}.hook_resid_post"], ending)]):
        output = model(tokens, **({"stop_at_layer": end} if verified else {}))
    (final,) = kept
    shape = (*tokens.shape, int(model.W_U.shape[1]))
    reads = find_reads(metric, shape, final, metric_tokens)
    unembedded = precise(found_in(model(final[:, reads], start_at_layer=end)))
    if not verified:
        check_same_everywhere(
            unembedded.detach(), logits_of(output, tokens).detach()[:, reads], "unembedding"
        )
    logits = unembedded.new_full(shape, torch.nan)
    logits[:, reads] = unembedded
    value = check_scores(measure(metric, logits, metric_tokens), len(tokens), finite=False)
    return value if torch.isfinite(value).all() else None


def find_reads(
    metric: Metric, shape: tuple[int, int, int], like: Tensor, tokens: Int[Tensor, "batch pos"]
) -> list[int]:
    """The positions that a metric reads of logits that are all zero.

    Args:
        shape: of the logits, [batch pos vocab].
        like: a tensor on their device.
    """
    batch, _, vocab = shape
    like = precise(like.new_zeros(1))

    def zeros(positions: list[int]) -> Float[Tensor, "batch read vocab"]:
        return like.new_zeros(batch, len(positions), vocab)

    noted = Reads()
    with torch.no_grad():
        measure(metric, ReadLogits(shape, like, noted.noting(zeros)), tokens)
    return sorted(noted.positions)
