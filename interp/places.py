"""Where in a run does an intervention act, and what does it put there?

A ``Place`` is a site in one run: what its axes are, where its part lies, at which token of the text
the run begins, and which keys the model does not let attention see. An ``Intervention`` makes a
part's new value; ``replacement`` sees that it fits, and that what is masked stays so.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import ActivationCache

from interp.errors import InterventionError, SiteError
from interp.site import Site, axes_of, axis_of, part_index

Reference: TypeAlias = Mapping[str, Tensor] | ActivationCache


@dataclass(frozen=True)
class Place:
    """Where an intervention acts: a site of one hook point, in a run whose value has a shape.

    Args:
        site: the part asked for.
        names: every name of the hook point, to find its value in a cache.
        shape: of the hook point's whole value.
        start: which token of the text the run's first one is; above 0 where a key/value cache holds
            those before. None where that cannot be known.
        passed: how many times this run has reached the hook point before.
        masked: of attention, which keys the model hides; such elements stay as they are.
    """

    site: Site
    names: tuple[str, ...]
    shape: tuple[int, ...]
    start: int | None = 0
    passed: int = 0
    masked: Bool[Tensor, "batch *heads pos key"] | None = field(default=None, compare=False)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """What each axis is: batch, pos, head, neuron, key."""
        return axes_of(self.names, len(self.shape))

    @cached_property
    def index(self) -> tuple[slice, ...]:
        """Takes the site's part out of the value; every axis is kept.

        Raises:
            SiteError: a part that the value does not have.
            InterventionError: a position, where it is not known at which one the run begins.
        """
        if not self.start and self.start is not None:
            return part_index(self.site, self.axes, self.shape)
        index = list(part_index(self.site.anywhere, self.axes, self.shape))
        if self.site.pos is not None:
            axis = axis_of("pos", self.site, self.axes)
            first = self.first_token
            end = first + self.shape[axis]
            at = self.site.pos + (end if self.site.pos < 0 else 0)
            if not 0 <= at < end:
                raise SiteError(
                    f"{self.site.hook} has pos 0 to {end - 1}; there is no pos {self.site.pos}"
                )
            index[axis] = slice(max(0, at - first), max(0, at - first + 1))
        return tuple(index)

    @property
    def first_token(self) -> int:
        """The text's position at which the run begins.

        Raises:
            InterventionError: it cannot be known.
        """
        if self.start is None:
            raise InterventionError(
                f"positions of {self.site} cannot be counted: this run is given a cache of earlier "
                "tokens that does not say how many it holds; run the model without it"
            )
        return self.start

    @property
    def is_here(self) -> bool:
        """Whether this run holds the part: not where its position lies in a key/value cache."""
        return all(part.start is None or part.start < part.stop for part in self.index)

    @property
    def is_scores(self) -> bool:
        """Whether minus infinity is a value like others here."""
        return any(name.endswith("hook_attn_scores") for name in self.names)

    def visible(self, value: Tensor) -> Tensor:
        """The part's elements that are activations, not a mask's large negative numbers."""
        part = value[self.index]
        return part if self.masked is None else part[~self.masked[self.index]]

    def look_up(self, reference: Reference, *, positions: bool = True) -> Tensor:
        """This place's part of a cached run, of all its examples.

        Args:
            reference: the cache.
            positions: whether the cached run's positions stand for this run's. If not, the part
                is of all its positions.

        Raises:
            InterventionError: the hook point is not in the cache, or has another shape there; the
                run has reached this place before; it begins in the middle of a text.
        """
        held = next((name for name in self.names if name in reference), None)
        if held is None:
            raise InterventionError(
                f"the reference holds no {self.site.hook}; "
                f"make it with cache(model, tokens, {self.site.hook!r})"
            )
        if self.passed:
            raise InterventionError(
                f"one run reaches {self.site.hook} several times, and the reference holds one "
                "value of it: give each pass a hook point of its own"
            )
        value = reference[held]
        free = {0} if self.axes[0] == "batch" else set()  # a position embedding is of no text
        if not positions:
            free.add(self.axes.index("pos"))
        fits = value.ndim == len(self.shape) and all(
            axis in free or size == self.shape[axis] for axis, size in enumerate(value.shape)
        )
        if not fits:
            raise InterventionError(
                f"the reference's {held} is {list(value.shape)}, but in this run it is "
                f"[{' '.join(self.axes)}] = {list(self.shape)}"
            )
        if positions and self.first_token and "pos" in self.axes:
            raise InterventionError(
                f"the reference's {held} begins with its text, and this run with token "
                f"{self.start} of one: run the model on whole texts, without a key/value cache"
            )
        index = [slice(None) if axis in free else part for axis, part in enumerate(self.index)]
        return value[tuple(index)]


@dataclass(frozen=True)
class Intervention(ABC):
    """What a part's value becomes: a pure function of the value and its place.

    Args:
        examples: which examples of the batch it is about, one bool each; None means all.

    Raises:
        InterventionError: a setting that it does not know.
    """

    examples: Sequence[bool] | Bool[Tensor, "batch"] | None = field(default=None, kw_only=True)

    needs_whole_texts: ClassVar[bool] = False  # or may see a text in pieces, as generation has it

    def __post_init__(self) -> None:
        if self.examples is None:
            return
        given = self.examples.tolist() if isinstance(self.examples, Tensor) else self.examples
        found = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
        if not all(isinstance(one, bool | np.bool_) for one in found):
            raise InterventionError(
                f"examples is {self.examples!r}; it must be one bool for each example of the batch"
            )
        object.__setattr__(self, "examples", tuple(map(bool, found)))

    def __str__(self) -> str:
        shown = [
            f"{each.name}={value!r}"
            for each in fields(self)
            if each.repr and (value := getattr(self, each.name)) != each.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    @abstractmethod
    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        """The part's new value, a tensor of the same shape; ``value`` is never changed.

        Raises:
            InterventionError: it does not fit.
        """

    def apart(self, other: "Intervention") -> bool:
        """Whether two interventions are about different examples."""
        if self.examples is None or other.examples is None:
            return False
        return not any(a and b for a, b in zip(self.examples, other.examples, strict=False))


def apply(intervention: Intervention, value: Tensor, place: Place) -> Tensor:
    """A hook point's whole value with an intervention on one place: a fresh tensor.

    Raises:
        SiteError, InterventionError: as ``replacement``.
    """
    new = replacement(intervention, value, place)
    result = value.clone()
    result[place.index] = new
    return result


def replacement(intervention: Intervention, value: Tensor, place: Place) -> Tensor:
    """What an intervention puts in the part of a hook point's value that its place means.

    Attention that the model forbids stays forbidden: no intervention opens a masked key.

    Raises:
        SiteError: the value has no such part.
        InterventionError: the replacement does not fit.
    """
    part = value[place.index]
    new = intervention.replace(part, place)
    if new.shape != part.shape:
        raise InterventionError(
            f"{intervention} made {list(new.shape)} of {place.site}, which is {list(part.shape)}"
        )
    if intervention.examples is not None:
        chosen = torch.tensor(intervention.examples, device=value.device)
        if len(chosen) != len(value):
            raise InterventionError(
                f"examples has {len(chosen)} entries for a batch of {len(value)}"
            )
        new = new.where(chosen.view(-1, *[1] * (part.ndim - 1)), part)
    if place.masked is not None:
        new = part.where(place.masked[place.index], new)
    return new.to(value)
