"""How are interventions put on a model, so that a run is changed at their places and nowhere else?

Three things are watched over that a hook alone does not know: at which token of its text a run
begins, how often it has reached a hook point, and where a hook point shows the residual stream
but hands what it returns to one branch only (``resid_mid`` of TransformerLens' bridge).
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.errors import InterventionError
from interp.hooking import OwnHook, attach_hooks, remove_hook, roots_of
from interp.masks import Masks
from interp.places import Intervention, Place, apply
from interp.receipts import Effect
from interp.site import Model, Site, names_by_point
from interp.streams import way_around


@dataclass(frozen=True)
class Claim:
    """One intervention on one site.

    Args:
        point: the site's hook point.
        effect: where its changes are counted.
        rows: which rows of the run's batch it is about; None means all.
    """

    site: Site
    point: HookPoint
    intervention: Intervention
    effect: Effect
    rows: slice | None = None


@contextmanager
def claims_in_place(model: Model, claims: Sequence[Claim]) -> Iterator[None]:
    """Every run of the model inside the block is changed as claimed.

    Raises:
        InterventionError: a hook point that shows the residual stream but is none of it.
    """
    names_of = names_by_point(model)
    by_point: dict[HookPoint, list[Claim]] = {}
    for claim in claims:
        by_point.setdefault(claim.point, []).append(claim)
    masks = Masks(model, (name for point in by_point for name in names_of[point]))
    behind = {claim.site.hook: way_around(model, claim.site.hook) for claim in claims}
    run = ModelRun()

    def edit(value: Any, hook: HookPoint) -> Tensor:
        names = names_of[hook]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InterventionError(f"{names[0]} carries no activation that can be changed")
        masked, passed = masks.of(names, value), run.passed(hook)
        lacking: dict[HookPoint, Tensor] = {}
        for claim in by_point[hook]:
            rows = claim.rows or slice(None)
            part, hidden = value[rows], None if masked is None else masked[rows]
            place = Place(claim.site, names, tuple(part.shape), run.start, passed, hidden)
            if not place.is_here:
                continue
            check_cached(claim, place)
            new = apply(claim.intervention, part, place)
            claim.effect.note(place, part, new)
            whole = new
            if claim.rows is not None:
                whole = value.clone()
                whole[rows] = new
            if after := behind[claim.site.hook]:
                lacking[after] = lacking.get(after, 0) + (whole - value)
            value = whole
        run.lacking |= lacking
        return value

    def give_back(value: Tensor, hook: HookPoint) -> Tensor | None:
        change = run.lacking.pop(hook, None)
        return None if change is None else value + change

    afterwards = [(point, give_back) for point in dict.fromkeys(behind.values()) if point]
    with ExitStack() as stack:
        stack.enter_context(run.followed(model))
        stack.enter_context(attach_hooks(afterwards, first=True))
        stack.enter_context(attach_hooks([(point, edit) for point in by_point]))
        stack.enter_context(attach_hooks(masks.pairs))
        yield


def check_cached(claim: Claim, place: Place) -> None:
    """What a run with a key/value cache cannot do as a run of the whole text does.

    Raises:
        InterventionError: the intervention is such a thing.
    """
    if place.start == 0:
        return
    if claim.intervention.needs_whole_texts:
        raise InterventionError(
            f"{claim.intervention} on {claim.site} is drawn for a whole text, and this run gets "
            "the text's beginning from a key/value cache: generate without it "
            "(use_past_kv_cache=False)"
        )
    if (claim.site.pos or 0) < 0 and claim.effect.fired_at(claim.site.hook):
        raise InterventionError(
            f"{claim.site} is another token in every run, and the key/value cache keeps what an "
            "earlier run put there: generate without it (use_past_kv_cache=False), or count "
            "positions from the start"
        )


@dataclass
class ModelRun:
    """The run under way.

    Args:
        start: which token of the text its first one is; None where that cannot be known.
        inside: whether a run that was seen to begin is under way.
        passes: how often it has reached each hook point.
        lacking: what is still to be added at hook points behind a block.
        unfilled: a key/value cache that a run gave back empty.
    """

    start: int | None = 0
    inside: int = 0
    passes: Counter[HookPoint] = field(default_factory=Counter)
    lacking: dict[HookPoint, Tensor] = field(default_factory=dict)
    unfilled: Any = None

    @contextmanager
    def followed(self, model: Model) -> Iterator[None]:
        """See every run of the model begin and end."""
        numbers: list[tuple[nn.Module, int]] = []
        try:
            for root in roots_of(model):
                enter = root.register_forward_pre_hook(OwnHook(self._enter), with_kwargs=True)
                numbers.append((root, enter.id))
                leave = root.register_forward_hook(OwnHook(self._leave), always_call=True)
                numbers.append((root, leave.id))
            yield
        finally:
            for root, number in numbers:
                remove_hook(root, number)

    def passed(self, point: HookPoint) -> int:
        """How many times the run has reached a hook point before; from now on once more."""
        if not self.inside:  # somebody calls ``forward``: one run is not told from the next
            return 0
        self.passes[point] += 1
        return self.passes[point] - 1

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self.inside:
            self.passes.clear()
            self.lacking.clear()
        try:
            given = inspect.signature(module.forward).bind_partial(*args).arguments | kwargs
        except (TypeError, ValueError):  # the call itself will say what is wrong with it
            given = kwargs
        self.start = tokens_before(given)
        self.check_filled(given)
        self.inside += 1

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.inside -= 1
        made = getattr(output, "past_key_values", None) or getattr(output, "cache", None)
        if hasattr(made, "get_seq_length") and length_of(made) == 0:
            self.unfilled = made
        if not self.inside:
            self.start = 0

    def check_filled(self, given: dict[str, Any]) -> None:
        """See that a run which goes on with a text is given what came before.

        Raises:
            InterventionError: the model does not fill its cache, as TransformerLens' bridge does
                not with some versions of transformers.
        """
        mask, tokens = given.get("attention_mask"), next(iter(given.values()), None)
        longer = False
        if (
            isinstance(mask, Tensor)
            and isinstance(tokens, Tensor)
            and mask.ndim == tokens.ndim == 2
        ):
            longer = self.start is not None and mask.shape[1] > self.start + tokens.shape[1]
        if longer or any(value is self.unfilled for value in given.values() if value is not None):
            raise InterventionError(
                "this run goes on with a text, and the key/value cache that it is given holds "
                f"{self.start} tokens of it: the model does not fill its cache, and sees the new "
                "tokens alone; generate without it (use_past_kv_cache=False)"
            )


def tokens_before(given: dict[str, Any]) -> int | None:
    """How many tokens of its text a run is spared by a cache that it is given; None if unknown.

    Args:
        given: the arguments of the call, by name.
    """
    for name in STARTS:
        value = given.get(name)
        if isinstance(value, int) or (isinstance(value, Tensor) and value.numel()):
            return int(torch.as_tensor(value).flatten()[0])
    for name, value in given.items():
        if ("past" in name or "cache" in name) and may_be_filled(value):
            return length_of(value)
    return 0


def length_of(cache: Any) -> int | None:
    """How many tokens a cache has seen; None where it does not say, as one of states that have no
    positions."""
    try:
        return int(cache.get_seq_length())
    except (AttributeError, ValueError):
        return None


def may_be_filled(value: Any) -> bool:
    """Whether an argument may be a cache with something in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(each is not None for each in value)
    return not isinstance(value, bool | int | str | None)


STARTS = ("cache_position", "start_pos", "input_pos", "past_length")
