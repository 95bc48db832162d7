"""What happens to the output if a part of the model says something else?

An intervention is a value; ``intervene`` puts it in place for a block of code, and its receipt
proves that it happened.

    with intervene(model, {"blocks.2.attn.hook_z[head=3]": Zero()}) as receipt:
        ablated = loss(model(tokens), tokens)
    print(receipt)

    reference = cache(model, other_tokens, "blocks.*.hook_mlp_out")
    with intervene(model, {"blocks.*.hook_mlp_out": Mean(reference)}):
        ...

``Mean``, ``Resample`` and ``Patch`` take their values from a cache of another run, never from the
run they change. Every intervention can be restricted to a part by its site and to some examples of
the batch by ``examples=``.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

from interp.editing import Claim, claims_in_place
from interp.errors import InterventionError
from interp.masks import LOWEST
from interp.places import Intervention, Place, Reference
from interp.receipts import Effect, Receipt
from interp.site import Model, match


@contextmanager
def intervene(
    model: Model,
    interventions: Mapping[Any, Any],
    *,
    allow_no_effect: bool = False,
) -> Iterator[Receipt]:
    """Run the model with interventions in place, and prove that they happened.

    Blocks nest: an inner intervention sees what an outer one left. Hooks that were there before run
    first and stay. Nothing stays behind, whatever is raised inside, nor in a copy made inside. The
    block is about runs of its own thread. Positions are those of the text, also where a run gets
    the earlier ones from a key/value cache.

    Args:
        model: any ``HookedRootModule``, or TransformerLens' bridge.
        interventions: by site, or by its text, which may hold a glob. A plain function from the
            part's value to its replacement works too. Several on different parts of one hook
            point compose.
        allow_no_effect: let an intervention pass that never fired or changed nothing.

    Yields:
        The receipt; complete when the block ends.

    Raises:
        HookNameError: no hook point matches.
        SiteError: a part that the hook point does not have.
        InterventionError: two interventions on the same part, or one that does not fit its site; at
            the end of the block: its hooks were taken off inside.
        NoEffectError: at the end of the block: a site that no run reached, or an intervention
            that changed nothing.
        NonFiniteError: at the end of the block: an intervention made a NaN or an infinity.
    """
    claims: list[Claim] = []
    effects: list[Effect] = []
    for key, what in interventions.items():
        intervention = intervention_of(key, what)
        matched = match(model, key)
        effects.append(Effect(str(key), str(intervention), [site for site, _ in matched]))
        claims += [Claim(site, point, intervention, effects[-1]) for site, point in matched]
    by_point: dict[HookPoint, list[Claim]] = {}
    for claim in claims:
        by_point.setdefault(claim.point, []).append(claim)
    for one, other in (pair for group in by_point.values() for pair in combinations(group, 2)):
        if overlap(one, other):
            raise InterventionError(
                f"{one.effect.key} and {other.effect.key} both claim a part of {one.site.hook}: "
                "give the one intervention that is meant, or parts that do not overlap"
            )
    receipt = Receipt(effects)
    with claims_in_place(model, claims):
        yield receipt
    receipt.check(allow_no_effect)


@dataclass(frozen=True)
class Zero(Intervention):
    """Replaces the activation with zeros."""

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        return torch.zeros_like(value)


@dataclass(frozen=True, eq=False)
class Mean(Intervention):
    """Replaces the activation with its mean over a reference set.

    Args:
        reference: a cache of the reference set, from a run without interventions.
        positions: "all" takes one mean over examples and positions; "each" a mean over examples
            for every position, and needs texts of this run's length.
        mask: which of the reference's tokens count, [example pos]; leave padding out.

    In a run it raises:
        InterventionError: no positions to take a mean over, keys under ``positions="all"``, a
            reference that lacks the site or has another shape, an empty one.
    """

    reference: Reference = field(repr=False)
    positions: Literal["all", "each"] = "all"
    mask: Bool[Tensor, "example pos"] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reference(self.reference)
        if self.positions not in ("all", "each"):
            raise InterventionError(
                f"positions is {self.positions!r}; it must be 'all', one mean over all positions, "
                "or 'each', one for each position"
            )
        if self.mask is not None and not (
            isinstance(self.mask, Tensor) and self.mask.dtype == torch.bool and self.mask.ndim == 2
        ):
            raise InterventionError("mask must be a tensor of bools, [example pos]")

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        if "pos" not in place.axes:
            raise InterventionError(f"{place.site.hook} has no positions to take a mean over")
        require_texts(place, "mean over")
        if self.positions == "all" and "key" in place.axes:
            raise InterventionError(
                f"{place.site.hook} has keys that mean something else at every position: "
                "use Mean(reference, positions='each')"
            )
        values = place.look_up(self.reference, positions=self.positions == "each")
        values = values.movedim(place.axes.index("pos"), 1)  # [example pos ...]
        mask = torch.ones(values.shape[:2], dtype=torch.bool) if self.mask is None else self.mask
        mask = mask.to(values.device)
        if self.mask is not None and self.positions == "each" and place.site.pos is not None:
            mask = mask[:, place.index[place.axes.index("pos")]]
        if mask.shape != values.shape[:2]:
            raise InterventionError(
                f"the mask is {list(mask.shape)}, the reference's tokens are "
                f"{list(values.shape[:2])}"
            )
        over = (0, 1) if self.positions == "all" else (0,)
        count = mask.sum(dim=over, keepdim=True)
        if not count.all():
            raise InterventionError("the reference set is empty: there is nothing to average")
        weights = mask.view(*mask.shape, *[1] * (values.ndim - 2))
        if place.is_scores:  # a key hidden in some examples has its mean over the others
            seen = weights & (values > LOWEST)
            weights = seen | ~seen.any(dim=0, keepdim=True) & weights
        total = values.where(weights, 0).sum(dim=over, keepdim=True)
        mean = total / weights.sum(dim=over, keepdim=True)
        return mean.movedim(1, place.axes.index("pos")).expand(value.shape).to(value)


@dataclass(frozen=True, eq=False)
class Resample(Intervention):
    """Replaces the activation with that of another example, drawn at random for each of the batch.

    Where the reference has as many examples as the batch they may be the same ones, so no example
    draws the one in its own place. Equal seeds draw equal examples at every site.

    Args:
        reference: a cache of the examples to draw from, as long as this run's.
        seed: of the draw.

    In a run it raises:
        InterventionError: a reference that lacks the site, has another shape, or no other example.
    """

    reference: Reference = field(repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reference(self.reference)
        check_number("seed", self.seed, int)

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        require_texts(place, "draw from")
        values = place.look_up(self.reference)
        held, batch = len(values), len(value)
        generator = torch.Generator().manual_seed(self.seed)
        if held == 0 or held == batch == 1:
            raise InterventionError(
                f"the reference has {held} examples, no other one to draw; use Patch for one "
                "given example"
            )
        if held == batch:
            steps = torch.randint(1, held, (batch,), generator=generator)
            chosen = (torch.arange(batch) + steps) % held
        else:
            chosen = torch.randint(held, (batch,), generator=generator)
        return values[chosen.to(values.device)].to(value)


@dataclass(frozen=True)
class Noise(Intervention):
    """Adds Gaussian noise to the activation.

    Args:
        std: the noise's standard deviation, in units of the part's own over this batch.
        seed: of the noise.

    In a run it raises:
        InterventionError: the run sees a part of its text only, as with a key/value cache.
    """

    std: float = 1.0
    seed: int = 0

    needs_whole_texts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("std", self.std, float)
        check_number("seed", self.seed, int)

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(value.shape, generator=generator).to(value)
        own = value if place.masked is None else value[~place.masked[place.index]]
        return value + self.std * own[own.isfinite()].std(correction=0) * noise


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """Replaces the activation with its value in another run of the same shape.

    Args:
        source: a cache of the other run.

    In a run it raises:
        InterventionError: a cache that lacks the site, or is of another shape or batch.
    """

    source: Reference = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reference(self.source)

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        other = place.look_up(self.source)
        if len(other) != len(value):
            raise InterventionError(
                f"the patch for {place.site.hook} is of {len(other)} examples, "
                f"this run of {len(value)}: patch runs of equal shape"
            )
        return other.to(value)


@dataclass(frozen=True, eq=False)
class Steer(Intervention):
    """Adds a vector to the activation.

    Args:
        vector: of the part's last axis, for every example and position; or with all axes of the
            part, where an axis of size 1 stands for all: [batch 1 d_model] is one vector for each
            example, [1 pos d_model] one for each position.
        scale: what it is multiplied by.

    In a run it raises:
        InterventionError: a vector that does not broadcast to the part.
    """

    vector: Tensor = field(repr=False)
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.vector, Tensor):
            raise InterventionError(f"vector is {self.vector!r}; it must be a tensor")
        check_number("scale", self.scale, float)

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        vector = self.vector.to(value)
        shape = torch.Size(value.shape)
        if 1 < vector.ndim < value.ndim:
            raise InterventionError(
                f"the vector is {list(vector.shape)}, and it cannot be told which axes of "
                f"{place.site}, [{' '.join(place.axes)}] = {list(shape)}, are meant: give all of "
                "them, with size 1 where one value stands for all"
            )
        if vector.ndim > value.ndim or any(
            size not in (1, want)
            for size, want in zip(reversed(vector.shape), reversed(shape), strict=False)
        ):
            raise InterventionError(
                f"the vector is {list(vector.shape)}, which does not broadcast to {place.site}, "
                f"[{' '.join(place.axes)}] = {list(shape)}"
            )
        return value + self.scale * vector


@dataclass(frozen=True, eq=False)
class Apply(Intervention):
    """Replaces the activation with what a function returns.

    Args:
        function: from the part's value to a new value of the same shape. It is given a copy.

    In a run it raises:
        InterventionError: the function returned no tensor, or one of another shape.
    """

    function: Callable[[Tensor], Any]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise InterventionError(f"function is {self.function!r}; it must be a function")

    def __str__(self) -> str:
        return f"Apply({getattr(self.function, '__name__', self.function)})"

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        new = self.function(value.clone())
        if not isinstance(new, Tensor):
            raise InterventionError(
                f"the function for {place.site} returned {new!r}; it must return the new tensor"
            )
        return new


def intervention_of(key: Any, what: Any) -> Intervention:
    """What was given for a site, as an intervention.

    Raises:
        InterventionError: it is none, and no function either.
    """
    if isinstance(what, Intervention):
        return what
    if isinstance(what, type) or not callable(what):
        shown = what.__name__ if isinstance(what, type) else repr(what)
        raise InterventionError(
            f"{shown} on {key} is no intervention: give a value such as Zero() or Mean(reference), "
            "or a function from the part's value to its new one"
        )
    return Apply(what)


def overlap(one: Claim, other: Claim) -> bool:
    """Whether two claims on one hook point may share an element.

    Positions counted from different ends may be the same one.
    """
    if one.intervention.apart(other.intervention):
        return False
    for part, number in one.site.parts.items():
        theirs = other.site.parts.get(part)
        if theirs is not None and theirs != number and (theirs < 0) == (number < 0):
            return False
    return True


def check_reference(reference: Any) -> None:
    if not isinstance(reference, Mapping | ActivationCache):
        raise InterventionError(
            f"a reference is what cache(model, tokens, names) gives, not {type(reference).__name__}"
        )


def check_number(name: str, value: Any, kind: type) -> None:
    number = isinstance(value, int | np.integer) or (
        kind is float and isinstance(value, float | np.floating)
    )
    if isinstance(value, bool) or not number or not math.isfinite(value):
        shown = "a whole number" if kind is int else "a finite number"
        raise InterventionError(f"{name} is {value!r}; it must be {shown}")


def require_texts(place: Place, what: str) -> None:
    """Raises ``InterventionError`` where a value is the same for every text."""
    if place.axes[0] == "pos":
        raise InterventionError(
            f"{place.site.hook} is one value for all texts, so that there is no {what} texts: "
            "patch it from another run, or set it to zero"
        )
