"""Is what differs more than rounding? In float64 rounding is too small to be it.

with in_float64(model):
    ...
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from interp.hooking import modules_of
from interp.site import Model


@contextmanager
def in_float64(model: Model) -> Iterator[None]:
    """Inside the block a model's weights and buffers of float32 are float64; afterwards they are
    the same tensors as before."""
    held = {
        id(tensor): tensor
        for module in modules_of(model)
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if tensor.dtype == torch.float32
    }
    before = {name: tensor.data for name, tensor in held.items()}
    try:
        for tensor in held.values():
            tensor.data = tensor.data.double()
        yield
    finally:
        for name, tensor in held.items():
            tensor.data = before[name]
