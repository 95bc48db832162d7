"""What was every expression of a model's own files in one run, and which module ran it?

run = follow_run(model, tokens, sources)
run.value(syntax, node, layer=1)       # the tensor that an expression was in that layer
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from interp.circuits.rounding import agree
from interp.site import Model
from interp.surgery.running.layers import following_layers
from interp.surgery.running.observing import Observations, Place, observing, place_of
from interp.surgery.source.syntax import FunctionNode, Source, Syntax, parse


@dataclass(frozen=True)
class Noted:
    """One time that an expression was read.

    Args:
        number: how many were before it in the run.
        layer: in which; None outside layers.
        value: a float tensor, several of them, or a module; None for all else.
    """

    number: int
    layer: int | None
    value: Any


@dataclass
class FollowedRun:
    """What expressions were in one run of a model.

    Args:
        root: the model, as its own code runs it.
        noted: of each expression, by file and place.
    """

    root: nn.Module
    sources: Sequence[Source]
    noted: dict[tuple[Source, Place], list[Noted]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def times(self, syntax: Syntax, node: ast.AST, layer: int | None) -> list[Noted]:
        """Each time that an expression was read in a layer."""
        if not isinstance(node, ast.expr):
            return []
        found = self.noted.get((syntax.source, place_of(node)), [])
        return [each for each in found if each.layer == layer]

    def value(self, syntax: Syntax, node: ast.AST, layer: int | None) -> Any:
        """What an expression was in a layer, the last time; None where it did not run there."""
        found = self.times(syntax, node, layer)
        return found[-1].value if found else None

    def is_value(self, syntax: Syntax, node: ast.AST, layer: int | None, value: Tensor) -> bool:
        """Whether an expression was a value in a layer."""
        return any(
            isinstance(each.value, Tensor) and same(each.value, value)
            for each in self.times(syntax, node, layer)
        )

    def module_of(
        self, syntax: Syntax, function: FunctionNode, layer: int | None
    ) -> nn.Module | None:
        """The module whose method a function is, as it ran in a layer; None where there is none, or
        where several ran it."""
        return self._owners.get(layer, {}).get((syntax.source, function))

    def functions(self, layer: int | None) -> Iterator[tuple[Syntax, FunctionNode, nn.Module]]:
        """The methods that ran in a layer, each with its module."""
        for (source, function), module in self._owners.get(layer, {}).items():
            yield parse(source), function, module

    @cached_property
    def _owners(self) -> dict[int | None, dict[tuple[Source, FunctionNode], nn.Module]]:
        """The modules that ran methods, by layer."""
        found: dict[Any, dict[Any, dict[int, nn.Module]]] = defaultdict(lambda: defaultdict(dict))
        for source in self.sources:
            syntax = parse(source)
            for function in syntax.outermost_functions():
                own = function.args.args[0].arg if function.args.args else ""
                for node in ast.walk(function):
                    if isinstance(node, ast.Name) and node.id == own:
                        for each in self.noted.get((source, place_of(node)), ()):
                            if isinstance(each.value, nn.Module):
                                held = found[each.layer][source, function]
                                held[id(each.value)] = each.value
        return {
            layer: {at: one for at, held in by.items() if len(held) == 1 for one in held.values()}
            for layer, by in found.items()
        }


def follow_run(
    model: Model, tokens: Int[Tensor, "batch pos"], sources: Sequence[Source]
) -> FollowedRun:
    """One run of a model in which every expression of some files is noted.

    Raises:
        SurgeryError: a file that was edited since it was imported.
    """
    root = root_of(model)
    run = FollowedRun(root, sources)
    count = 0
    with ExitStack() as stack:
        layer = stack.enter_context(following_layers(root))

        def watch(source: Source, place: Place, value: Any) -> None:
            nonlocal count
            count += 1
            kept = keep(value)
            if kept is not None:
                run.noted[source, place].append(Noted(count, layer(), kept))

        for source in sources:
            stack.enter_context(
                observing(Observations(source), "twin", watch=partial(watch, source))
            )
        model(tokens)
    return run


def root_of(model: Any) -> nn.Module:
    """The model as its own code runs it: of a view, what is viewed."""
    found: nn.Module = getattr(model, "inner", model)
    return found


def keep(value: Any) -> Any:
    """A value as it is now, if it is one that is looked at."""
    if isinstance(value, (nn.Module, nn.Parameter)):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone() if value.is_floating_point() else None
    if isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value):
        return tuple(keep(part) for part in value)
    return None


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two values hold the same numbers, but for rounding."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or agree(one, other)
