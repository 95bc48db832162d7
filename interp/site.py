"""Where in a model can one look and cut, and which line of its source is that?

A site is a hook point and, optionally, a part of it. Names are TransformerLens', globs select many,
and every site knows the line that computes the value it observes.

    sites(model, "blocks.*.attn.hook_z", each="head")   # every head of every layer
    Site("blocks.2.attn.hook_z", head=3)                # written blocks.2.attn.hook_z[head=3]
    sites(model, "blocks.1.hook_mlp_out")[0].source     # model.py:201: mlp_out = self.mlp(mlp_in)

Which axis is which follows from the hook point's name, as everywhere in the field: q, k, v and z
are [batch pos head neuron], and so are results and inputs per head; scores and patterns are
[batch head query key], where ``pos`` is the query; everything else is [batch pos neuron].
"""

import inspect
import itertools
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.display import table_html
from interp.errors import HookNameError, SiteError
from interp.hooking import OwnHook, attach_hooks, bare, evaluating, modules_of
from interp.threads import quickest_threads
from interp.tracing import LineTracer, SourceLine

Part = Literal["head", "pos", "neuron"]
PARTS: tuple[Part, ...] = get_args(Part)


@runtime_checkable
class Model(Protocol):
    """What this package asks of a model: hook points by name, and to be called with tokens.

    Every ``HookedRootModule`` and TransformerLens' bridge are such models.
    """

    @property
    def hook_dict(self) -> dict[str, HookPoint]: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Site:
    """A hook point, or a part of it.

    Args:
        hook: the hook point's name.
        head: one head of it.
        pos: one position of it; negative counts from the end.
        neuron: one element of its last axis.
        source: the line that computes the value; known where the site comes from ``sites``. Takes
            no part in comparisons.

    Raises:
        SiteError: a negative head or neuron, or a part that is no whole number.
    """

    hook: str
    head: int | None = None
    pos: int | None = None
    neuron: int | None = None
    source: SourceLine | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for part, number in self.parts.items():
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise SiteError(f"{part} of {self.hook} is {number!r}; it must be a whole number")
            object.__setattr__(self, part, int(number))
        if (self.head or 0) < 0 or (self.neuron or 0) < 0:
            raise SiteError(f"{self} is no site: heads and neurons count from 0")

    def __str__(self) -> str:
        parts = ",".join(f"{part}={number}" for part, number in self.parts.items())
        return f"{self.hook}[{parts}]" if parts else self.hook

    @property
    def parts(self) -> dict[Part, int]:
        """The parts that this site is restricted to."""
        numbers = {part: getattr(self, part) for part in PARTS}
        return {part: number for part, number in numbers.items() if number is not None}

    @property
    def anywhere(self) -> "Site":
        """The same at every position."""
        return replace(self, pos=None)

    @property
    def layer(self) -> int | None:
        """The block that the hook point lies in; None outside the blocks."""
        found = re.match(r"blocks\.(\d+)\.", self.hook)
        return int(found[1]) if found else None

    def columns(self) -> dict[str, Any]:
        """This site's columns of a result table."""
        return {
            "site": str(self),
            "hook": self.hook,
            "layer": self.layer,
            **{part: getattr(self, part) for part in PARTS},
            "file": self.source.file if self.source else None,
            "line": self.source.line if self.source else None,
            "code": self.source.code if self.source else None,
        }

    @staticmethod
    def parse(text: str) -> "Site":
        """The site that is written so; its hook may be a glob.

        Examples:
            >>> site = Site.parse("blocks.2.attn.hook_z[head=3,pos=-1]")
            >>> site.hook, site.head, site.pos, site.layer
            ('blocks.2.attn.hook_z', 3, -1, 2)
            >>> str(site)
            'blocks.2.attn.hook_z[head=3,pos=-1]'

        Raises:
            SiteError: brackets that do not read like ``[head=3]`` or ``[head=3,pos=-1]``.
        """
        if not text.endswith("]") and "=" not in text:
            return Site(text)  # brackets inside are a glob's, as in blocks.[01].hook_mlp_out
        hook, _, inside = text.rpartition("[")
        items = [
            re.fullmatch(r"\s*(\w+)\s*=\s*(-?\d+)\s*", item) for item in inside[:-1].split(",")
        ]
        parts: dict[str, Any] = {item[1]: int(item[2]) for item in items if item}
        well = text.endswith("]") and len(parts) == len(items) and parts.keys() <= {*PARTS}
        if not well or "=" in hook:
            raise SiteError(
                f"{text!r} is no site: after the hook point's name may stand head, pos and neuron, "
                "each once, as in blocks.2.attn.hook_z[head=3,pos=-1]"
            )
        return Site(hook, **parts)


