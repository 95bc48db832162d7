"""How are dropout's masks drawn quickly on a CPU?

torch draws one random number for each element, on one core: at the course's size, with attention of
256 x 256 in six heads, a third of the time of a step. One draw of 64 bits decides four elements.

    with quick_masks():
        loss = model(tokens, targets, return_type="loss")
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LEVELS = 1 << 16


class quick_masks(TorchDispatchMode):  # noqa: N801 - reads as the block it opens
    """Within this block, ``bernoulli_(p)`` on a CPU decides four elements by each draw.

    The draws come from torch's default generator, so that seeds and saved states mean what they
    always mean; ``p`` is rounded to the nearest 65,536th. Everything else runs as it would.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.bernoulli_.float and not kwargs and args[0].device.type == "cpu":
            return drawn(*args)
        return func(*args, **(kwargs or {}))


def drawn(mask: Tensor, p: float = 0.5) -> Tensor:
    """Fill ``mask``, of any shape, with ones of probability ``p``, else zeros."""
    ones = round(p * LEVELS)
    if ones == LEVELS:  # one more than 16 bits can be compared with
        return mask.fill_(1)
    words = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    # int16, for torch compares no unsigned ones; the lowest is half the levels below zero
    bits = words.view(torch.int16)[: mask.numel()].view(mask.shape)
    return mask.copy_(bits < ones - LEVELS // 2)
