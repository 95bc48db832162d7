"""Which cut of the source is the same as an intervention on a hook point?

A surgery that makes the value of an expression zero, or its mean, is ``Zero()`` or ``Mean()`` at
the hook point that hands on this very value, if nothing reads the value past the hook point. Both
are then made, and must do the same to the loss. Which belong together is found by running the model
once: a value is followed by what it is, not by its name, from the expression that makes it to the
hook point and to whatever reads what comes out.

    twins = found_twins(model, [source], lambda: judge(model))
    twins.of(cut)   # Twin(names=("blocks.0.hook_attn_out", "blocks.1.hook_attn_out"), ...)
"""

import ast
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from types import FrameType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from transformer_lens.hook_points import HookPoint

from interp.interventions import Mean, Zero
from interp.places import Intervention, Reference
from interp.site import Model, axes_of, names_by_point
from interp.surgery.running.layers import following_layers
from interp.surgery.running.observing import Observations, Place, observing, place_of
from interp.surgery.source.edits import Surgery
from interp.surgery.source.syntax import Edit, Source, Syntax, parse

Where = tuple[Source, Place]
LOADS = {"Name", "Attribute", "Subscript"}  # hand on what stands; anything else computes


@dataclass(frozen=True)
class Twin:
    """The intervention that is the same cut as a surgery.

    Attributes:
        names: the hook points on which it is made.
        kind: what each of them hands on instead.
    """

    names: tuple[str, ...]
    kind: Literal["Zero", "Mean"]

    @property
    def hook(self) -> str:
        """The hook points, those of all layers as one glob."""
        if len(self.names) == 1:
            return self.names[0]
        globs = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in self.names)
        return ", ".join(globs)

    def interventions(self, means: Reference) -> dict[str, Intervention]:
        """What ``intervene`` takes; ``means`` holds a reference for each hook point."""
        if self.kind == "Zero":
            return {name: Zero() for name in self.names}
        return {name: Mean(means) for name in self.names}


@dataclass(frozen=True)
class Twins:
    """For each expression, layer by layer, the hook points that hand on its value and are all that
    reads it; of those, the ones that stand alone there and may be given a mean."""

    sites: dict[Where, dict[int | None, frozenset[str]]]
    averaged: frozenset[str] = frozenset()

    def of(self, surgery: Surgery) -> Twin | None:
        """The intervention that is the same cut as ``surgery``; None where there is none."""
        node = ablated_expression(surgery)
        by_layer = {} if node is None else self.sites.get((surgery.source, place_of(node)), {})
        layers = list(by_layer) if surgery.layers is None else surgery.layers
        if not layers or any(layer not in by_layer for layer in layers):
            return None
        names = tuple(sorted(set().union(*(by_layer[layer] for layer in layers))))
        if surgery.operator != "mean":
            return Twin(names, "Zero")
        # a line's mean is of all its values in a layer, a hook point's of those that pass it
        alone = all(len(by_layer[layer]) == 1 for layer in layers)
        return Twin(names, "Mean") if alone and self.averaged.issuperset(names) else None


def ablated_expression(surgery: Surgery) -> ast.expr | None:
    """The expression whose value a surgery makes zero or its mean; None if it does something
    else."""
    if len(surgery.edits) != 1 or surgery.beside:
        return None
    syntax, edit = parse(surgery.source), surgery.edits[0]
    nodes = nodes_by_span(syntax).get((edit.start, edit.stop), [])
    for node in nodes:
        if surgery.operator in ("zero", "mean") and isinstance(node, ast.expr):
            return node
        if surgery.operator == "cut-branch" and isinstance(node, ast.AugAssign):
            return node.value
        if surgery.operator in ("cut-skip", "cut-branch", "drop-term"):
            parts = [node.left, node.right] if isinstance(node, ast.BinOp) else []
            dropped = [part for part in parts if syntax.code(part) == surgery.target]
            if dropped:
                return dropped[-1]
    return None


@lru_cache(maxsize=32)
def nodes_by_span(syntax: Syntax) -> dict[tuple[int, int], list[ast.expr | ast.stmt]]:
    found: dict[tuple[int, int], list[ast.expr | ast.stmt]] = defaultdict(list)
    for node in syntax.bodies:
        found[syntax.span(node)].append(node)
    return found


@dataclass
class Firing:
    """One time that a hook point handed something on.

    Attributes:
        at: how many values had been read by then.
        traced: whether the code that called it is watched.
    """

    name: str
    at: int
    given: Tensor
    handed_on: Tensor
    traced: bool


def found_twins(
    model: nn.Module,
    sources: Sequence[Source],
    run: Callable[[], Any],
    edits: Sequence[Edit] = (),
    positions: int | None = None,
) -> Twins:
    """Follow every value of one run from the expression that makes it through the hook points.

    Args:
        model: any; one without hook points has no twins.
        sources: the files to look at.
        run: calls the model.
        edits: a preparatory surgery of the first file, made first.
        positions: the length of the texts; tells which axis the stand-in means are taken over.
    """
    if not isinstance(model, Model):
        return Twins({})
    reads: list[tuple[Where, int | None, Any]] = []
    firings: list[Firing] = []
    averaged: set[str] = set()
    calls: list[None] = []
    files = {str(source.path) for source in sources}
    names = names_by_point(model)

    def fired(point: HookPoint, given: Tensor, handed_on: Tensor) -> None:
        name = names[point][0]
        firings.append(Firing(name, len(reads), given, handed_on, caller() in files))
        axes = axes_of(names[point], given.ndim)
        if "pos" in axes and given.shape[axes.index("pos")] == positions:
            averaged.add(name)

    def called(module: nn.Module, *_: Any) -> None:
        if module is model:
            calls.append(None)

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(cast(Any, called)).remove)
        layer = stack.enter_context(following_layers(cast(nn.Module, model)))

        def watch(source: Source, place: Place, value: Any) -> None:
            reads.append(((source, place), layer(), value))

        for number, source in enumerate(sources):
            made = edits if number == 0 else ()
            noted, see = Observations(source), partial(watch, source)
            stack.enter_context(observing(noted, "twins", made, layer, watch=see))
        stack.enter_context(passing(names, fired))
        run()
    # a line's mean is apart for each time that it runs in a call, a hook point's is not
    fires = Counter(firing.name for firing in firings)
    once = {name for name in averaged if fires[name] == len(calls)}
    return Twins(match_firings(reads, firings), frozenset(once))


