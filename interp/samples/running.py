"""What does a model say comes next, token after token?

Text by text from the beginning; or, where a model of transformers keeps the keys and values of
what it has read, each new token alone. What it then says is compared with a run of the whole text
at the second token and at the last: a model whose cache does something else is not given one.

    write_on(model, tokens, 200, choose, context=1024)                # [row longer]
    write_on_with_cache(model, tokens, 200, choose, context=1024)     # the same, sooner
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import UsageError
from interp.logits import found_in, logits_of

CLOSE = 1e-3
"""Of the spread of logits: what two kernels may differ by, and no cache that is wrong."""

CONTEXTS = (
    "block_size",
    "n_ctx",
    "n_positions",
    "max_position_embeddings",
    "max_seq_len",
    "max_seq_length",
    "seq_len",
    "sequence_len",
    "context_length",
    "context_size",
)
"""Names under which models keep how many tokens they can read."""

CACHES = ("cache", "past_key_values")
"""What the versions of transformers call a key/value cache."""

Choose = Callable[[Float[Tensor, "row vocab"]], Int[Tensor, "row"]]


def context_of(model: nn.Module) -> int | None:
    """How many tokens a model can read at once, as its own configuration says; None where none
    does."""
    for holder in ("config", "cfg", "params", "args"):
        about = getattr(model, holder, None)
        for name in CONTEXTS:
            value = about.get(name) if isinstance(about, Mapping) else getattr(about, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def cache_of(model: nn.Module) -> str:
    """The argument by which a model is given its key/value cache, as those of transformers are;
    empty where it takes none."""
    try:
        names = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return ""
    return next((name for name in CACHES if name in names and "use_cache" in names), "")


class CacheDiffersError(Exception):
    """A run with a key/value cache does not say what a run of the whole text says."""


def write_on(
    model: nn.Module,
    tokens: Int[Tensor, "row pos"],
    count: int,
    choose: Choose,
    context: int | None,
    after_run: Callable[[int], None] = lambda length: None,
) -> Int[Tensor, "row longer"]:
    """Continue texts by ``count`` tokens, each chosen from the logits after all before it.

    Args:
        tokens: texts of one length, on the model's device.
        choose: takes the last position's logits and gives the next tokens.
        context: how many of the last tokens the model is given; None is all.
        after_run: is told after each run how many tokens it was given.
    """
    for _ in range(count):
        window = tokens if context is None else tokens[:, -context:]
        logits = last_logits(model(window), window)
        after_run(window.shape[1])
        tokens = appended(tokens, choose(logits))
    return tokens


def write_on_with_cache(
    model: nn.Module,
    tokens: Int[Tensor, "row pos"],
    count: int,
    choose: Choose,
    context: int | None,
) -> Int[Tensor, "row longer"]:
    """The same, the model's key/value cache holding what it has read, until the window slides.

    Raises:
        CacheDiffersError: with its cache the model says something else, or keeps none.
    """
    name, cache, read = cache_of(model), None, 0
    for step in range(count):
        if context is not None and tokens.shape[1] > context:
            return write_on(model, tokens, count - step, choose, context)
        new = tokens[:, read:]
        output = model(new, use_cache=True, **({name: cache} if cache is not None else {}))
        cache, read = getattr(output, name, None), tokens.shape[1]
        if cache is None or not hasattr(cache, "get_seq_length") or cache.get_seq_length() != read:
            raise CacheDiffersError
        logits = last_logits(output, new)
        if step and (step == 1 or step == count - 1 or read == context):
            require_close(logits, last_logits(model(tokens), tokens))
        tokens = appended(tokens, choose(logits))
    return tokens


def last_logits(output: Any, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row vocab"]:
    """The last position's logits.

    Raises:
        UsageError: there are none, or they are no numbers: no token is the likeliest then.
    """
    found_in(output)
    logits = logits_of(output, tokens)[:, -1]
    usable = logits.amax(dim=1).isfinite() & ~logits.isnan().any(dim=1)
    if not usable.all():
        kind = "NaN" if logits.isnan().any() else "infinite"
        raise UsageError(
            f"the model's logits after {tokens.shape[1]} tokens are {kind}, so that it can write "
            "nothing: look at its weights, and at what was done to it"
        )
    return logits


def require_close(one: Tensor, other: Tensor) -> None:
    spread = other.std(dim=1, keepdim=True) + torch.finfo(other.dtype).tiny
    if not ((one - other).abs() <= CLOSE * spread).all():
        raise CacheDiffersError


def appended(tokens: Int[Tensor, "row pos"], new: Int[Tensor, "row"]) -> Int[Tensor, "row longer"]:
    return torch.cat([tokens, new.to(tokens)[:, None]], dim=1)
