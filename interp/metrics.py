"""How well does a model predict, example by example?

A metric is a function ``metric(logits, tokens)`` that returns one number per example, so that runs
can be compared in pairs; the mean over examples is taken last, by whoever reports it. What needs
more than logits and tokens is made by a function that returns a metric.

    loss(model(tokens), tokens)                           # [batch], nats per token
    metric = logit_difference(answer=3, wrong=5)
    metric(model(tokens), tokens)                         # [batch], nats
"""

import functools
import math
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from interp.errors import UsageError

Metric = Callable[[Tensor, Tensor], Tensor]
"""From logits [batch pos vocab] and tokens [batch pos] to one number per example, [batch]."""


def loss(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch"]:
    """The mean cross-entropy of each example's next tokens, in nats per token.

    A model that knows nothing says every token is as likely as any other, and loses ln(vocab).

    Examples:
        >>> loss(torch.zeros(2, 8, 65), torch.zeros(2, 8, dtype=torch.long))
        tensor([4.1744, 4.1744])

    Raises:
        UsageError: one token only, which no token follows.
    """
    return token_losses(logits, tokens).mean(dim=1)


def token_losses(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch next"]:
    """The cross-entropy in nats of every next token.

    Entry p is that of token p + 1, predicted at position p; there is one entry less than tokens.

    Raises:
        UsageError: one token only, which no token follows.
    """
    if tokens.shape[1] < 2:
        raise UsageError("a loss needs at least two tokens: one to predict and one to predict from")
    losses = F.cross_entropy(
        precise(logits[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten().long(), reduction="none"
    )
    return losses.view(tokens[:, 1:].shape)


def bits_per_byte(losses: Any, sizes: Any) -> float:
    """How many bits a model needs for each byte of text: what compares models whose tokens differ.

    Args:
        losses: of every token that was predicted, in nats, of any shape.
        sizes: how many bytes of UTF-8 each of these tokens stands for, in the same shape.

    Examples:
        >>> round(bits_per_byte([0.7, 1.4], [1, 2]), 4)      # 2.1 nats for three bytes
        1.0099

    Raises:
        UsageError: shapes that differ; tokens that stand for no text at all.
    """
    nats, counts = (torch.as_tensor(values).double() for values in (losses, sizes))
    if nats.shape != counts.shape:
        raise UsageError(
            f"there are {list(nats.shape)} losses and sizes for {list(counts.shape)} tokens: give "
            "one for each"
        )
    if not counts.sum() > 0:
        raise UsageError("these tokens stand for no text at all, so that there are no bytes")
    return float(nats.sum() / counts.sum() / math.log(2))


def loss_at(positions: int | Sequence[int] | Bool[Tensor, "batch pos"]) -> Metric:
    """The mean cross-entropy in nats at some positions only.

    Args:
        positions: where predictions are made (the loss there is of the token that follows): one
            position, several, or a mask [batch pos] that may differ from example to example.
            Negative ones count from the end; nothing follows the last.

    The metric raises:
        UsageError: a position that has no next token, a mask of another shape, or one that leaves
            an example without any position.
    """

    def metric(
        logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch"]:
        losses = token_losses(logits, tokens)
        if isinstance(positions, Tensor):
            if positions.shape != tokens.shape:
                raise UsageError(
                    f"the mask is {list(positions.shape)}, the tokens are {list(tokens.shape)}"
                )
            mask = positions[:, :-1].to(losses.device)
            if positions[:, -1].any() or not mask.any(dim=1).all():
                raise UsageError(
                    "the mask must hold at least one position of every example, and never the "
                    "last, after which nothing follows"
                )
            return losses.where(mask, 0.0).sum(dim=1) / mask.sum(dim=1)
        chosen = [positions] if isinstance(positions, int) else list(positions)
        length = tokens.shape[1]
        counted = [p + length if p < 0 else p for p in chosen]
        if not counted or not all(0 <= p < length - 1 for p in counted):
            raise UsageError(
                f"positions are {chosen}; with {length} tokens there is a next token after "
                f"positions 0 to {length - 2}"
            )
        return losses[:, counted].mean(dim=1)

    metric.__name__ = f"loss_at({argument_text(positions)})"
    return metric


def logit_difference(
    answer: int | Int[Tensor, "batch"], wrong: int | Int[Tensor, "batch"], pos: int = -1
) -> Metric:
    """The logit of ``answer`` minus that of ``wrong``, in nats: the log of their odds.

    Args:
        answer: the token id, or one per example.
        wrong: the token id it is held against, or one per example.
        pos: the position where the logits are read.

    The metric raises:
        UsageError: answers for another number of examples, a token or a position out of range.
    """

    def metric(
        logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch"]:
        batch, length, vocab = logits.shape
        if not -length <= pos < length:
            raise UsageError(f"pos is {pos}; the logits have positions 0 to {length - 1}")
        at = precise(logits[:, pos])
        picked = []
        for name, token in (("answer", answer), ("wrong", wrong)):
            ids = torch.as_tensor(token, device=logits.device)
            ids = ids.expand(batch) if ids.ndim == 0 else ids
            if ids.shape != (batch,):
                raise UsageError(f"{name} is {list(ids.shape)} tokens for {batch} examples")
            if not ((ids >= 0) & (ids < vocab)).all():
                raise UsageError(f"{name} holds a token outside the vocabulary, 0 to {vocab - 1}")
            picked.append(at.gather(1, ids[:, None])[:, 0])
        return picked[0] - picked[1]

    where = "" if pos == -1 else f", pos={pos}"
    metric.__name__ = f"logit_difference({argument_text(answer)}, {argument_text(wrong)}{where})"
    return metric


def kl_from(baseline: Float[Tensor, "batch pos vocab"], pos: int | None = None) -> Metric:
    """How far the predictions are from a baseline's, in nats: KL(baseline || model).

    Args:
        baseline: logits of the same tokens from the untouched model.
        pos: one position; None takes the mean over all.

    The metric raises:
        UsageError: logits of another shape than the baseline's.
    """

    def metric(
        logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch"]:
        if logits.shape != baseline.shape:
            raise UsageError(
                f"the baseline's logits are {list(baseline.shape)}, the model's "
                f"{list(logits.shape)}: they must come from the same tokens"
            )
        ours = precise(logits).log_softmax(dim=-1)
        theirs = precise(baseline).to(ours).log_softmax(dim=-1)
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(dim=-1)
        return divergence.mean(dim=1) if pos is None else divergence[:, pos]

    metric.__name__ = "kl_from(baseline)" if pos is None else f"kl_from(baseline, pos={pos})"
    return metric


def accuracy(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch"]:
    """The share of each example's next tokens that are the likeliest prediction (top 1).

    Raises:
        UsageError: one token only, which no token follows.
    """
    if tokens.shape[1] < 2:
        raise UsageError("an accuracy needs at least two tokens")
    right = logits[:, :-1].argmax(dim=-1) == tokens[:, 1:]
    return right.to(torch.promote_types(logits.dtype, torch.float32)).mean(dim=1)


def precise(logits: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Logits in single precision at least: in half precision the differences that count would be
    rounded away."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def measure(metric: Metric, logits: Tensor, tokens: Int[Tensor, "batch pos"]) -> Any:
    """What a metric makes of logits. It gets tokens of its own: one that marks what does not count
    by writing into them must not change what the model, or the next run's metric, is given."""
    return metric(logits, tokens.clone())


def metric_name(metric: Metric) -> str:
    """What a table calls a metric: its own name or, where it has none, that of what made it."""
    if isinstance(metric, functools.partial):
        given = [*metric.args, *metric.keywords.values()]
        return f"{metric_name(metric.func)}({', '.join(map(argument_text, given))})"
    name = getattr(metric, "__name__", type(metric).__name__)
    maker, made, _ = getattr(metric, "__qualname__", name).partition(".<locals>.")
    return maker if made and name in ("metric", "<lambda>") else name


def argument_text(value: Any) -> str:
    """A metric's argument in its name."""
    if isinstance(value, Tensor):
        return str(value.item()) if value.ndim == 0 else "one per example"
    return reprlib.repr(value)
