"""Where does a change at a hook point enter the residual stream, and as what?

| hook points                                          | enter           | by                      |
|------------------------------------------------------|-----------------|-------------------------|
| hook_embed, hook_pos_embed, hook_resid_pre           | before a block  | adding the change       |
| attn.hook_z, hook_attn_out, hook_resid_mid           | inside a block  | W_O of the head         |
| hook_attn_in                                         | inside a block  | attention               |
| attn.hook_q, attn.hook_k, attn.hook_v                | inside a block  | attention of the head   |
| attn.hook_pattern                                    | inside a block  | the head's values       |
| attn.hook_result                                     | inside a block  | the sum over heads      |
| hook_mlp_in, mlp.hook_post, hook_mlp_out, resid_post | after a block   | the MLP; W_out; adding  |

Everything before is as in the clean run, and so is every position before the first that changed.
What is not listed (attention scores, what is inside a norm, what an activation function is given)
runs from its layer on, several trials at a time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.site import Site
from interp.sweeps.speed.components import Layer, attend
from interp.sweeps.trials import Change, Trial, common_number, stack_changes

Stage = Literal["pre", "mid", "post"]

STAGES: dict[str, Stage] = {
    "hook_embed": "pre",
    "hook_pos_embed": "pre",
    "hook_resid_pre": "pre",
    "hook_attn_in": "mid",
    "attn.hook_q": "mid",
    "attn.hook_k": "mid",
    "attn.hook_v": "mid",
    "attn.hook_pattern": "mid",
    "attn.hook_z": "mid",
    "attn.hook_result": "mid",
    "hook_attn_out": "mid",
    "hook_resid_mid": "mid",
    "hook_mlp_in": "post",
    "mlp.hook_post": "post",
    "hook_mlp_out": "post",
    "hook_resid_post": "post",
}
PROJECTIONS = ("attn.hook_q", "attn.hook_k", "attn.hook_v")
PATTERN = re.compile(r"(?:blocks\.(\d+)\.)?(.+)")


@dataclass(frozen=True)
class Entry:
    """A hook point as the way into a block's residual stream."""

    hook: str
    layer: int
    kind: str

    @property
    def stage(self) -> Stage:
        return STAGES[self.kind]

    @property
    def needs(self) -> list[str]:
        """The hook points whose clean values turn a change into one of the residual stream."""
        if self.kind in PROJECTIONS:
            return [f"blocks.{self.layer}.{kind}" for kind in (*PROJECTIONS, "attn.hook_z")]
        if self.kind == "attn.hook_pattern":
            return [f"blocks.{self.layer}.attn.hook_v"]
        if self.kind == "hook_attn_in":
            return [f"blocks.{self.layer}.hook_resid_pre", f"blocks.{self.layer}.hook_attn_out"]
        if self.kind == "hook_mlp_in":
            return [f"blocks.{self.layer}.hook_resid_mid", f"blocks.{self.layer}.hook_mlp_out"]
        return []

    def reach(self, span: tuple[int, int], length: int) -> tuple[int, int]:
        """The positions of the residual stream that a change of these positions changes."""
        later = ("hook_attn_in", "attn.hook_k", "attn.hook_v")
        return (span[0], length) if self.kind in later else span

    def residual_delta(
        self,
        layer: Layer,
        trials: Sequence[Trial],
        changes: Sequence[Change],
        clean: Mapping[str, Tensor],
        shape: Sequence[int],
        examples: slice,
        span: tuple[int, int],
    ) -> Float[Tensor, "trial example pos d_model"]:
        """What trials of this hook point add to the residual stream at their stage.

        Args:
            changes: of the hook point, one per trial.
            clean: the values that this entry needs.
            shape: of the hook point's value.
            span: the positions wanted.
        """
        heads, neurons = common_number(trials, "head"), common_number(trials, "neuron")
        if self.kind == "attn.hook_z":
            change = stack_changes(changes, shape, examples, span, 2 if heads else None)
            return through_heads(layer, change, heads)
        if self.kind == "hook_attn_in":
            return self.attention_delta(layer, changes, clean, shape, examples, span)
        if self.kind in PROJECTIONS:
            return through_heads(
                layer, self.readout_delta(changes, heads, clean, shape, examples, span), heads
            )
        if self.kind == "attn.hook_pattern":
            change = stack_changes(changes, shape, examples, span, 1 if heads else None)
            v = clean[self.needs[0]][examples].transpose(1, 2)  # [example head key d_head]
            read = v[:, heads].transpose(0, 1)[:, :, None] if heads else v
            return through_heads(layer, (change @ read).transpose(2, 3), heads)
        if self.kind == "attn.hook_result":
            return stack_changes(changes, shape, examples, span, 2 if heads else None).sum(dim=3)
        if self.kind == "mlp.hook_post":
            change = stack_changes(changes, shape, examples, span, 2 if neurons else None)
            if neurons:
                return change * layer.W_post[neurons][:, None, None]
            return change @ layer.W_post
        change = stack_changes(changes, shape, examples, span)
        if self.kind == "hook_mlp_in":
            mid, out = (clean[name][examples, slice(*span)] for name in self.needs)
            return layer.mlp(layer.ln2((mid + change).flatten(0, 1))).view(change.shape) - out
        return change

    def attention_delta(
        self,
        layer: Layer,
        changes: Sequence[Change],
        clean: Mapping[str, Tensor],
        shape: Sequence[int],
        examples: slice,
        span: tuple[int, int],
    ) -> Float[Tensor, "trial example pos d_model"]:
        """What attention to a changed input adds, beyond what it added to the clean one."""
        pre, out = (clean[name][examples] for name in self.needs)
        x = pre + stack_changes(changes, shape, examples, (0, shape[1]))
        q, k, v = layer.split(layer.qkv(layer.ln1(x.flatten(0, 1))), 3)
        z = attend(q[:, :, slice(*span)], k, v, list(range(*span)))
        read = layer.out(z.transpose(1, 2).flatten(2))
        return read.unflatten(0, (len(changes), -1)) - out[:, slice(*span)]

    def readout_delta(
        self,
        changes: Sequence[Change],
        heads: list[int] | None,
        clean: Mapping[str, Tensor],
        shape: Sequence[int],
        examples: slice,
        span: tuple[int, int],
    ) -> Float[Tensor, "trial example pos head d_head"]:
        """What changed queries, keys or values add to what heads read out."""
        length, count = shape[1], len(changes)
        change = stack_changes(changes, shape, examples, (0, length), 2 if heads else None)

        def of_heads(name: str) -> Tensor:
            value = clean[name][examples]  # [example pos head d_head]
            if heads:
                return value[:, :, heads].permute(2, 0, 1, 3)[:, :, :, None]
            return value.expand(count, *value.shape)

        *names, out = self.needs
        parts = [of_heads(name) + change if name == self.hook else of_heads(name) for name in names]
        q, k, v = (part.flatten(0, 1).transpose(1, 2) for part in parts)
        at = list(range(*span))
        z = attend(q[:, :, at[0] : at[-1] + 1], k, v, at).transpose(1, 2)
        return z.unflatten(0, (count, -1)) - of_heads(out)[:, :, at[0] : at[-1] + 1]


def entry_of(site: Site, layers: int) -> Entry | None:
    """The way in for a site; None where this module knows none."""
    found = PATTERN.fullmatch(site.hook)
    if found is None or found[2] not in STAGES:
        return None
    inside = found[1] is not None
    if inside == (found[2] in ("hook_embed", "hook_pos_embed")) or int(found[1] or 0) >= layers:
        return None
    return Entry(site.hook, int(found[1] or 0), found[2])


def through_heads(
    layer: Layer, z: Float[Tensor, "trial example pos head d_head"], heads: list[int] | None
) -> Float[Tensor, "trial example pos d_model"]:
    """A change of what heads read out, as a change of the residual stream."""
    if heads is None:
        return z.flatten(3) @ layer.out.weight.T
    trial, example, pos, _, d_head = z.shape
    rows = z.reshape(trial, example * pos, d_head)
    return torch.bmm(rows, layer.W_O[heads]).view(trial, example, pos, -1)
