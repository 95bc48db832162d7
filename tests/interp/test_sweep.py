import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gpt import GPT, GPTConfig
from interp.attribution import attribution
from interp.caching import cache
from interp.errors import (
    HookNameError,
    InterventionError,
    NoEffectError,
    NonFiniteError,
    UsageError,
)
from interp.interventions import Mean, Noise, Patch, Resample, Steer, Zero, intervene
from interp.metrics import accuracy, kl_from, logit_difference, loss, loss_at
from interp.patching import patch_each
from interp.site import Site, sites
from interp.sweep import effects_of, plan, sweep
from interp.sweeps.budget import least_bytes
from interp.sweeps.components import components_of

VOCAB = 13

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


def random_model(seed, **size):
    size = {"block_size": 12, "vocab_size": VOCAB, "n_layer": 2, "n_head": 2, "n_embd": 8} | size
    model = GPT(GPTConfig(**size), seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def random_tokens(seed, batch, length):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (batch, length), generator=generator)


def looped(model, tokens, questions, metric):
    """Every question's metric from a run of its own, [question batch]."""
    values = []
    with torch.no_grad():
        for site, intervention in questions:
            with intervene(model, {site: intervention}, allow_no_effect=True):
                values.append(metric(model(tokens), tokens))
    return torch.stack(values).double().numpy()


def assert_as_the_loop(model, tokens, questions, metric):
    effects = effects_of(model, tokens, questions, metric, progress=False, allow_no_effect=True)
    expected = looped(model, tokens, questions, metric)
    np.testing.assert_allclose(effects.values, expected, rtol=1e-4, atol=1e-5)
    return effects


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


FROM_THEIR_LAYER = {
    "blocks.*.attn.hook_attn_scores",
    "blocks.*.mlp.hook_pre",
    "blocks.*.ln2.hook_normalized",
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "ln_final" not in kind])
def test_every_kind_of_site_is_answered_in_the_cheapest_way_there_is_for_it(kind):
    model, tokens = random_model(2, n_layer=3), random_tokens(3, 3, 10)
    reference = cache(model, random_tokens(4, 3, 10), [kind])
    found = [site for each in KINDS[kind] for site in sites(model, kind, each=each, tokens=tokens)]
    grid = [(site, Patch(reference)) for site in found]
    effects = assert_as_the_loop(model, tokens, grid, loss)
    started = sum(map(len, effects.plan.routes.from_layer.values()))
    assert started == (len(grid) if kind in FROM_THEIR_LAYER else 0)
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


def test_a_metric_that_reads_where_the_logits_tell_it_to_gets_what_it_reads(model, text_tokens):
    def wandering(logits, tokens):
        at = 3 if float(logits[:, 5].mean()) > threshold else 9
        return logits[:, at, 0]

    with torch.no_grad():
        threshold = float(model(text_tokens)[:, 5].mean())
    questions = [(site, Zero()) for site in sites(model, "blocks.*.attn.hook_z", each="head")]
    effects = assert_as_the_loop(model, text_tokens, questions, wandering)
    assert len(np.unique(np.sign(effects.values.mean(1) - effects.baseline.mean()))) > 1
    explained = plan(model, text_tokens, questions, wandering).explain()
    assert explained == effects.plan.explain()
    assert "the metric reads" not in explained


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


def with_other_block(model):
    block = model.blocks[1]
    plain = block.forward
    block.forward = lambda x: plain(x) - block.attn(block.ln1(x))


def with_clipped_stream(model):
    block = model.blocks[1]
    plain = block.forward
    block.forward = lambda x: plain(x.clamp(-6, 6))


def with_attention_to_everything(model):
    attn = model.blocks[1].attn

    def forward(x):
        heads = (*x.shape[:2], attn.n_head, attn.d_head)
        q, k, v = (
            hook(linear(x).view(heads)).transpose(1, 2)
            for hook, linear in (
                (attn.hook_q, attn.query),
                (attn.hook_k, attn.key),
                (attn.hook_v, attn.value),
            )
        )
        z = attn.hook_z(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2))
        return attn.proj(z.flatten(2))

    attn.forward = forward


def with_an_mlp_that_mixes_positions(model):
    mlp = model.blocks[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x + x.cumsum(dim=1))


