"""How is a group of trials carried from where it enters the residual stream to the metric?

Rows are [trial example], positions are those from the first changed one on: the model is causal, so
earlier ones are as in the clean run, whose keys and values attention reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sweeps.speed.components import Components, Layer
from interp.sweeps.speed.grouping import Group
from interp.sweeps.speed.scoring import Score, measure_carried
from interp.sweeps.trials import Change, Trial


@dataclass(frozen=True)
class Clean:
    """The clean run, as far as a plan needs it.

    Args:
        values: of hook points, by name.
        pre: the residual stream entering each layer, and after the last; None where not needed.
        prefix: each layer's keys and values [batch head pos d_head].
        shapes: of the values of the trials' hook points.
    """

    values: Mapping[str, Tensor]
    pre: Sequence[Tensor | None]
    prefix: Mapping[int, tuple[Tensor, Tensor]]
    shapes: Mapping[str, tuple[int, ...]]

    def entering(self, layer: int) -> Tensor:
        value = self.pre[layer]
        assert value is not None, f"the plan kept no residual stream of layer {layer}"
        return value


def measure_group(
    group: Group,
    components: Components,
    trials: Sequence[Trial],
    changes: Sequence[Change],
    clean: Clean,
    score: Score,
) -> Float[Tensor, "trial batch"]:
    """The metric of every trial of a group."""

    def carried(examples: slice) -> tuple[Tensor, list[int]]:
        return carry(group, components, trials, changes, clean, score, examples)

    return measure_carried(score, len(trials), group.examples, carried)


def carry(
    group: Group,
    components: Components,
    trials: Sequence[Trial],
    changes: Sequence[Change],
    clean: Clean,
    score: Score,
    examples: slice,
) -> tuple[Float[Tensor, "row fresh d_model"], list[int]]:
    """The residual stream after the last block, and at which of the read positions it is new."""
    entry, (start, stop) = group.entry, group.span
    layer, last = components.layers[entry.layer], len(components.layers) - 1
    ended = entry.stage != "pre" and entry.layer == last
    change = entry.residual_delta(
        layer, trials, changes, clean.values, clean.shapes[entry.hook], examples, group.span
    )
    if ended:
        fresh = [read for read in score.reads if start <= read < stop]
        change = select_positions(change, [read - start for read in fresh])
    else:
        fresh = list(range(start, stop))
    if entry.stage == "mid":
        mid = clean.values[f"blocks.{entry.layer}.hook_resid_mid"][examples]
        changed = run_mlp(layer, select_positions(mid, fresh)[None] + change)
    else:
        after = clean.entering(entry.layer + (entry.stage == "post"))[examples]
        changed = select_positions(after, fresh)[None] + change
    if ended:
        return changed.flatten(0, 1), fresh
    following = entry.layer + (entry.stage != "pre")
    length = clean.entering(following).shape[1]
    x = changed
    if stop < length:
        rest = clean.entering(following)[examples, stop:]
        x = torch.cat([changed, rest.expand(len(trials), *rest.shape)], dim=2)
    return run_suffix(x.flatten(0, 1), following, start, components, clean, score.reads, examples)


def run_suffix(
    x: Float[Tensor, "row pos d_model"],
    layer: int,
    start: int,
    components: Components,
    clean: Clean,
    reads: list[int],
    examples: slice,
) -> tuple[Float[Tensor, "row fresh d_model"], list[int]]:
    """The residual stream after the last block, of the read positions from ``start`` on."""
    fresh = [read for read in reads if read >= start]
    last = len(components.layers) - 1
    for number in range(layer, last + 1):
        prefix = None
        if start:
            keys, values = clean.prefix[number]
            prefix = keys[examples, :, :start], values[examples, :, :start]
        wanted = [read - start for read in fresh] if number == last else None
        x = components.layers[number].forward(x, prefix, wanted)
    return x, fresh


def run_mlp(
    layer: Layer, mid: Float[Tensor, "trial example pos d_model"]
) -> Float[Tensor, "trial example pos d_model"]:
    return layer.add_mlp(mid.flatten(0, 1)).view(mid.shape)


def select_positions(x: Float[Tensor, "... pos d_model"], positions: list[int]) -> Tensor:
    """Some positions of a residual stream, as a view where they are neighbours."""
    if positions and positions[-1] - positions[0] == len(positions) - 1:
        return x.narrow(-2, positions[0], len(positions))
    return x[..., positions, :]
