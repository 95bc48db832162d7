"""How is a training made fast, and repeatable all the same?

with repeatable(device), autocast_to("bfloat16", device)():
    loss = compiled(model)(tokens, targets, return_type="loss")
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from gpt.masks import quick_masks
from gpt.protocol import LanguageModel

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
Precision = Literal["float32", "bfloat16"]


def autocast_to(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager]:
    if precision == "float32":
        return nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)


def masks_for(model: LanguageModel, *, compile: bool) -> Callable[[], AbstractContextManager]:
    """How a training draws its dropout masks; compiled code has its own way."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    quick = on_cpu and model.config.dropout > 0 and not compile
    return quick_masks if quick else nullcontext


def compiled(model: LanguageModel) -> Callable[..., Tensor]:
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
