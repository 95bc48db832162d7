"""Which models can be taken apart, so that a sweep computes only what an intervention changes?

Those that show the field's parts: ``blocks`` of ``ln1``, ``attn`` (with ``W_Q W_K W_V W_O``),
``ln2`` and ``mlp``, joined by residual connections; then ``ln_final`` and ``W_U``. The norms
are called as they are, and the MLPs where nothing is known of them; causal attention is computed
here, for any suffix of the positions.
That a model shows these parts does not mean that it uses them in this way: see ``verifying``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp.sweeps.speed.fused import FastMLP, Linear, OpaqueMLP, bias_or_none, recognise_mlp


class NotRecognisedError(Exception):
    """The model does not show its parts, or does not use them so; the message says which."""


class NotShownError(NotRecognisedError):
    """The model has none of these parts by their names in the field."""


@dataclass(frozen=True)
class Layer:
    """A block's parts."""

    ln1: Callable[[Tensor], Tensor]
    ln2: Callable[[Tensor], Tensor]
    mlp: FastMLP | OpaqueMLP
    projections: tuple[Linear, ...]  # of queries, keys, values
    out: Linear
    W_O: Tensor  # [head d_head d_model]
    W_post: Tensor  # [d_mlp d_model]

    def in_order(self) -> "Layer":
        """The same, with weights reordered."""
        return replace(
            self,
            mlp=self.mlp.in_order(),
            projections=tuple(each.in_order() for each in self.projections),
            out=self.out.in_order(),
        )

    @property
    def heads(self) -> int:
        return self.W_O.shape[0]

    @cached_property
    def qkv(self) -> Linear:
        return concatenate(self.projections)

    @cached_property
    def kv(self) -> Linear:
        return concatenate(self.projections[1:])

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
        x = x[:, : reads[-1] + 1]  # the last ones, that nobody reads, are no keys of anybody
        normed = self.ln1(x)
        if len(reads) == x.shape[1]:
            q, k, v = self.split(self.qkv(normed), 3)
        else:
            (q,) = self.split(self.projections[0](normed[:, reads]), 1)
            x = x[:, reads]
            if prefix is None and self.folds(len(reads), normed):
                z = self.read_folded(normed, q, reads)
                return self.add_mlp(self.out(z.flatten(2), plus=x))
            k, v = self.split(self.kv(normed), 2)
        start = 0
        if prefix is not None:
            start = prefix[0].shape[2]
            k, v = prepend_clean(prefix[0], k), prepend_clean(prefix[1], v)
        z = attend(q, k, v, [start + read for read in reads])
        return self.add_mlp(self.out(z.transpose(1, 2).flatten(2), plus=x))

    def folds(self, reads: int, normed: Tensor) -> bool:
        """Whether ``read_folded`` is less work than keys and values are, and as exact."""
        return 2 * reads * self.heads <= normed.shape[2] and normed.itemsize >= 4

    def read_folded(
        self,
        normed: Float[Tensor, "row pos d_model"],
        q: Float[Tensor, "row head read d_head"],
        at: list[int],
    ) -> Float[Tensor, "row read head d_head"]:
        """What each head reads out for a few queries, without a key or a value.

        A query is taken back through the key's weights, and values are made of the mean of what is
        attended to. A key's bias is the same for all keys of a query, and nothing to the softmax.
        """
        _, key, value = self.projections
        W_K, W_V = (each.weight.unflatten(0, (self.heads, -1)) for each in (key, value))
        asked = torch.einsum("rhsd,hdm->rhsm", q, W_K).flatten(1, 2) * W_K.shape[1] ** -0.5
        scores = asked @ normed.transpose(1, 2)  # [row head*read key]
        keys = torch.arange(normed.shape[1], device=normed.device)
        if at != [len(keys) - 1]:
            later = torch.tensor(at, device=keys.device)[:, None] < keys
            scores = scores.masked_fill(later.repeat(self.heads, 1), -torch.inf)
        mean = (scores.softmax(dim=-1) @ normed).unflatten(1, (self.heads, -1))
        z = torch.einsum("rhsm,hdm->rshd", mean, W_V)
        return z if value.bias is None else z + value.bias.view(self.heads, -1)

    def split(self, x: Float[Tensor, "row pos heads"], count: int) -> tuple[Tensor, ...]:
        """Queries, keys and values, each [row head pos d_head], of their concatenation."""
        row, pos, _ = x.shape
        return x.view(row, pos, count, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()

    def add_mlp(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """The residual stream after the MLP, from that before."""
        return self.mlp(self.ln2(x), plus=x)


@dataclass(frozen=True)
class Components:
    """A model's parts."""

    layers: list[Layer]
    ln_final: Callable[[Tensor], Tensor]
    unembedding: Linear

    def in_order(self) -> "Components":
        """The same, with weights held a second time in the order that is fastest."""
        layers = [layer.in_order() for layer in self.layers]
        return Components(layers, self.ln_final, self.unembedding.in_order())

    @property
    def own_bytes(self) -> int:
        """Memory of the weights that it holds beside the model's own."""
        last = self.layers[-1]
        apart = last.projections[0].own_bytes + sum(map(bytes_in_stack, last.projections[1:]))
        layers = sum(
            sum(map(bytes_in_stack, layer.projections)) + layer.out.own_bytes + layer.mlp.own_bytes
            for layer in self.layers
        )
        return layers + apart + self.unembedding.own_bytes

    def logits(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos vocab"]:
        """In single precision at least: a metric's differences are small beside its logits."""
        logits = self.unembedding(self.ln_final(x))
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


def prepend_clean(
    prefix: Float[Tensor, "example head before d_head"], new: Float[Tensor, "row head pos d_head"]
) -> Float[Tensor, "row head key d_head"]:
    """Keys, or values, of the clean positions before and of the new ones."""
    example, head, before, d_head = prefix.shape
    row, _, pos, _ = new.shape
    whole = new.new_empty(row, head, before + pos, d_head)
    whole.view(row // example, example, head, before + pos, d_head)[..., :before, :] = prefix
    whole[..., before:, :] = new
    return whole


def components_of(model: Any) -> Components:
    """The parts that a model shows.

    Raises:
        NotRecognisedError: one is missing.
    """
    try:
        layers = [layer_from(block) for block in model.blocks]
        unembedding = Linear(model.W_U.detach().T, bias_or_none(model, "b_U"))
        return Components(layers, model.ln_final, unembedding)
    except (AttributeError, TypeError) as error:
        raise NotShownError(f"it shows no {getattr(error, 'name', None) or error}") from error
    except RuntimeError as error:  # an MLP that expects the whole model around it
        raise NotRecognisedError(f"its parts do not run alone ({error})") from error


def layer_from(block: Any) -> Layer:
    attn = block.attn
    projections = tuple(
        Linear(
            getattr(attn, f"W_{name}").detach().transpose(1, 2).flatten(0, 1),
            None if (bias := bias_or_none(attn, f"b_{name}")) is None else bias.flatten(),
        )
        for name in "QKV"
    )
    if len({projection.weight.shape for projection in projections}) > 1:
        raise NotRecognisedError("its heads share keys and values")
    W_O = attn.W_O.detach()
    return Layer(
        block.ln1,
        block.ln2,
        recognise_mlp(block.mlp),
        projections,
        Linear(W_O.flatten(0, 1).T, bias_or_none(attn, "b_O")),
        W_O,
        block.mlp.W_out.detach(),
    )


def concatenate(maps: Sequence[Linear]) -> Linear:
    """Linear maps of the same input as one, their outputs side by side."""
    weight, reordered = torch.cat([each.weight for each in maps]), maps[0].reordered
    if all(each.bias is None for each in maps):
        return Linear(weight, None, reordered)
    zeros = weight.new_zeros(len(weight) // len(maps))
    biases = [zeros if each.bias is None else each.bias for each in maps]
    return Linear(weight, torch.cat(biases), reordered)


def bytes_in_stack(part: Linear) -> int:
    """Memory of a linear map's share of a stack."""
    return part.weight.nbytes + part.own_bytes
