"""Where are the logits in what a model returns, and which of them does a metric read?

    logits = logits_of(model(tokens), tokens)    # a tensor, (logits, loss), or an object's .logits

``ReadLogits`` passes for a tensor of logits [batch pos vocab] and computes only the positions that
somebody reads. Nothing is guessed about the metric: whatever it does beyond picking positions gets
the whole tensor, so it always sees the values it would have seen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

from interp.errors import UsageError

Compute = Callable[[list[int]], Tensor]

POSITIONS = 1  # the axis


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


def last_of(logits: Float[Tensor, "row 1 vocab"], length: int) -> "ReadLogits":
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
