"""What can a call of a model ask for beside logits? A loss, or some of the layers.

logits, loss = model(tokens, return_type="both")
residual = model(tokens, stop_at_layer=2)
logits = model(residual, start_at_layer=2)
"""

import inspect
import sys
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gpt.errors import UsageError, check_choice

if TYPE_CHECKING:
    from gpt.protocol import LanguageModel


def takes_options(forward: Callable[..., Tensor]) -> Callable[..., Any]:
    """Let a ``forward``, which turns tokens into logits, take what TransformerLens' models take.

    The method it becomes is called with:

    Args:
        tokens: token ids [batch pos]; or, with ``start_at_layer``, the residual stream entering
            that layer [batch pos d_model].
        targets: the token that should follow each position [batch pos]; without it the tokens
            themselves, one to the right.
        return_type: ``"logits"`` [batch pos vocab], ``"loss"``, the mean in nats per token,
            ``"both"``, or None.
        start_at_layer: the first layer to run, without the embeddings.
        stop_at_layer: the first layer not to run; the residual stream entering it is returned.

    Raises:
        UsageError: more positions than the block holds; a loss asked for without targets; another
            ``return_type``; some of the layers, of a ``forward`` that does not start with
            ``self.embed(tokens)`` or go through ``self.blocks``.
    """

    def run(
        self: "LanguageModel",
        tokens: Int[Tensor, "batch pos"] | Float[Tensor, "batch pos d_model"],
        targets: Int[Tensor, "batch pos"] | None = None,
        *,
        return_type: str | None = "logits",
        start_at_layer: int | None = None,
        stop_at_layer: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor] | None:
        check_choice("return_type", return_type, ("logits", "loss", "both", None))
        if start_at_layer is None and tokens.shape[1] > self.config.block_size:
            raise UsageError(
                f"{tokens.shape[1]} tokens are too many: "
                f"this model's block holds {self.config.block_size}"
            )
        if stop_at_layer is not None:
            return run_layers(forward, self, tokens, start_at_layer, stop_at_layer)
        if return_type is None:
            run_layers(forward, self, tokens, start_at_layer, sys.maxsize)
            return None
        if start_at_layer is not None:
            logits = run_layers(forward, self, tokens, start_at_layer, None)
        else:
            logits = forward(self, tokens)
        if return_type == "logits":
            return logits
        loss = next_token_loss(logits, tokens, targets)
        return loss if return_type == "loss" else (logits, loss)

    parameters = inspect.signature(run)
    taking = wraps(forward)(run)  # what it runs is forward's code; what it takes is not
    taking.__signature__ = parameters  # type: ignore[attr-defined]
    return taking


def run_layers(
    forward: Callable[..., Tensor],
    model: "LanguageModel",
    tokens: Tensor,
    start: int | None,
    stop: int | None,
) -> Tensor:
    """The model's own ``forward``, on a copy that has other blocks: those asked for, and, to stop
    at one, a block that ends the run with what it is given."""
    name = type(model).__name__
    if not (hasattr(model, "blocks") and hasattr(model, "embed")):
        raise UsageError(
            f"{name} has no layers in self.blocks that read self.embed(tokens): it can only be run "
            "whole"
        )
    part = copy(model)  # with the same weights and hook points
    blocks: list[Any] = list(model.blocks)[start:stop]
    part.__dict__["blocks"] = blocks if stop is None else [*blocks, end_run]
    if start is not None:
        residual = tokens
        if not residual.is_floating_point():
            raise UsageError(
                "a run that starts at a layer takes the residual stream [batch pos d_model], not "
                "token ids"
            )
        part.__dict__["embed"] = lambda tokens: residual
        shape, device = residual.shape[:2], residual.device
        tokens = torch.empty(shape, dtype=torch.long, device=device).as_subclass(UnknownTokens)
    try:
        logits = forward(part, tokens)
    except RunEnded as ended:
        return ended.residual
    if stop is not None:
        raise UsageError(
            f"{name}.forward does not go through self.blocks, so it cannot stop at one of them"
        )
    return logits


class UnknownTokens(Tensor):
    """The tokens of a run that starts behind the embeddings: how many there are, and no more."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.__name__ == "__get__":  # an attribute, such as their shape
            return super().__torch_function__(func, types, args, kwargs or {})
        raise UsageError(
            "this model's forward reads its tokens elsewhere than in self.embed, so a run of it "
            "cannot start at a layer"
        )


class RunEnded(Exception):  # noqa: N818 - no error
    """A run has come to the layer where it was to stop."""

    def __init__(self, residual: Tensor) -> None:
        super().__init__()
        self.residual = residual


def end_run(x: Float[Tensor, "batch pos d_model"]) -> NoReturn:
    raise RunEnded(x)


def next_token_loss(
    logits: Float[Tensor, "batch pos vocab"],
    tokens: Tensor,
    targets: Int[Tensor, "batch pos"] | None,
) -> Float[Tensor, ""]:
    """The mean loss in nats per token; without targets, of the tokens themselves.

    Raises:
        UsageError: neither is there, for the run started at a layer.
    """
    if targets is None:
        if tokens.is_floating_point():
            raise UsageError("a loss needs targets when the run starts at a layer")
        logits, targets = logits[:, :-1], tokens[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
