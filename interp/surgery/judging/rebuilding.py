"""What does a cut do that acts when a model is built?

The model is built anew with the cut made and given the trained weights. Every parameter is a
weight; a buffer too, if training moved it or chance made it. What is left as the build makes it:
tables, masks, and all that is no tensor.

    plan = plan_rebuilding(build, model, judge)
    with perform(cut):
        mutant, left_out = rebuild(plan, build, model)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from interp.errors import SurgeryError
from interp.surgery.guarding.outcomes import is_the_machines
from interp.surgery.judging import Judge, Judgement, judge_model, same_draws
from interp.surgery.judging.rows import largest_difference
from interp.surgery.judging.traces import plain_attributes, trace_of

Build = Callable[[int], nn.Module]
SAME_LOGITS = 1e-5  # of their spread
SAME_VALUE = 1e-6  # nats


class MisfitError(SurgeryError):
    """The trained weights have no place in a model that is built anew."""


@dataclass(frozen=True)
class Rebuilding:
    """How the trained model is had again from its source and its weights.

    Attributes:
        made: the names of parameters and buffers that are what building computes, not weights.
        settings: attributes that were set after building, by the module's name and their own.
        keeps: whether running the model leaves something on it that a later run could read.
        fingerprint: of the logits of the model built anew without a cut.
        refusal: why a model that is built anew is not the trained one; empty if it is.
    """

    made: frozenset[str] = frozenset()
    settings: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    keeps: bool = False
    fingerprint: str = ""
    refusal: str = ""


def plan_rebuilding(build: Build, model: nn.Module, judge: Judge) -> Rebuilding:
    """Build the model anew without a cut, and see that it is the trained one."""
    fresh, again = build_seeded(build, 0, model), build_seeded(build, 1, model)
    if fresh is model or fresh is again:
        return Rebuilding(refusal="build hands out one and the same model, not a new one each time")
    plan = Rebuilding(made=made_by_building(model, fresh, again))
    given = judge_model(model, judge)
    try:
        fresh, left_out = rebuild(plan, build, model)
        if left_out:
            raise MisfitError(f"it has no {left_out[0]}")
        before = trace_of(fresh)
        rebuilt = judge_model(fresh, judge)
        plan = replace(plan, keeps=trace_of(fresh) != before)
        if not is_same(rebuilt, given):
            plan = replace(plan, settings=settings_of(model, fresh))
            rebuilt = judge_model(rebuild(plan, build, model)[0], judge)
    except MisfitError as error:
        return replace(plan, refusal=str(error))
    except Exception as error:
        if is_the_machines(error):
            raise
        return replace(plan, refusal=f"it cannot be judged: {type(error).__name__}: {error}")
    if not is_same(rebuilt, given):
        found, wanted = rebuilt.values.mean(), given.values.mean()
        refusal = f"its loss is {found:.4f} where that of the trained one is {wanted:.4f}"
        return replace(plan, refusal=refusal)
    return replace(plan, fingerprint=rebuilt.fingerprint)


def rebuild(plan: Rebuilding, build: Build, model: nn.Module) -> tuple[nn.Module, list[str]]:
    """A model built anew, with the weights, device, precision and mode of ``model``; and the names
    of weights for which it has no place. Weights are shared, not copied: whoever runs a cut model
    puts back what it wrote into them, or does so in a process of its own.

    Raises:
        MisfitError: it needs weights that ``model`` lacks, or has in another shape.
    """
    fresh = build_seeded(build, 0, model)
    given, found = tensors_of(model), tensors_of(fresh)
    device = next((tensor.device for tensor in given.values()), torch.device("cpu"))
    for name, tensor in found.items():
        is_weight = name not in plan.made and (name in given or isinstance(tensor, nn.Parameter))
        if not is_weight:
            kind = given[name].dtype if name in given and tensor.is_floating_point() else None
            tensor.data = tensor.data.to(device, kind)
            continue
        if name not in given:
            raise MisfitError(f"it has a weight more, {name} {list(tensor.shape)}")
        if is_lazy(tensor):
            cast(Any, tensor).materialize(given[name].shape)
        if tensor.shape != given[name].shape:
            raise MisfitError(
                f"{name} is {list(tensor.shape)} in it and {list(given[name].shape)} in the "
                "trained one"
            )
        weight = given[name].detach()
        tensor.data = weight if isinstance(tensor, nn.Parameter) else weight.clone()
    for name, tensor in found.items():
        if name not in given or name in plan.made or tensor.data_ptr() == given[name].data_ptr():
            continue
        if not equal(tensor, given[name]):
            raise MisfitError(f"{name} shares its values in it with a weight of other values")
    copy_settings(model, fresh, plan.settings)
    weights = dict(model.named_parameters())
    return fresh, [name for name in weights if name not in found and name not in plan.made]


def build_seeded(build: Build, seed: int, model: nn.Module) -> nn.Module:
    with same_draws(model, seed):
        return build(seed)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def made_by_building(model: nn.Module, fresh: nn.Module, again: nn.Module) -> frozenset[str]:
    """The tensors that no gradient moves and that are, in the trained model and with every seed,
    what building makes of them."""
    given, others = tensors_of(model), tensors_of(again)
    return frozenset(
        name
        for name, tensor in tensors_of(fresh).items()
        if not tensor.requires_grad
        and (name not in given or equal(tensor.to(given[name]), given[name]))
        and (name in others and equal(tensor, others[name]))
    )


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, NaN for NaN."""
    if one.shape != other.shape:
        return False
    same = one == other.to(one.device)
    if one.is_floating_point() or one.is_complex():
        same |= (one != one) & (other != other).to(one.device)
    return bool(same.all())


def is_same(one: Judgement, other: Judgement) -> bool:
    """Whether two models judged one after the other are the same function."""
    difference = largest_difference(one, other)
    if difference is None or len(one.values) != len(other.values):
        return False
    return difference < SAME_LOGITS and bool((abs(one.values - other.values) < SAME_VALUE).all())


def settings_of(model: nn.Module, fresh: nn.Module) -> dict[tuple[str, str], Any]:
    """Numbers, flags and words on the modules of ``model`` that are others on a model that was
    built and run: what was set after building."""
    built = plain_attributes(fresh)
    return {
        place: value
        for place, value in plain_attributes(model).items()
        if place in built and built[place] != value
    }


def copy_settings(
    model: nn.Module, fresh: nn.Module, settings: Mapping[tuple[str, str], Any]
) -> None:
    modules = dict(fresh.named_modules())
    for name, module in model.named_modules():
        if name in modules:
            modules[name].training = module.training
    for (name, attribute), value in settings.items():
        if name in modules:
            setattr(modules[name], attribute, value)
