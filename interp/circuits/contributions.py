"""What does each part of a model add to the residual stream?

    run = take_apart(model, tokens)
    run.written[run.graph.writer("a1.h2")]      # [batch pos d_model]

What the parts add is seen, not read off weights: a head's share is what attention's output becomes
when all other heads read out nothing. The sum is checked against the stream of the run itself, so
that a model whose stream is no such sum is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.caching import cache
from interp.circuits.graph import Graph, LayerParts, Writer
from interp.circuits.reading import BlockReader
from interp.circuits.rounding import agree
from interp.errors import UsageError
from interp.site import Model

EMBEDDINGS: Mapping[str, str] = {"embed": "hook_embed", "pos_embed": "hook_pos_embed"}


@dataclass(frozen=True)
class SummedRun:
    """One run of a model, as a sum of what its parts write.

    Args:
        graph: of the model.
        blocks: the model's layers on these texts.
        maps: for each layer, what a head adds for what it reads out; None where there are no heads,
            or they cannot be told apart.
        written: what each writer adds to the residual stream.
    """

    graph: Graph
    blocks: BlockReader
    maps: tuple[Float[Tensor, "head d_head d_model"] | None, ...]
    written: Mapping[Writer, Float[Tensor, "batch pos d_model"]]


def take_apart(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    *,
    split_embed: bool = False,
    like: SummedRun | None = None,
) -> SummedRun:
    """A run of a model, as a sum of what its parts write.

    Args:
        model: our GPT, TransformerLens' bridge, or a view by ``hook_lines``.
        tokens: the texts.
        split_embed: the position embedding as a writer of its own.
        like: another run of the same model, whose maps are the same.

    Raises:
        UsageError: the layers cannot be run alone, do not name their parts, or the parts do not sum
            to the stream.
    """
    blocks = BlockReader(model, tokens)
    if like is None:
        maps = tuple(output_map(blocks, layer) for layer in range(len(blocks)))
        graph = Graph(
            tuple(
                layer_parts(blocks, layer, maps[layer] is not None) for layer in range(len(blocks))
            ),
            split_embed,
        )
    else:
        maps, graph = like.maps, like.graph
    written = embedded(model, tokens, blocks.entering[0], split_embed)
    for layer, parts in enumerate(graph.layers):
        values, W_O = blocks.values[layer], maps[layer]
        for writer in graph.attention_writers(layer):
            if writer.head is None or W_O is None:
                written[writer] = values["attn"]
            else:
                written[writer] = values["z"][:, :, writer.head] @ W_O[writer.head]
        if parts.mlp:
            written[Writer("mlp", layer)] = values["mlp"]
        check_sum(blocks, layer)
    return SummedRun(graph, blocks, maps, written)


def embedded(
    model: Model, tokens: Tensor, stream: Tensor, split_embed: bool
) -> dict[Writer, Tensor]:
    """What the embeddings write, together or apart.

    Raises:
        UsageError: they do not sum to what enters the first layer.
    """
    if not split_embed:
        return {Writer("embed"): stream}
    if missing := [name for name in EMBEDDINGS.values() if name not in model.hook_dict]:
        raise UsageError(
            f"split_embed=True needs the hook point {missing[0]}, which this model does not have: "
            "it adds no position embedding to the stream, or none that was found"
        )
    kept = cache(model, tokens, list(EMBEDDINGS.values()))
    found = {
        Writer("embed"): kept["hook_embed"].expand(stream.shape),
        Writer("pos_embed"): kept["hook_pos_embed"].expand(stream.shape),
    }
    if not agree(sum(found.values(), torch.zeros_like(stream)), stream):
        raise UsageError(
            "split_embed=True: the token and the position embedding do not sum to what enters the "
            "first layer of this model; take them as one writer"
        )
    return found


def layer_parts(blocks: BlockReader, layer: int, apart: bool) -> LayerParts:
    """What one layer has, as its values show."""
    values = blocks.values[layer]
    mlp = "mlp" in values
    parallel = mlp and blocks.is_parallel(layer)
    if "attn" not in values:
        return LayerParts(0, 0, mlp, parallel)
    if lacking := [kind for kind in ("q", "k", "v", "z") if kind not in values]:
        raise UsageError(
            f"edges need the queries, keys, values and read-outs of every head, and layer {layer} "
            f"of this model has no hook point blocks.{layer}.attn.hook_{lacking[0]}: take what the "
            'layer adds as a whole, by interp.patch(..., component="attn_out")'
        )
    heads, shared = values["q"].shape[2], values["k"].shape[2]
    return LayerParts(heads, shared, mlp, parallel, apart)


def output_map(blocks: BlockReader, layer: int) -> Float[Tensor, "head d_head d_model"] | None:
    """What attention's output becomes for each number that a head reads out.

    Seen by letting the heads read out one number after the other, and nothing; where the model
    shows a map, by letting them read out noise. None where there are no heads, or what they write
    is no sum over them, as where a norm follows their sum.
    """
    values = blocks.values[layer]
    if "z" not in values or "attn" not in values:
        return None
    batch, length, heads, d_head = values["z"].shape
    x, everyone = blocks.entering[layer], torch.arange(batch)

    def attention(z: Tensor) -> Tensor:
        return blocks.call(layer, x, everyone, ["attn"], setting={"z": z})["attn"]

    nothing = attention(torch.zeros_like(values["z"]))
    if blocks.shown is not None:
        shown = blocks.shown[layer].W_O
        noise = torch.randn(values["z"].shape, generator=torch.Generator().manual_seed(layer)).to(x)
        made = torch.einsum("bphd,hdm->bpm", noise, shown)
        if agree(attention(noise) - nothing, made):
            return shown
    numbers = torch.eye(heads * d_head, dtype=x.dtype, device=x.device)
    rows = []
    for part in numbers.split(batch * length):
        padded = torch.zeros(batch * length, heads * d_head, dtype=x.dtype, device=x.device)
        padded[: len(part)] = part
        read = attention(padded.view(batch, length, heads, d_head)) - nothing
        rows.append(read.flatten(0, 1)[: len(part)])
    found = torch.cat(rows).view(heads, d_head, -1)
    summed = torch.einsum("bphd,hdm->bpm", values["z"], found) + nothing
    return found if agree(summed, values["attn"]) else None


def check_sum(blocks: BlockReader, layer: int) -> None:
    """Raises ``UsageError`` where a layer does not add its parts to the stream."""
    values, total = blocks.values[layer], blocks.entering[layer]
    for kind in ("attn", "mlp"):
        if kind in values:
            total = total + values[kind]
    if not agree(total, blocks.after(layer)):
        raise UsageError(
            f"layer {layer} of this model does not add what its attention and its MLP give to the "
            "residual stream it was handed, as where a norm follows the sum or a factor scales "
            "them, so that there are no edges between its parts: take the stream, by "
            'interp.patch(..., component="resid_pre")'
        )
