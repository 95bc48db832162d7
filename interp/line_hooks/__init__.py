"""How is every value that a line of anyone's model makes a hook point?

    view = hook_lines(model, tokens)
    view.hook_dict["model.layers.3.self_attn.query_states"].source    # file, line and code
    view.run_with_cache(tokens)

Nothing of the model's source is changed. Where a hook is on a value, the function that makes it
runs a copy of its code that passes the value to the hook point first; without hooks the model runs
as it is.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, no_type_check

from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import UsageError
from interp.line_hooks.finding import FoundValue, find_values, tokens_among
from interp.line_hooks.following import Following, following_modules
from interp.line_hooks.hiding import HiddenPadding
from interp.line_hooks.naming import FieldName, name_values
from interp.line_hooks.passing import passing_outputs, passing_values, replaced
from interp.line_hooks.shaping import AxesApart, noting_texts, part_texts
from interp.line_hooks.texts import TakesTexts
from interp.line_hooks.values import Made, Origin
from interp.logits import logits_of
from interp.threads import quickest_threads

__all__ = ["HookedLines", "LinePoint", "hook_lines"]


class LinePoint(HookPoint):
    """The hook point of a value that a line makes.

    Attributes:
        source: the line.
        origin: where in a run it is made.
        shape: of the value in the run that found it.
        axes: what each axis of the value is, as that run has shown.
    """

    def __init__(self, found: FoundValue, touched: "set[LinePoint]", texts: list[int]) -> None:
        super().__init__()
        self.name = found.names[0]
        self.source = found.source
        self.origin = found.origin
        self.shape = found.shape
        self.axes = found.axes
        self.holds_texts = found.holds_texts
        self.heads: int | None = None  # that its last axis holds
        self.be_in(touched, texts)

    def be_in(self, touched: "set[LinePoint]", texts: list[int]) -> None:
        """Takes its place in a view."""
        self.touched = touched
        self.texts = texts
        if self.holds_texts or self.heads:
            self.hook_conversion = AxesApart(texts if self.holds_texts else None, self.heads)

    def twin(self, touched: "set[LinePoint]", texts: list[int]) -> "LinePoint":
        """The same, without the hooks that are on it."""
        new = LinePoint.__new__(LinePoint)
        HookPoint.__init__(new)
        for name in ("name", "source", "origin", "shape", "axes", "holds_texts", "heads"):
            setattr(new, name, getattr(self, name))
        new.be_in(touched, texts)
        return new

    def take_name(self, named: FieldName) -> None:
        """Shows the axes that its name in the field says."""
        self.axes = named.axes or self.axes
        if named.heads is not None:
            self.shape = (*self.shape[:2], named.heads, self.shape[2] // named.heads)
            self.heads = named.heads
            self.be_in(self.touched, self.texts)

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


def hook_lines(model: nn.Module, *inputs: Any, **options: Any) -> "HookedLines":
    """A view of a model in which every value that a line of its code makes is a hook point.

    Where a value is one that the field has a name for, it has TransformerLens' name too:
    ``blocks.3.hook_resid_pre``, ``blocks.3.attn.hook_z``. ``view.explain()`` says which it found.

    Args:
        model: any module whose classes stand in files; it is neither copied nor changed.
        inputs: what to call it with, to see which lines run: tokens [batch pos] for most.
        options: by name, such as ``attention_mask=``.

    Raises:
        UsageError: nothing of the model has source of its own; a file was edited since it was
            imported; no line makes a float tensor; the model fails on the inputs, or on these with
            a text more or a position less.
    """
    with quickest_threads(model):
        return HookedLines(model, inputs, options)


class HookedLines(TakesTexts, HookedRootModule):
    """A model with a hook point for every float tensor that a line of its code makes.

    Called with what the model is called with; it returns the logits where the model's output holds
    them. ``run_with_hooks``, ``run_with_cache`` and ``hooks`` are TransformerLens'. With a
    ``tokenizer`` (the model's own, or one that is set) it takes text where it takes tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Sequence[Any],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.inner = model
        found = find_values(model, inputs, options)
        if not found:
            raise UsageError(f"no line of {type(model).__name__} makes a float tensor in this run")
        self.touched: set[LinePoint] = set()  # that may have hooks: of thousands few do
        self.texts: list[int] = []  # how many the model runs on just now, at the end
        values = list({id(each): each for each in found.values()}.values())
        part_texts(model, values, inputs, options)
        points = {id(each): LinePoint(each, self.touched, self.texts) for each in values}
        self.hook_dict = {name: points[id(each)] for name, each in found.items()}
        self.naming = name_values(model, values, inputs, options)
        by_origin = {point.origin: point for point in self.hook_dict.values()}
        for name, named in self.naming.named.items():
            by_origin[named.origin].take_name(named)
            self.hook_dict.setdefault(name, by_origin[named.origin])
        self.mod_dict = dict(self.hook_dict)
        self.padding = HiddenPadding(model, inputs, options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "HookedLines":
        """A view of a copy of the model, without the hooks that are on this one's values."""
        new = HookedLines.__new__(HookedLines)
        HookedRootModule.__init__(new)
        memo[id(self)] = new
        new.inner = copy.deepcopy(self.inner, memo)
        new.touched, new.texts = set(), []
        points = set(self.hook_dict.values())
        twins = {point: point.twin(new.touched, new.texts) for point in points}
        new.hook_dict = {name: twins[point] for name, point in self.hook_dict.items()}
        new.mod_dict = dict(new.hook_dict)
        new.naming = self.naming
        new.padding = self.padding.twin(new.inner)
        if "tokenizer" in vars(self):
            new.tokenizer = self.tokenizer
        new.training = self.training  # the model's own modules have theirs, which may differ
        return new

    def explain(self) -> str:
        """Which values have a name in the field, which names have no value, and why; a text."""
        return self.naming.explain()

    def run_with_cache(
        self, *inputs: Any, names_filter: Any = None, pos_slice: Any = None, **options: Any
    ) -> tuple[Any, dict[str, Tensor]]:
        """TransformerLens' ``run_with_cache``: the logits, and each value under every name asked.

        Raises:
            UsageError: a ``pos_slice``, which would need to know each value's axis of positions.
        """
        if pos_slice is not None:
            raise UsageError(
                "pos_slice is not known here: take the positions out of what comes back, along the "
                "axis that view.hook_dict[name].axes.index('pos') says"
            )
        asked = {name: self.hook_dict[name].name for name in self.hook_dict}
        if callable(names_filter):
            asked = {name: own for name, own in asked.items() if names_filter(name)}
        elif names_filter is not None:
            listed = [names_filter] if isinstance(names_filter, str) else list(names_filter)
            asked = {name: asked[name] for name in listed if name in asked}
        wanted = {*asked.values()}
        output, kept = super().run_with_cache(*inputs, names_filter=wanted.__contains__, **options)
        return output, {name: kept[own] for name, own in asked.items() if own in kept}

    @property
    def original_model(self) -> nn.Module:
        """The model that is viewed, as bridges call theirs: what it is called with is seen."""
        return self.inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's logits [batch pos vocab], with the hooks that are on its values in place.

        Raises:
            UsageError: texts in padding have other logits than alone, as ``attention_mask`` or the
                model's positions do not hide it.
        """
        with self.padding.checking(), self.watching():
            output = self.inner(*args, **kwargs)
        tokens = tokens_among(args, kwargs)
        if isinstance(output, Tensor) or tokens is None:
            return output
        return logits_of(output, tokens)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside the block, the values that something is hooked to go by their hook points."""
        self.touched.intersection_update([each for each in self.touched if each.is_watched])
        watched = list(self.touched)
        by_line = {point.origin: point for point in watched if point.origin.made is not None}
        with ExitStack() as stack:
            if any(point.holds_texts for point in watched):
                blocks = [self.inner.get_submodule(path) for path in self.naming.blocks]
                stack.enter_context(noting_texts([self.inner, *blocks], self.texts))
            if by_line:
                made = list(dict.fromkeys(origin.made for origin in by_line if origin.made))
                run = stack.enter_context(following_modules(self.inner))
                stack.enter_context(passing_values(made, Handing(run, by_line)))
            returned = {point.origin: point for point in watched if point.origin.made is None}
            paths = [origin.path for origin in returned]
            at = lambda path, output: replaced(output, returned.get, path)  # noqa: E731
            stack.enter_context(passing_outputs(self.inner, paths, at))
            yield

    def deciding_parts(self) -> list[Any]:
        """All that the outcome of a run depends on, for a sweep that is to be resumed: the model,
        and which value each name is."""
        points = [(name, point.origin.told, point.axes) for name, point in self.hook_dict.items()]
        files = {
            str(each.syntax.source.path): each.syntax.source.text
            for each in (point.origin.made for point in self.hook_dict.values())
            if each is not None
        }
        return [self.inner, points, files]

    def __getattr__(self, name: str) -> Any:
        """What the view lacks (a tokenizer, a config) is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class Handing:
    """Takes each value that a line passes to the hook point that is on it, if one is."""

    def __init__(self, run: Following, points: dict[Origin, LinePoint]) -> None:
        self.run = run
        self.points = points

    @no_type_check  # runs for every value: checks would take seconds
    def __call__(self, made: Made, value: Any) -> Any:
        frame = self.run.frame
        if frame is None:  # of another model, or another thread
            return value
        turn = frame.counts[made]
        frame.counts[made] += 1
        return replaced(value, self.points.get, frame.path, made, turn)
