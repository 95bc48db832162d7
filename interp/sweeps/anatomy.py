"""Which models can be taken apart, so that a sweep computes only what an intervention changes?

Those that show the field's parts: ``blocks`` of ``ln1``, ``attn`` (with ``W_Q W_K W_V W_O``),
``ln2`` and ``mlp``, joined by residual connections; then ``ln_final`` and ``W_U``. The norms and
the MLPs are called as they are; causal attention is computed here, for any suffix of the positions.
That a model shows these parts does not mean that it uses them in this way: see ``proof``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class NotRecognisedError(Exception):
    """The model does not show its parts, or does not use them so; the message says which."""


@dataclass(frozen=True)
class Layer:
    """A block's parts. Weights of linear maps are [out in], biases [out]."""

    ln1: Callable[[Tensor], Tensor]
    ln2: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    W_O: Tensor  # [head d_head d_model]
    W_post: Tensor  # [d_mlp d_model]

    @property
    def heads(self) -> int:
        return self.W_O.shape[0]

    def forward(
        self,
        x: Float[Tensor, "row pos d_model"],
        prefix: tuple[Tensor, Tensor] | None = None,
        reads: list[int] | None = None,
    ) -> Float[Tensor, "row read d_model"]:
        """The residual stream after the block, from that before.

        Args:
            x: of the last positions.
            prefix: clean keys and values [example head pos d_head] of the positions before;
                rows are all these examples, again and again.
            reads: which of ``x``'s positions are wanted; all by default.
        """
        reads = list(range(x.shape[1])) if reads is None else reads
        normed = self.ln1(x)
        if len(reads) == x.shape[1]:
            q, k, v = self.split(F.linear(normed, *self.qkv), 3)
        else:
            (weight, bias), width = self.qkv, self.out[0].shape[1]
            k, v = self.split(F.linear(normed, weight[width:], bias[width:]), 2)
            (q,) = self.split(F.linear(normed[:, reads], weight[:width], bias[:width]), 1)
            x = x[:, reads]
        start = 0
        if prefix is not None:
            start = prefix[0].shape[2]
            k, v = joined(prefix[0], k), joined(prefix[1], v)
        return self.feed(x + self.merge(attend(q, k, v, [start + read for read in reads])))

    def split(self, x: Float[Tensor, "row pos heads"], count: int) -> tuple[Tensor, ...]:
        """Queries, keys and values, each [row head pos d_head], of their concatenation."""
        row, pos, _ = x.shape
        return x.view(row, pos, count, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()

    def merge(self, z: Float[Tensor, "row head pos d_head"]) -> Float[Tensor, "row pos d_model"]:
        """The attention's output."""
        return F.linear(z.transpose(1, 2).flatten(2), *self.out)

    def feed(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """The residual stream after the MLP, from that before."""
        return x + self.mlp(self.ln2(x))


@dataclass(frozen=True)
class Anatomy:
    """A model's parts."""

    layers: list[Layer]
    ln_final: Callable[[Tensor], Tensor]
    unembedding: tuple[Tensor, Tensor]

    def logits(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
        """In single precision at least: a metric's differences are small beside its logits."""
        logits = F.linear(self.ln_final(x), *self.unembedding)
        return logits.float() if logits.itemsize < 4 else logits


def attend(
    q: Float[Tensor, "row head query d_head"],
    k: Float[Tensor, "row head key d_head"],
    v: Float[Tensor, "row head key d_head"],
    at: list[int],
) -> Float[Tensor, "row head query d_head"]:
    """Causal attention of the queries at these positions to all keys."""
    keys = k.shape[2]
    if at == list(range(keys)):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if at == [keys - 1]:
        return F.scaled_dot_product_attention(q, k, v)
    seen = torch.tensor(at, device=q.device)[:, None] >= torch.arange(keys, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)


def joined(
    prefix: Float[Tensor, "example head before d_head"], new: Float[Tensor, "row head pos d_head"]
) -> Float[Tensor, "row head key d_head"]:
    """Keys, or values, of the clean positions before and of the new ones."""
    example, head, before, d_head = prefix.shape
    row, _, pos, _ = new.shape
    whole = new.new_empty(row, head, before + pos, d_head)
    whole.view(row // example, example, head, before + pos, d_head)[..., :before, :] = prefix
    whole[..., before:, :] = new
    return whole


def anatomy_of(model: Any) -> Anatomy:
    """The parts that a model shows.

    Raises:
        NotRecognisedError: one is missing.
    """
    try:
        layers = [layer_of(block) for block in model.blocks]
        weight = model.W_U.T
        bias = getattr(model, "b_U", weight.new_zeros(len(weight)))
        return Anatomy(layers, model.ln_final, (weight.detach(), bias.detach()))
    except (AttributeError, TypeError) as error:
        raise NotRecognisedError(f"it shows no {getattr(error, 'name', None) or error}") from error


def layer_of(block: Any) -> Layer:
    attn = block.attn
    rows = [weight.transpose(1, 2).flatten(0, 1) for weight in (attn.W_Q, attn.W_K, attn.W_V)]
    if len({row.shape for row in rows}) > 1:
        raise NotRecognisedError("its heads share keys and values")
    biases = [
        getattr(attn, name, row.new_zeros(len(row))).flatten()
        for name, row in zip(("b_Q", "b_K", "b_V"), rows, strict=True)
    ]
    W_O = attn.W_O.detach()
    return Layer(
        block.ln1,
        block.ln2,
        block.mlp,
        (torch.cat(rows).detach(), torch.cat(biases).detach()),
        (W_O.permute(2, 0, 1).flatten(1), attn.b_O.detach()),
        W_O,
        block.mlp.W_out.detach(),
    )
