"""What is left of a training that comes upon a number that is none?

A loss of NaN trains on to nothing but NaN: a training stops there, with the last values that were
good.

    kept = Kept.of(model, step)
    check_step(step + 1, loss.item(), norm.item())  # a DivergedError where one is not finite
    kept.put_back(model)
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gpt import checkpoint
from gpt.errors import DivergedError


class GoodValues(NamedTuple):
    """A model's values after ``step`` updates, to go back to."""

    step: int
    values: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, step: int) -> "GoodValues":
        values = checkpoint.values_of(model)
        return cls(step, {name: value.detach().clone() for name, value in values.items()})

    @torch.no_grad()
    def put_back(self, model: nn.Module) -> None:
        for name, value in checkpoint.values_of(model).items():
            value.copy_(self.values[name])


def wrong_step(loss: float, norm: float = 0.0) -> str:
    """What of a batch's loss and its gradient's norm is no finite number; empty where both are."""
    if math.isfinite(loss) and math.isfinite(norm):
        return ""
    return f"the loss of the batch is {loss}, the norm of its gradient {norm}"


def check_step(step: int, loss: float, norm: float) -> None:
    """Raises ``DivergedError`` where a step of another loop than ``train`` cannot go on."""
    if what := wrong_step(loss, norm):
        raise DivergedError(
            f"training stopped at step {step}, for {what}: take a lower learning rate", step
        )