def sites(
    model: Model,
    pattern: str,
    each: Part | Sequence[Part] | None = None,
    tokens: Tensor | None = None,
) -> "Sites":
    """The sites of ``model`` that ``pattern`` matches, in the order they fire, with their source.

    Finds shapes and lines by running the model once. A hook point that this run does not reach
    (a gated one, for instance) is left out; one that has several names is listed once.

    Args:
        model: the model.
        pattern: a hook point's name or a glob over names, with parts in brackets if wanted.
        each: split every match into its heads, positions or neurons, or by several of these.
        tokens: what to run the model on; needed for ``each="pos"``, else two tokens will do, and
            whether a text has the position asked for is seen when it is run.

    Raises:
        HookNameError: no hook point matches.
        SiteError: a part that a matched hook point does not have; one asked for both by its number
            and by ``each``; nothing that fires.
    """
    splits: tuple[Part, ...] = (each,) if isinstance(each, str) else tuple(each or ())
    if "pos" in splits and tokens is None:
        raise SiteError("each='pos' needs tokens, whose positions are meant")
    matched = match(model, pattern)
    if twice := [part for part in splits if part in matched[0][0].parts or splits.count(part) > 1]:
        raise SiteError(f"{pattern} with each={each!r} asks for its {twice[0]} twice")
    names = names_by_point(model)
    seen = observe(model, tokens)
    order = {name: rank for rank, name in enumerate(seen)}
    found = []
    for site, point in sorted(matched, key=lambda pair: order.get(pair[0].hook, -1)):
        if site.hook not in seen:
            continue
        shape, source = seen[site.hook]
        axes = axes_of(names[point], len(shape))
        if site.pos is not None:
            axis_of("pos", site, axes)
        part_index(site if tokens is not None else site.anywhere, axes, shape)
        ranges = [range(shape[axis_of(part, site, axes)]) for part in splits]
        for numbers in itertools.product(*ranges):
            parts: dict[str, Any] = dict(zip(splits, numbers, strict=True))
            found.append(replace(site, **parts, source=source))
    if not found:
        raise SiteError(
            f"the model never reached {', '.join(site.hook for site, _ in matched[:3])}"
        )
    return Sites(found)


class Sites(list[Site]):
    """A list of sites, which a notebook shows as a table."""

    def table(self) -> pd.DataFrame:
        """One row per site: its columns of a result table."""
        return pd.DataFrame([site.columns() for site in self])

    def _repr_html_(self) -> str:
        shown = self.table()[["site", "file", "line", "code"]]
        return table_html(shown)


def source_lines(model: Model, tokens: Tensor | None = None) -> dict[str, SourceLine]:
    """For every hook point that a run reaches, under each of its names, its source line.

    The line is that of the value observed. For ``x = self.hook_x(x)`` it is the line, of those that
    ran, that last bound ``x``; for an inline ``self.hook_x(self.fc(x))`` the line of the argument;
    where the hook is the first to touch a function's parameter, or gives its value a name of its
    own (``mlp_in = self.hook_mlp_in(x)``), the hook's own line. Where the hook point hides inside
    somebody else's wrapper, as in TransformerLens' bridge, the line is that of the model's file
    that calls the wrapper (the value is its result) or, where the wrapper is handed the very
    value observed, the line that made that.
    """
    return {name: source for name, (_, source) in observe(model, tokens).items()}


def match(model: Model, pattern: str | Site) -> list[tuple[Site, HookPoint]]:
    """The hook points that a name or glob means, each once, with the site asked of each.

    Raises:
        HookNameError: there are none; names the nearest.
        SiteError: a pattern that does not read as one.
    """
    points = model.hook_dict
    if isinstance(pattern, Site):
        asked = pattern
    elif pattern not in points and re.search(r"\[\s*\w+\s*=", pattern):  # [pos=1] is no glob's set
        asked = Site.parse(pattern)
    elif any(fnmatchcase(name, pattern) for name in points):
        asked = Site(pattern)
    else:
        asked = Site.parse(pattern)
    if asked.hook in points:
        return [(asked, points[asked.hook])]
    found: dict[int, tuple[Site, HookPoint]] = {}
    for name, point in points.items():
        if fnmatchcase(name, asked.hook):
            found.setdefault(id(point), (replace(asked, hook=name), point))
    if not found:
        raise HookNameError(asked.hook, points)
    return list(found.values())


