"""A value that the field has a name for answers to that name, with its axis of heads; and what
cannot be confirmed has no name, but a sentence."""

import re
from functools import partial

import pytest
import torch

import interp as ip
from interp import hook_lines
from tests.interp.line_hooks.families import FAMILIES, TOKENS, built, seen_by_hooks, viewed


def as_rows(value, axes=None):
    """A value as [batch pos number]."""
    if axes is not None:
        value = value.movedim((axes.index("batch"), axes.index("pos")), (0, 1))
    return value.flatten(2)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_names_are_those_of_what_modules_take_and_return(name):
    family, (model, view) = FAMILIES[name], viewed(name)
    logits = model(TOKENS).logits
    assert torch.equal(view(TOKENS), logits)
    expected = seen_by_hooks(model, family, lambda: model(TOKENS))
    seen = ip.cache(view, TOKENS, [*expected])
    for each, value in expected.items():
        axes = view.hook_dict[each].axes
        assert torch.equal(as_rows(seen[each], axes), as_rows(value)), each
    for number in range(2):
        at = f"blocks.{number}"
        heads, few = family.heads
        counts = {"z": heads, "q": heads, "k": few, "v": few}
        for kind, count in counts.items():
            assert len(ip.sites(view, f"{at}.attn.hook_{kind}", each="head")) == count
        if family.parallel:
            assert f"{at}.hook_resid_mid" not in view.hook_dict
        else:
            mid = ip.cache(view, TOKENS, f"{at}.hook_resid_mid")[f"{at}.hook_resid_mid"]
            total = expected[f"{at}.hook_resid_pre"] + expected[f"{at}.hook_attn_out"]
            assert torch.allclose(mid, total, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_head_set_to_zero_is_its_columns_of_the_projection_set_to_zero(name):
    family, (model, view) = FAMILIES[name], viewed(name)
    path = f"{family.blocks}.1.{family.at['attn.hook_z'][0]}"
    for head in (0, 3):
        edited = built(name)
        projection = edited.get_submodule(path)
        rows = projection.weight if name == "gpt2" else projection.weight.T
        rows.unflatten(0, (4, -1))[head] = 0
        with ip.intervene(view, {f"blocks.1.attn.hook_z[head={head}]": ip.Zero()}):
            assert (view(TOKENS) - edited(TOKENS).logits).abs().max() < 1e-5
    assert (edited(TOKENS).logits - model(TOKENS).logits).abs().max() > 1e-3


@torch.no_grad()
def test_axes_of_equal_size_are_told_apart():
    torch.manual_seed(0)
    tokens = torch.randint(31, (4, 4))  # as many texts as tokens, as heads, as neurons of a head
    view = hook_lines(built("gpt2"), tokens)
    (z,) = ip.sites(view, "blocks.1.attn.hook_z")
    assert view.hook_dict[z.hook].axes == ("batch", "pos", "head", "neuron")
    assert view.hook_dict["blocks.1.attn.hook_q"].axes == ("batch", "head", "pos", "neuron")
    with ip.intervene(view, {"blocks.1.attn.hook_z[head=2,pos=1]": ip.Zero()}):
        seen = ip.cache(view, tokens, ["blocks.1.attn.hook_z"])["blocks.1.attn.hook_z"]
    assert (seen[:, 1, 2] == 0).all() and (seen == 0).sum() == 4 * 4


@torch.no_grad()
def test_what_is_not_named_is_explained():
    _, view = viewed("neox")
    told = view.explain()
    assert "2 blocks: gpt_neox.layers.0 to gpt_neox.layers.1" in told
    assert re.search("^every block: .*attn.hook_z", told, re.MULTILINE)
    assert "no hook_resid_mid (every block): attention and MLP both read the block's" in told
    line = r"modeling_gpt_neox.py:\d+ is attention in one call: it makes no pattern; .*eager"
    assert re.search(r"attn.hook_pattern \(every block\): " + line, told)
    _, seen = view.run_with_cache(TOKENS, names_filter="blocks.1.attn.hook_z")
    assert [*seen] == ["blocks.1.attn.hook_z"]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@torch.no_grad()
def test_attention_that_is_spelt_out_shows_scores_and_pattern(name):
    model, view = viewed(name, "eager")
    names = [f"blocks.1.attn.hook_{kind}" for kind in ("attn_scores", "pattern", "v", "z")]
    kept = ip.cache(view, TOKENS, names)
    scores, pattern, v, z = (kept[each] for each in names)
    expected = model(TOKENS, output_attentions=True).attentions[1]
    assert torch.equal(pattern, expected)
    assert torch.allclose(scores.softmax(-1), pattern, atol=1e-6)
    assert view.hook_dict[names[1]].axes == ("batch", "head", "pos", "key")
    heads = v.repeat_interleave(4 // v.shape[1], dim=1)
    mean, axes = (pattern @ heads).transpose(1, 2), view.hook_dict[names[3]].axes
    assert torch.allclose(mean.flatten(2), as_rows(z, axes), atol=1e-5)
    with ip.intervene(view, {"blocks.1.attn.hook_pattern[head=2]": ip.Zero()}):
        zeroed = view(TOKENS)
    with ip.intervene(view, {"blocks.1.attn.hook_z[head=2]": ip.Zero()}):
        assert torch.allclose(view(TOKENS), zeroed, atol=1e-6)
    assert not re.search("no attn.hook_(?!rot)", view.explain())


@torch.no_grad()
def test_norms_and_what_stands_before_and_behind_the_blocks_have_names():
    model, view = viewed("llama")
    layer, stream = model.model.layers[1], model.model.embed_tokens(TOKENS)
    _, seen = view.run_with_cache(TOKENS)
    assert torch.equal(seen["hook_embed"], stream)
    for name, norm, before in (
        ("blocks.1.ln1", layer.input_layernorm, "blocks.1.hook_resid_pre"),
        ("blocks.1.ln2", layer.post_attention_layernorm, "blocks.1.hook_resid_mid"),
        ("ln_final", model.model.norm, "blocks.1.hook_resid_post"),
    ):
        size = seen[before].square().mean(-1, keepdim=True).add(norm.variance_epsilon).sqrt()
        plain = seen[before] / size
        assert torch.allclose(seen[f"{name}.hook_normalized"], plain, atol=1e-5)
        assert torch.allclose(seen[f"{name}.hook_out"], plain * norm.weight, atol=1e-5)
    assert torch.allclose(model.lm_head(seen["unembed.hook_in"]), model(TOKENS).logits, atol=1e-5)
    model, view = viewed("gpt2")
    _, seen = view.run_with_cache(TOKENS)
    assert torch.equal(seen["hook_pos_embed"][0], model.transformer.wpe.weight[:7])
    both = seen["hook_embed"] + seen["hook_pos_embed"]
    assert torch.equal(both, seen["blocks.0.hook_resid_pre"])
    assert "blocks.0.ln1.hook_normalized" not in seen  # torch's norm is one call
    _, view = viewed("olmo2")
    assert "ln1.hook_out, ln2.hook_out (every block): nothing that it reads" in view.explain()
    assert "what it makes goes through one: ln1_post, ln2_post" in view.explain()


@pytest.mark.parametrize("name", ["olmo2", "gemma2"])
@torch.no_grad()
def test_norms_behind_attention_and_mlp_have_names(name):
    model, view = viewed(name)
    _, seen = view.run_with_cache(TOKENS)
    for number, layer in enumerate(model.model.layers):
        at = f"blocks.{number}"
        for norm, module, part in (
            ("ln1_post", layer.post_attention_layernorm, "hook_attn_out"),
            ("ln2_post", layer.post_feedforward_layernorm, "hook_mlp_out"),
        ):
            kept = []
            keep = partial(lambda kept, module, given, made: kept.append(given[0]), kept)
            hook = module.register_forward_hook(keep)
            model(TOKENS)
            hook.remove()
            eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
            size = kept[0].square().mean(-1, keepdim=True).add(eps).sqrt()
            assert torch.allclose(seen[f"{at}.{norm}.hook_normalized"], kept[0] / size, atol=1e-5)
            assert torch.equal(seen[f"{at}.{norm}.hook_out"], seen[f"{at}.{part}"])
    _, other = viewed("llama")
    assert not any("_post." in each for each in other.hook_dict)
