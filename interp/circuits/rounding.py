"""Are two values equal but for rounding?"""

import torch
from torch import Tensor


def tolerance_for(value: Tensor) -> float:
    """How far values of this size may be apart that are equal but for rounding."""
    largest = float(value.detach().abs().max()) if value.numel() else 0.0
    return largest * torch.finfo(value.dtype).eps ** 0.5


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether two values are equal but for rounding."""
    return one.shape == other.shape and bool((one - other).abs().max() <= tolerance_for(other))
