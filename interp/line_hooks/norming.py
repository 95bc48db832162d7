"""Which lines make a stream normalized, before and after a norm's weights?

Such a value is known by what it is computed from: in each of its numbers it is a multiple of the
stream's, divided by the row's size, plus a constant. That attention or the MLP reads it is seen by
changing it. A norm behind one of these, as in Gemma 2 and OLMo 2, is known in the same way by what
that hands on.
"""

from collections.abc import Iterable, Sequence
from functools import partial

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
from interp.line_hooks.values import Origin

LARGE = 100.0  # a norm adds a small number to the size of what it divides by it
NOT_READ = "nothing that it reads is a norm of the stream"
NOT_PLAIN = "no line holds the stream before a norm's weights"


def find_norm(
    big: Recording, stream: Tensor, candidates: Sequence[Origin]
) -> tuple[Origin | None, Origin | None]:
    """The first value that is a stream of mean square 1, and the last that is a norm of it.

    Args:
        big: a run in which the stream is large.
        stream: in that run.
        candidates: the values that it may be.
    """
    plain = [each for each in candidates if is_normalized(big.values[each], stream)]
    norms = [each for each in candidates if is_norm_of(big.values[each], stream)]
    return (plain[0] if plain else None), (norms[-1] if norms else None)


def scaled_to_one(stream: Tensor, centred: bool) -> Tensor:
    """A stream of mean square 1 in each row."""
    stream = stream.double()
    if centred:
        stream = stream - stream.mean(-1, keepdim=True)
    return stream / stream.square().mean(-1, keepdim=True).sqrt()


def is_normalized(value: Tensor, stream: Tensor) -> bool:
    """Whether a value is the stream divided by its size."""
    tolerance = 1e-3 if value.dtype in (torch.float32, torch.float64) else 3e-2
    return value.shape == stream.shape and any(
        torch.allclose(value.double(), scaled_to_one(stream, centred), atol=tolerance)
        for centred in (False, True)
    )


def is_norm_of(value: Tensor, stream: Tensor) -> bool:
    """Whether each number of a value is, over all rows, a multiple of the normalized stream's plus
    a constant."""
    if value.shape != stream.shape or len(stream.flatten(0, -2)) < 4:
        return False
    tolerance = 1e-3 if value.dtype in (torch.float32, torch.float64) else 3e-2
    rows = value.double().flatten(0, -2)
    for centred in (False, True):
        ones = scaled_to_one(stream, centred).flatten(0, -2)
        spread = ones - ones.mean(0)
        weight = (spread * (rows - rows.mean(0))).sum(0) / spread.square().sum(0).clamp(min=1e-12)
        fitted = rows.mean(0) + spread * weight
        if (fitted - rows).abs().max() <= tolerance * rows.abs().max() and weight.any():
            return True
    return False


def is_read_by(region: Region, clean: Recording, norm: Origin, *parts: Origin) -> list[bool]:
    """Which parts of a block change with a norm's value."""
    delta = noise_like(region.rows(clean, norm), seed=41)
    seen = region.with_rows(norm, at_position(0, delta))
    return [not is_unchanged(seen.values[part], clean.values[part]) for part in parts]


def name_norms(
    region: Region,
    clean: Recording,
    attention: Origin | None,
    mlp: Origin | None,
    mid: Origin | None,
) -> tuple[dict[str, Origin], dict[str, str]]:
    """The norms of a block that attention and the MLP read, by name; and why one is not known."""
    made: dict[str, Origin] = {}
    why: dict[str, str] = {}
    big = region.run(stream=LARGE * region.stream)
    order = {origin: number for number, origin in enumerate(clean.values)}
    chosen = [each for each in region.chosen(clean) if each in big.values]
    for name, part, other in (("ln1", attention, mlp), ("ln2", mlp, attention)):
        if part is None:
            continue
        stream = big.values[mid] if name == "ln2" and mid is not None else big.stream
        before = [each for each in chosen if order[each] < order[part]]
        read = []
        for origin in before:
            if is_norm_of(big.values[origin], stream) or is_normalized(big.values[origin], stream):
                both = (part,) if other is None or mid is not None else (part, other)
                found = is_read_by(region, clean, origin, *both)
                # in blocks side by side a norm that both read is attention's
                if found[0] and not (name == "ln2" and found[1:] == [True]):
                    read.append(origin)
        plain, norm = find_norm(big, stream, read)
        if norm is not None:
            made[f"{name}.hook_out"] = norm
        else:
            why[f"{name}.hook_out"] = NOT_READ
        if plain is not None:
            made[f"{name}.hook_normalized"] = plain
        else:
            why[f"{name}.hook_normalized"] = NOT_PLAIN
    return made, why


BEHIND = ("ln1_post", "ln2_post")
"""What norms are called through which attention and the MLP add to the stream."""


def name_norms_behind(
    region: Region, clean: Recording, ends: Iterable[tuple[Origin | None, Origin | None]]
) -> tuple[dict[str, Origin], dict[str, str]]:
    """The norms through which attention and the MLP add to the stream, by name; and why one is not
    known, where there is such a norm.

    Args:
        ends: for each of the two, where its last linear map is made, and what it adds.
    """
    made: dict[str, Origin] = {}
    why: dict[str, str] = {}
    for name, (mapped, part) in zip(BEHIND, ends, strict=True):
        if mapped is None or part is None or is_close(clean.values[mapped], clean.values[part]):
            continue
        runs = large_runs(region, clean, mapped)
        if not is_norm_of(in_both(runs, part), in_both(runs, mapped)):
            continue
        made[f"{name}.hook_out"] = part
        plain = [
            each
            for each in region.chosen(clean)
            if is_normalized(in_both(runs, each), in_both(runs, mapped))
        ]
        if plain:
            made[f"{name}.hook_normalized"] = plain[0]
        else:
            why[f"{name}.hook_normalized"] = NOT_PLAIN
    return made, why


def large_runs(region: Region, clean: Recording, origin: Origin) -> list[Recording]:
    """Two runs in which large random rows stand for a value's."""
    rows = region.rows(clean, origin)
    drawn = (LARGE * noise_like(rows, seed=seed) for seed in (43, 44))
    return [region.with_rows(origin, partial(torch.add, each)) for each in drawn]


def in_both(runs: Sequence[Recording], origin: Origin) -> Tensor:
    """A value's rows of several runs."""
    return torch.cat([each.values[origin] for each in runs])