def with_an_mlp_that_mixes_examples(model):
    mlp = model.blocks[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x - x.mean(dim=0, keepdim=True))


def with_a_hook_that_nothing_reads(model):
    block = model.blocks[1]

    def forward(x):
        x = block.hook_resid_pre(x)
        x = block.hook_resid_mid(x + block.hook_attn_out(block.attn(block.ln1(x))))
        mlp_out = block.mlp(block.ln2(block.hook_mlp_in(x)))
        block.hook_mlp_out(mlp_out)
        return block.hook_resid_post(x + mlp_out)

    block.forward = forward


def with_another_final_norm(model):
    model.lm_head.register_buffer("scale", torch.tensor(2.0))
    plain = model.lm_head.forward
    model.lm_head.forward = lambda x: plain(x) * model.lm_head.scale


EDITS = [
    with_other_block,
    with_clipped_stream,
    with_attention_to_everything,
    with_an_mlp_that_mixes_positions,
    with_an_mlp_that_mixes_examples,
    with_a_hook_that_nothing_reads,
    with_another_final_norm,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_model_never_gets_a_wrong_fast_path(edit):
    model, tokens = random_model(3, n_layer=3), random_tokens(2, 3, 10)
    edit(model)
    questions = [
        (site, Zero())
        for kind, each in (("blocks.*.attn.hook_z", "head"), ("blocks.*.hook_mlp_out", "pos"))
        for site in sites(model, kind, each=each, tokens=tokens)
    ]
    effects = assert_as_the_loop(model, tokens, questions, loss)
    assert effects.plan.routes.fast_path is None
    assert effects.plan.routes.notes


def test_a_hook_that_was_there_before_sends_the_sweep_through_the_plain_loop(model, text_tokens):
    questions = [(Site("blocks.1.attn.hook_z", head=head), Zero()) for head in range(4)]
    with intervene(model, {"blocks.0.hook_mlp_out": Zero()}):
        effects = assert_as_the_loop(model, text_tokens, questions, loss)
    assert effects.plan.routes.looped == [0, 1, 2, 3]
    assert "there are hooks on its blocks.0.hook_mlp_out" in effects.plan.explain()


def test_a_bridge_gets_the_same_answers_from_the_plain_loop(bridge):
    tokens = torch.arange(12).view(2, 6)
    questions = [
        (site, Zero()) for site in sites(bridge, "blocks.*.attn.hook_z", each="head", tokens=tokens)
    ]
    effects = assert_as_the_loop(bridge, tokens, questions, loss)
    assert len(effects.plan.routes.looped) == len(questions)


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


class Wrapped(GPT):
    """A GPT that returns its logits as others' models do."""

    how = "alone"

    def forward(self, tokens, *args, **kwargs):
        logits = super().forward(tokens, *args, **kwargs)
        if "last" in self.how:
            logits = logits[:, -1:]
        outputs = {"tuple": (logits, None), "mapping": {"loss": None, "logits": logits}}
        outputs["object"] = types.SimpleNamespace(logits=logits, loss=None)
        return outputs.get(self.how.split()[-1], logits)


@pytest.fixture
def wrapped(model):
    model.__class__ = Wrapped
    return model


LAST = logit_difference(1, 2)


@pytest.mark.parametrize("how", ["tuple", "mapping", "object", "last tuple", "last alone"])
def test_logits_are_found_in_whatever_a_model_returns(wrapped, text_tokens, how):
    heads = sites(wrapped, "blocks.*.attn.hook_z", each="head")
    questions = {site: Zero() for site in heads[:3]} | {"blocks.0.mlp.hook_pre": Zero()}
    expected = sweep(wrapped, text_tokens, questions, LAST, progress=False)
    wrapped.how = how
    found = sweep(wrapped, text_tokens, questions, LAST, progress=False)
    np.testing.assert_allclose(found["delta"], expected["delta"], atol=1e-6)
    patched = patch_each(wrapped, text_tokens[:6], text_tokens[6:], LAST, heads[:2], progress=False)
    scored = attribution(wrapped, text_tokens[:6], text_tokens[6:], LAST, heads[:2], progress=False)
    np.testing.assert_allclose(scored.table["exact"], patched["delta"], atol=1e-6)
    if "last" in how:
        for metric in (loss, logit_difference(1, 2, pos=3)):
            with pytest.raises(UsageError, match="logits of the last of 16 positions only"):
                sweep(wrapped, text_tokens, questions, metric, progress=False)


def test_a_model_without_logits_is_a_sentence(model, text_tokens):
    model.forward = lambda tokens: GPT.forward(model, tokens, return_type="loss")
    with pytest.raises(UsageError, match="there are no logits"):
        sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, loss, progress=False)


