"""What can stand in for a value that is taken away?

Functions that edited code may call by name, wherever it runs.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import SurgeryError


def surgery_shuffle(x: Float[Tensor, "*shape"], axis: int) -> Float[Tensor, "*shape"]:
    """Each position takes the value of a position drawn from itself and those before it.

    A draw from all positions would let the model see the future. The draw is the same each time.
    """
    generator = torch.Generator().manual_seed(0)
    length = x.shape[axis]
    draws = torch.rand(length, generator=generator) * torch.arange(1, length + 1)
    return x.index_select(axis, draws.long().to(x.device))


def no_mean(_: Any, name: str) -> Any:
    """Stands for a mean where none was taken."""
    raise SurgeryError(
        f"a mean over reference texts stands on line {name.rsplit(':', 2)[1]}: it is of a trained "
        "model, and only a study that has taken it can put it there"
    )


MEAN = "surgery_mean"
STAND_INS: dict[str, Callable[..., Any]] = {"surgery_shuffle": surgery_shuffle, MEAN: no_mean}
