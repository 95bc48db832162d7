"""Which lines of a block make the neurons of its MLP, before and after their nonlinearity?

The neurons (``hook_post``) are the last value that a linear map, position by position and across
neurons, takes to what the MLP adds. What each neuron is made from, one number for each, is ``pre``;
where there are two such, ``pre_linear`` is the one that the neurons are linear in.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from interp.line_hooks.bench import (
    Recording,
    Region,
    at_position,
    is_close,
    is_far,
    is_unchanged,
    noise_like,
)
from interp.line_hooks.keys import drawn_like, is_alike
from interp.line_hooks.mapping import linear_map_of
from interp.line_hooks.values import Origin

PRE, LINEAR, POST = "mlp.hook_pre", "mlp.hook_pre_linear", "mlp.hook_post"


@dataclass
class Neurons:
    """Where the neurons of an MLP are made, by name; of what is not known, a sentence; and where
    a linear map of them is made."""

    made: dict[str, Origin] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    mapped: Origin | None = None


def find_neurons(region: Region, clean: Recording, mlp: Origin) -> Neurons:
    """The neurons of a block's MLP.

    Args:
        region: the block.
        clean: a run of it.
        mlp: where is made what the MLP adds to the stream.
    """
    order = {origin: number for number, origin in enumerate(clean.values)}
    chosen = [each for each in region.chosen(clean) if order[each] <= order[mlp]]
    neurons = Neurons()
    for number in range(len(chosen) - 1, -1, -1):
        mapped = linear_map_of(region, clean, chosen[number], chosen[number + 1 :])
        if mapped is not None and makes_all_of(region, clean, chosen[number], mlp):
            post, neurons.mapped = chosen[number], mapped
            neurons.made[POST] = post
            find_roots(region, clean, post, chosen[:number], neurons)
            return neurons
    why = "no value was seen that a linear map takes to all that the MLP adds"
    neurons.why |= dict.fromkeys((PRE, POST), why)
    return neurons


def makes_all_of(region: Region, clean: Recording, neurons: Origin, mlp: Origin) -> bool:
    """Whether the MLP adds the same at every position where its neurons are the same. Of what
    attention is made, of one expert's neurons among several, and of the weights that experts are
    given, that is not so."""
    drawn = drawn_like(region.rows(clean, neurons), seed=24)
    seen = region.with_rows(neurons, lambda rows: drawn[:, :1].expand_as(rows))
    return mlp in seen.values and is_alike(region.rows(seen, mlp))


def find_roots(
    region: Region, clean: Recording, post: Origin, before: list[Origin], neurons: Neurons
) -> None:
    """Names what the neurons are made from."""
    rows = region.rows(clean, post)
    picked = torch.zeros_like(rows)
    picked[..., ::2] = 3 * noise_like(rows, seed=23)[..., ::2]
    roots: dict[Origin, Tensor] = {}  # each with what a change of it makes of the neurons
    for origin in before:
        if region.rows(clean, origin).shape != rows.shape:
            continue
        seen = region.with_rows(origin, at_position(1, picked))
        change = region.rows(seen, post) - rows
        is_alone = not is_far(change[..., 1::2], rows[..., 1::2]) and is_far(change, rows)
        earlier = [root for root in roots if root in seen.values]
        made_of_root = any(
            not is_unchanged(region.rows(again, origin), region.rows(clean, origin))
            for again in (region.with_rows(root, at_position(1, picked)) for root in earlier)
        )
        if is_alone and not made_of_root:
            roots[origin] = change
    linear = []
    for origin, change in roots.items():
        twice = region.with_rows(origin, at_position(1, -2 * picked))
        if is_close(region.rows(twice, post) - rows, -2 * change, rows):
            linear.append(origin)
    others = [origin for origin in roots if origin not in linear]
    if len(others) == 1 and len(linear) <= 1:
        neurons.made[PRE] = others[0]
        neurons.made.update(zip([LINEAR], linear, strict=False))
    else:
        count = len(others) or "no"
        neurons.why[PRE] = (
            f"{count} values were seen that the neurons follow one by one, but not linearly"
        )
