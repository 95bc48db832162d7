"""What do a model's parts write on many texts, in one run of them?

    found = read_texts(run, tokens)      # run: of a few texts, taken apart, which shows the parts
    found.written                        # [batch writer pos d_model]

The parts are known from the run that was taken apart; here they are only looked at, and checked to
sum to the stream.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.circuits.contributions import SummedRun, embedded
from interp.circuits.reading import LAYOUT
from interp.circuits.rounding import agree
from interp.errors import UsageError
from interp.logits import logits_of
from interp.metrics import Metric
from interp.sweeps.by_block.path import hooked
from interp.sweeps.speed.scoring import is_per_example

HELD = 2**28  # bytes of what the writers of texts that are read together write


@dataclass(frozen=True)
class TextsRun:
    """One run of some texts.

    Args:
        entering: the residual stream before each layer, and behind the last.
        attn: what each layer's attention adds, by its number.
        written: what each writer adds.
        logits: of the run.
    """

    entering: list[Float[Tensor, "batch pos d_model"]]
    attn: dict[int, Float[Tensor, "batch pos d_model"]]
    written: Float[Tensor, "batch writer pos d_model"]
    logits: Float[Tensor, "batch pos vocab"]


@torch.no_grad()
def read_texts(run: SummedRun, tokens: Int[Tensor, "batch pos"]) -> TextsRun:
    """What each part writes on some texts.

    Args:
        run: of the same model, on others.

    Raises:
        UsageError: the parts do not sum to the stream.
    """
    blocks, graph = run.blocks, run.graph
    found: dict[tuple[int, str], Tensor] = {}

    def noting(layer: int, kind: str) -> Callable[..., None]:
        axes = blocks.axes(layer, kind)
        order = [axes.index(axis) for axis in LAYOUT if axis in axes]

        def note(value: Tensor, hook: HookPoint) -> None:
            found[layer, kind] = value.permute(order).clone()

        return note

    seen = [
        (point, noting(layer, kind))
        for layer, points in enumerate(blocks.points)
        for kind, point in points.items()
        if kind in ("attn", "mlp") or (kind == "z" and run.maps[layer] is not None)
    ]
    with hooked(blocks.model, seen):
        made = blocks.blocks.run(tokens)
    entering = [*made.entering, made.last]
    written = torch.empty(
        (len(tokens), len(graph.writers), *entering[0].shape[1:]),
        dtype=entering[0].dtype,
        device=entering[0].device,
    )
    number = 0

    def write(values: Float[Tensor, "batch some pos d_model"]) -> None:
        nonlocal number
        written[:, number : number + values.shape[1]] = values
        number += values.shape[1]

    for value in embedded(blocks.model, tokens, entering[0], graph.split_embed).values():
        write(value[:, None])
    for layer, W_O in enumerate(run.maps):
        total = entering[layer]
        if (layer, "attn") in found:
            attn, total = found[layer, "attn"], total + found[layer, "attn"]
            if W_O is None:
                write(attn[:, None])
            else:
                write(torch.einsum("bphd,hdm->bhpm", found[layer, "z"], W_O))
        if (layer, "mlp") in found:
            total = total + found[layer, "mlp"]
            write(found[layer, "mlp"][:, None])
        if not agree(total, entering[layer + 1]):
            raise UsageError(
                f"layer {layer} of this model does not add what its attention and its MLP give to "
                "the residual stream on all of these texts, so that there are no edges between its "
                "parts"
            )
    kept = {layer: value for (layer, kind), value in found.items() if kind == "attn"}
    return TextsRun(entering, kept, written, logits_of(made.logits, tokens))


def texts_in_parts(
    run: SummedRun, metric: Metric, texts: int, first: Callable[[slice], tuple[Tensor, Tensor]]
) -> Iterator[slice]:
    """Parts of some texts that are read together; all of them where the metric of one text depends
    on the others.

    Args:
        run: of the model.
        texts: how many there are.
        first: from a part of them to their logits and the metric's tokens.
    """
    one = run.blocks.last[:1].nbytes * len(run.graph.writers)
    size = max(2, HELD // one)
    if size < texts and not looks_at_each_alone(metric, *first(slice(0, size))):
        size = texts
    return (slice(begin, begin + size) for begin in range(0, texts, size))


def looks_at_each_alone(metric: Metric, logits: Tensor, tokens: Tensor) -> bool:
    """Whether a metric gives a text the same number whatever stands beside it."""
    try:
        return is_per_example(metric, logits, tokens, list(range(tokens.shape[1])))
    except Exception:  # whatever a metric raises over fewer texts, it needs them all
        return False
