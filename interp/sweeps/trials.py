"""What is one question of a sweep, and what did it change?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from interp.errors import InterventionError, NonFiniteError, UsageError
from interp.interventions import intervention_of
from interp.masks import future_of
from interp.places import Intervention, Place, replacement
from interp.site import Model, Site, match, names_by_point

Interventions = Mapping[Any, Any] | Sequence[tuple[Any, Any]]


@dataclass(frozen=True)
class Trial:
    """One intervention, alone in the model.

    Args:
        key: the site or glob as it was given.
        sites: the sites that it means; a glob's are intervened on together.
        intervention: what happens there.
        names: every name of the first site's hook point.
    """

    key: str
    sites: tuple[Site, ...]
    intervention: Intervention
    names: tuple[str, ...]

    @property
    def site(self) -> Site:
        return self.sites[0]


@dataclass(frozen=True)
class Change:
    """What a trial adds to the clean value of its hook point.

    Args:
        index: the part of the value, each axis kept.
        values: new minus clean, of that part.
        elements: how many of the part's numbers changed.
        axis: which axis of the value is positions.
        opens: whether it lets a position see a later one, as a change of what a mask hides does.
        zeroes: whether the whole part becomes zero. Then it must be so to the last bit: a norm
            makes a number of ordinary size of what rounding leaves.
    """

    index: tuple[slice, ...]
    values: Tensor
    elements: int
    axis: int
    opens: bool = False
    zeroes: bool = False

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first position that changed in any example, and the one after the last."""
        others = [axis for axis in range(self.values.ndim) if axis != self.axis]
        where = (self.values != 0).any(dim=others).nonzero()
        if not len(where):
            return (0, 0)
        offset = self.index[self.axis].start or 0
        return (offset + int(where[0]), offset + int(where[-1]) + 1)


def trials_of(model: Model, interventions: Interventions) -> list[Trial]:
    """The trials of a sweep, one per entry.

    Raises:
        HookNameError: an entry that no hook point matches.
        UsageError: no entries.
    """
    entries = interventions.items() if isinstance(interventions, Mapping) else interventions
    names = names_by_point(model)
    trials = []
    for key, what in entries:
        matched = match(model, key)
        intervention = intervention_of(key, what)
        found = tuple(site for site, _ in matched)
        trials.append(Trial(str(key), found, intervention, names[matched[0][1]]))
    if not trials:
        raise UsageError("there is nothing to sweep: give at least one site and intervention")
    return trials


def change_of(trial: Trial, clean: Tensor, masked: Tensor | None = None) -> Change:
    """What a trial's intervention makes of the clean value of its hook point.

    Args:
        masked: of attention, the keys that the model hides; by default the future.

    Raises:
        InterventionError: it does not fit its site.
        NonFiniteError: it makes a NaN or an infinity.
    """
    if not clean.is_floating_point():
        raise InterventionError(f"{trial.site.hook} carries no activation that can be changed")
    place = Place(trial.site, trial.names, tuple(clean.shape))
    if masked is None and place.axes[-2:] == (
        "pos",
        "key",
    ):  # what is taken apart hides nothing else
        masked = future_of(clean).expand(clean.shape)
    place = replace(place, masked=masked)
    old, new = clean[place.index], replacement(trial.intervention, clean, place)
    if broken := int((~new.isfinite() & old.isfinite()).sum()):
        raise NonFiniteError(
            f"{trial.intervention} on {trial.key} made {broken} of {new.numel()} values NaN or "
            "infinite"
        )
    axis = place.axes.index("pos")
    difference = (new - old).where(new != old, 0)  # of minus infinities there is none
    change = Change(*(place.index, difference, int((new != old).sum()), axis), zeroes=not new.any())
    return replace(change, opens="key" in place.axes and sees_later(change, place))


def sees_later(change: Change, place: Place) -> bool:
    """Whether a change of attention reaches a key after its query."""
    key = place.axes.index("key")
    first, last, _ = change.index[change.axis].indices(place.shape[change.axis])
    device = change.values.device
    queries, keys = torch.arange(first, last, device=device), torch.arange(place.shape[key])
    later = keys.to(device) > queries[:, None]
    if key < change.axis:
        later = later.T
    others = [axis for axis in range(change.values.ndim) if axis not in (key, change.axis)]
    return bool(((change.values != 0).any(dim=others) & later).any())


def stack_changes(
    changes: Sequence[Change],
    shape: Sequence[int],
    examples: slice,
    span: tuple[int, int],
    single: int | None = None,
) -> Tensor:
    """Changes of one hook point, stacked: [trial example pos ...], zero outside each one's part.

    Args:
        shape: of the hook point's whole value.
        examples: which examples are wanted.
        span: which positions are wanted.
        single: an axis on which every change is about one number, and which is kept so short.
    """
    (start, stop), axis = span, changes[0].axis
    sizes = [len(range(shape[0])[examples]), *shape[1:]]
    sizes[axis] = stop - start
    if single is not None:
        sizes[single] = 1
    stacked = changes[0].values.new_zeros((len(changes), *sizes))
    for row, change in zip(stacked, changes, strict=True):
        positions = range(*change.index[axis].indices(shape[axis]))
        first, last = max(start, positions.start), min(stop, positions.stop)
        if first >= last:
            continue
        index = list(change.index)
        index[0], index[axis] = slice(None), slice(first - start, last - start)
        if single is not None:
            index[single] = slice(None)
        row[tuple(index)] = change.values[examples].narrow(
            axis, first - positions.start, last - first
        )
    return stacked


def common_number(trials: Sequence[Trial], part: str) -> list[int] | None:
    """Every trial's head, or neuron, where all of them name one."""
    numbers = [getattr(trial.site, part) for trial in trials]
    return None if any(number is None for number in numbers) else numbers
