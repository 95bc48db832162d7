"""Is a value of one block what the same line makes in a block that was searched?

Blocks of one class run the same lines. What was found in the first is confirmed in each of the
others by changes of its own, which takes a tenth of the time of a search.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from interp.line_hooks.adding import ATTN_OUT, MLP_OUT, RESID_MID
from interp.line_hooks.attending import HeadSearch
from interp.line_hooks.bench import (
    Change,
    Recording,
    Region,
    at_position,
    is_close,
    is_far,
    is_unchanged,
    noise_like,
)
from interp.line_hooks.feeding import LINEAR, POST, PRE, makes_all_of
from interp.line_hooks.keys import KeySearch, is_alike
from interp.line_hooks.norming import (
    BEHIND,
    LARGE,
    in_both,
    is_norm_of,
    is_normalized,
    large_runs,
)
from interp.line_hooks.searching import PATTERN, ROT_K, ROT_Q, SCORES, Heads, K, Q, V, Z
from interp.line_hooks.values import Origin

PLACES = {LINEAR: 0, Z: 1, POST: 2, PRE: 3}  # the positions at which each is changed in one run
HALVED = (PLACES[LINEAR], PLACES[PRE])


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
    if region.stream.shape[1] < len(PLACES):
        return False
    clean = region.run()
    if not is_close(clean.returned, returned) or not {*expected.made.values()} <= {*clean.values}:
        return False
    moved = region.run(stream=at_position(0, noise_like(clean.stream, seed=1))(clean.stream))
    made = expected.made
    if (ATTN_OUT in made or MLP_OUT in made) and not adds_as_before(region, clean, moved, made):
        return False
    if not normalizes_as_before(region, made) or not normalizes_behind(region, clean, expected):
        return False
    if Z in made and not attends_as_before(region, clean, moved, expected):
        return False
    return maps_as_before(region, clean, expected)


def changed_at(
    region: Region, clean: Recording, positions: Mapping[Origin, int], size: float = 1.0
) -> Recording:
    """A run in which each of these values is changed at a position of its own; only every other
    number of what neurons are made from."""
    changes: dict[Origin, Change] = {}
    for origin, position in positions.items():
        rows = region.rows(clean, origin)
        delta = size * noise_like(rows, seed=31 + position, size=3.0 if position in HALVED else 1.0)
        if position in HALVED:
            delta[..., 1::2] = 0
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
    z, v, few = made[Z], made[V], expected.heads[V]
    heads = Heads(count=dict(expected.heads))
    finder = HeadSearch(region, clean, moved, heads, attention=made.get(ATTN_OUT))
    keys = KeySearch(region, clean, moved, heads, z=z, v=v)
    pattern = finder.pattern_of(z, v, expected.heads[Z], few)
    if not finder.is_mean(z, v, pattern, few):
        return False
    last = [made[name] for name in ((ROT_Q, ROT_K) if ROT_Q in made else (Q, K)) if name in made]
    if len(last) == 2:
        q, k = last
        same = region.run(stream=region.stream[:, :1].expand_as(region.stream))
        if keys.turns_by_place(same, q, k) != (ROT_Q in made):
            return False
        if not keys.turns_together(q, k, alone=False):
            return False
        places = {name: at for at, name in enumerate((Q, K), start=1) if name in made}
        if not all(is_alike(region.rows(same, made[name])) for name in places):
            return False
        changed = changed_at(region, clean, {made[name]: at for name, at in places.items()})
        for at, origin in enumerate(last, start=1):
            if at not in places.values():
                continue
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


def normalizes_as_before(region: Region, made: Mapping[str, Origin]) -> bool:
    """Whether the norms are norms of the stream."""
    big = region.run(stream=LARGE * region.stream)
    streams = {"ln1": big.stream, "ln2": big.stream}
    if RESID_MID in made:
        streams["ln2"] = big.values[made[RESID_MID]]
    for name, stream in streams.items():
        plain, norm = made.get(f"{name}.hook_normalized"), made.get(f"{name}.hook_out")
        if plain is not None and not is_normalized(big.values[plain], stream):
            return False
        if norm is not None and not is_norm_of(big.values[norm], stream):
            return False
    return True


def normalizes_behind(region: Region, clean: Recording, expected: Expected) -> bool:
    """Whether the norms through which parts add to the stream are norms of what these make."""
    for name, mapped in zip(BEHIND, (expected.projected, expected.mapped), strict=True):
        norm = expected.made.get(f"{name}.hook_out")
        plain = expected.made.get(f"{name}.hook_normalized")
        if norm is None:
            continue
        if mapped is None:
            return False
        runs = large_runs(region, clean, mapped)
        if not is_norm_of(in_both(runs, norm), in_both(runs, mapped)):
            return False
        if plain is not None and not is_normalized(in_both(runs, plain), in_both(runs, mapped)):
            return False
    return True


def maps_as_before(region: Region, clean: Recording, expected: Expected) -> bool:
    """Whether z and the neurons are mapped linearly, and the neurons follow what they are made
    from: each changed at a position of its own, once and twice as much the other way."""
    made = expected.made
    if POST in made and not makes_all_of(region, clean, made[POST], made[MLP_OUT]):
        return False
    once, twice = (
        changed_at(
            region, clean, {made[name]: at for name, at in PLACES.items() if name in made}, size
        )
        for size in (1.0, -2.0)
    )

    def changes(origin: Origin, at: int) -> list[Tensor]:
        rows = region.rows(clean, origin)
        return [region.rows(run, origin)[:, at] - rows[:, at] for run in (once, twice)]

    for name, mapped in ((Z, expected.projected), (POST, expected.mapped)):
        if name not in made:
            continue
        if mapped is None:
            return False
        base = region.rows(clean, mapped)[:, PLACES[name]]
        one, other = changes(mapped, PLACES[name])
        if not is_close(other, -2 * one, base) or not is_far(one, base):
            return False
    if Z in made and expected.projected is not None:
        rows, moved = (region.rows(run, expected.projected) for run in (clean, once))
        if not is_unchanged(rows[:, PLACES[Z] + 1 :], moved[:, PLACES[Z] + 1 :]):
            return False
    for name in (PRE, LINEAR):
        if name not in made:
            continue
        at = PLACES[name]
        base = region.rows(clean, made[POST])[:, at]
        one, other = changes(made[POST], at)
        if is_close(other, -2 * one, base) != (name == LINEAR) or not is_far(one, base):
            return False
        if is_far(one[..., 1::2], base[..., 1::2]):
            return False
    return True
