"""Did an intervention happen, and how much did it change?

The receipt of a block counts, per intervention, how often it fired and what it changed, and raises
where the answer is not at all.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.display import table_html
from interp.errors import InterventionError, NoEffectError, NonFiniteError, nearest
from interp.masks import LOWEST
from interp.places import Place
from interp.site import Site


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
        # added up when read: no waiting for the device
        self._tallies: list[tuple[Tensor, ...]] = []

    @property
    def fired(self) -> int:
        """How many times, over all its sites."""
        return sum(self._fired.values())

    def fired_at(self, hook: str) -> int:
        """How many times at one of its hook points."""
        return self._fired[hook]

    @property
    def missed(self) -> list[str]:
        """The hook points that no run reached."""
        return [hook for hook, count in self._fired.items() if count == 0]

    @property
    def elements(self) -> int:
        """The numbers that it was about, over all firings; those of a mask are none."""
        return sum(int(seen) for seen, *_ in self._tallies)

    @property
    def changed(self) -> int:
        """Those that it gave another value."""
        return sum(int(changed) for _, changed, *_ in self._tallies)

    @property
    def broken(self) -> int:
        """Those that it made NaN or infinite; of attention scores, minus infinity is allowed, but
        not for every key of a query."""
        return sum(int(broken) for _, _, broken, *_ in self._tallies)

    @property
    def relative_norm(self) -> float:
        """The norm of the change relative to the norm of the part's value before."""
        change = math.hypot(*(float(norm) for *_, norm, _ in self._tallies))
        before = math.hypot(*(float(norm) for *_, norm in self._tallies))
        return change / before if before else math.inf if change else 0.0

    def note(self, place: Place, before: Tensor, after: Tensor) -> None:
        """Count one firing.

        Args:
            place: of the part.
            before: the hook point's whole value.
            after: its new value.
        """
        with torch.no_grad():
            old, new = before[place.index], after[place.index]
            visible = None if place.masked is None else ~place.masked[place.index]
            differs = new != old
            change = torch.where(differs, new - old, 0.0)
            broken = broken_scores(old, new) if place.is_scores else ~new.isfinite()
            counted = old.isfinite() if visible is None else visible & old.isfinite()
            self._tallies.append(
                (
                    torch.tensor(old.numel()) if visible is None else visible.sum(),
                    differs.sum(),
                    (broken & old.isfinite()).sum(),
                    torch.linalg.vector_norm(change.where(change.isfinite(), 0.0).float()),
                    torch.linalg.vector_norm(old.where(counted, 0.0).float()),
                )
            )
        self._fired[place.site.hook] += 1


def broken_scores(
    old: Float[Tensor, "batch head pos key"], new: Float[Tensor, "batch head pos key"]
) -> Bool[Tensor, "batch head pos key"]:
    """Scores of which no softmax can be taken: NaN, infinity, or no key left that a query sees."""
    blind = (new <= LOWEST).all(dim=-1, keepdim=True) & (old > LOWEST).any(dim=-1, keepdim=True)
    return new.isnan() | (new == torch.inf) | (blind & (new != old))


class Receipt:
    """What every intervention of a block did, by its key; prints as a small table."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        self.effects = list(effects)

    def __getitem__(self, key: str | Site) -> Effect:
        found = [effect for effect in self if effect.key == str(key)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InterventionError(
                f"{len(found)} interventions of this block are on {key}: go through the receipt, "
                "which holds them in the order given"
            )
        known = [effect.key for effect in self]
        raise InterventionError(
            f"no intervention of this block is on {key}; nearest: {nearest(str(key), known)}"
        )

    def __iter__(self) -> Iterator[Effect]:
        return iter(self.effects)

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

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return table_html(self.table())

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
                    "past there (runs of other threads do not count)"
                )
            if not effect.changed:
                raise NoEffectError(
                    f"{effect.intervention} on {effect.key} fired {effect.fired} times and changed "
                    "nothing: the values were already so (allow_no_effect=True lets that pass)"
                )
