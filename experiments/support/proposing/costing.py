"""What does a model cost: parameters, operations, seconds, and, as an estimate, energy?

Operations by Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 1 and section
2.1: a token costs

    2 N + 2 n_layer n_ctx n_embd

forwards, where N are the parameters that are multiplied with something. Each of them is one
multiplication and one addition; the second term is attention, half of the context on average for
each query, as often in the products with keys and with values. Backwards costs twice as much, so
that a token of training costs three times as many. Embeddings are looked up, not multiplied, unless
the output uses the same weights; norms, biases and activations are not told apart, and cost little.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from experiments.support.trained import TrainedSubject
from gpt.text import batch
from interp.surgery.judging import logits_in

REPEATS = 5
JOULES_PER_WH = 3600
BACKWARDS = 2  # times the operations of forwards
SIZES = (("n_layer", "n_embd"), ("num_hidden_layers", "hidden_size"))


def multiplied_parameters(model: nn.Module) -> int:
    """Parameters without those that are only looked up: embeddings that no other module shares."""
    looked_up = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    shared = {
        id(weight)
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
    }
    only = looked_up - shared
    return sum(weight.numel() for weight in model.parameters() if id(weight) not in only)


def operations_of_token(parameters: int, layers: int, context: int, width: int) -> int:
    """Forwards, of one token; see the module's docstring for the formula and its source."""
    return 2 * parameters + 2 * layers * context * width


def size_of_layers(model: nn.Module) -> tuple[int, int] | None:
    """Layers and width, as the configuration names them; None where it does not."""
    config = getattr(model, "config", None) or getattr(model, "cfg", None)
    for layers, width in SIZES:
        found = getattr(config, layers, None), getattr(config, width, None)
        if isinstance(found[0], int) and isinstance(found[1], int):
            return found[0], found[1]
    return None


def cost_table(
    subject: TrainedSubject, watts: float, recipe: Mapping[str, Any] | None
) -> pd.DataFrame:
    """``what value unit how``; a value is missing where it is not known, and ``how`` says why, or
    how it came about.

    Args:
        watts: what the machine is assumed to draw.
        recipe: how it was trained, with ``steps`` and ``batch_size``; None where that is not known.
    """
    model = subject.inner
    parameters = sum(weight.numel() for weight in model.parameters())
    multiplied, size = multiplied_parameters(model), size_of_layers(model)
    layers, width = size or (0, 0)
    token = operations_of_token(multiplied, layers, subject.context, width)
    formula = "2 N + 2 n_layer n_ctx n_embd" if size else "2 N; its layers are not known"
    reading = seconds_of_reading(subject)
    rows: list[tuple[str, float, str, str]] = [
        ("parameters", parameters, "", "counted"),
        ("multiplied parameters", multiplied, "", "without embeddings that are only looked up"),
        ("a token", token, "operations", f"{formula} (Kaplan et al. 2020)"),
        (
            "reading a token",
            reading,
            "seconds",
            f"measured on this machine ({subject.config.get('device', 'cpu')})",
        ),
    ]
    if recipe is None or not {"steps", "batch_size"} <= recipe.keys():
        unknown = "not known: it was trained elsewhere"
        rows += [
            (what, float("nan"), unit, unknown)
            for what, unit in (
                ("tokens of training", ""),
                ("training", "operations"),
                ("time of training", "seconds"),
                ("energy of training", "Wh"),
            )
        ]
        return pd.DataFrame(rows, columns=["what", "value", "unit", "how"])
    steps, blocks = int(recipe["steps"]), int(recipe["batch_size"])
    read = steps * blocks * subject.context
    step = seconds_of_step(subject, blocks)
    seconds = step * steps
    rows += [
        ("tokens of training", read, "", f"{steps} steps of {blocks} blocks of {subject.context}"),
        ("training", (1 + BACKWARDS) * token * read, "operations", "3 times a token, forwards"),
        ("time of training", seconds, "seconds", f"a step was measured here, {steps} of them"),
        (
            "energy of training",
            seconds * watts / JOULES_PER_WH,
            "Wh",
            f"ESTIMATE: {watts:g} W were assumed for that time; nothing was measured",
        ),
    ]
    return pd.DataFrame(rows, columns=["what", "value", "unit", "how"]).astype({"value": float})


def middle_seconds(repeat: Any, subject: TrainedSubject) -> float:
    """The median time of some calls, after one that is not counted."""
    found = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        repeat()
        if subject.data.val.is_cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return sorted(found[1:])[REPEATS // 2]


def seconds_of_reading(subject: TrainedSubject) -> float:
    """Seconds for each token of a text that is as long as the model reads at once."""
    text = subject.examples(1)

    def read() -> None:
        with torch.no_grad():
            subject.inner(text)

    return middle_seconds(read, subject) / text.numel()


def seconds_of_step(subject: TrainedSubject, blocks: int) -> float:
    """Seconds of a step of training, on a copy of the model."""
    model = deepcopy(subject.inner).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens, targets = batch(
        subject.data.train, batch_size=blocks, block_size=subject.context, seed=0, step=0
    )

    def take_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = logits_in(model(tokens))
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step()

    return middle_seconds(take_step, subject)
