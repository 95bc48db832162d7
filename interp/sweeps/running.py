"""How much of the texts is run at a time?"""

from collections.abc import Iterator, Sequence

from jaxtyping import Int
from torch import Tensor

from interp.caching import cache
from interp.site import Model, stopping
from interp.sweeps.speed.grouping import batch_limits


def batch_slices(tokens: Int[Tensor, "batch pos"], vocab: int = 0) -> Iterator[slice]:
    """All examples, a few at a time.

    Args:
        vocab: logits of each token, where there are to be any.
    """
    limits, (batch, length) = batch_limits(tokens.device), tokens.shape
    rows = min(limits.rows, limits.logits // vocab) if vocab else limits.rows
    step = max(1, rows // length)
    for begin in range(0, batch, step):
        yield slice(begin, begin + step)


def clean_values(
    model: Model, tokens: Int[Tensor, "batch pos"], names: Sequence[str]
) -> dict[str, Tensor]:
    """Clean values, from runs of a few examples at a time, without the logits where possible."""
    options = stopping(model, names)
    values: dict[str, Tensor] = {}
    for rows in batch_slices(tokens):
        for name, value in cache(model, tokens[rows], names, **options).items():
            if name not in values:
                values[name] = value.new_empty(len(tokens), *value.shape[1:])
            values[name][rows] = value
    return values