def stopping(model: Model, names: Sequence[str]) -> dict[str, int]:
    """What to call a model with so that it runs no further than these hook points: nothing where it
    takes no ``stop_at_layer``, or one of them lies behind the blocks.
    """
    sites = [site for name in names for site, _ in match(model, name)]
    takes = inspect.signature(getattr(model, "forward", model)).parameters
    if "stop_at_layer" not in takes:
        return {}
    if any(site.layer is None and site.hook not in EMBEDDINGS for site in sites):
        return {}
    layers = [site.layer for site in sites if site.layer is not None]
    return {"stop_at_layer": 1 + max(layers, default=-1)}


class Names(tuple[str, ...]):
    """Every name of a hook point, and what the axes of its value are, as a run has shown."""

    axes: tuple[str, ...] = ()


def names_by_point(model: Model) -> dict[HookPoint, tuple[str, ...]]:
    """Every name of each hook point."""
    names: dict[HookPoint, tuple[str, ...]] = {}
    for name, point in model.hook_dict.items():
        names[point] = (*names.get(point, ()), name)
    for point in [point for point in names if getattr(point, "axes", ())]:
        seen = names[point] = Names(names[point])
        seen.axes = point.axes
    return names


EMBEDDINGS = ("hook_embed", "hook_pos_embed")
PER_HEAD = (
    *("hook_q", "hook_k", "hook_v", "hook_z", "hook_rot_q", "hook_rot_k", "hook_result"),
    *("hook_q_input", "hook_k_input", "hook_v_input", "hook_attn_in"),
)
ATTENTION = ("hook_attn_scores", "hook_pattern")


def axes_of(names: Sequence[str], ndim: int) -> tuple[str, ...]:
    """What each axis of a hook point's value is: as a run has shown, or from its names."""
    if isinstance(names, Names) and len(names.axes) == ndim:
        return names.axes
    last = {name.rsplit(".", 1)[-1] for name in names}
    if ndim == 4 and last & {*PER_HEAD}:
        return ("batch", "pos", "head", "neuron")
    if ndim == 4 and last & {*ATTENTION}:
        return ("batch", "head", "pos", "key")
    if ndim == 3:
        return ("batch", "pos", "neuron")
    return ("batch", *(f"axis{number}" for number in range(1, ndim)))


def axis_of(part: Part, site: Site, axes: tuple[str, ...]) -> int:
    if part not in axes:
        raise SiteError(f"{site.hook} has no {part} axis, its value is [{' '.join(axes)}]")
    return axes.index(part)


def part_index(site: Site, axes: tuple[str, ...], shape: Sequence[int]) -> tuple[slice, ...]:
    """The index that takes the site's part out of a value and keeps every axis.

    Raises:
        SiteError: a part that the value does not have.
    """
    index = [slice(None)] * len(shape)
    for part, number in site.parts.items():
        axis = axis_of(part, site, axes)
        start = number + shape[axis] if number < 0 else number
        if not 0 <= start < shape[axis]:
            raise SiteError(
                f"{site.hook} has {part} 0 to {shape[axis] - 1}; there is no {part} {number}"
            )
        index[axis] = slice(start, start + 1)
    return tuple(index)


def observe(model: Model, tokens: Tensor | None) -> dict[str, tuple[tuple[int, ...], SourceLine]]:
    """Shape and source line of every hook point's value, from one run of the model.

    The run is of the bare model, whatever hooks are on it, without gradients and in evaluation
    mode; the model is left as it was.
    """
    if tokens is None:
        tokens = torch.zeros((1, 2), dtype=torch.long, device=device_of(model))
    tracer = LineTracer()
    shapes: dict[HookPoint, tuple[int, ...]] = {}
    lines: dict[HookPoint, SourceLine] = {}

    def keep_shape(value: Any, hook: HookPoint) -> None:
        if isinstance(value, Tensor):
            shapes.setdefault(hook, tuple(value.shape))

    def keep_line(point: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(point, HookPoint) and args:
            known = getattr(point, "source", None)  # of a hook point that a line was found for
            line = known or tracer.line_of(sys._getframe(1), args[0])
            if line:
                lines.setdefault(point, line)

    points = set(model.hook_dict.values())
    traced = any(getattr(point, "source", None) is None for point in points)
    with bare(points), evaluating(model), quickest_threads(model):
        for point in points:
            point.register_forward_pre_hook(OwnHook(keep_line))
        with (
            attach_hooks([(point, keep_shape) for point in points]),
            tracer.tracing() if traced else nullcontext(),
        ):
            model(tokens)
    names = names_by_point(model)
    return {
        name: (shape, lines[point])
        for point, shape in shapes.items()
        if point in lines
        for name in names[point]
    }


def device_of(model: Model) -> torch.device:
    weights = (
        weight for module in modules_of(model) for weight in module.parameters(recurse=False)
    )
    return next((weight.device for weight in weights), torch.device("cpu"))
