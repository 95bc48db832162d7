"""How does a model write?

What is asked is checked before the first token is drawn, and what the model answers before each
next one: a most likely token can be picked from numbers that are none, and means nothing.

    tokens = model.generate(model.to_tokens("def f("), max_new_tokens=200, temperature=0.8)
"""

import math
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from gpt.errors import UsageError
from gpt.modes import in_mode

if TYPE_CHECKING:
    from gpt.model import GPTConfig
    from gpt.protocol import LanguageModel

COLDEST = 1e-6  # dividing logits by less can exceed what single precision holds


@torch.no_grad()
def generate(
    model: "LanguageModel",
    tokens: Int[Tensor, "batch pos"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch longer"]:
    """Continue ``tokens`` by ``max_new_tokens``, each drawn from the model's distribution.

    Without dropout, whatever mode the model is in; it stays in that mode.

    Args:
        model: what writes; this function is also its method.
        tokens: the prompt, at least one token, at most the block.
        max_new_tokens: how many to add.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw from the k likeliest tokens only.
        generator: makes the draw reproducible.

    Raises:
        UsageError: an empty prompt, one longer than the block, or one with tokens outside the
            vocabulary; numbers that cannot be meant; a model whose logits are NaN.
    """
    check_request(model.config, tokens, max_new_tokens, temperature, top_k)
    with in_mode(model, training=False):
        for _ in range(max_new_tokens):
            logits = model(tokens[:, -model.config.block_size :])[:, -1]  # [batch vocab]
            check_logits(logits)
            if top_k is not None:
                kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
                logits = logits.masked_fill(logits < kth, -torch.inf)
            if temperature == 0:
                following = logits.argmax(dim=-1, keepdim=True)
            else:
                probabilities = (logits / temperature).softmax(dim=-1)
                following = torch.multinomial(probabilities, 1, generator=generator)
            tokens = torch.cat([tokens, following], dim=1)
    return tokens


def check_request(
    config: "GPTConfig", tokens: Any, max_new_tokens: Any, temperature: Any = 1.0, top_k: Any = None
) -> None:
    """See that a prompt and the way to go on from it make sense for a model of this size.

    Raises:
        UsageError: a prompt that is no [batch pos] of token ids, that is empty or longer than the
            block, or that has tokens outside the vocabulary; a number of new tokens below 0; a
            temperature that is neither 0 nor a finite number of at least 1e-6; a ``top_k`` below 1.
    """
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or not holds_ids(tokens):
        shape = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise UsageError(
            f"the prompt is {shape}; it must be a tensor of token ids, [batch pos], such as "
            f"model.to_tokens(text)"
        )
    batch, pos = tokens.shape
    if not (batch and 1 <= pos <= config.block_size):
        rows = f" in {batch} rows" if batch != 1 else ""
        raise UsageError(
            f"the prompt has {pos} tokens{rows}; this model takes 1 to {config.block_size}"
        )
    low, high = (int(token) for token in tokens.aminmax())
    if low < 0 or high >= config.vocab_size:
        raise UsageError(
            f"the prompt has the token {low if low < 0 else high}; this model knows 0 to "
            f"{config.vocab_size - 1}"
        )
    if not is_whole_number(max_new_tokens) or max_new_tokens < 0:
        raise UsageError(f"max_new_tokens is {max_new_tokens!r}; it must be a number of tokens")
    usable = isinstance(temperature, float | int | np.floating) and (
        temperature == 0 or COLDEST <= temperature < math.inf
    )
    if not usable:
        raise UsageError(
            f"temperature is {temperature!r}; it must be a finite number of at least {COLDEST:g}, "
            f"or 0 for the likeliest token"
        )
    if top_k is not None and (not is_whole_number(top_k) or top_k < 1):
        raise UsageError(f"top_k is {top_k!r}; it must be at least 1, or None to draw from all")


def check_logits(logits: Tensor) -> None:
    """Raises ``UsageError`` where a model answers with NaN: no token is the likeliest then."""
    if logits.isnan().any():
        raise UsageError("the model's logits are NaN, so it can write nothing: look at its weights")


def holds_ids(tokens: Tensor) -> bool:
    return tokens.dtype in (torch.int64, torch.int32)


def is_whole_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
