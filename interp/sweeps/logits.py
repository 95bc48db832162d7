"""How can a metric that reads one position be spared the logits of all others?

``ReadLogits`` passes for a tensor of logits [batch pos vocab] and computes only the positions that
somebody reads. Nothing is guessed about the metric: whatever it does beyond picking positions gets
the whole tensor, so it always sees the values it would have seen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

Compute = Callable[[list[int]], Tensor]

POSITIONS = 1  # the axis


class ReadLogits(Tensor):
    """Logits [batch pos vocab] that are computed where they are read.

    Args:
        shape: of all logits.
        like: a tensor of their type, on their device.
        compute: from positions to the logits there, [batch positions vocab].
    """

    compute: Compute

    @staticmethod
    def __new__(cls, shape: Sequence[int], like: Tensor, compute: Compute) -> "ReadLogits":
        logits = Tensor._make_wrapper_subclass(cls, shape, dtype=like.dtype, device=like.device)
        logits.compute = compute
        return logits

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"ReadLogits({list(self.shape)})"

    def all(self) -> Tensor:  # type: ignore[override]
        """The logits of every position."""
        return self.compute(list(range(self.shape[POSITIONS])))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given, rest = args[0], args[1:]
        if isinstance(given, cls) and not kwargs:
            if func is torch.ops.aten.slice.Tensor:
                defaults = (0, None, None, 1)
                axis, start, end, step = rest + defaults[len(rest) :]
                chosen = range(given.shape[axis])[start:end:step]
                if len(chosen) == given.shape[axis]:
                    return given
                if axis == POSITIONS:
                    return given.compute(list(chosen))
            length = given.shape[POSITIONS]
            if func is torch.ops.aten.select.int and rest[0] == POSITIONS:
                if -length <= rest[1] < length:
                    return given.compute([rest[1] % length])[:, 0]
            elif func is torch.ops.aten.index.Tensor and picks_positions(rest[0]):
                positions = rest[0][POSITIONS].tolist()
                if all(-length <= position < length for position in positions):
                    return given.compute([position % length for position in positions])
        whole: dict[int, Tensor] = {}

        def real(value: Any) -> Any:
            if not isinstance(value, cls):
                return value
            return whole.setdefault(id(value), value.all())

        return func(*tree_map(real, args), **tree_map(real, kwargs or {}))


def picks_positions(indices: Sequence[Tensor | None]) -> bool:
    """Whether an index is a list of positions and nothing else."""
    return (
        len(indices) == POSITIONS + 1
        and indices[0] is None
        and isinstance(indices[1], Tensor)
        and indices[1].ndim == 1
        and indices[1].dtype == torch.long
    )


class Reads:
    """What positions a metric reads, noted while it is run once."""

    def __init__(self) -> None:
        self.positions: set[int] = set()

    def noting(self, compute: Compute) -> Compute:
        def noted(positions: list[int]) -> Float[Tensor, "batch pos vocab"]:
            self.positions.update(positions)
            return compute(positions)

        return noted
