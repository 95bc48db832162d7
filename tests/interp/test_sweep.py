import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    NoEffectError,
    NonFiniteError,
    UsageError,
)
from interp.interventions import Mean, Noise, Patch, Resample, Steer, Zero
from interp.metrics import accuracy, kl_from, logit_difference, loss, loss_at
from interp.site import sites
from interp.sweep import effects_of, plan, sweep
from interp.sweeps.budget import least_bytes
from interp.sweeps.speed.components import components_of
from tests.interp.plain_loop import assert_as_the_loop, random_model, random_tokens

KINDS = {
    "blocks.*.hook_resid_pre": ("pos", None),
    "blocks.*.hook_resid_mid": ("pos", None),
    "blocks.*.hook_resid_post": ("pos",),
    "blocks.*.hook_attn_in": ("pos", None),
    "blocks.*.hook_attn_out": ("pos", None),
    "blocks.*.hook_mlp_in": ("pos",),
    "blocks.*.hook_mlp_out": ("pos", None),
    "blocks.*.attn.hook_z": ("head", ("head", "pos"), ("head", "neuron"), None),
    "blocks.*.attn.hook_q": ("head", ("head", "pos"), None),
    "blocks.*.attn.hook_k": ("head", ("head", "pos"), "pos"),
    "blocks.*.attn.hook_v": ("head", ("head", "pos"), None),
    "blocks.*.attn.hook_pattern": ("head", ("head", "pos"), "pos", None),
    "blocks.*.attn.hook_attn_scores": ("head",),
    "blocks.*.attn.hook_result": ("head", ("head", "pos"), None),
    "blocks.*.mlp.hook_pre": (None,),
    "blocks.*.mlp.hook_post": ("neuron", "pos", None),
    "blocks.*.ln2.hook_normalized": (None,),
    "hook_embed": ("pos", None),
    "hook_pos_embed": ("pos",),
    "ln_final.hook_normalized": ("pos",),
}


