"""Is a value a linear map of another, position by position?"""

import torch

from interp.line_hooks.bench import (
    Recording,
    Region,
    at_position,
    is_close,
    is_far,
    is_permuted,
    noise_like,
)
from interp.line_hooks.values import Origin


def linear_map_of(
    region: Region, clean: Recording, origin: Origin, later: list[Origin]
) -> Origin | None:
    """The first later value of the stream's width that is a linear map of this one, position by
    position, in which one number moves several."""
    rows = region.rows(clean, origin)
    width = clean.stream.shape[-1]
    outs = [
        out
        for out in later
        if region.rows(clean, out).shape[-1] == width
        and not is_permuted(region.rows(clean, out), rows)
    ]
    if not outs or rows.shape[-1] < 2:
        return None
    first = torch.zeros_like(rows)
    first[..., 0] = noise_like(rows, seed=21).abs().amax(-1)
    rest = noise_like(rows, seed=22)
    runs = [region.with_rows(origin, at_position(1, each)) for each in (first, rest, first + rest)]
    for out in outs:
        base = region.rows(clean, out)
        one, other, both = (region.rows(seen, out) - base for seen in runs)
        elsewhere = [position for position in range(base.shape[1]) if position != 1]
        alone = not is_far(both[:, elsewhere], base[:, elsewhere])
        moved = (one[:, 1].abs() > 1e-3 * one[:, 1].abs().amax()).sum()
        if alone and moved > 1 and is_close(one + other, both, base) and is_far(other, base):
            return out
    return None
