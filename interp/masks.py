"""Which keys does a model not let its attention see?

A causal model hides later tokens, some hide what lies before a window, and a padded batch hides
padding. Masks are read off the attention scores, where a hidden key has minus infinity or a number
so low that no score has it: no number of a model's own is meant by it, and what is hidden must stay
hidden whatever is done to scores and patterns.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.site import Model, axes_of

# Masks are minus infinity, a dtype's lowest number, or -1e4 at least; no score of a model that
# works is near: its softmax would know nothing but 0 and 1.
LOWEST = -5e3
SCORES, PATTERN = "hook_attn_scores", "hook_pattern"


class Masks:
    """The masks of the run under way.

    Args:
        model: the model.
        names: the hook points that are intervened on.
    """

    def __init__(self, model: Model, names: Iterable[str]) -> None:
        self.scores: dict[str, Tensor] = {}
        points = model.hook_dict
        scores = {name.removesuffix(PATTERN) + SCORES for name in names if name.endswith(PATTERN)}
        self.pairs: list[tuple[HookPoint, Callable[..., Any]]] = [
            (points[name], self._noting(name)) for name in sorted(scores & points.keys())
        ]

    def _noting(self, name: str) -> Callable[..., None]:
        def note(value: Any, hook: HookPoint) -> None:
            if isinstance(value, Tensor):
                self.scores[name] = value.detach()

        return note

    def of(
        self, names: Sequence[str], value: Tensor
    ) -> Bool[Tensor, "batch *heads pos key"] | None:
        """The hidden keys in the value of a hook point of these names; None where it is
        no attention.

        By any name, and not by the field's alone: a line that drops out of a pattern makes one.
        """
        if value.ndim == 4 and any(name.endswith(SCORES) for name in names):
            return value <= LOWEST
        for name in names:
            if value.ndim == 4 and name.endswith(PATTERN):
                return hidden_in_pattern(
                    value, self.scores.pop(name.removesuffix(PATTERN) + SCORES, None)
                )
        if axes_of(names, value.ndim)[-2:] != ("pos", "key"):
            return None
        hidden = value <= LOWEST
        if hidden.any():
            return hidden
        if value.ndim == 4 and (value >= 0).all():
            return hidden_in_pattern(value, None)
        return future_of(value).expand(value.shape)


def hidden_in_pattern(
    pattern: Float[Tensor, "batch head pos key"],
    scores: Float[Tensor, "batch head pos key"] | None,
) -> Bool[Tensor, "batch head pos key"]:
    """The hidden keys of a pattern.

    A hidden key has no attention, but a key may have none because its score is too low: the scores
    tell the two apart. Where the model shows none, a key that no head looks at counts as hidden.
    """
    none = pattern == 0
    hidden = none & future_of(pattern)
    if scores is None or scores.shape != pattern.shape:
        return hidden | none.all(dim=1, keepdim=True)
    return hidden | (none & ((scores <= LOWEST) | (scores.float().softmax(dim=-1) != 0)))


def future_of(
    pattern: Float[Tensor, "batch *heads pos key"],
) -> Bool[Tensor, "pos key"]:
    """The keys after each query, where all of them are hidden; none otherwise."""
    queries, keys = pattern.shape[-2:]
    later = torch.ones(queries, keys, dtype=torch.bool, device=pattern.device)
    later = later.triu(1 + keys - queries)
    return later & (pattern[..., later] == 0).all()
