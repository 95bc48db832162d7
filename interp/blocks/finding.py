"""Which modules are a model's blocks, called one after the other?"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.blocks.caches import layered_cache
from interp.blocks.calling import BlockRun, ModelBlocks, NotInTurnError, called_model, stream_of
from interp.hooking import roots_of
from interp.logits import found_in

Where = Literal["before", "inside", "between", "after"]


@dataclass
class ListTrace:
    """What was seen of a list's modules in one run.

    Args:
        modules: of the list.
        begun: how many calls have begun.
        order: the calls that have ended, by number in the list.
        given: the arguments of each call that has begun.
        returned: what each call returned.
    """

    modules: Sequence[nn.Module]
    begun: int = 0
    order: list[int] = field(default_factory=list)
    given: list[tuple[Any, ...]] = field(default_factory=list)
    returned: list[Any] = field(default_factory=list)

    def moment(self) -> tuple[Where, int]:
        """Where the run is: before the list's first module, inside one, between it and the next,
        or after the last; and the number of that module, of the next, or the last."""
        if not self.begun:
            return "before", 0
        if self.begun > len(self.order):
            return "inside", self.begun - 1
        return ("between" if self.begun < len(self.modules) else "after"), self.begun


class BlockTracer:
    """Watches one run of a model, to see which of its lists of modules are its blocks.

    Raises:
        NotInTurnError: it holds no list of modules.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.called = called_model(model)
        found = {path: each for root in roots_of(self.called) for path, each in lists_in(root)}
        if not found:
            raise NotInTurnError("it holds no list of blocks")
        self.traces = {path: ListTrace(modules) for path, modules in found.items()}

    def moments(self) -> dict[str, tuple[Where, int]]:
        """Where the run is just now, seen from each list."""
        return {path: trace.moment() for path, trace in self.traces.items()}

    def run(self, tokens: Int[Tensor, "batch pos"]) -> tuple[ModelBlocks, BlockRun]:
        """The blocks, and this run of them: the list with most weights whose modules the run calls
        once each, one after the other, each with what the one before returned.

        Raises:
            NotInTurnError: there is no such list; the message says what is otherwise.
        """
        with torch.no_grad(), ExitStack() as stack:
            for trace in self.traces.values():
                for number, module in enumerate(trace.modules):
                    enter = module.register_forward_pre_hook(begin_of(trace), with_kwargs=True)
                    stack.callback(enter.remove)
                    stack.callback(module.register_forward_hook(end_of(trace, number)).remove)
            output = self.called(tokens)
        reasons = []
        ordered = sorted(self.traces.items(), key=lambda pair: -weights_in(pair[1].modules))
        for path, trace in ordered:
            reason = out_of_turn(path, trace)
            if reason is None:
                blocks = ModelBlocks(self.model, trace.modules, path, trace.returned, tokens[:1])
                entering = [blocks.stream_given(*given) for given in trace.given]
                last = stream_of(trace.returned[-1])
                assert last is not None
                logits, cache = found_in(output), layered_cache(output)
                return blocks, BlockRun(entering, last, logits, cache)
            reasons.append(reason)
        raise NotInTurnError(reasons[0])


def trace_blocks(model: Any, tokens: Int[Tensor, "batch pos"]) -> tuple[ModelBlocks, BlockRun]:
    """The blocks of a model, and a run of them.

    Raises:
        NotInTurnError: it has none that are called one after the other.
    """
    return BlockTracer(model).run(tokens)


def begin_of(trace: ListTrace) -> Callable[..., None]:
    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        trace.begun += 1
        trace.given.append((args, kwargs))

    return begin


def end_of(trace: ListTrace, number: int) -> Callable[..., None]:
    def end(module: nn.Module, args: Any, output: Any) -> None:
        trace.order.append(number)
        trace.returned.append(output)

    return end


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


def out_of_turn(path: str, trace: ListTrace) -> str | None:
    """How a list's modules are called otherwise than one after the other; None where they are."""
    count = len(trace.modules)
    if not trace.order:
        return f"a run calls none of its {path}"
    if trace.order != list(range(count)):
        return f"a run calls its {path} in the order {shorten_order(trace.order)}"
    for number, output in enumerate(trace.returned):
        x = stream_of(output)
        if x is None:
            return f"{path}.{number} returns no activation first"
        if number + 1 < count and not is_handed(trace.given[number + 1], x):
            return f"{path}.{number + 1} is handed something else than {path}.{number} returned"
    return None


def is_handed(given: tuple[Any, ...], x: Tensor) -> bool:
    """Whether a call is handed this very tensor."""
    args, kwargs = given
    return any(value is x for value in (*args, *kwargs.values()))


def shorten_order(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown}, …"
