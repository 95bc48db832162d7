"""Which modules are a model's blocks, called one after the other?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.blocks.calling import Blocks, NotInTurnError, called_model, stream_in, stream_of
from interp.hooking import evaluating, roots_of

__all__ = ["NotInTurnError", "find_blocks"]


@dataclass
class Trace:
    """What was seen of a list's modules in one run.

    Args:
        order: their calls, by number in the list.
        given: the arguments of each call.
        returned: what each call returned.
    """

    order: list[int] = field(default_factory=list)
    given: list[tuple[Any, ...]] = field(default_factory=list)
    returned: list[Any] = field(default_factory=list)


def find_blocks(model: Any, tokens: Int[Tensor, "batch pos"]) -> Blocks:
    """The blocks of a model: the list of modules with most weights whose modules a run calls once
    each, one after the other, each with what the one before returned.

    Raises:
        NotInTurnError: there is no such list; the message says what is otherwise.
    """
    roots = roots_of(called_model(model))
    lists = {path: modules for root in roots for path, modules in lists_in(root)}
    if not lists:
        raise NotInTurnError("it holds no list of blocks")
    traces = {path: Trace() for path in lists}
    with torch.no_grad(), evaluating(model), watched(lists, traces):
        called_model(model)(tokens[:1])
    reasons = []
    for path in sorted(lists, key=lambda path: -weights_in(lists[path])):
        reason = out_of_turn(path, lists[path], traces[path])
        if reason is None:
            return Blocks(model, lists[path], path, traces[path].returned)
        reasons.append(reason)
    raise NotInTurnError(reasons[0])


def lists_in(root: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """The lists of modules in a model that are not inside another list's module."""
    inside: set[str] = set()
    for path, module in root.named_modules():
        if any(path.startswith(f"{outer}.") for outer in inside):
            continue
        if not isinstance(module, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            continue
        parts = [each for each in module.children() if not isinstance(each, HookPoint)]
        if parts and all(runs(each) for each in parts):
            inside.add(path)
            yield path, parts


def runs(module: nn.Module) -> bool:
    """Whether a module has weights and can be called."""
    return type(module).forward is not nn.Module.forward and any(True for _ in module.parameters())


def weights_in(modules: Sequence[nn.Module]) -> int:
    return sum(each.numel() for module in modules for each in module.parameters())


class watched:  # noqa: N801
    """Inside the block, calls of the lists' modules are noted."""

    def __init__(self, lists: dict[str, list[nn.Module]], traces: dict[str, Trace]) -> None:
        self.lists, self.traces = lists, traces
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        for path, modules in self.lists.items():
            for number, module in enumerate(modules):
                note = self.noting(self.traces[path], number)
                handle = module.register_forward_hook(note, with_kwargs=True)
                self.handles.append(handle)

    def noting(self, trace: Trace, number: int) -> Any:
        def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            trace.order.append(number)
            trace.given.append((args, kwargs))
            trace.returned.append(output)

        return note

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()


def out_of_turn(path: str, modules: Sequence[nn.Module], trace: Trace) -> str | None:
    """How a list's modules are called otherwise than one after the other; None where they are."""
    if not trace.order:
        return f"a run calls none of its {path}"
    if len(set(map(id, modules))) < len(modules):
        return f"its {path} holds one module several times"
    if trace.order != list(range(len(modules))):
        return f"a run calls its {path} in the order {short(trace.order)}"
    for number, output in enumerate(trace.returned):
        x = stream_of(output)
        if x is None:
            return f"{path}.{number} returns no activation first"
        if number + 1 < len(modules) and not stream_in(trace.given[number + 1], x):
            return f"{path}.{number + 1} is handed something else than {path}.{number} returned"
    return None


def short(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown}, …"
