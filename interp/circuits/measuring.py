"""What does each of many patches with known values give?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.circuits.pairs import RunPair
from interp.errors import InterventionError
from interp.metrics import Metric
from interp.places import Intervention, Place
from interp.site import Site
from interp.sweep import effects_of, plan

HELD = 2**28  # bytes of patches that are made before they are run


@dataclass(frozen=True)
class Measured:
    """What patches gave, one row each.

    Args:
        changed: how many numbers each of them changed.
        skipped: which change nothing that the metric reads.
    """

    values: Float[np.ndarray, "patch batch"]
    baseline: Float[np.ndarray, "batch"]
    changed: np.ndarray
    skipped: np.ndarray


@dataclass(frozen=True, eq=False)
class PatchEdge(Intervention):
    """Changes what a reader makes of the residual stream, as another value of one edge would.

    Args:
        edge: as it is written.
        change: what is added, of the part's shape.

    In a run it raises:
        InterventionError: a run of other texts.
    """

    edge: str
    change: Tensor = field(repr=False)

    def __str__(self) -> str:
        return f"PatchEdge({self.edge})"

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        if self.change.shape != value.shape:
            raise InterventionError(
                f"the patch of {self.edge} is {list(self.change.shape)}, and {place.site} is "
                f"{list(value.shape)} in this run: patch the texts that it was made for"
            )
        return value + self.change.to(value)


Patched = tuple[Site, PatchEdge]


def measure_patches(
    pair: RunPair, patches: Iterator[tuple[int, Patched]], metric: Metric, options: dict[str, Any]
) -> Measured:
    """Patches, by their number, as sweeps of as many as are held at a time."""
    values: dict[int, np.ndarray] = {}
    changed: dict[int, int] = {}
    skipped: dict[int, bool] = {}
    baseline = np.zeros(0)
    waiting: dict[int, Patched] = {}
    held = 0

    def sweep_waiting() -> None:
        nonlocal baseline, held
        found = effects_of(
            *(pair.model, pair.tokens, list(waiting.values()), metric),
            metric_tokens=pair.metric_tokens,
            allow_no_effect=True,
            **options,
        )
        values.update(zip(waiting, found.values, strict=True))
        changed.update(zip(waiting, found.changed, strict=True))
        skipped.update(zip(waiting, found.skipped, strict=True))
        baseline = found.baseline
        waiting.clear()
        held = 0

    for number, question in patches:
        waiting[number] = question
        held += question[1].change.nbytes
        if held > HELD:
            sweep_waiting()
    if waiting:
        sweep_waiting()
    order = range(len(values))
    return Measured(
        np.stack([values[number] for number in order]),
        baseline,
        np.array([changed[number] for number in order]),
        np.array([skipped[number] for number in order]),
    )


def end_site(pair: RunPair, metric: Metric) -> Site:
    """The stream that the logits are made of; one position of it, where the metric reads no other
    and every head's share can be told there."""
    nothing = torch.zeros_like(pair.patched.blocks.last)
    found = plan(
        *(pair.model, pair.tokens, [(Site(pair.end), PatchEdge("none", nothing))], metric),
        metric_tokens=pair.metric_tokens,
    )
    reads = list(found.reads or [])
    alone = len(reads) == 1 and all(parts.apart for parts in pair.graph.layers)
    return Site(pair.end, pos=reads[0] if alone else None)