CASES = [(kind, each) for kind, splits in KINDS.items() for each in splits]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(CASES),
    what=st.sampled_from(["zero", "patch", "same start", "noise", "steer", "resample", "mean"]),
    metric=st.sampled_from(["loss", "last", "answers", "somewhere", "kl", "accuracy"]),
    n_layer=st.integers(1, 3),
    n_head=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    batch=st.integers(1, 3),
    length=st.integers(2, 12),
    some=st.booleans(),
    seed=st.integers(0, 5),
)
def test_a_sweep_equals_the_plain_loop(
    case, what, metric, n_layer, n_head, bias, batch, length, some, seed
):
    model = random_model(seed, n_layer=n_layer, n_head=n_head, bias=bias)
    tokens, other = random_tokens(seed, batch, length), random_tokens(seed + 100, batch, length)
    kind, each = case
    if what == "same start":
        other[:, : length // 2] = tokens[:, : length // 2]
    reference = cache(model, other, [kind])
    examples = [True, *[False] * (batch - 1)] if some else None
    intervention = {
        "zero": Zero(examples=examples),
        "patch": Patch(reference, examples=examples),
        "same start": Patch(reference, examples=examples),
        "noise": Noise(std=1.0, seed=seed, examples=examples),
        "steer": Steer(torch.tensor([2.0]), examples=examples),
        "resample": Resample(cache(model, random_tokens(1, 4, length), [kind]), examples=examples),
        "mean": Mean(reference, positions="each", examples=examples),
    }[what]
    with torch.no_grad():
        baseline = model(other)
    measure = {
        "loss": loss,
        "last": logit_difference(1, 2),
        "answers": logit_difference(tokens[:, 0], other[:, 0], pos=length // 2),
        "somewhere": loss_at(length // 2 - 1),
        "kl": kl_from(baseline),
        "accuracy": accuracy,
    }[metric]
    found = sites(model, kind, each=each, tokens=tokens)
    found = found[:6] + found[-6:]
    effects = assert_as_the_loop(model, tokens, [(site, intervention) for site in found], measure)
    assert not effects.plan.routes.looped or "ln_final" in kind


BY_BLOCK = {
    "blocks.*.attn.hook_attn_scores",
    "blocks.*.mlp.hook_pre",
    "blocks.*.ln2.hook_normalized",
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "ln_final" not in kind])
def test_every_kind_of_site_is_answered_in_the_cheapest_way_there_is_for_it(kind):
    model, tokens = random_model(2, n_layer=4), random_tokens(3, 3, 10)
    reference = cache(model, random_tokens(4, 3, 10), [kind])
    found = [site for each in KINDS[kind] for site in sites(model, kind, each=each, tokens=tokens)]
    grid = [(site, Patch(reference)) for site in found]
    effects = assert_as_the_loop(model, tokens, grid, loss)
    by_block = effects.plan.routes.by_block
    assert len(by_block.entries if by_block else ()) == (len(grid) if kind in BY_BLOCK else 0)
    assert not effects.plan.routes.looped


def test_cells_before_the_first_difference_of_two_texts_cost_nothing_and_are_zero(model):
    clean, corrupted = random_tokens(0, 2, 8), random_tokens(1, 2, 8)
    corrupted[:, :4] = clean[:, :4]
    reference = cache(model, clean, "blocks.*.hook_resid_pre")
    grid = [
        (site, Patch(reference))
        for site in sites(model, "blocks.*.hook_resid_pre", each="pos", tokens=clean)
    ]
    table = sweep(model, corrupted, grid, logit_difference(1, 2), progress=False)
    before = table["pos"] < 4
    assert (table.loc[before, "delta"] == 0).all()
    assert (table.loc[before, "changed"] == 0).all()
    assert (table.loc[~before, "changed"] > 0).all()
    assert (table["skipped"] == before).all()
    explained = plan(model, corrupted, grid, logit_difference(1, 2)).explain()
    assert "12 change nothing that the metric reads" in explained
    assert "the metric reads 1 of 8 positions" in explained


def test_a_plan_costs_less_than_the_loop_and_less_the_later_the_layer(model, text_tokens):
    costs = []
    for layer in range(3):
        heads = sites(model, f"blocks.{layer}.attn.hook_z", each="head")
        found = plan(model, text_tokens, [(site, Zero()) for site in heads], loss)
        assert found.flops < found.loop_flops
        costs.append(found.flops)
    assert costs == sorted(costs, reverse=True)


def test_a_glob_is_one_question_about_all_that_it_matches(model, text_tokens):
    questions = [("blocks.*.attn.hook_z[head=1]", Zero()), ("blocks.1.hook_mlp_out", Zero())]
    effects = assert_as_the_loop(model, text_tokens, questions, loss)
    assert effects.plan.routes.looped == [0]
    table = sweep(model, text_tokens, dict(questions), loss, progress=False)
    assert table["site"].tolist() == [key for key, _ in questions]


def test_a_plan_says_which_run_whole_because_they_change_several_sites(model, text_tokens):
    questions = {"blocks.*.hook_mlp_out": Zero(), "blocks.0.hook_attn_out": Zero()}
    explained = plan(model, text_tokens, questions, loss).explain()
    assert "1 run in a forward pass each\n  - 1 because several sites are changed" in explained
    del questions["blocks.*.hook_mlp_out"]
    assert "several sites" not in plan(model, text_tokens, questions, loss).explain()


def test_the_table_says_where_what_and_how_sure(model, text_tokens):
    heads = sites(model, "blocks.*.attn.hook_z", each="head")
    table = sweep(model, text_tokens, {site: Zero() for site in heads}, loss, progress=False)
    assert len(table) == 12
    assert table["head"].tolist() == list(range(4)) * 3
    assert set(table["metric"]) == {"loss"}
    assert set(table["intervention"]) == {"Zero()"}
    assert set(table["n"]) == {12}
    assert (table["ci_low"] <= table["delta"]).all()
    assert (table["delta"] <= table["ci_high"]).all()
    assert set(table["file"]) == {"gpt/model.py"}


def test_a_screened_sweep_says_which_values_are_exact(model, text_tokens):
    heads = {site: Zero() for site in sites(model, "blocks.*.attn.hook_z", each="head")}
    exact = sweep(model, text_tokens, heads, loss, progress=False)
    table = sweep(model, text_tokens, heads, loss, screen="bfloat16", verify=4, progress=False)
    again = table["precision"] == "exact"
    assert again.sum() == 4
    assert set(table["precision"]) == {"exact", "bfloat16"}
    least = table.loc[again, "delta"].abs().min()
    np.testing.assert_allclose(table["delta"][again], exact["delta"][again], atol=1e-6)
    rough = (table["delta"] - exact["delta"])[~again].abs()
    assert 0 < rough.max() < 0.5 * exact["delta"].std()
    assert (table.loc[~again, "delta"].abs() <= least + 0.5 * exact["delta"].std()).all()
    assert next(model.parameters()).dtype == torch.float32


def test_a_models_mode_and_hooks_are_as_before(text_tokens):
    model = random_model(0, vocab_size=100, block_size=16, n_layer=1, dropout=0.5)
    model.train()
    sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, loss, progress=False)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_rounds_that_fit_into_little_memory_give_the_same(model, text_tokens):
    questions = [
        (site, Zero())
        for site in sites(model, "blocks.*.hook_resid_pre", each="pos", tokens=text_tokens)
    ]
    wide = effects_of(model, text_tokens, questions, loss, progress=False)
    assert len(wide.plan.routes.fast_path.rounds) == 1
    needed = least_bytes(wide.plan.request, wide.plan.routes.fast_path)
    narrow = effects_of(model, text_tokens, questions, loss, progress=False, memory=needed)
    assert len(narrow.plan.routes.fast_path.rounds) > 1
    np.testing.assert_allclose(narrow.values, wide.values, atol=1e-5)
    second_copy = wide.plan.routes.fast_path.components.own_bytes - components_of(model).own_bytes
    assert second_copy >= sum(weight.nbytes for weight in model.blocks.parameters())
    tight = effects_of(
        model, text_tokens, questions, loss, progress=False, memory=needed - second_copy
    )
    assert not tight.plan.routes.fast_path.components.unembedding.reordered
    np.testing.assert_allclose(tight.values, wide.values, atol=1e-5)
    with pytest.raises(UsageError, match="fewer texts"):
        sweep(model, text_tokens, questions, loss, progress=False, memory=needed // 2)


@pytest.mark.parametrize(
    ("questions", "error", "sentence"),
    [
        ({}, UsageError, "nothing to sweep"),
        ({"blocks.0.hook_zz": Zero()}, HookNameError, "nearest"),
        ({"blocks.0.hook_mlp_out": Steer(torch.ones(3))}, InterventionError, "broadcast"),
        ({"blocks.0.hook_mlp_out": lambda x: x / 0}, NonFiniteError, "NaN or infinite"),
        ({"blocks.0.attn.hook_pattern": lambda x: x / 0}, NonFiniteError, "NaN or infinite"),
        ({"blocks.0.hook_mlp_out": lambda x: x}, NoEffectError, "none of 1"),
    ],
)
def test_what_cannot_be_swept_is_a_sentence(model, text_tokens, questions, error, sentence):
    with pytest.raises(error, match=sentence):
        sweep(model, text_tokens, questions, loss, progress=False)


@pytest.mark.parametrize("memory", ["much", "2 parsecs", "GiB"])
def test_a_memory_that_is_none_is_a_sentence(model, text_tokens, memory):
    with pytest.raises(UsageError, match="write it like"):
        sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, loss, memory=memory)
