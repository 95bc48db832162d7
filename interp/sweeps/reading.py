"""How is a metric's gradient spared the logits that it does not read?

Unembedding into a large vocabulary costs as much as several blocks, forwards and backwards, and
most metrics of patching read one position. Where a model runs from behind its last block on, and
gives the same logits there for one position alone as for all together, only those that the metric
reads are computed; the others are NaN, so that a read that was not foreseen cannot pass for a
result.
"""

import inspect
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.metrics import Metric
from interp.sites import Model, hooked, stopping
from interp.sweeps.logits import ReadLogits, Reads
from interp.sweeps.proof import agree, watched_by


class ManyReadError(Exception):
    """A metric reads so much that nothing is saved."""


def behind_blocks(model: Any, tokens: Int[Tensor, "batch pos"]) -> int | None:
    """The layer number from which a model does nothing but unembed, each position alone; None where
    this is not shown, or its vocabulary too small for it to matter."""
    if not isinstance(model, nn.Module) or watched_by(model):
        return None
    unembedding = getattr(model, "W_U", None)  # [d_model vocab]
    starts = "start_at_layer" in inspect.signature(model.forward).parameters
    if not starts or unembedding is None or unembedding.shape[1] < unembedding.shape[0]:
        return None
    try:
        end = stopping(cast(Model, model), ["blocks.*"])["stop_at_layer"]
        with torch.no_grad():
            logits, final = run_to(model, tokens[:1], end)
            alone = model(final[:, -1:], start_at_layer=end)
            agree(alone, logits[:, -1:], "the last position, unembedded alone,")
    except Exception:  # whatever a model answers to arguments that it takes in its own way
        return None
    return end


def run_to(model: Any, tokens: Int[Tensor, "batch pos"], end: int, **kwargs: Any) -> Any:
    """What a model returns, and the residual stream that leaves the block before ``end``."""
    kept: list[Tensor] = []
    point = model.hook_dict[f"blocks.{end - 1}.hook_resid_post"]
    with hooked([(point, lambda value, hook: kept.append(value))]):
        result = model(tokens, **kwargs)
    return result, kept[0]


def measured_of_run(
    model: Any,
    tokens: Int[Tensor, "batch pos"],
    against: Int[Tensor, "batch pos"],
    metric: Metric,
    end: int | None,
) -> Float[Tensor, "batch"]:
    """A metric of one run, with its gradient.

    Args:
        against: the tokens that the metric is given.
        end: what ``behind_blocks`` said.
    """
    if end is None:
        return metric(model(tokens), against)
    _, final = run_to(model, tokens, end, stop_at_layer=end)
    shape = (*tokens.shape, int(model.W_U.shape[1]))
    try:
        reads = positions_read(metric, shape, final, against)
        logits = final.new_full(shape, torch.nan)
        logits[:, reads] = model(final[:, reads], start_at_layer=end)
        value = metric(logits, against)
        if torch.isfinite(value).all():
            return value
    except ManyReadError:
        pass
    return metric(model(final, start_at_layer=end), against)


def positions_read(
    metric: Metric, shape: tuple[int, int, int], like: Tensor, tokens: Int[Tensor, "batch pos"]
) -> list[int]:
    """The positions that a metric reads of logits that are all zero.

    Args:
        shape: of the logits, [batch pos vocab].
        like: a tensor of their type, on their device.

    Raises:
        ManyReadError: more than half of them.
    """
    batch, length, vocab = shape

    def zeros(positions: list[int]) -> Float[Tensor, "batch read vocab"]:
        if 2 * len(positions) > length:
            raise ManyReadError
        return like.new_zeros(batch, len(positions), vocab)

    noted = Reads()
    with torch.no_grad():
        metric(ReadLogits(shape, like, noted.noting(zeros)), tokens)
    return sorted(noted.positions)
