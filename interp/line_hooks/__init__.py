"""How is every value that a line of anyone's model makes a hook point?

    view = hook_lines(model, tokens)
    view.hook_dict["model.layers.3.self_attn.query_states"].source    # file, line and code
    view.run_with_cache(tokens)

Nothing of the model's source is changed. Where a hook is on a value, the function that makes it
runs a copy of its code that passes the value to the hook point first; without hooks the model runs
as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import UsageError
from interp.line_hooks.finding import FoundValue, Origin, find_values, passing_values, tensors_in
from interp.line_hooks.following import Following, following_modules
from interp.line_hooks.texts import TakesTexts
from interp.line_hooks.values import Made
from interp.logits import logits_of

__all__ = ["HookedLines", "LinePoint", "hook_lines"]


class LinePoint(HookPoint):
    """The hook point of a value that a line makes.

    Attributes:
        source: the line.
        origin: where in a run it is made.
        shape: of the value in the run that found it.
        axes: what each axis of the value is, as that run has shown.
    """

    def __init__(self, found: FoundValue, touched: "set[LinePoint]") -> None:
        super().__init__()
        self.name = found.names[0]
        self.source = found.source
        self.origin = found.origin
        self.shape = found.shape
        self.axes = found.axes
        self.touched = touched

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> Any:
        self.touched.add(self)
        return super().register_forward_hook(*args, **kwargs)

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> Any:
        self.touched.add(self)
        return super().register_forward_pre_hook(*args, **kwargs)

    def register_full_backward_hook(self, *args: Any, **kwargs: Any) -> Any:
        self.touched.add(self)
        return super().register_full_backward_hook(*args, **kwargs)

    @property
    def is_watched(self) -> bool:
        """Whether anything is hooked to it."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks)


def hook_lines(model: nn.Module, *inputs: Any) -> "HookedLines":
    """A view of a model in which every value that a line of its code makes is a hook point.

    Args:
        model: any module whose classes stand in files; it is neither copied nor changed.
        inputs: what to call it with once, to see which lines run: tokens [batch pos] for most.

    Raises:
        UsageError: nothing of the model has source of its own; a file was edited since it was
            imported; no line makes a float tensor.
    """
    return HookedLines(model, inputs)


class HookedLines(TakesTexts, HookedRootModule):
    """A model with a hook point for every float tensor that a line of its code makes.

    Called with what the model is called with; it returns the logits where the model's output holds
    them. ``run_with_hooks``, ``run_with_cache`` and ``hooks`` are TransformerLens'. With a
    ``tokenizer`` (the model's own, or one that is set) it takes text where it takes tokens.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Any]) -> None:
        super().__init__()
        self.inner = model
        found = find_values(model, inputs)
        if not found:
            raise UsageError(f"no line of {type(model).__name__} makes a float tensor in this run")
        self.touched: set[LinePoint] = set()  # that may have hooks: of thousands few do
        points = {id(each): LinePoint(each, self.touched) for each in found.values()}
        self.hook_dict = {name: points[id(each)] for name, each in found.items()}
        self.mod_dict = dict(self.hook_dict)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's logits [batch pos vocab], with the hooks that are on its values in place."""
        with self.watching():
            output = self.inner(*args, **kwargs)
        return output if isinstance(output, Tensor) or not args else logits_of(output, args[0])

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block, the values that something is hooked to go by their hook points."""
        self.touched.intersection_update([each for each in self.touched if each.is_watched])
        watched = list(self.touched)
        by_line = {point.origin: point for point in watched if point.origin.made is not None}
        with ExitStack() as stack:
            if by_line:
                made = list(dict.fromkeys(origin.made for origin in by_line if origin.made))
                run = stack.enter_context(following_modules(self.inner))
                handing = Handing(run, by_line, made)
                stack.enter_context(passing_values(list(enumerate(made)), handing))
            for point in watched:
                if point.origin.made is None:
                    module = self.inner.get_submodule(point.origin.path)
                    handle = module.register_forward_hook(partial(at_output, point))
                    stack.callback(handle.remove)
            yield

    def __getattr__(self, name: str) -> Any:
        """What the view lacks (a tokenizer, a config) is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class Handing:
    """Takes each value that a line passes to the hook point that is on it, if one is."""

    def __init__(
        self, run: Following, points: dict[Origin, LinePoint], made: Sequence[Made]
    ) -> None:
        self.run = run
        self.points = points
        self.made = made

    def __call__(self, number: int, value: Any) -> Any:
        frame = self.run.frame
        if frame is None:  # of another model, or another thread
            return value
        turn = frame.counts[number]
        frame.counts[number] += 1
        made = self.made[number]
        return replaced(value, lambda part: self.points.get(Origin(frame.path, made, turn, part)))


def at_output(point: LinePoint, module: nn.Module, args: Any, output: Any) -> Any:
    """A forward hook that takes what a module returns to a hook point."""
    return replaced(output, lambda part: point if part == point.origin.part else None)


def replaced(value: Any, point_of: Callable[[int | None], LinePoint | None]) -> Any:
    """A value, or a tuple, whose tensors have gone by their hook points."""
    new = {
        part: point(tensor)
        for part, tensor in tensors_in(value)
        if (point := point_of(part)) is not None
    }
    if None in new:
        return new[None]
    if not new:
        return value
    return type(value)(new.get(part, each) for part, each in enumerate(value))
