"""What do the parts make of other streams, where a model shows its parts under the field's names?

The same as its blocks when they are called whole, and without what is not asked for: no attention
where the MLP is, and no positions at which the stream is as it was.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from interp.circuits.graph import Reader
from interp.circuits.rounding import agree
from interp.sweeps.speed.components import Layer, NotRecognisedError, attend, components_of

ROWS = 2**11  # tokens at a time, which stay in a processor's caches
HEADS = ("q", "k", "v")


@torch.no_grad()
def shown_layers(
    model: object,
    entering: Sequence[Float[Tensor, "batch pos d_model"]],
    seen: Callable[[int, Tensor], Mapping[str, Tensor]],
) -> list[Layer] | None:
    """A model's layers by their parts; None where it does not show them, or uses them otherwise.

    Args:
        entering: the stream before each layer.
        seen: from a layer's number and a stream before it to what the model's own block makes of
            that: q, k, v, z, attn and mlp.
    """
    try:
        layers = components_of(model).layers
        for number, (layer, x) in enumerate(zip(layers, entering, strict=True)):
            noise = torch.randn(x[:2].shape, generator=torch.Generator().manual_seed(number)).to(x)
            x = x[:2] + noise * x.std(correction=0)  # nor is it so on these texts alone
            made, every = seen(number, x), list(range(x.shape[1]))
            parts = read_heads(layer, x) | {
                "z": attend_at(made["q"], made["k"], made["v"], every),
                "mlp": apply_mlp(layer, x + made["attn"]),
            }
            if not all(agree(value, made[kind]) for kind, value in parts.items()):
                return None
        return [layer.in_order() for layer in layers]
    except (NotRecognisedError, KeyError, ValueError, RuntimeError):
        return None  # its blocks are then called whole


def read_heads(layer: Layer, x: Float[Tensor, "row pos d_model"]) -> dict[str, Tensor]:
    """Queries, keys and values, each [row pos head d_head]."""
    made = layer.split(layer.qkv(layer.ln1(x)), 3)
    return {kind: value.transpose(1, 2) for kind, value in zip(HEADS, made, strict=True)}


def project_each(
    layer: Layer,
    x: Float[Tensor, "stream row pos d_model"],
    streams: Sequence[int],
    readers: Sequence[Reader],
) -> list[Float[Tensor, "row pos d_head"]]:
    """The query, key or value of one head each, of the stream that each of them reads."""
    normed = layer.ln1(x.flatten(0, 1)).view(x.shape)
    found = []
    for number, reader in zip(streams, readers, strict=True):
        assert reader.head is not None
        linear = layer.projections[HEADS.index(reader.kind)]
        size = linear.weight.shape[0] // layer.heads
        rows = slice(reader.head * size, (reader.head + 1) * size)
        bias = None if linear.bias is None else linear.bias[rows]
        found.append(F.linear(normed[number], linear.weight[rows], bias))
    return found


def attend_at(
    q: Float[Tensor, "row pos head d_head"],
    k: Float[Tensor, "row pos head d_head"],
    v: Float[Tensor, "row pos head d_head"],
    at: list[int],
) -> Float[Tensor, "row some head d_head"]:
    """What heads read out at some positions."""
    q = q if len(at) == q.shape[1] else q[:, at]
    return attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), at).transpose(1, 2)


def read_out(
    layer: Layer, x: Float[Tensor, "row pos d_model"], at: list[int]
) -> Float[Tensor, "row some head d_head"]:
    """What each head reads out of a stream at some positions."""
    if len(at) == x.shape[1]:
        return attend_at(**read_heads(layer, x), at=at)
    normed = layer.ln1(x)
    (q,) = layer.split(layer.projections[0](normed[:, at].contiguous()), 1)
    if layer.folds(len(at), normed):
        return layer.read_folded(normed, q, at)
    k, v = layer.split(layer.kv(normed), 2)
    return attend(q, k, v, at).transpose(1, 2)


def apply_mlp(layer: Layer, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
    """What the MLP makes of what it reads."""
    rows = x.reshape(-1, x.shape[-1])
    return torch.cat([layer.mlp(layer.ln2(some[None]))[0] for some in rows.split(ROWS)]).view(
        x.shape
    )


def part_changes(
    layer: Layer,
    stream: Float[Tensor, "batch pos d_model"],
    deltas: Float[Tensor, "change batch pos d_model"],
    clean: Mapping[str, Float[Tensor, "batch pos ..."]],
) -> dict[str, Float[Tensor, "change batch pos ..."]]:
    """What changes of the stream change in what parts make of it, at the positions that change.

    Args:
        stream: what the parts read.
        clean: what they made of it: q, k and v; or mlp.
    """
    found = {kind: value.new_zeros(len(deltas), *value.shape) for kind, value in clean.items()}
    for number, delta in enumerate(deltas):
        moved = (delta != 0).any(dim=-1)
        x = (stream + delta)[moved]
        if not len(x):
            continue
        if "mlp" in clean:
            found["mlp"][number][moved] = apply_mlp(layer, x) - clean["mlp"][moved]
            continue
        for kind, value in read_heads(layer, x[None]).items():
            if kind in clean:
                found[kind][number][moved] = value[0] - clean[kind][moved]
    return found
