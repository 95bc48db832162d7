"""What does a part of a model make where some of its values are changed?

bench = Bench(model, found.values())
with bench.set_up():
    region = Region(bench, ...)          # a block alone, or the whole model
    seen = region.run({origin: change})  # every value, by where it is made

Values are seen as rows, [batch pos number], whatever the order of their axes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from interp.hooking import evaluating
from interp.line_hooks.finding import FoundValue, values_of_files
from interp.line_hooks.following import Following, following_modules
from interp.line_hooks.passing import passing_outputs, passing_values, replaced
from interp.line_hooks.values import Made, Origin

Change = Callable[[Tensor], Tensor]


@dataclass
class Recording:
    """One run of a region.

    Args:
        values: what it made, by where, in the order in which it was made.
        stream: what it was handed.
        returned: what it returned.
    """

    values: dict[Origin, Tensor]
    stream: Tensor
    returned: Tensor


class Bench:
    """Runs parts of a model with values changed, and keeps all that they make.

    Args:
        model: the model.
        found: the values that are of interest.
        texts: how many it runs on.
    """

    def __init__(self, model: nn.Module, found: Collection[FoundValue], texts: int = 1) -> None:
        self.model = model
        self.texts = texts
        self.found = {each.origin: each for each in found}
        self.made = values_of_files(model)
        self.run = Following()
        self.changes: Mapping[Origin, Change] = {}
        self.values: dict[Origin, Tensor] = {}
        self.again: set[Origin] = set()  # made more than once in a run
        self.makers: dict[int, tuple[Origin, Tensor, int]] | None = None

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """Inside the block, the model's values are seen."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            self.run = stack.enter_context(following_modules(self.model))
            stack.enter_context(passing_values(self.made, self.handed))
            paths = [each.path for each in self.found if each.made is None]
            at = lambda path, output: replaced(output, self.of, path)  # noqa: E731
            stack.enter_context(passing_outputs(self.model, paths, at))
            yield

    @no_type_check  # runs for every value: checks would take seconds
    def handed(self, made: Made, value: Any) -> Any:
        """Takes a value that a line made."""
        frame = self.run.frame
        if frame is None:
            return value
        turn = frame.counts[made]
        frame.counts[made] += 1
        return replaced(value, self.of, frame.path, made, turn)

    @no_type_check  # runs for every value: checks would take seconds
    def of(self, origin: Origin) -> Change | None:
        return partial(self.see, origin) if origin in self.found else None

    @no_type_check  # runs for every value: checks would take seconds
    def see(self, origin: Origin, value: Tensor) -> Tensor:
        """Notes a value, changed where it is to be."""
        if origin in self.values:
            self.again.add(origin)
        apart = self.found[origin].holds_texts
        shown = value.unflatten(0, (self.texts, -1)) if apart else value
        if origin in self.changes:
            shown = self.changes[origin](shown)
            value = shown.flatten(0, 1) if apart else shown
        self.values[origin] = shown.detach().clone()
        if self.makers is not None:
            self.makers[id(value)] = origin, value, value._version
        return value

    @contextmanager
    def noting_makers(self) -> Iterator[None]:
        """Inside the block, ``maker_of`` knows where a tensor was made."""
        self.makers = {}
        try:
            yield
        finally:
            self.makers = None

    def maker_of(self, value: Tensor) -> Origin | None:
        """Where this very tensor was made, or written into last; None where that is not known."""
        if self.makers is None or id(value) not in self.makers:
            return None
        origin, _, version = self.makers[id(value)]
        return origin if version == value._version else None

    def record(
        self, function: Callable[[], Any], changes: Mapping[Origin, Change]
    ) -> tuple[dict[Origin, Tensor], Any]:
        """What the model's lines make while a function runs, and what that returns."""
        self.changes, self.values = changes, {}
        self.run.frames.clear()
        output = function()
        return self.values, output


