"""What does a block add to the residual stream, and which line holds it?

Found by sums, and confirmed by changing each part: with the changed values, too, a block must
return what it was handed plus what attention and MLP made.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.line_hooks.bench import (
    Recording,
    Region,
    at_position,
    is_close,
    is_unchanged,
    noise_like,
)
from interp.line_hooks.norming import is_norm_of
from interp.line_hooks.values import Origin


@dataclass
class Sums:
    """What a block adds to the stream.

    Args:
        clean: a run of the block.
        moved: one in which the first position's stream is another.
        attention, mlp: where what each of them adds is made; None where it is not known.
        mid: where the stream between them is made.
        why: for each of these that is not known, a sentence.
    """

    clean: Recording
    moved: Recording
    attention: Origin | None = None
    mlp: Origin | None = None
    mid: Origin | None = None
    why: dict[str, str] = field(default_factory=dict)


ATTN_OUT, MLP_OUT, RESID_MID = "hook_attn_out", "hook_mlp_out", "hook_resid_mid"


def find_sums(region: Region) -> Sums:
    """What a block adds to the stream that it is handed."""
    clean = region.run()
    delta = noise_like(clean.stream, seed=1)
    moved = region.run(stream=at_position(0, delta)(clean.stream))
    sums = Sums(clean, moved)
    if not is_unchanged(region.run().returned, clean.returned):
        sums.why |= dict.fromkeys(
            (ATTN_OUT, MLP_OUT, RESID_MID), "a block that is called again returns something else"
        )
        return sums
    groups = groups_of_equal(region, clean)
    for first, second in pairs_that_add_up(clean, groups):
        one = first_confirmed(region, sums, first, second)
        if one is not None:
            name_parts(region, sums, *one)
            find_mid(region, sums, groups)
            return sums
    added = clean.returned - clean.stream
    for group in groups:
        if is_close(clean.values[group[0]], added, clean.returned):
            for origin in reversed(group):
                seen = region.with_rows(origin, at_position(0, noise_like(added, seed=2)))
                if adds_to_stream(seen, origin) and not is_unchanged(seen.returned, clean.returned):
                    name_only_part(region, sums, origin)
                    return sums
    why = "no two values of the block's lines add up to what it adds to the stream"
    if any(returns_norm(clean, group[0]) for group in groups):
        why = (
            "the block returns a norm of the sum, not the sum, so that nothing is added to what it "
            "is handed (a post-norm block, as BERT's): hook_resid_post is behind the last norm"
        )
    if len(clean.values) <= 1:  # what it returns
        why = "no line of the model's own files runs in the block"
    sums.why |= dict.fromkeys((ATTN_OUT, MLP_OUT, RESID_MID), why)
    return sums


def returns_norm(clean: Recording, origin: Origin) -> bool:
    """Whether a block returns a norm of a value, which is not what it was handed."""
    value = clean.values[origin]
    others = (clean.returned, clean.stream)
    return is_norm_of(clean.returned, value) and not any(is_close(value, each) for each in others)


def groups_of_equal(region: Region, clean: Recording) -> list[list[Origin]]:
    """The values of the stream's shape, those with the same numbers together, as they are made."""
    groups: list[list[Origin]] = []
    for origin in region.chosen(clean):
        value = clean.values[origin]
        if value.shape != clean.stream.shape:
            continue
        group = next((each for each in groups if torch.equal(clean.values[each[0]], value)), None)
        if group is None:
            groups.append([origin])
        else:
            group.append(origin)
    return groups


def pairs_that_add_up(
    clean: Recording, groups: list[list[Origin]]
) -> Iterator[tuple[list[Origin], list[Origin]]]:
    """Pairs of values that, with what the block is handed, are what it returns."""
    added = clean.returned - clean.stream
    ends = [
        group
        for group in groups
        if not is_close(clean.values[group[0]], clean.returned)
        and not is_close(clean.values[group[0]], clean.stream)
        and clean.values[group[0]].any()
    ]
    values = [clean.values[group[0]] for group in ends]
    for at, first in enumerate(ends):
        for later, second in list(enumerate(ends))[at + 1 :]:
            if is_close(values[at] + values[later], added, clean.returned):
                yield first, second


