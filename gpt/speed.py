"""How is a training made fast, and repeatable all the same?

with repeatable(device), autocast_to("bfloat16", device)():
    loss = compile_model(model)(tokens, targets, return_type="loss")
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gpt.protocol import LanguageModel

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
Precision = Literal["float32", "bfloat16"]
LEVELS = 1 << 16  # of a mask's probability


def resolve_precision(asked: Precision | Literal["auto"], n_embd: int, device: str) -> Precision:
    """The precision to train in: as asked, or the one that measures faster.

    Args:
        asked: a precision, or auto.
        n_embd: width of the model.
        device: where it is trained, cpu or cuda; a GPU need not be in this machine.
    """
    if asked != "auto":
        return asked
    if device == "cuda":
        here = torch.cuda.is_available()
        return "bfloat16" if not here or torch.cuda.is_bf16_supported() else "float32"
    # benchmarks/train.py: on CPUs with AMX bfloat16 pays for wide models; narrow ones spend their
    # time in casts. Without AMX it never pays.
    wide = n_embd >= 256
    return "bfloat16" if wide and torch.cpu._is_amx_tile_supported() else "float32"


def autocast_to(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager]:
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def masks_for(model: LanguageModel, *, compile: bool) -> Callable[[], AbstractContextManager]:
    """How a training draws its dropout masks; compiled code has its own way."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    quick = on_cpu and model.config.dropout > 0 and not compile
    return quick_masks if quick else nullcontext


def compile_model(model: LanguageModel) -> Callable[..., Tensor]:
    # What was compiled for earlier models counts towards a limit, past which torch compiles no
    # more and does not say so; its cache on disk stays.
    torch.compiler.reset()
    # By default compiled code ignores a hook that was added after compilation.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    return torch.compile(model)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """The same bits every time. On a GPU some kernels add up in whatever order their threads come,
    unless torch is told not to take them."""
    if device.type != "cuda":
        yield
        return
    before, finding_mistakes = torch.get_deterministic_debug_mode(), torch.utils.deterministic
    fills = finding_mistakes.fill_uninitialized_memory  # type: ignore[attr-defined]
    finding_mistakes.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # Without it cuBLAS may give other bits from run to run; it is read at the first product.
    workspace = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        finding_mistakes.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


class quick_masks(TorchDispatchMode):  # noqa: N801 - reads as the block it opens
    """Within this block, ``bernoulli_(p)`` on a CPU decides four elements by each draw.

    torch draws one random number for each element, on one core: at the course's size, with
    attention of 256 x 256 in six heads, a third of the time of a step. These draws too come from
    its default generator, so that seeds and saved states mean what they always mean; ``p`` is
    rounded to the nearest 65,536th. Everything else runs as it would.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.bernoulli_.float and not kwargs and args[0].device.type == "cpu":
            return draw_mask(*args)
        return func(*args, **(kwargs or {}))


def draw_mask(mask: Tensor, p: float = 0.5) -> Tensor:
    """Fill ``mask``, of any shape, with ones of probability ``p``, else zeros."""
    ones = round(p * LEVELS)
    if ones == LEVELS:  # one more than 16 bits can be compared with
        return mask.fill_(1)
    words = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    # int16, for torch compares no unsigned ones; the lowest is half the levels below zero
    bits = words.view(torch.int16)[: mask.numel()].view(mask.shape)
    return mask.copy_(bits < ones - LEVELS // 2)
