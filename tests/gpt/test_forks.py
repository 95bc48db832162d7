"""Heads that read inputs of their own, against plain torch."""

import copy
import pickle
from functools import partial

import pytest
import torch

from gpt import GPT, GPTConfig
from gpt.errors import HookNameError, HookNeverFiredError, UsageError
from gpt.ladder import RUNGS
from interp import HookNameError as NoSuchSite
from interp import Zero, cache, intervene, sites, sweep
from tests.interp.circuits.by_hand import gap, random_gpt, random_pair, run_by_hand

TOKENS = random_pair()[0]
SPLIT = [f"blocks.{layer}.attn.hook_{kind}_input" for layer in range(3) for kind in "qkv"]
SHARED = [f"blocks.{layer}.hook_attn_in" for layer in range(3)]


@pytest.fixture
def model() -> GPT:
    return random_gpt()


def add_to_head(copies, hook, head, delta):
    copies[:, :, head] += delta


def run_with_delta(model, hook, head, delta):
    change = partial(add_to_head, head=head, delta=delta)
    with torch.no_grad():
        return model.run_with_hooks(TOKENS, fwd_hooks=[(hook, change)])


@pytest.mark.parametrize(
    ("flag", "points"), [("split_qkv_input", SPLIT), ("attn_in", SHARED)], ids=["split", "shared"]
)
def test_a_flag_that_is_on_changes_nothing_until_somebody_watches(model, flag, points):
    before, names = model(TOKENS), [*model.hook_dict]
    getattr(model, f"set_use_{flag}")(True)
    assert torch.equal(model(TOKENS), before)
    assert {*model.hook_dict} == {*names, *points}
    logits, kept = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, before)
    for name in points:
        stream = kept["resid_pre", int(name.split(".")[1])]
        assert torch.equal(kept[name], stream[:, :, None].expand(-1, -1, 2, -1)), name
    getattr(model, f"set_use_{flag}")(False)
    assert [*model.hook_dict] == names
    assert vars(model).keys() == vars(random_gpt()).keys()
    logits, kept = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, before)
    assert kept["blocks.0.hook_attn_in"].shape == kept["resid_pre", 0].shape
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_an_edit_of_one_heads_input_reaches_that_head_alone(model, kind):
    model.set_use_split_qkv_input(True)
    delta = torch.randn(*TOKENS.shape, 8)
    found = run_with_delta(model, f"blocks.1.attn.hook_{kind}_input", 1, delta)
    expected, _ = run_by_hand(model, TOKENS, {f"a1.h1.{kind}": delta})
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, model(TOKENS), atol=1e-3)


def test_an_edit_of_what_a_head_attends_with_reaches_its_query_key_and_value(model):
    model.set_use_attn_in(True)
    delta = torch.randn(*TOKENS.shape, 8)
    found = run_with_delta(model, "blocks.2.hook_attn_in", 0, delta)
    expected, _ = run_by_hand(model, TOKENS, {f"a2.h0.{kind}": delta for kind in "qkv"})
    torch.testing.assert_close(found, expected)


def test_gradients_at_the_inputs_of_all_heads_sum_to_that_of_what_attention_reads(model):
    model.set_use_split_qkv_input(True)
    loss = {"return_type": "loss", "incl_bwd": True}
    _, apart = model.run_with_cache(TOKENS, names_filter=SPLIT, **loss)
    model.set_use_split_qkv_input(False)
    _, whole = model.run_with_cache(TOKENS, names_filter="blocks.1.hook_attn_in", **loss)
    total = sum(apart[f"blocks.1.attn.hook_{kind}_input_grad"].sum(2) for kind in "qkv")
    torch.testing.assert_close(total, whole["blocks.1.hook_attn_in_grad"])


def test_an_edit_of_the_stream_that_attention_reads_comes_before_the_copies(model):
    model.set_use_split_qkv_input(True)
    edit = [("blocks.1.hook_attn_in", lambda x, hook: x * 2)]
    expected = model.run_with_hooks(TOKENS, fwd_hooks=edit)
    found = model.run_with_hooks(TOKENS, fwd_hooks=[*edit, (SPLIT[3], lambda x, hook: x.clone())])
    torch.testing.assert_close(found, expected)


def test_a_copy_of_the_model_has_inputs_of_its_own(model):
    model.set_use_split_qkv_input(True)
    expected = model(TOKENS)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            made.blocks[1].attn.value.weight.zero_()
            made.blocks[1].attn.value.bias.zero_()
        silent = made(TOKENS)
        found = made.run_with_hooks(TOKENS, fwd_hooks=[(SPLIT[5], lambda x, hook: x * 3)])
        torch.testing.assert_close(found, silent)
        assert torch.equal(model(TOKENS), expected)


