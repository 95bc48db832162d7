"""Can what is asked of writing be meant? Seen before the first token is drawn."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from interp.errors import InterventionError, UsageError
from interp.interventions import Mean, Steer, Zero
from interp.places import Intervention

COLDEST = 1e-6  # dividing logits by less can exceed what single precision holds


def check_numbers(tokens: Any, seeds: Any, temperature: Any, top_k: Any) -> None:
    """Raise ``UsageError`` where a number cannot be meant."""
    if not is_number_of(tokens, 1):
        raise UsageError(f"tokens is {tokens!r}; it must be how many to write, at least 1")
    listed = list(seeds) if isinstance(seeds, Sequence | range) else []
    if not listed or not all(is_number_of(seed, -math.inf) for seed in listed):
        raise UsageError(f"seeds is {seeds!r}; it must be whole numbers, such as (0, 1, 2)")
    if len(set(listed)) < len(listed):
        raise UsageError(f"seeds is {seeds!r}; each may be there once, for it writes one text")
    if not isinstance(temperature, float | int | np.floating) or not (
        temperature == 0 or COLDEST <= temperature < math.inf
    ):
        raise UsageError(
            f"temperature is {temperature!r}; it must be a finite number of at least {COLDEST:g}, "
            "or 0 for the likeliest token"
        )
    if top_k is not None and not is_number_of(top_k, 1):
        raise UsageError(f"top_k is {top_k!r}; it must be at least 1, or None to draw from all")


def is_number_of(value: Any, least: float | int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_interventions(changes: Mapping[Any, Any], longest: int, context: int | None) -> None:
    """Raise ``InterventionError`` for what has no meaning while a text grows."""
    for key, what in changes.items():
        if isinstance(what, Intervention) and what.examples is not None:
            raise InterventionError(
                f"{type(what).__name__} on {key} is about some examples of a batch, and a sample "
                "is written by itself: leave examples out, and write the prompts that are meant"
            )
        slides = context is not None and longest - 1 > context
        if slides and "pos=" in str(key) and "pos=-" not in str(key):
            raise InterventionError(
                f"{key} is another token once the text is longer than the {context} tokens that "
                "the model reads at once: write fewer, or leave pos out"
            )


def is_by_position(what: Any) -> bool:
    """Whether what an intervention puts at one token of one text is the same whatever stands
    beside it, so that texts can be written side by side."""
    if isinstance(what, Mean):
        return what.positions == "all"
    return isinstance(what, Zero) or (isinstance(what, Steer) and what.vector.ndim <= 1)
