"""Did an intervention happen, and how much did it change?

The receipt of a block counts, per intervention, how often it fired and what it changed, and raises
where the answer is not at all.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from interp.errors import NoEffectError, NonFiniteError
from interp.sites import Site


@dataclass
class Effect:
    """What one intervention did.

    Args:
        key: the site or glob as it was given.
        intervention: the intervention, in words.
        sites: the sites that it matched.
    """

    key: str
    intervention: str
    sites: list[Site]

    def __post_init__(self) -> None:
        self._fired = dict.fromkeys((site.hook for site in self.sites), 0)
        self._seen = 0
        self._tallies: list[
            tuple[Tensor, ...]
        ] = []  # added up when read: no waiting for the device

    @property
    def fired(self) -> int:
        """How many times, over all its sites."""
        return sum(self._fired.values())

    @property
    def missed(self) -> list[str]:
        """The hook points that no run came past."""
        return [hook for hook, count in self._fired.items() if count == 0]

    @property
    def elements(self) -> int:
        """The numbers that it was about, over all firings."""
        return self._seen

    @property
    def changed(self) -> int:
        """Those that it gave another value."""
        return sum(int(changed) for changed, *_ in self._tallies)

    @property
    def broken(self) -> int:
        """Those that it made NaN or infinite."""
        return sum(int(broken) for _, broken, *_ in self._tallies)

    @property
    def relative_norm(self) -> float:
        """The norm of the change relative to the norm of the part's value before."""
        change = math.hypot(*(float(norm) for _, _, norm, _ in self._tallies))
        before = math.hypot(*(float(norm) for *_, norm in self._tallies))
        return change / before if before else math.inf if change else 0.0

    def note(self, hook: str, before: Tensor, after: Tensor, finite: bool) -> None:
        """Count one firing.

        Args:
            hook: the hook point that fired.
            before: the part's value.
            after: its new value.
            finite: whether infinities are wrong here, as they are but in attention scores.
        """
        with torch.no_grad():
            differs = after != before
            change = torch.where(differs, after - before, 0.0)
            broken = ~after.isfinite() if finite else after.isnan()
            self._tallies.append(
                (
                    differs.sum(),
                    (broken & before.isfinite()).sum(),
                    torch.linalg.vector_norm(change.float()),
                    torch.linalg.vector_norm(before.where(before.isfinite(), 0.0).float()),
                )
            )
        self._fired[hook] += 1
        self._seen += before.numel()


class Receipt:
    """What every intervention of a block did, by its key; prints as a small table."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        self.effects = {effect.key: effect for effect in effects}

    def __getitem__(self, key: str | Site) -> Effect:
        return self.effects[str(key)]

    def __iter__(self) -> Iterator[Effect]:
        return iter(self.effects.values())

    def __len__(self) -> int:
        return len(self.effects)

    def table(self) -> pd.DataFrame:
        """One row per intervention."""
        return pd.DataFrame(
            {
                "site": [effect.key for effect in self],
                "intervention": [effect.intervention for effect in self],
                "sites": [len(effect.sites) for effect in self],
                "fired": [effect.fired for effect in self],
                "elements": [effect.elements for effect in self],
                "changed": [effect.changed for effect in self],
                "relative_norm": [effect.relative_norm for effect in self],
            }
        )

    def __str__(self) -> str:
        return self.table().to_string(index=False, float_format="{:.3f}".format)

    def check(self, allow_no_effect: bool) -> None:
        """Raise what ``intervene`` promises to raise at the end of its block.

        Raises:
            NoEffectError: an intervention never fired, or changed nothing, and that is not allowed.
            NonFiniteError: one made a NaN or an infinity.
        """
        for effect in self:
            if effect.broken:
                raise NonFiniteError(
                    f"{effect.intervention} on {effect.key} made {effect.broken} of "
                    f"{effect.elements} values NaN or infinite"
                )
            if allow_no_effect:
                continue
            if effect.missed:
                shown = ", ".join(effect.missed[:3]) + (", ..." if len(effect.missed) > 3 else "")
                raise NoEffectError(
                    f"{effect.intervention} never fired at {shown}: no run inside the block came "
                    "past there"
                )
            if not effect.changed:
                raise NoEffectError(
                    f"{effect.intervention} on {effect.key} fired {effect.fired} times and changed "
                    "nothing: the values were already so (allow_no_effect=True lets that pass)"
                )
