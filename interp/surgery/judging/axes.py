"""Which axis of a value are the texts, which the positions?

Not the one that is as long: there may be as many channels as positions. The model runs with one
text and with one position less, and what becomes shorter tells.

    find_axes(source, model, judgement.calls[0])[place_of(node)]   # Axes(texts=0, positions=(1,))
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from interp.surgery.judging import Call
from interp.surgery.running.observing import Axes, Observations, Place, observing
from interp.surgery.source.syntax import Edit, Source

Shapes = dict[Place, list[tuple[int, ...]]]


def find_axes(
    source: Source, model: nn.Module, call: Call, edits: Sequence[Edit] = ()
) -> dict[Place, Axes]:
    """The axes of every expression that has both, each time that it ran in one call.

    Args:
        source: the file whose expressions they are.
        model: it is called three times, and more often where it does not take fewer positions.
        call: how; its tokens are [batch pos].
        edits: a preparatory surgery, made first.

    Returns:
        By place. Nothing for a model that takes texts of one length only.
    """
    seen: Shapes = defaultdict(list)

    def watch(place: Place, value: Any) -> None:
        if isinstance(value, Tensor):
            seen[place].append(tuple(value.shape))

    def shapes(args: Sequence[Any], kwargs: dict[str, Any]) -> Shapes | None:
        seen.clear()
        try:
            model(*args, **kwargs)
        except Exception:  # it does not take this many
            return None
        return {place: list(found) for place, found in seen.items()}

    texts, positions = call.tokens.shape
    with observing(Observations(source), "axes", edits, watch=watch), torch.no_grad():
        whole = shapes(call.args, call.kwargs)
        fewer_texts, fewer = shapes_of_first(shapes, call, 0, [other(texts)])
        shorter, length = shapes_of_first(shapes, call, 1, [other(positions), positions // 2])
    if whole is None or fewer_texts is None or shorter is None:
        return {}
    found = {}
    for place, all_whole in whole.items():
        of_texts = moved(all_whole, fewer_texts.get(place, []), texts, fewer)
        of_positions = moved(all_whole, shorter.get(place, []), positions, length)
        if of_texts and len(of_texts) == 1 and of_positions and of_texts[0] not in of_positions:
            found[place] = Axes(of_texts[0], of_positions)
    return found


def other(size: int) -> int:
    return size - 1 if size > 1 else 2


def shapes_of_first(
    shapes: Any, call: Call, axis: int, sizes: Sequence[int]
) -> tuple[Shapes | None, int]:
    """The shapes of the first call that the model takes, with another size along one axis of the
    tokens."""
    for size in sizes:
        for args, kwargs in resize_call(call, axis, size):
            found = shapes(args, kwargs)
            if found is not None:
                return found, size
    return None, 0


def resize_call(call: Call, axis: int, size: int) -> Iterator[tuple[list[Any], dict[str, Any]]]:
    """A call with other tokens; then with whatever is as large as they are made to fit."""
    tokens = call.tokens
    for every in (False, True):

        def fit(item: Any, every: bool = every) -> Any:
            if item is tokens:
                return take(item, axis, size)
            if every and isinstance(item, Tensor):
                first = 0 if axis == 0 or item.ndim == 1 else 1
                dims = [0] if axis == 0 else range(first, item.ndim)
                for dim in dims:
                    if item.ndim > dim and item.shape[dim] == tokens.shape[axis]:
                        item = take(item, dim, size)
            return item

        yield [fit(item) for item in call.args], {k: fit(v) for k, v in call.kwargs.items()}


def take(item: Tensor, dim: int, size: int) -> Tensor:
    """The first entries along one axis; the last again where there are not as many."""
    index = torch.arange(size, device=item.device).clamp(max=item.shape[dim] - 1)
    return item.index_select(dim, index)


def moved(
    before: Sequence[tuple[int, ...]], after: Sequence[tuple[int, ...]], size: int, other: int
) -> tuple[int, ...] | None:
    """The axes that were of one size and became of another, the same each time; else None."""
    found = {
        tuple(axis for axis, pair in enumerate(zip(a, b, strict=True)) if pair == (size, other))
        for a, b in zip(before, after, strict=False)
        if len(a) == len(b)
    }
    return found.pop() if len(found) == 1 else None
