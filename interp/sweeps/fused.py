"""Linear maps together with what follows them.

A bias, an activation function and a residual connection are little arithmetic, but each is another
pass over the whole output, and together they take as long as half of the product. On processors
oneDNN does them while it writes the product, from weights in an order of its own: the operators are
those that ``torch.compile`` uses there. Elsewhere this is plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WIDE = (0.1, 1.0, 10.0)  # how large the numbers are on which an activation function is recognised
DTYPES = (torch.float32, torch.bfloat16)  # that oneDNN multiplies


@dataclass(frozen=True)
class Activation:
    """An activation function, and what oneDNN calls it."""

    function: Callable[[Tensor], Tensor]
    name: str
    variant: str = ""


IDENTITY = Activation(lambda x: x, "none")
KNOWN = (
    Activation(F.gelu, "gelu", "none"),
    Activation(partial(F.gelu, approximate="tanh"), "gelu", "tanh"),
    Activation(F.relu, "relu"),
)


@dataclass(frozen=True)
class Linear:
    """A linear map; weights as in ``torch.nn.Linear``."""

    weight: Float[Tensor, "outer inner"]
    bias: Float[Tensor, "outer"] | None

    def __call__(
        self,
        x: Float[Tensor, "... inner"],
        *,
        then: Activation = IDENTITY,
        plus: Float[Tensor, "... outer"] | None = None,
    ) -> Float[Tensor, "... outer"]:
        """``then(x @ weight.T + bias) + plus``; an activation function or a sum, not both."""
        if not x.numel() or not in_one_pass(x):
            out = then.function(F.linear(x, self.weight, self.bias))
            return out if plus is None else plus + out
        ops: Any = torch.ops.mkldnn._linear_pointwise
        if plus is None:
            return ops(x, self.packed, self.bias, then.name, [], then.variant)
        return ops.binary(x, plus, self.packed, self.bias, "add")

    @cached_property
    def packed(self) -> Tensor:
        """The weights in the order in which oneDNN reads them."""
        return torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), None)

    @property
    def packed_bytes(self) -> int:
        return self.weight.nbytes if in_one_pass(self.weight) else 0


def in_one_pass(x: Tensor) -> bool:
    """Whether this build of torch has the operators, for such a tensor."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and x.device.type == "cpu"
        and x.dtype in DTYPES
    )


@dataclass(frozen=True)
class FeedForward:
    """Two linear maps with an activation function between; what comes out is added to ``plus``
    where that is given."""

    inner: Linear
    activation: Activation
    outer: Linear

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return self.outer(self.inner(x, then=self.activation), plus=plus)


@dataclass(frozen=True)
class AsItIs:
    """The same for an MLP of which nothing else is known."""

    module: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return self.module(x) if plus is None else plus + self.module(x)


Feed = FeedForward | AsItIs


def feed_of(mlp: Any) -> Feed:
    """An MLP as two linear maps around an activation function, where it is just that.

    It is when it shows weights ``W_in`` [d_model d_mlp] and ``W_out`` [d_mlp d_model] (biases
    ``b_in``, ``b_out``, if any) and a known activation function between them gives what the module
    gives, on small, middling and large numbers.
    """
    try:
        inner, outer = (
            Linear(getattr(mlp, f"W_{name}").detach().T, bias_of(mlp, f"b_{name}"))
            for name in ("in", "out")
        )
    except AttributeError:
        return AsItIs(mlp)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(16, inner.weight.shape[1], generator=generator).to(inner.weight)
    probe = torch.stack([noise * size / inner.weight.std().clamp(min=1e-6) for size in WIDE])
    theirs = mlp(probe)
    reach = theirs.abs().amax(dim=(1, 2))
    tolerance = torch.finfo(theirs.dtype).eps ** 0.75 * reach
    for activation in KNOWN:
        feed = FeedForward(inner, activation, outer)
        apart = feed(probe) - theirs
        if bool((apart.abs().amax(dim=(1, 2)) <= tolerance).all()):
            return feed
    return AsItIs(mlp)


def bias_of(module: Any, name: str) -> Tensor | None:
    """A module's bias; None where it has none, or one that is zero."""
    bias = getattr(module, name, None)
    return bias.detach() if bias is not None and bias.any() else None
