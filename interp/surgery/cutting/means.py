"""What is each line's value on average?

Over the reference texts and their positions, apart for every layer and for every time that the line
runs in one call of the model: the keys and the values of one line, each turn of a loop.

    means = take_means(source, lambda: reference(model), axes)
    with means.standing_in() as names, perform(cut, model, names=names): ...
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import SurgeryError
from interp.surgery.operators import reference_places
from interp.surgery.operators.stand_ins import MEAN
from interp.surgery.running.layers import around_every_call, layer_modules
from interp.surgery.running.observing import Axes, Observations, Place, observing
from interp.surgery.source.edits import Surgery
from interp.surgery.source.syntax import Edit, Source, parse

NAME = r', "([^"]+:\d+:\d+)"\)'  # of a mean, in edited code
MeanKey = tuple[str, int | None, int]  # the line, the layer, how often it ran in the call before


@dataclass
class Means:
    """Sums over texts and positions, kept as axes of one, and of how many values they are; None
    where the shapes differ from call to call."""

    totals: dict[MeanKey, Tensor | None] = field(default_factory=dict)
    counts: Counter[MeanKey] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.totals)

    def stand_in_for(self, surgery: Surgery) -> bool:
        """Whether every mean that a surgery asks for is there."""
        names = {name for name, _, _ in self.totals}
        codes = [edit.replacement for edit in surgery.edits if f"{MEAN}(" in edit.replacement]
        return names.issuperset(name for code in codes for name in re.findall(NAME, code))

    def add(self, key: MeanKey, value: Tensor, axes: Axes) -> None:
        if not value.numel():  # a part of no width, as where all of a head is rotated
            return
        over = [axes.texts, *axes.positions]
        total = value.detach().double().sum(dim=over, keepdim=True)
        before = self.totals.get(key, torch.zeros_like(total))
        fits = before is not None and before.shape == total.shape
        self.totals[key] = before + total if before is not None and fits else None
        self.counts[key] += value.numel() // total.numel()

    def of(self, key: MeanKey, value: Tensor) -> Tensor:
        """The mean in the place of a value.

        Raises:
            SurgeryError: there is none that has the value's shape.
        """
        total = self.totals.get(key)
        name, _, turn = key
        line = name.rsplit(":", 2)[1]
        if total is None:
            often = f"for the {turn + 1}. time" if turn else "at all"
            raise SurgeryError(
                f"line {line} has no mean to stand in: on the reference texts it did not run "
                f"{often} in one call of the model, or not with one shape"
            )
        fits = total.ndim == value.ndim and all(
            size in (1, own) for size, own in zip(total.shape, value.shape, strict=True)
        )
        if not fits:
            raise SurgeryError(
                f"the mean on line {line} is {list(total.shape)} and cannot stand in for "
                f"{list(value.shape)}"
            )
        return (total / self.counts[key]).to(value).expand_as(value)

    @contextmanager
    def standing_in(self, model: nn.Module | None = None) -> Iterator[dict[str, Any]]:
        """Inside the block, what the name in edited code that asks for a mean stands for; a layer
        of ``model`` that runs alone has its own means."""
        with counting_turns(model) as next_key:
            yield {MEAN: lambda value, name: self.of(next_key(name), value)}


def join_means(found: Sequence[Means]) -> Means:
    """Those of several files as one."""
    joined = Means()
    for means in found:
        joined.totals |= means.totals
        joined.counts |= means.counts
    return joined


def needs_mean(surgery: Surgery) -> bool:
    edits = [edit for part in surgery.parts for edit in part.edits]
    return any(f"{MEAN}(" in edit.replacement for edit in edits)


@contextmanager
def counting_turns(model: nn.Module | None = None) -> Iterator[Callable[[str], MeanKey]]:
    """Inside the block, a function that is told of a value each time that it is computed, and says
    in which layer of the model that runs, and how often in this call of it before.

    Args:
        model: whose layers are known by number where they run alone too.
    """
    turns: Counter[tuple[str, int | None]] = Counter()
    running: list[nn.Module] = []
    layers: list[int] = []
    known: dict[nn.Module, dict[nn.Module, int]] = {}
    whole = {} if model is None else numbered_layers(model)

    def enter(module: nn.Module, *_: Any) -> None:
        if not running:
            turns.clear()
            if module not in known:
                known[module] = whole if module in whole else numbered_layers(module)
        running.append(module)
        if module in known[running[0]]:
            layers.append(known[running[0]][module])

    def leave(*_: Any) -> None:
        if running:
            of_model = known[running[0]]
            if running.pop() in of_model:
                layers.pop()

    def next_key(name: str) -> MeanKey:
        here = layers[-1] if layers else None
        turns[name, here] += 1
        return name, here, turns[name, here] - 1

    with around_every_call(enter, leave):
        yield next_key


def numbered_layers(model: nn.Module) -> dict[nn.Module, int]:
    found = layer_modules(model)
    return {part: layer for layer in found for part in found[layer]}


def take_means(
    source: Source,
    run: Callable[[], Any],
    axes: Mapping[Place, Axes],
    edits: Sequence[Edit] = (),
) -> Means:
    """The mean of what every line computes.

    Args:
        source: the file whose lines they are.
        run: calls a model on the reference texts.
        axes: of every expression.
        edits: a preparatory surgery, made first.
    """
    means = Means()
    names = reference_places(parse(source))
    with counting_turns() as next_key:

        def add(place: Place, value: Any) -> None:
            if place in names and place in axes:
                key = next_key(names[place])
                if isinstance(value, Tensor) and value.ndim > max(axes[place].positions):
                    means.add(key, value, axes[place])

        with observing(Observations(source), "reference", edits, watch=add), torch.no_grad():
            run()
    return means
