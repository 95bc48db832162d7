"""Where are the logits in what a model returns?

logits = logits_of(model(tokens), tokens)    # a tensor, (logits, loss), or an object's .logits
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.sweeps.logits import ReadLogits


def logits_of(output: Any, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
    """The logits in a model's output, in single precision at least.

    A metric's differences are small beside the logits that it is made of, and half precision would
    round them away. Where a model gives the logits of the last position only (nanoGPT's, without
    targets), these can be read, and reading others is an error.

    Args:
        output: the logits; a tuple or mapping whose first tensor of three axes they are; or an
            object that holds them as ``.logits``.
        tokens: what the model was run on.

    Raises:
        UsageError: there are none, or they are of other texts or positions than the tokens.
    """
    logits = found_in(output)
    batch, length = tokens.shape
    if logits.shape[0] != batch or logits.shape[1] not in (1, length):
        raise UsageError(
            f"the model's logits are {list(logits.shape)} for tokens {list(tokens.shape)}: they "
            "must be [batch pos vocab], one row of them for each token"
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if logits.shape[1] == length else last_of(logits, length)


def found_in(output: Any) -> Float[Tensor, "row pos vocab"]:
    """The first tensor of three axes in an output, as it is.

    Raises:
        UsageError: there is none.
    """
    items = [output]
    if hasattr(output, "logits"):
        items = [output.logits]
    elif isinstance(output, Mapping):
        items = [output["logits"]] if "logits" in output else list(output.values())
    elif isinstance(output, tuple | list):
        items = list(output)
    for item in items:
        if isinstance(item, Tensor) and item.ndim == 3 and item.is_floating_point():
            return item
    shapes = [list(item.shape) for item in items if isinstance(item, Tensor)]
    raise UsageError(
        f"the model returns {type(output).__name__}{f' of {shapes}' if shapes else ''}, in which "
        "there are no logits [batch pos vocab]: let it return them alone, first in a tuple, or as "
        ".logits"
    )


def last_of(logits: Float[Tensor, "row 1 vocab"], length: int) -> ReadLogits:
    """The last position's logits, as those of a whole text of which only they can be read."""

    def compute(positions: list[int]) -> Tensor:
        if set(positions) - {length - 1}:
            raise UsageError(
                f"the model gives the logits of the last of {length} positions only, and the "
                f"metric reads others: let the model return the logits of every position, or take "
                "a metric that reads logits[:, -1], such as logit_difference"
            )
        return logits[:, [0] * len(positions)]

    return ReadLogits((len(logits), length, logits.shape[2]), logits, compute)
