"""Is a value of one block what the same line makes in a block that was searched?

Blocks of one class run the same lines. What was found in the first is confirmed in each of the
others by changes of its own, which takes a tenth of the time of a search.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from interp.line_hooks.adding import ATTN_OUT, MLP_OUT, RESID_MID
from interp.line_hooks.attending import (
    PATTERN,
    ROT_K,
    ROT_Q,
    SCORES,
    Finder,
    Heads,
    K,
    Q,
    V,
    Z,
)
from interp.line_hooks.bench import (
    Change,
    Recording,
    Region,
    at_position,
    change_rows,
    is_close,
    is_far,
    is_unchanged,
    noise_like,
)
from interp.line_hooks.feeding import LINEAR, POST, PRE, linear_map_of
from interp.line_hooks.values import Origin


@dataclass
class Expected:
    """What is expected of a block.

    Args:
        made: where each value is made, by its name in the field.
        heads: how many heads a value has.
        projected: where z's linear map is made.
        mapped: where that of the neurons is made.
    """

    made: Mapping[str, Origin]
    heads: Mapping[str, int]
    projected: Origin | None = None
    mapped: Origin | None = None


def is_confirmed(region: Region, returned: Tensor, expected: Expected) -> bool:
    """Whether changes confirm all that is expected of a block.

    Args:
        region: the block.
        returned: what it returned in the run of the whole model.
        expected: what was found in another block.
    """
    clean = region.run()
    if not is_close(clean.returned, returned) or not {*expected.made.values()} <= {*clean.values}:
        return False
    moved = region.run(stream=at_position(0, noise_like(clean.stream, seed=1))(clean.stream))
    made = expected.made
    if (ATTN_OUT in made or MLP_OUT in made) and not adds_as_before(region, clean, moved, made):
        return False
    if Z in made and not attends_as_before(region, clean, moved, expected):
        return False
    return POST not in made or feeds_as_before(region, clean, expected)


def changed_at(
    region: Region, clean: Recording, positions: Mapping[Origin, int], size: float = 1.0
) -> Recording:
    """A run in which each of these values is changed at a position of its own."""
    changes: dict[Origin, Change] = {}
    for origin, position in positions.items():
        delta = noise_like(region.rows(clean, origin), seed=31 + position, size=size)
        changes |= region.changing(origin, at_position(position, delta))
    return region.run(changes)


def adds_as_before(
    region: Region, clean: Recording, moved: Recording, made: Mapping[str, Origin]
) -> bool:
    """Whether the block returns what it was handed plus its parts, however these are changed."""
    attention, mlp, mid = (made.get(name) for name in (ATTN_OUT, MLP_OUT, RESID_MID))
    parts = [each for each in (attention, mid, mlp) if each is not None]
    changed = changed_at(region, clean, {each: at for at, each in enumerate(parts)})
    for run in (moved, changed):
        total = run.stream
        if mid is not None and attention is not None:
            before, between = run.stream + run.values[attention], run.values[mid]
            here = [at for at in range(before.shape[1]) if run is moved or at != 1]
            if not is_close(before[:, here], between[:, here], run.stream[:, here]):
                return False
            total = between
        elif attention is not None:
            total = total + run.values[attention]
        if mlp is not None:
            total = total + run.values[mlp]
        if not is_close(total, run.returned, run.stream):
            return False
    if mid is not None and mlp is not None:
        one, other = clean.values[mlp], changed.values[mlp]
        if is_unchanged(one[:, :1], other[:, :1]) or is_unchanged(one[:, 1:2], other[:, 1:2]):
            return False
    mixes = attention is None or is_far(
        moved.values[attention][:, 1:] - clean.values[attention][:, 1:],
        clean.values[attention][:, 1:],
    )
    return mixes and not is_unchanged(changed.returned, clean.returned)


def attends_as_before(
    region: Region, clean: Recording, moved: Recording, expected: Expected
) -> bool:
    """Whether z, v, q, k, and the pattern where there is one, are to one another as was found."""
    made = expected.made
    finder = Finder(region, clean, moved, made[ATTN_OUT], Heads(count=dict(expected.heads)))
    z, v, few = made[Z], made[V], expected.heads[V]
    pattern = finder.pattern_of(z, v, expected.heads[Z], few)
    if not finder.is_mean(z, v, pattern, few):
        return False
    if expected.projected is None or not finder.is_projected(z, [expected.projected]):
        return False
    if Q in made:
        last = made.get(ROT_Q, made[Q]), made.get(ROT_K, made[K])
        if not finder.turns_together(z, *last):
            return False
        changed = changed_at(region, clean, {made[Q]: 1, made[K]: 2})
        for at, origin in enumerate(last, start=1):
            one, other = region.rows(clean, origin), region.rows(changed, origin)
            alike = [p for p in range(one.shape[1]) if p != at]
            if not is_unchanged(one[:, alike], other[:, alike]) or is_unchanged(one, other):
                return False
        if not is_unchanged(region.rows(changed, v), region.rows(clean, v)):
            return False
    if PATTERN in made:
        if not is_close(clean.values[made[PATTERN]], pattern):
            return False
        return finder.moves_alike(z, v, made[PATTERN], few) and (
            SCORES not in made or finder.is_softmax(made[SCORES], made[PATTERN])
        )
    return True


def feeds_as_before(region: Region, clean: Recording, expected: Expected) -> bool:
    """Whether the neurons are to what they are made from, and to what they make, as was found."""
    made, post = expected.made, expected.made[POST]
    rows = region.rows(clean, post)
    if expected.mapped is None:
        return False
    if linear_map_of(region, clean, post, [expected.mapped]) is None:
        return False
    roots = [(made[name], at) for at, name in enumerate((PRE, LINEAR), start=1) if name in made]
    runs = []
    for size in (3.0, -6.0) if roots else ():
        changes = {}
        for origin, at in roots:
            delta = size * noise_like(region.rows(clean, origin), seed=23)
            delta[..., 1::2] = 0
            changes[origin] = partial(change_rows, region.axes(origin), at_position(at, delta))
        runs.append(region.rows(region.run(changes), post) - rows)
    for origin, at in roots:
        once, twice = (change[:, at : at + 1] for change in runs)
        base = rows[:, at : at + 1]
        linear = is_close(twice, -2 * once, base)
        if linear != (origin == made.get(LINEAR)) or not is_far(once, base):
            return False
        if is_far(once[..., 1::2], base[..., 1::2]):
            return False
    return True