METRICS = {
    "bool": lambda logits, _: logits[:, -1].argmax(dim=-1) == 1,
    "int": lambda logits, _: logits[:, -1].argmax(dim=-1),
    "half": lambda logits, _: logits[:, -1, 0].half(),
    "numpy": lambda logits, _: logits.numpy()[:, 3, 1],
    "floats": lambda logits, _: [float(each) for each in logits[:, 2, 1]],
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_may_give_numbers_of_any_kind(model, text_tokens, metric):
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.lm_head.weight[0] = model.lm_head.weight[1]  # argmax is not always the same
    questions = {site: Zero() for site in sites(model, "blocks.*.attn.hook_z", each="head")}
    effects = effects_of(model, text_tokens, questions, metric, progress=False)
    for site, values in zip(questions, effects.values, strict=True):
        with torch.no_grad(), intervene(model, {site: Zero()}):
            expected = np.asarray(metric(model(text_tokens), text_tokens), dtype=float)
        np.testing.assert_allclose(values, expected, atol=2e-3)


def test_positions_that_are_not_there_are_not_read(model, text_tokens):
    for metric in (lambda x, _: x[:, 16, 0], lambda x, _: x[:, [-17], 0][:, 0]):
        with pytest.raises(IndexError):
            sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, metric, progress=False)


def test_a_half_precision_model_is_measured_in_single_precision(bridge):
    tokens = torch.randint(31, (4, 12), generator=torch.Generator().manual_seed(0))
    questions = {site: Zero() for site in sites(bridge, "blocks.*.attn.hook_z", each="head")}
    half = bridge.to(torch.bfloat16)
    table = sweep(half, tokens, questions, loss, progress=False)
    with torch.no_grad():
        before = loss(half(tokens).double(), tokens).mean()
        for site, delta in zip(questions, table["delta"], strict=True):
            with intervene(half, {site: Zero()}):
                after = loss(half(tokens).double(), tokens).mean()
            assert delta == pytest.approx(float(after - before), abs=1e-6)


def test_under_autocast_a_sweep_is_the_loop(model, text_tokens):
    questions = {site: Zero() for site in sites(model, "blocks.*.attn.hook_z", each="head")}
    with torch.autocast("cpu", torch.bfloat16):
        effects = effects_of(model, text_tokens, questions, loss, progress=False)
        np.testing.assert_allclose(
            effects.values, looped(model, text_tokens, questions.items(), loss), atol=1e-6
        )
        heads = list(questions)
        attribution(model, text_tokens[:6], text_tokens[6:], LAST, heads, verify=2, progress=False)
    assert "autocast" in effects.plan.explain()


@pytest.mark.parametrize("memory", ["much", "2 parsecs", "GiB"])
def test_a_memory_that_is_none_is_a_sentence(model, text_tokens, memory):
    with pytest.raises(UsageError, match="write it like"):
        sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, loss, memory=memory)


def test_a_metric_must_give_a_finite_number_per_example(model, text_tokens):
    question = {"blocks.0.hook_mlp_out": Zero()}
    with pytest.raises(UsageError, match="one number for each example"):
        sweep(model, text_tokens, question, lambda logits, _: logits.mean(), progress=False)
    with pytest.raises(NonFiniteError, match="not a finite number"):
        sweep(model, text_tokens, question, lambda logits, _: logits[:, 0, 0] / 0, progress=False)
    with pytest.raises(UsageError, match="gives str; it must give one number"):
        sweep(model, text_tokens, question, lambda logits, _: "good", progress=False)
    with pytest.raises(UsageError, match="gives complex64"):
        sweep(model, text_tokens, question, lambda logits, _: logits[:, 0, 0] * 1j, progress=False)
    with pytest.raises(UsageError, match="they must be pairs"):
        sweep(model, text_tokens, question, loss, metric_tokens=text_tokens[:2], progress=False)