def adds_to_stream(seen: Recording, *parts: Origin) -> bool:
    """Whether a run returned the stream that it was handed plus these parts."""
    total: Tensor = seen.stream
    for part in parts:
        if part not in seen.values:
            return False
        total = total + seen.values[part]
    return is_close(total, seen.returned, seen.stream)


def first_confirmed(
    region: Region, sums: Sums, first: list[Origin], second: list[Origin]
) -> tuple[Origin, Origin, Recording] | None:
    """Of each of two groups the last value that goes into the sum, and a run in which the first
    was changed at one position; None where changes do not add up."""
    delta = noise_like(sums.clean.returned, seed=2)
    for one in reversed(first):
        seen = region.with_rows(one, at_position(0, delta))
        if is_unchanged(seen.returned, sums.clean.returned) or second[-1] not in seen.values:
            continue  # a copy that goes elsewhere
        for other in reversed(second):
            again = region.with_rows(other, at_position(0, delta))
            moves = not is_unchanged(again.returned, sums.clean.returned)
            if moves and all(
                adds_to_stream(each, one, other) for each in (seen, again, sums.moved)
            ):
                return one, other, seen
    return None


def name_parts(region: Region, sums: Sums, first: Origin, second: Origin, seen: Recording) -> None:
    """Which of two parts is attention: that which has heard of another position."""
    mixes = [mixes_positions(sums.clean, sums.moved, each) for each in (first, second)]
    follows = not is_unchanged(seen.values[second], sums.clean.values[second])
    if follows and mixes_positions(sums.clean, seen, second):
        why = "both of the parts that a block adds to the stream look at other positions"
        sums.why |= dict.fromkeys((ATTN_OUT, MLP_OUT, RESID_MID), why)
    elif mixes[0] and (follows or not mixes[1]):
        sums.attention, sums.mlp = first, second
    elif mixes[1]:
        sums.attention, sums.mlp = second, first
    else:
        why = "nothing that a block adds to the stream depends on other positions"
        sums.why |= dict.fromkeys((ATTN_OUT, MLP_OUT, RESID_MID), why)
    if sums.attention and not follows:
        sums.why[RESID_MID] = "attention and MLP both read the block's input: nothing is between"


def name_only_part(region: Region, sums: Sums, origin: Origin) -> None:
    """A block that adds one part to the stream."""
    if mixes_positions(sums.clean, sums.moved, origin):
        sums.attention = origin
        sums.why[MLP_OUT] = sums.why[RESID_MID] = "the block adds nothing but attention"
    else:
        sums.mlp = origin
        sums.why[ATTN_OUT] = sums.why[RESID_MID] = "the block adds nothing but an MLP"


def find_mid(region: Region, sums: Sums, groups: list[list[Origin]]) -> None:
    """The stream between attention and MLP: what both the sum and the second part go on from."""
    if RESID_MID in sums.why or sums.attention is None or sums.mlp is None:
        return
    clean = sums.clean
    order = list(clean.values)
    if order.index(sums.mlp) < order.index(sums.attention):
        sums.why[RESID_MID] = "the MLP comes before attention"
        return
    expected = clean.stream + clean.values[sums.attention]
    for group in groups:
        if is_close(clean.values[group[0]], expected, clean.stream):
            origin = group[0]
            delta = noise_like(expected, seed=3)
            seen = region.with_rows(origin, at_position(0, delta))
            mid, out = seen.values[origin], seen.values[sums.mlp]
            whole = is_close(mid + out, seen.returned, mid)
            moved = sums.moved
            both = is_close(
                moved.stream + moved.values[sums.attention], moved.values[origin], moved.stream
            )
            if whole and both and not is_unchanged(out, clean.values[sums.mlp]):
                sums.mid = origin
                return
    sums.why[RESID_MID] = "no line holds the sum of the block's input and attention's output"


def mixes_positions(clean: Recording, changed: Recording, origin: Origin) -> bool:
    """Whether a change of the first position shows at later ones."""
    one, other = clean.values[origin], changed.values.get(origin)
    return other is not None and not is_unchanged(one[:, 1:], other[:, 1:])
