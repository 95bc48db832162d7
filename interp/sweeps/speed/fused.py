"""Linear maps as fast as the processor does them, together with what follows them.

A bias, an activation function and a residual connection are little arithmetic, but each is another
pass over the whole output, and together they take as long as half of the product. On processors
oneDNN does them while it writes the product, fastest from weights in an order of its own: the
operators are those that ``torch.compile`` uses there. Elsewhere this is plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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
    """A linear map; weights as in ``torch.nn.Linear``.

    Args:
        reordered: hold the weights a second time, in the order that is fastest.
    """

    weight: Float[Tensor, "outer inner"]
    bias: Float[Tensor, "outer"] | None
    reordered: bool = False

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
            return ops(x, self.ordered, self.bias, then.name, [], then.variant)
        return ops.binary(x, plus, self.ordered, self.bias, "add")

    @cached_property
    def ordered(self) -> Tensor:
        """The weights, as oneDNN is given them."""
        if not self.reordered:
            return self.weight
        return torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), None)

    def in_order(self) -> "Linear":
        """The same, with weights reordered."""
        return replace(self, reordered=True)

    @property
    def own_bytes(self) -> int:
        """Memory of the weights in another order."""
        return self.weight.nbytes if self.reordered and in_one_pass(self.weight) else 0


def in_one_pass(x: Tensor) -> bool:
    """Whether this build of torch has the operators, for such a tensor."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and x.device.type == "cpu"
        and x.dtype in DTYPES
    )


@dataclass(frozen=True)
class FastMLP:
    """Two linear maps with an activation function between; what comes out is added to ``plus``
    where that is given."""

    inner: Linear
    activation: Activation
    outer: Linear

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return self.outer(self.inner(x, then=self.activation), plus=plus)

    def in_order(self) -> "FastMLP":
        return FastMLP(self.inner.in_order(), self.activation, self.outer.in_order())

    @property
    def own_bytes(self) -> int:
        return self.inner.own_bytes + self.outer.own_bytes


@dataclass(frozen=True)
class OpaqueMLP:
    """The same for an MLP of which nothing else is known."""

    module: Callable[[Tensor], Tensor]
    own_bytes = 0

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return self.module(x) if plus is None else plus + self.module(x)

    def in_order(self) -> "OpaqueMLP":
        return self


def recognise_mlp(mlp: Any) -> FastMLP | OpaqueMLP:
    """An MLP as two linear maps around an activation function, where it is just that.

    It is when it shows weights ``W_in`` [d_model d_mlp] and ``W_out`` [d_mlp d_model] (biases
    ``b_in``, ``b_out``, if any) and a known activation function between them gives what the module
    gives, on small, middling and large numbers.
    """
    try:
        inner, outer = (
            Linear(getattr(mlp, f"W_{name}").detach().T, bias_or_none(mlp, f"b_{name}"))
            for name in ("in", "out")
        )
    except AttributeError:
        return OpaqueMLP(mlp)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(16, inner.weight.shape[1], generator=generator).to(inner.weight)
    probe = torch.stack([noise * size / inner.weight[:16].std().clamp(min=1e-6) for size in WIDE])
    theirs = mlp(probe)
    reach = theirs.abs().amax(dim=(1, 2))
    tolerance = torch.finfo(theirs.dtype).eps ** 0.75 * reach
    for activation in KNOWN:
        feed = FastMLP(inner, activation, outer)
        apart = feed(probe) - theirs
        if bool((apart.abs().amax(dim=(1, 2)) <= tolerance).all()):
            return feed
    return OpaqueMLP(mlp)


class frozen_linear_maps(TorchFunctionMode):  # noqa: N801 - reads as the block it opens
    """Within this block, whatever model runs, oneDNN does the linear maps whose weights take no
    gradients, and their backward passes.

    On some processors torch's own choice is half as fast. Results differ in the last bit: compare
    two runs only where both are made within such a block, or none is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and not kwargs and frozen_in_one_pass(*args):
            x, *rest = args  # flat: a model must be able to write into what comes out
            return FrozenLinear.apply(x.flatten(0, -2), *rest).unflatten(0, x.shape[:-1])
        return func(*args, **(kwargs or {}))


def frozen_in_one_pass(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    weights = [weight] if bias is None else [weight, bias]
    return (
        all(type(each) in (Tensor, nn.Parameter) and each.dtype == x.dtype for each in weights)
        and not any(each.requires_grad for each in weights)
        and weight.ndim == 2
        and x.numel() > 0
        and x.ndim > 1
        and in_one_pass(x)
        and in_one_pass(weight)
        and not torch.is_autocast_enabled("cpu")
    )


class FrozenLinear(torch.autograd.Function):
    """A linear map that is differentiated with respect to its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        ctx.weight = weight
        return Linear(weight, bias)(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return Linear(ctx.weight.T, None)(grad), None, None


def bias_or_none(module: Any, name: str) -> Tensor | None:
    """A module's bias; None where it has none, or one that is zero."""
    bias = getattr(module, name, None)
    return bias.detach() if bias is not None and bias.any() else None