@pytest.mark.parametrize("rung", ["one head", "blocks", "residual", "layer norm", "scaled"])
def test_rungs_of_the_ladder_have_them_too_with_or_without_a_norm(rung):
    torch.manual_seed(0)
    model = RUNGS[rung](GPTConfig(block_size=8, vocab_size=13, n_layer=2, n_head=2, n_embd=8))
    model.eval().set_use_split_qkv_input(True)
    logits, _ = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, model(TOKENS))
    first, other = model.blocks[0], torch.randn(*TOKENS.shape, 8)
    names = ["blocks.0.attn.hook_k_input", "blocks.0.attn.hook_k"]
    read = []
    hooks = [
        (names[0], lambda x, hook: other[:, :, None].expand_as(x)),
        (names[1], lambda x, hook: read.append(x)),
    ]
    model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    normed = first.ln1(other) if hasattr(first, "ln1") else other
    torch.testing.assert_close(read[0].flatten(2), first.attn.key(normed))


def test_what_cannot_be_is_said_in_a_sentence(model):
    refused = partial(pytest.raises, UsageError)
    for name in (SPLIT[0], [SPLIT[0]]):
        with pytest.raises(HookNameError, match=r"only after set_use_split_qkv_input\(True\)"):
            model.run_with_cache(TOKENS, names_filter=name)
    with pytest.raises(HookNameError, match=r"only after set_use_split_qkv_input\(True\)"):
        model.run_with_hooks(TOKENS, fwd_hooks=[(SPLIT[0], lambda x, hook: x)])
    with pytest.raises(NoSuchSite, match=r"set_use_split_qkv_input\(True\)"):
        sites(model, SPLIT[0])
    model.set_use_split_qkv_input(True)
    with refused(match=r"exclude each other: call set_use_split_qkv_input\(False\) first"):
        model.set_use_attn_in(True)
    model.add_hook(SPLIT[0], lambda x, hook: x)
    with refused(match=r"blocks\.0\.attn\.hook_q_input has hooks: take them off"):
        model.set_use_split_qkv_input(False)
    model.reset_hooks()
    edit = [(name, lambda x, hook: x * 2) for name in (SPLIT[0], "blocks.0.ln1.hook_normalized")]
    with refused(match=r"the query map of blocks\.0 reads what a hook or an edited line makes"):
        model.run_with_hooks(TOKENS, fwd_hooks=edit)
    with refused(match="needs layers of attention"):
        RUNGS["bigram"](GPTConfig()).set_use_attn_in(True)


def test_a_head_whose_layer_reads_no_norm_any_more_is_refused(model):
    model.set_use_split_qkv_input(True)

    def cut(x):
        return x + model.blocks[1].attn(x)

    model.blocks[1].forward = cut
    with pytest.raises(HookNeverFiredError, match="never reached"):
        model.run_with_hooks(TOKENS, fwd_hooks=[(SPLIT[3], lambda x, hook: x)])


def test_our_instruments_see_inputs_of_heads_as_any_other_site(model):
    model.double().set_use_split_qkv_input(True)
    site = "blocks.1.attn.hook_v_input"
    assert [str(each) for each in sites(model, site, each="head")] == [
        f"{site}[head=0]",
        f"{site}[head=1]",
    ]
    kept = cache(model, TOKENS, site)[site]
    assert kept.shape == (*TOKENS.shape, 2, 8)
    with intervene(model, {f"{site}[head=1]": Zero()}), torch.no_grad():
        cut = gap(model(TOKENS), TOKENS)
    expected = gap(run_by_hand(model, TOKENS, {"a1.h1.v": -kept[:, :, 1]})[0], TOKENS)
    torch.testing.assert_close(cut, expected)
    table = sweep(model, TOKENS, {f"{site}[head=1]": Zero()}, gap, progress=False)
    assert table["value"].iloc[0] == pytest.approx(cut.mean().item(), abs=1e-6)


def test_flags_that_nothing_depends_on_are_told_by_cfg(model):
    def flags():
        cfg = model.cfg
        return cfg.use_attn_result, cfg.use_split_qkv_input, cfg.use_hook_mlp_in, cfg.use_attn_in

    assert flags() == (False,) * 4
    model.set_use_attn_result(True)
    model.set_use_hook_mlp_in(True)
    model.set_use_attn_in(True)
    assert flags() == (True, False, True, True)
    assert "blocks.0.attn.hook_result" in model.run_with_cache(TOKENS)[1]
    model.set_use_attn_result(False)
    assert "blocks.0.attn.hook_result" not in model.run_with_cache(TOKENS)[1]
    assert flags() == (False, False, True, True)
