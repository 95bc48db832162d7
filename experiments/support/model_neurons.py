"""What makes a neuron of any model fire, and what does the loss say without it?

    require_neurons(subject, layer)
    fired = activations_of(subject.model, layer, tokens)
    texts = texts_of_neurons(subject, layer, neurons, fired, tokens)
    effects = effects_of_neurons(subject, layer, neurons, tokens, reference, run)

A neuron is one number of what the feed-forward layer's output matrix reads: the activation, of a
gated layer times its gate.
"""

from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from interp.caching import cache
from interp.interventions import Mean
from interp.metrics import loss
from interp.runs import Run
from interp.site import Model, Site, sites
from interp.sweep import sweep

HOOK = "blocks.{}.mlp.hook_post"
BATCH = 16  # texts at once
BEFORE, AFTER = 9, 2  # tokens around the one at which a neuron is most active
TEXTS = 6  # of each neuron


def require_neurons(subject: TrainedSubject, layer: int) -> None:
    """Raises ``UsageError`` where a model has no such layer, or shows no neurons in it."""
    points = subject.model.hook_dict
    layers = [number for number in range(len(points)) if HOOK.format(number) in points]
    if layer not in layers:
        name = subject.config["named"]
        raise UsageError(
            f"--layer is {layer}; {name} shows neurons in layers {told_layers(layers)}"
            if layers
            else f"{name} shows no feed-forward neurons: no value of it is both what one linear "
            "map of a block makes and what the next reads"
        )


def told_layers(layers: list[int]) -> str:
    """``0 to 5``, or one by one where some between are missing."""
    if layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 1:
        return f"{layers[0]} to {layers[-1]}"
    return ", ".join(map(str, layers))


@torch.no_grad()
def activations_of(
    model: Model, layer: int, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos d_mlp"]:
    """What all neurons of a layer are on texts, in float32 and on the CPU."""
    hook = HOOK.format(layer)
    kept = [cache(model, part, hook)[hook] for part in tokens.split(BATCH)]
    return torch.cat([part.float().cpu() for part in kept])


def choose_neurons(
    fired: Float[Tensor, "batch pos d_mlp"], wanted: tuple[int, ...], count: int
) -> tuple[int, ...]:
    """The neurons asked for, else those whose activation is ever the farthest from zero.

    Raises:
        UsageError: the layer has no such neuron.
    """
    neurons = fired.shape[-1]
    if wrong := [number for number in wanted if not 0 <= number < neurons]:
        raise UsageError(f"--neuron is {wrong[0]}; a layer has 0 to {neurons - 1}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    return tuple(fired.abs().amax(dim=(0, 1)).topk(min(count, neurons)).indices.tolist())


def texts_of_neurons(
    subject: TrainedSubject,
    layer: int,
    neurons: tuple[int, ...],
    fired: Float[Tensor, "batch pos d_mlp"],
    tokens: Int[Tensor, "batch pos"],
) -> pd.DataFrame:
    """Where each neuron is farthest from zero, once in a text: a row for each token around there,
    with ``site rank pos character activation top``; what stands for a character is a token."""
    rows = []
    for neuron in neurons:
        own = fired[..., neuron]
        best, where = own.abs().max(dim=1)
        for rank, text in enumerate(best.topk(min(TEXTS, len(best))).indices.tolist()):
            top = int(where[text])
            start, stop = max(0, top - BEFORE), min(own.shape[1], top + AFTER + 1)
            names = subject.tokenizer.names(tokens[text, start:stop].cpu())
            for pos, name in enumerate(names, start):
                rows.append(
                    {
                        "site": str(Site(HOOK.format(layer), neuron=neuron)),
                        "rank": rank,
                        "pos": pos,
                        "character": name,
                        "activation": own[text, pos].item(),
                        "top": pos == top,
                    }
                )
    return pd.DataFrame(rows)


def effects_of_neurons(
    subject: TrainedSubject,
    layer: int,
    neurons: tuple[int, ...],
    tokens: Int[Tensor, "batch pos"],
    reference: Int[Tensor, "batch pos"],
    run: Run,
) -> pd.DataFrame:
    """What the loss is with each neuron at its mean: a row for each, as ``sweep`` gives them."""
    hook = HOOK.format(layer)
    means = Mean(cache(subject.model, reference, hook))
    (whole,) = sites(subject.model, hook)
    cells = [(replace(whole, neuron=neuron), means) for neuron in neurons]
    return sweep(subject.model, tokens, cells, loss, run=run).assign(intervention="mean")