@dataclass
class Region:
    """A part of a model that is called with the residual stream and returns it.

    Args:
        bench: that runs it.
        call: is given the stream.
        stream: what it is given.
        candidates: which of its values are looked at; None for all.
    """

    bench: Bench
    call: Callable[[Tensor], Tensor]
    stream: Tensor
    candidates: Collection[Origin] | None = None

    def run(
        self, changes: Mapping[Origin, Change] | None = None, stream: Tensor | None = None
    ) -> Recording:
        """What it makes, with some values changed."""
        handed = self.stream if stream is None else stream
        # a copy: a part may write into what it is handed
        values, returned = self.bench.record(lambda: self.call(handed.clone()), changes or {})
        return Recording(values, handed, returned)

    def axes(self, origin: Origin) -> tuple[str, ...]:
        return self.bench.found[origin].axes

    def is_rows(self, origin: Origin) -> bool:
        """Whether a value has one axis of texts, one of positions, and others of its own."""
        axes = self.axes(origin)
        return "batch" in axes and "pos" in axes and "key" not in axes and len(axes) > 2

    def rows(self, seen: Recording, origin: Origin) -> Tensor:
        """A value as [batch pos number]."""
        return in_rows(seen.values[origin], self.axes(origin))

    def chosen(self, seen: Recording) -> list[Origin]:
        """The values that are looked at, in the order in which they are made."""
        return [
            origin
            for origin in seen.values
            if self.is_rows(origin)
            and seen.values[origin].numel()
            and origin not in self.bench.again
            and (self.candidates is None or origin in self.candidates)
        ]

    def changing(self, origin: Origin, change: Change) -> dict[Origin, Change]:
        """A change of a value as rows."""
        return {origin: partial(change_rows, self.axes(origin), change)}

    def with_rows(self, origin: Origin, change: Change) -> Recording:
        """What it makes with one value's rows changed."""
        return self.run(self.changing(origin, change))


def in_rows(value: Tensor, axes: Sequence[str]) -> Tensor:
    """A value as [batch pos number]; its other axes keep their order."""
    return value.movedim((axes.index("batch"), axes.index("pos")), (0, 1)).flatten(2)


def change_rows(axes: Sequence[str], change: Change, value: Tensor) -> Tensor:
    """A value whose rows are changed."""
    places = (axes.index("batch"), axes.index("pos"))
    moved = value.movedim(places, (0, 1))
    changed = change(moved.flatten(2)).reshape(moved.shape)
    return changed.movedim((0, 1), places).to(value.dtype)


def noise_like(rows: Tensor, seed: int, size: float = 1.0) -> Tensor:
    """Random numbers, as large in each row as what stands there."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows.shape, generator=generator).to(rows)
    return drawn * size * rows.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-3)


def at_position(position: int, delta: Tensor) -> Change:
    """Adds to one position's row."""
    return partial(add_at, position, delta)


def add_at(position: int, delta: Tensor, rows: Tensor) -> Tensor:
    rows = rows.clone()
    rows[:, position] += delta[:, position]
    return rows


def tolerance_of(value: Tensor) -> float:
    return {torch.float64: 1e-7, torch.float32: 3e-4}.get(value.dtype, 4e-2)


def is_close(
    one: Tensor, other: Tensor, scale: Tensor | None = None, tolerance: float | None = None
) -> bool:
    """Whether two values are equal but for rounding, row by row; ``scale`` is what they were
    computed from, where that is larger."""
    if one.shape != other.shape or not (one.isfinite().all() and other.isfinite().all()):
        return False
    if not one.numel():  # what is left of heads that are turned whole
        return True
    size = torch.maximum(one.abs(), other.abs())
    if scale is not None:
        size = torch.maximum(size, scale.abs())
    relative = tolerance_of(one) if tolerance is None else tolerance
    allowed = relative * size.amax(-1, keepdim=True) + 1e-12
    return bool(((one - other).abs() <= allowed).all())


def is_unchanged(one: Tensor, other: Tensor) -> bool:
    """Whether nothing of a value has changed."""
    return one.shape == other.shape and is_close(one, other)


def is_far(change: Tensor, base: Tensor) -> bool:
    """Whether a change is more than rounding."""
    return not is_close(base + change, base)


def is_permuted(one: Tensor, other: Tensor) -> bool:
    """Whether the rows of two values hold the same numbers, in any order."""
    return one.shape == other.shape and bool(
        torch.equal(one.sort(-1).values, other.sort(-1).values)
    )
