"""Does what a hook returns reach the whole residual stream, or only one branch of it?

``resid_mid`` of TransformerLens' bridge is the input of the second norm: what it shows is the
residual stream, but what it returns goes to the MLP alone, and the way around the MLP keeps the old
value. The change is then also added where that way ends, behind the block.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.errors import InterventionError
from interp.hooking import attach_hooks, bare, evaluating
from interp.site import Model, device_of, names_by_point

MID, OUT, POST = "hook_resid_mid", "hook_mlp_out", "hook_resid_post"
WHOLE, BRANCH = "the whole stream", "one branch"
PROVEN: "weakref.WeakKeyDictionary[HookPoint, str]" = weakref.WeakKeyDictionary()

Pair = tuple[HookPoint, Callable[..., Any]]


def way_around(model: Model, name: str) -> HookPoint | None:
    """The hook point behind the block at which a change of this one must be added too.

    None where what the hook point returns is the stream itself, or was never meant to be.

    Raises:
        InterventionError: it is neither, and no adding behind the block makes it so.
    """
    points = model.hook_dict
    point = points.get(name)
    if point is None or not name.endswith(MID):
        return None
    names = [other for other, each in points.items() if each is point]
    if all(other.endswith(MID) for other in names):
        return None
    if point not in PROVEN:
        PROVEN[point] = where_change_goes(model, name)
    if PROVEN[point] == WHOLE:
        return None
    if PROVEN[point] != BRANCH:
        raise InterventionError(
            f"{name} of this model is what the MLP reads ({names[0]}), and what goes around the "
            "MLP cannot be changed with it: intervene on hook_resid_pre, hook_attn_out or "
            f"hook_resid_post, or on {names[0]} if the MLP's input is meant"
        )
    return points[name.removesuffix(MID) + POST]


def where_change_goes(model: Model, name: str) -> str:
    """Whether a change of the middle of a block's stream reaches the whole of it, so that the
    block's output is the changed middle and what the MLP makes of that; or the MLP alone, so that
    the output is the old middle and what the MLP makes of the new; or neither."""
    points = model.hook_dict
    names = [name.removesuffix(MID) + kind for kind in (MID, OUT, POST)]
    if not all(each in points for each in names):
        return ""
    mid, out, post = (points[each] for each in names)
    seen: dict[HookPoint, Tensor] = {}

    def shift(value: Tensor, hook: HookPoint) -> Tensor:
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0)).to(value)
        shifted = value + (value.std() + 0.1) * noise
        keep(shifted, hook)
        return shifted

    def keep(value: Tensor, hook: HookPoint) -> None:
        seen[hook] = value.clone()  # the next block may write into it

    tokens = torch.zeros((1, 2), dtype=torch.long, device=device_of(model))
    with bare(names_by_point(model)), evaluating(model):
        with attach_hooks([(mid, keep)]):
            model(tokens)
        before = seen[mid]
        with attach_hooks([(mid, shift), (out, keep), (post, keep)]):
            model(tokens)
    if not seen.keys() >= {mid, out, post} or seen[post].shape != seen[mid].shape:
        return ""
    for way, middle in ((WHOLE, seen[mid]), (BRANCH, before)):
        expected = middle + seen[out]
        tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().max()
        if (seen[post] - expected).abs().max() <= tolerance:
            return way
    return ""


def on_stream(
    model: Model, name: str, function: Callable[..., Any]
) -> tuple[list[Pair], list[Pair]]:
    """The hooks, first ones and others, that let a function replace what a hook point shows."""
    point, behind = model.hook_dict[name], way_around(model, name)
    if behind is None:
        return [], [(point, function)]
    lacking: list[Tensor] = []

    def edit(value: Tensor, hook: HookPoint) -> Tensor | None:
        new = function(value, hook=hook)
        if new is not None:
            lacking[:] = [new - value]
        return new

    def give_back(value: Tensor, hook: HookPoint) -> Tensor | None:
        return value + lacking.pop() if lacking else None

    return [(behind, give_back)], [(point, edit)]