@contextmanager
def passing(points: Any, fired: Callable[[HookPoint, Tensor, Tensor], None]) -> Iterator[None]:
    """Inside the block ``fired`` is told of every hook point what it was given and what it handed
    on, which is never the same object. No hook is put on any of them, for a hook can change the
    way that a model takes."""

    def hand_on(module: nn.Module, given: tuple[Any, ...], output: Any) -> Tensor | None:
        if module not in points or not given or not isinstance(given[0], Tensor):
            return None
        if not isinstance(output, Tensor):
            return None
        fresh = output.view_as(output)
        fired(cast(HookPoint, module), given[0], fresh)
        return fresh

    handle = register_module_forward_hook(cast(Any, hand_on))
    try:
        yield
    finally:
        handle.remove()


def caller() -> str:
    """The file that called the hook point which fires just now."""
    torchs = nn.modules.module.__file__
    files = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    inside = itertools.dropwhile(lambda file: file != torchs, files)
    return next(itertools.dropwhile(lambda file: file == torchs, inside), "")


def match_firings(
    reads: Sequence[tuple[Where, int | None, Any]], firings: Sequence[Firing]
) -> dict[Where, dict[int | None, frozenset[str]]]:
    """The expressions whose value, each time that they ran, was what one hook point handed on."""
    by_value: dict[int, list[int]] = defaultdict(list)
    for number, (_, _, value) in enumerate(reads):
        if isinstance(value, Tensor):
            by_value[id(value)].append(number)
    partner: dict[int, str] = {}
    for firing in firings:
        # attention that is forbidden stays so under an intervention, not under a surgery
        if firing.traced and bool(firing.given.isfinite().all()):
            same = handed_on(reads, by_value[id(firing.handed_on)])
            same += handed_in(reads, by_value[id(firing.given)], firing.at)
            partner |= dict.fromkeys(same, firing.name)
    met: dict[Where, dict[int | None, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for number, name in partner.items():
        where, layer, _ = reads[number]
        met[where][layer][name] += 1
    ran = Counter(where for where, _, _ in reads)
    fires = Counter(firing.name for firing in firings)
    found: dict[Where, dict[int | None, frozenset[str]]] = {}
    for where, by_layer in met.items():
        every = sum(by_layer.values(), Counter())
        if every.total() == ran[where] and all(fires[name] == n for name, n in every.items()):
            found[where] = {layer: frozenset(counts) for layer, counts in by_layer.items()}
    return found


def handed_on(reads: Sequence[tuple[Where, int | None, Any]], readers: Sequence[int]) -> list[int]:
    """Of all that read what a hook point handed on: the call itself, and the next where it is the
    only one or leaves the function with it."""
    same = [number for number in readers[:1] if kind(reads[number]) == "Call"]
    if same and len(readers) > 1 and (len(readers) == 2 or is_returned(reads[readers[1]])):
        same.append(readers[1])
    return same


def handed_in(
    reads: Sequence[tuple[Where, int | None, Any]], readers: Sequence[int], at: int
) -> list[int]:
    """What computed a value that only the hook point, fired after ``at`` reads, has read."""
    if any(number >= at for number in readers):
        return []
    return [number for number in readers[-2:] if kind(reads[number]) not in LOADS]


def kind(read: tuple[Where, int | None, Any]) -> str:
    return read[0][1][4]


def is_returned(read: tuple[Where, int | None, Any]) -> bool:
    source, place = read[0]
    return place in returned_places(source)


@lru_cache(maxsize=32)
def returned_places(source: Source) -> frozenset[Place]:
    """Where the expressions stand that functions return."""
    statements = parse(source).statements
    values = [node.value for node in statements if isinstance(node, ast.Return)]
    return frozenset(place_of(value) for value in values if value is not None)


def reference_means(model: Model, names: Sequence[str], run: Callable[[], Any]) -> Reference:
    """The mean of what hook points hand on over all examples and positions of a run, each as a
    reference of one example and position.

    Args:
        model: whose hook points they are.
        names: of the hook points.
        run: calls the model on the reference texts.
    """
    known, chosen = names_by_point(model), {*names}
    asked = {point: name for point, all in known.items() for name in all[:1] if name in chosen}
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()

    def add(point: HookPoint, _: Tensor, value: Tensor) -> None:
        name = asked[point]
        over = [0, axes_of(known[point], value.ndim).index("pos")]
        total = value.detach().double().sum(dim=over, keepdim=True)
        sums[name] = sums[name] + total if name in sums else total
        counts[name] += value.shape[over[0]] * value.shape[over[1]]

    with passing(asked, add), torch.no_grad():
        run()
    return {name: total / counts[name] for name, total in sums.items()}
