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

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint

from interp.errors import InterventionError, SiteError
from interp.receipts import Effect, Receipt
from interp.sites import Model, Site, axes_of, hooked, match, names_by_point, part_index

Reference: TypeAlias = Mapping[str, Tensor] | ActivationCache


@contextmanager
def intervene(
    model: Model,
    interventions: Mapping[Any, "Intervention | Callable[[Tensor], Any]"],
    *,
    allow_no_effect: bool = False,
) -> Iterator[Receipt]:
    """Run the model with interventions in place, and prove that they happened.

    Blocks nest: an inner intervention sees what an outer one left. Hooks that were there before run
    first and stay. Nothing stays behind, whatever is raised inside.

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
        InterventionError: two interventions on the same part, or one that does not fit its site.
        NoEffectError: at the end of the block: a site that no run came past, or an intervention
            that changed nothing.
        NonFiniteError: at the end of the block: an intervention made a NaN or an infinity.
    """
    effects = []
    by_point: dict[HookPoint, list[tuple[Site, Intervention, Effect]]] = {}
    for key, what in interventions.items():
        intervention = what if isinstance(what, Intervention) else Apply(what)
        matched = match(model, key)
        effects.append(Effect(str(key), str(intervention), [site for site, _ in matched]))
        for site, point in matched:
            by_point.setdefault(point, []).append((site, intervention, effects[-1]))
    for claims in by_point.values():
        for (site, one, effect), (other_site, other, other_effect) in combinations(claims, 2):
            if overlap(site, other_site) and not one.apart(other):
                raise InterventionError(
                    f"{effect.key} and {other_effect.key} both claim a part of {site.hook}: give "
                    "the one intervention that is meant, or parts that do not overlap"
                )

    names_of = names_by_point(model)

    def editing(point: HookPoint) -> Callable[..., Tensor]:
        names = names_of[point]

        def edit(value: Any, hook: Any) -> Tensor:
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise InterventionError(f"{names[0]} carries no activation that can be changed")
            for site, intervention, effect in by_point[point]:
                place = Place(site, names, tuple(value.shape))
                new = apply(intervention, value, place)
                parts = value[place.index], new[place.index]
                effect.note(site.hook, *parts, finite=not place.is_scores)
                value = new
            return value

        return edit

    receipt = Receipt(effects)
    with hooked([(point, editing(point)) for point in by_point]):
        yield receipt
    receipt.check(allow_no_effect)


def cache(
    model: Model, tokens: Tensor, names: str | Sequence[str], **kwargs: Any
) -> dict[str, Tensor]:
    """The activations of one run, without gradients: only those asked for.

    They are the run's own tensors and no copies; a model that writes into one of them later in the
    run is run again, with copies.

    Args:
        model: the model; interventions in place around the call take part in the run.
        tokens: what to run it on.
        names: hook points, by name or glob.
        kwargs: passed to the model.

    Raises:
        HookNameError: a name that no hook point matches.
        SiteError: a name none of whose hook points the run came past.
    """
    asked = [names] if isinstance(names, str) else list(names)
    matched = {name: match(model, name) for name in asked}
    points = {site.hook: point for pairs in matched.values() for site, point in pairs}
    kept: dict[str, Tensor] = {}
    versions: dict[str, int] = {}

    def keeping(name: str, copied: bool) -> Callable[..., None]:
        def keep(value: Tensor, hook: Any) -> None:
            safe = copied or value.is_inference()  # whose changes torch does not count
            kept[name] = value.detach().clone() if safe else value.detach()
            versions[name] = 0 if safe else value._version

        return keep

    def run(copied: bool) -> None:
        pairs = [(point, keeping(name, copied)) for name, point in points.items()]
        with torch.no_grad(), hooked(pairs):
            model(tokens, **kwargs)

    run(copied=False)
    if any(
        not value.is_inference() and value._version != versions[name]
        for name, value in kept.items()
    ):
        run(copied=True)
    for name, pairs in matched.items():
        if not any(site.hook in kept for site, _ in pairs):
            raise SiteError(f"the run never came past {name}")
    return kept


