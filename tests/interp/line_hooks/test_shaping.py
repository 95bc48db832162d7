"""A value whose first axis holds texts with positions, or with heads, is shown with the two apart,
however many texts the model runs on."""

import copy

import pytest
import torch

import interp as ip
from interp import hook_lines
from interp.errors import UsageError
from interp.line_hooks.shaping import texts_first
from tests.interp.line_hooks.families import TOKENS, built, viewed
from tests.interp.line_hooks.test_sweeps_by_block import compared

MORE = torch.randint(1, 31, (3, 5), generator=torch.Generator().manual_seed(4))


@torch.no_grad()
def test_an_mlp_that_runs_on_texts_and_positions_in_one_axis_has_its_names():
    model, view = viewed("opt", "eager")
    layer, seen = model.model.decoder.layers[1], {}
    handles = [
        module.register_forward_hook(lambda module, args, output, at=at: seen.update({at: output}))
        for at, module in (("fc1", layer.fc1), ("fc2", layer.fc2), ("whole", layer))
    ]
    for tokens in (TOKENS, MORE):
        model(tokens)
        kept = ip.cache(view, tokens, "blocks.1.*")
        apart = {at: value.reshape(*tokens.shape, -1) for at, value in seen.items()}
        assert torch.equal(kept["blocks.1.mlp.hook_pre"], apart["fc1"])
        assert torch.equal(kept["blocks.1.mlp.hook_post"], apart["fc1"].relu())
        assert torch.equal(kept["blocks.1.hook_mlp_out"], apart["fc2"])
        total = kept["blocks.1.hook_resid_mid"] + apart["fc2"]
        assert torch.allclose(total, apart["whole"], atol=1e-6)
    for handle in handles:
        handle.remove()
    assert view.hook_dict["blocks.1.hook_mlp_out"].axes == ("batch", "pos", "neuron")

    def cut(module, args, output):
        output.view(3, 5, -1)[:, 2] = 0
        return output

    for each in (view, copy.deepcopy(view)):  # a copy drops nothing out that the model does not
        handle = model.model.decoder.layers[1].fc2.register_forward_hook(cut)
        expected = model(MORE).logits
        handle.remove()
        with ip.intervene(each, {"blocks.1.hook_mlp_out[pos=2]": ip.Zero()}):
            assert torch.allclose(each(MORE), expected, atol=1e-6)
    assert (expected - model(MORE).logits).abs().max() > 1e-3
    questions = [
        (site, ip.Zero())
        for name in ("hook_mlp_out", "mlp.hook_post")
        for site in ip.sites(view, f"blocks.*.{name}", each="pos", tokens=TOKENS)
    ]
    assert len(questions) == 28
    compared(view, TOKENS, questions, ip.loss)  # blocks that run alone, several cells at a time


@torch.no_grad()
def test_a_pattern_that_holds_texts_and_heads_in_one_axis_has_heads():
    model = built("xglm")
    view = hook_lines(model, TOKENS)
    names = ["blocks.1.attn.hook_pattern", "blocks.1.attn.hook_attn_scores"]
    kept = ip.cache(view, MORE, names)
    pattern, scores = (kept[name] for name in names)
    assert view.hook_dict["blocks.1.attn.hook_pattern"].axes == ("batch", "head", "pos", "key")
    assert torch.allclose(scores.softmax(-1), pattern, atol=1e-6)
    assert torch.equal(pattern, model(MORE, output_attentions=True).attentions[1])
    with ip.intervene(view, {"blocks.1.attn.hook_pattern[head=2]": ip.Zero()}):
        zeroed = view(MORE)
    with ip.intervene(view, {"blocks.1.attn.hook_z[head=2]": ip.Zero()}):
        assert torch.allclose(view(MORE), zeroed, atol=1e-6)


@torch.no_grad()
def test_what_experts_are_handed_is_no_texts_in_order():
    model, view = viewed("mixtral", "eager")
    name = "model.layers.1.mlp.gate.router_logits"
    assert view.hook_dict[name].axes == ("batch", "pos", "neuron")
    gate = model.model.layers[1].mlp.gate
    held = []
    handle = gate.register_forward_hook(lambda module, args, output: held.append(args[0]))
    kept = ip.cache(view, MORE, name)[name]
    handle.remove()
    by_hand = torch.nn.functional.linear(held[0], gate.weight)
    assert torch.allclose(kept.flatten(0, 1), by_hand, atol=1e-5)
    with pytest.raises(UsageError, match="a value of 5 rows does not hold as many of each of 2"):
        texts_first(torch.zeros(5, 2), 2)
