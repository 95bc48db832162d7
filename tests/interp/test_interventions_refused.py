"""What cannot be done is one sentence, before anything runs where that can be known."""

import jaxtyping
import pytest
import torch

from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    NoEffectError,
    NonFiniteError,
    SiteError,
)
from interp.interventions import Apply, Mean, Noise, Patch, Resample, Steer, Zero, intervene

Z = "blocks.1.attn.hook_z"
MLP = "blocks.1.hook_mlp_out"


def run(model, tokens, interventions, **kwargs):
    with torch.no_grad(), intervene(model, interventions, **kwargs):
        return model(tokens)


# misuse


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Mean({}, positions="every"), "positions is 'every'; it must be 'all'"),
        (lambda: Mean(torch.ones(2)), "a reference is what cache"),
        (lambda: Mean({}, mask=torch.ones(2, 3)), "mask must be a tensor of bools"),
        (lambda: Patch(None), "a reference is what cache"),
        (lambda: Resample({}, seed=0.5), "seed is 0.5; it must be a whole number"),
        (lambda: Noise(std="large"), "std is 'large'; it must be a finite number"),
        (lambda: Noise(std=float("nan")), "std is nan"),
        (lambda: Steer([1.0, 2.0]), "vector is .* must be a tensor"),
        (lambda: Steer(torch.ones(2), scale=None), "scale is None"),
        (lambda: Zero(examples=[0, 2]), "one bool for each example"),
        (lambda: Zero(examples=torch.tensor([1, 0])), "one bool for each example"),
        (lambda: Apply(3), "function is 3"),
    ],
)
def test_a_setting_that_is_none_is_refused_where_it_is_made(make, sentence, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(InterventionError, match=sentence):
        make()


@pytest.mark.parametrize("what", [Zero, 0.0, None, "zero"])
def test_what_is_no_intervention_is_refused_before_anything_runs(model, clean, what):
    with pytest.raises(InterventionError, match="is no intervention: give a value such as Zero"):
        run(model, clean, {MLP: what})


def nan(value):
    return value / 0 * 0


@pytest.mark.parametrize(
    ("interventions", "error", "sentence"),
    [
        ({"blocks.0.attn.hook_zz": Zero()}, HookNameError, "nearest: blocks.0.attn.hook_z"),
        ({f"{Z}[head=4]": Zero()}, SiteError, "has head 0 to 3; there is no head 4"),
        ({f"{MLP}[pos=16]": Zero()}, SiteError, "has pos 0 to 15"),
        ({f"{MLP}[head=0]": Zero()}, SiteError, "has no head axis"),
        ({"blocks.0.attn.hook_pattern[neuron=0]": Zero()}, SiteError, "no neuron axis"),
        ({MLP: lambda value: None}, InterventionError, "must return the new tensor"),
        ({MLP: lambda value: value[:, 1:]}, InterventionError, r"made \[4, 15, 32\] of"),
        ({MLP: Steer(torch.ones(5))}, InterventionError, r"vector is \[5\], which does not"),
        ({MLP: Zero(examples=[True, False])}, InterventionError, "2 entries for a batch of 4"),
        ({MLP: nan}, NonFiniteError, "made 2048 of 2048 values NaN"),
        ({MLP: lambda value: value.clone()}, NoEffectError, "fired 1 times and changed nothing"),
        ({MLP: Zero(), "blocks.*.hook_mlp_out[pos=3]": Zero()}, InterventionError, "both claim"),
        ({f"{Z}[head=1]": Zero(), f"{Z}[pos=2]": Zero()}, InterventionError, "both claim"),
        ({f"{Z}[pos=-1]": Zero(), f"{Z}[pos=2]": Zero()}, InterventionError, "both claim"),
    ],
)
def test_misuse_is_a_sentence(model, clean, interventions, error, sentence):
    with pytest.raises(error, match=sentence):
        run(model, clean, interventions)


def test_an_intervention_that_no_run_came_past_is_an_error_unless_allowed(model, clean):
    never = pytest.raises(NoEffectError, match=r"never fired at blocks\.1\.hook_mlp_out: ")
    with never, intervene(model, {MLP: Zero()}):
        pass
    one_of_three = pytest.raises(NoEffectError, match=r"never fired at blocks\.2\.hook_mlp_out: ")
    with one_of_three, intervene(model, {"blocks.*.hook_mlp_out": Zero()}):
        model(clean, stop_at_layer=2)
    with intervene(model, {MLP: Zero()}, allow_no_effect=True) as receipt:
        pass
    assert (receipt[MLP].fired, receipt[MLP].relative_norm) == (0, 0.0)


def test_a_patch_or_reference_that_does_not_fit_is_a_sentence(model, clean):
    kept = cache(model, clean, MLP)
    shorter = cache(model, clean[:, :9], MLP)
    cases = [
        (Patch(cache(model, clean[:2], MLP)), "is of 2 examples, this run of 4"),
        (Patch(shorter), r"is \[4, 9, 32\], but in this run it is \[batch pos neuron\]"),
        (Patch(cache(model, clean, Z)), r"the reference holds no blocks.1.hook_mlp_out; make it"),
        (Mean(shorter, positions="each"), r"is \[4, 9, 32\], but in this run"),
        (Mean(kept, mask=torch.zeros(4, 16, dtype=torch.bool)), "the reference set is empty"),
        (Mean({MLP: torch.empty(0, 16, 32)}), "the reference set is empty"),
        (Mean(kept, mask=torch.ones(4, 3, dtype=torch.bool)), r"the mask is \[4, 3\]"),
        (Resample({MLP: torch.empty(0, 16, 32)}), "no other one to draw"),
    ]
    for intervention, sentence in cases:
        with pytest.raises(InterventionError, match=sentence):
            run(model, clean, {MLP: intervention})
    with pytest.raises(InterventionError, match="no other one to draw"):
        run(model, clean[:1], {MLP: Resample(cache(model, clean[:1], MLP))})


def test_attention_averaged_over_positions_is_refused_with_what_works(model, clean):
    name = "blocks.0.attn.hook_pattern"
    kept = cache(model, clean, name)
    with pytest.raises(InterventionError, match="positions='each'"):
        run(model, clean, {name: Mean(kept)})


def test_tokens_are_no_activation(bridge):
    with pytest.raises(InterventionError, match="carries no activation"):
        run(bridge, torch.arange(4).view(1, 4), {"embed.hook_in": Zero()})