@dataclass(frozen=True)
class Place:
    """Where an intervention acts: a site of one hook point, in a run whose value has a shape.

    Args:
        site: the part asked for.
        names: every name of the hook point, to find its value in a cache.
        shape: of the hook point's whole value.
    """

    site: Site
    names: tuple[str, ...]
    shape: tuple[int, ...]

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """What each axis is: batch, pos, head, neuron, key."""
        return axes_of(self.names, len(self.shape))

    @cached_property
    def index(self) -> tuple[slice, ...]:
        """Takes the site's part out of the value; every axis is kept."""
        return part_index(self.site, self.axes, self.shape)

    @property
    def is_scores(self) -> bool:
        """Whether minus infinity is a value like others here."""
        return any(name.endswith("hook_attn_scores") for name in self.names)

    def look_up(self, reference: Reference, *, positions: bool = True) -> Tensor:
        """This place's part of a cached run, of all its examples.

        Args:
            reference: the cache.
            positions: whether the cached run's positions stand for this run's. If not, the part
                is of all its positions.

        Raises:
            InterventionError: the hook point is not in the cache, or has another shape there.
        """
        held = next((name for name in self.names if name in reference), None)
        if held is None:
            raise InterventionError(
                f"the reference holds no {self.site.hook}; "
                f"make it with cache(model, tokens, {self.site.hook!r})"
            )
        value = reference[held]
        free = {0} if positions else {0, self.axes.index("pos")}
        fits = value.ndim == len(self.shape) and all(
            axis in free or size == self.shape[axis] for axis, size in enumerate(value.shape)
        )
        if not fits:
            raise InterventionError(
                f"the reference's {held} is {list(value.shape)}, but in this run it is "
                f"[{' '.join(self.axes)}] = {list(self.shape)}"
            )
        index = [slice(None) if axis in free else part for axis, part in enumerate(self.index)]
        return value[tuple(index)]


@dataclass(frozen=True)
class Intervention(ABC):
    """What a part's value becomes: a pure function of the value and its place.

    Args:
        examples: which examples of the batch it is about, one bool each; None means all.
    """

    examples: Sequence[bool] | Bool[Tensor, "batch"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.examples is not None:
            object.__setattr__(self, "examples", tuple(bool(one) for one in self.examples))

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


@dataclass(frozen=True)
class Zero(Intervention):
    """Nothing."""

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        return torch.zeros_like(value)


@dataclass(frozen=True, eq=False)
class Mean(Intervention):
    """What the part says on average over a reference set.

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

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        if "pos" not in place.axes:
            raise InterventionError(f"{place.site.hook} has no positions to take a mean over")
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
        total = values.where(weights, 0).sum(dim=over, keepdim=True)
        mean = total / count.view(*count.shape, *[1] * (values.ndim - 2))
        return mean.movedim(1, place.axes.index("pos")).expand(value.shape).to(value)


@dataclass(frozen=True, eq=False)
class Resample(Intervention):
    """What the part says in another example, drawn at random for each example of the batch.

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

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
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
    """What the part says, plus Gaussian noise.

    Args:
        std: the noise's standard deviation, in units of the part's own over this batch.
        seed: of the noise.
    """

    std: float = 1.0
    seed: int = 0

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(value.shape, generator=generator).to(value)
        return value + self.std * value[value.isfinite()].std(correction=0) * noise


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """What the part said in another run of the same shape.

    Args:
        cache: of the other run.

    In a run it raises:
        InterventionError: a cache that lacks the site, or is of another shape or batch.
    """

    cache: Reference = field(repr=False)

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        other = place.look_up(self.cache)
        if len(other) != len(value):
            raise InterventionError(
                f"the patch for {place.site.hook} is of {len(other)} examples, "
                f"this run of {len(value)}: patch runs of equal shape"
            )
        return other.to(value)


@dataclass(frozen=True, eq=False)
class Steer(Intervention):
    """What the part says, plus a vector.

    Args:
        vector: of the part's last axis, or of any shape that broadcasts to the part's.
        scale: what it is multiplied by.

    In a run it raises:
        InterventionError: a vector that does not broadcast to the part.
    """

    vector: Tensor = field(repr=False)
    scale: float = 1.0

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        vector = self.vector.to(value)
        shape = torch.Size(value.shape)
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
    """Whatever a function makes of it.

    Args:
        function: from the part's value to a new value of the same shape. It is given a copy.

    In a run it raises:
        InterventionError: the function returned no tensor, or one of another shape.
    """

    function: Callable[[Tensor], Any]

    def __str__(self) -> str:
        return f"Apply({getattr(self.function, '__name__', self.function)})"

    def replace(self, value: Float[Tensor, "..."], place: Place) -> Tensor:
        new = self.function(value.clone())
        if not isinstance(new, Tensor):
            raise InterventionError(
                f"the function for {place.site} returned {new!r}; it must return the new tensor"
            )
        return new


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

    Attention that a causal model forbids stays forbidden: where a pattern's or its scores' future
    is masked throughout, no intervention opens it.

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
    if "key" in place.axes and value.shape[-1] == value.shape[-2]:
        future = torch.ones(value.shape[-2:], dtype=torch.bool, device=value.device).triu(1)
        hidden = value[..., future]
        if ((hidden == 0) | (hidden == -torch.inf)).all():
            new = new.where(~future.expand(value.shape)[place.index], part)
    return new.to(value)


def overlap(site: Site, other: Site) -> bool:
    """Whether two sites of one hook point may share an element.

    Positions counted from different ends may be the same one.
    """
    for part, number in site.parts.items():
        theirs = other.parts.get(part)
        if theirs is not None and theirs != number and (theirs < 0) == (number < 0):
            return False
    return True
