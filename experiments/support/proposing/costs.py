"""What does a model cost: parameters, operations, seconds, and, as an estimate, energy?"""

import time
from typing import Any

import torch

from experiments.support.proposing.data import Rows
from experiments.support.trained import TrainedSubject
from interp.surgery.judging import logits_in

UNKNOWN_TRAINING = "not known: the model came trained"
REPEATS = 3


def cost_rows(subject: TrainedSubject, recipe: dict[str, Any] | None, watts: float) -> Rows:
    """``model``, ``training`` and ``reading``.

    Operations by the common count of two for each parameter and token forwards, and four backwards
    (Kaplan et al. 2020), without attention's own.

    Args:
        recipe: how it was trained, ``steps batch_size``; None where that is not known.
        watts: what the machine is assumed to draw; nothing here measures it.
    """
    parameters = sum(weight.numel() for weight in subject.inner.parameters())
    tokens = subject.examples(min(8, subject.texts))
    seconds = seconds_of_reading(subject, tokens)
    rate = tokens.numel() / seconds
    rows: Rows = {
        "model": {"parameters": parameters, "context": subject.context},
        "reading": {
            "tokens_per_second": float(rate),
            "operations_per_token": 2 * parameters,
            "device": str(subject.config.get("device", "cpu")),
        },
    }
    if recipe is None:
        rows["training"] = dict.fromkeys(
            ("tokens", "operations", "seconds", "energy"), UNKNOWN_TRAINING
        )
        return rows
    read = int(recipe["steps"]) * int(recipe["batch_size"]) * subject.context
    wanted = 3 * read / rate  # forwards and backwards, at the rate of reading
    rows["training"] = {
        "tokens": read,
        "operations": float(6 * parameters * read),
        "seconds": f"about {wanted:.0f}, from how fast this machine reads",
        "energy": f"about {wanted * watts / 3600:.2g} Wh, an estimate: {watts:g} W were assumed, "
        "nothing was measured",
    }
    return rows


def seconds_of_reading(subject: TrainedSubject, tokens: torch.Tensor) -> float:
    """The least of some runs: the others were disturbed."""
    found = []
    with torch.no_grad():
        for _ in range(REPEATS):
            begun = time.perf_counter()
            logits_in(subject.model(tokens))
            found.append(time.perf_counter() - begun)
    return min(found)
