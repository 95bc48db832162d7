"""Texts in padding have on a view, value by value, what they have alone; or one sentence says why
they have not."""

from types import SimpleNamespace

import pytest
import torch

import interp as ip
from interp import hook_lines
from interp.errors import UsageError
from interp.metrics import accuracy, loss, loss_at
from tests.interp.line_hooks.families import Masked, viewed

PADDING = [5, 3, 0]  # tokens of it in each text
TEXTS = torch.randint(1, 31, (3, 8), generator=torch.Generator().manual_seed(1))


def padded(side):
    """Texts in padding; the mask that hides it; and where each text is."""
    tokens, mask, places = TEXTS.clone(), torch.ones_like(TEXTS), []
    for row, count in enumerate(PADDING):
        stretch = slice(0, count) if side == "left" else slice(8 - count, 8)
        tokens[row, stretch], mask[row, stretch] = 0, 0
        places.append(slice(count, 8) if side == "left" else slice(0, 8 - count))
    return tokens, mask, places


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "bert"])
@torch.no_grad()
def test_values_of_texts_in_padding_are_those_of_the_texts_alone(name, side):
    tokens, mask, places = padded(side)
    options = {"attention_mask": mask}
    if side == "left" and name != "opt":  # OPT counts by the mask; Llama's turned q and k need it
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    model, whole = viewed(name, "eager")
    view = hook_lines(model, tokens, **options)
    assert {*view.naming.named} == {*whole.naming.named}
    names = [each for each in view.naming.named if view.hook_dict[each].axes[:1] == ("batch",)]
    zero = {"blocks.0.attn.hook_z[head=1]": ip.Zero()}
    seen = ip.cache(view, tokens, names, **options)
    with ip.intervene(view, zero):
        changed = view(tokens, **options)
    for row, text in enumerate(places):
        alone = tokens[row : row + 1, text]
        expected = ip.cache(whole, alone, names)
        for each, value in expected.items():
            shown = seen[each][row : row + 1]
            for axis, kind in enumerate(view.hook_dict[each].axes):
                if kind in ("pos", "key") and shown.shape[axis] == 8:
                    shown = shown.narrow(axis, text.start, alone.shape[1])
            hides = value < -1e30 if each.endswith("scores") else torch.zeros_like(value).bool()
            far = (shown - value).masked_fill(hides, 0).abs().max()
            assert far < 1e-5 * value.masked_fill(hides, 0).abs().max(), each
        with ip.intervene(whole, zero):
            one = whole(alone)
        assert (changed[row : row + 1, text] - one).abs().max() < 1e-5 * one.abs().max()


@pytest.mark.parametrize("name", ["gpt2", "bert"])
@torch.no_grad()
def test_positions_that_begin_in_padding_are_refused(name):
    tokens, mask, _ = padded("left")
    model, view = viewed(name, "eager")
    told = r"text 0 has padding, 5 before it, .*: the model counts .* give position_ids="
    for run in (view, view.run_with_cache, lambda *a, **b: ip.cache(view, *a, "blocks.0*", **b)):
        with pytest.raises(UsageError, match=told):
            run(tokens, attention_mask=mask)
    masked = hook_lines(Masked(model, places=False), tokens)
    with pytest.raises(UsageError, match=told):
        ip.ablate(masked, tokens, "blocks.1.attn.hook_z", progress=False)
    assert view(tokens[2:], attention_mask=mask[2:]).shape == (1, 8, 31)


@torch.no_grad()
def test_a_call_without_the_mask_that_a_view_was_made_with_is_refused():
    for name, side, where in (("llama", "left", "before"), ("bert", "right", "after")):
        tokens, mask, places = padded(side)
        view = hook_lines(viewed(name, "eager")[0], tokens, attention_mask=mask)
        told = f"text 0 has padding, 5 {where} it, and this call is without the attention_mask"
        with pytest.raises(UsageError, match=told):
            view(tokens)
        with pytest.raises(UsageError, match=told):
            ip.ablate(view, tokens, "blocks.0.hook_resid_pre", progress=False)
        assert view(tokens[:1, places[0]]).shape == (1, 3, 31)
    tokens, mask, places = padded("right")  # a causal model's texts do not see what follows them
    view = hook_lines(viewed("llama", "eager")[0], tokens, attention_mask=mask)
    alone = view(tokens[:1, places[0]])
    assert torch.allclose(view(tokens)[:1, places[0]], alone, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
@torch.no_grad()
def test_a_sweep_over_texts_in_padding_is_the_mean_of_sweeps_over_each_alone(name, side):
    tokens, mask, places = padded(side)
    view = hook_lines(Masked(viewed(name, "eager")[0], places=name != "opt"), tokens)
    read = mask.bool().clone()
    read[:, :-1] &= mask[:, 1:].bool()
    read[:, -1] = False
    asked = {"sites": "blocks.*.attn.hook_z", "each": "head", "progress": False}
    table = ip.ablate(view, tokens, metric=loss_at(read), **asked)
    alone = [
        ip.ablate(view, tokens[r : r + 1, at], metric=loss, **asked) for r, at in enumerate(places)
    ]
    expected = sum(each.delta for each in alone) / len(alone)
    assert (table.delta - expected).abs().max() < 1e-5
    assert table.delta.abs().min() > 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_loss_that_would_count_padding_is_refused(side):
    tokens, mask, _ = padded(side)
    model = viewed("llama", "eager")[0]
    asked = {"sites": "blocks.*.attn.hook_z", "progress": False}
    told = "text 0 has 5 of its 8 tokens in padding, and loss would count .* loss_at"
    masked = hook_lines(Masked(model), tokens)
    with pytest.raises(UsageError, match=told):
        ip.ablate(masked, tokens, **asked)
    with pytest.raises(UsageError, match=told):
        ip.plan(masked, tokens, {"blocks.0.hook_attn_out": ip.Zero()}, loss)
    with pytest.raises(UsageError, match=told.replace("loss would", "accuracy would")):
        ip.ablate(masked, tokens, metric=accuracy, **asked)
    assert len(ip.ablate(masked, tokens[2:], **asked)) == 2
    if side == "right":  # a causal model may be asked without the mask that hides it
        made = hook_lines(model, tokens, attention_mask=mask)
        with pytest.raises(UsageError, match=told):
            ip.ablate(made, tokens, **asked)
        padding = hook_lines(model, TEXTS)
        padding.tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=9)
        with pytest.raises(UsageError, match=told):
            ip.ablate(padding, tokens, **asked)
        assert len(ip.ablate(padding, tokens[2:], **asked)) == 2
