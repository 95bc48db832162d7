"""Watching a value leaves everything else as it is, whoever else runs the same code."""

import pytest
import torch

import interp as ip
from interp import hook_lines
from interp.line_hooks import passing
from interp.surgery.source.syntax import Source, parse
from tests.interp.line_hooks.families import TOKENS, built
from tests.interp.surgery.written_files import import_text

TEXT = """
import torch
from torch import nn

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)
    def forward(self, x):
        a = self.l(x) * 0.5
        b = torch.tanh(a)
        b = b + a
        return x + b

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(31, 8)
        self.parts = nn.ModuleList([Part(), Part()])
        self.h = nn.Linear(8, 31)
    def forward(self, idx, *, scale):
        x = self.e(idx) * scale
        for part in self.parts:
            x = part(x)
        return self.h(x)

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(31, 16)
        layer = lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer(), layer()])
        self.h = nn.Linear(16, 31)
    def forward(self, idx):
        x = self.e(idx)
        mask = nn.Transformer.generate_square_subsequent_mask(idx.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.h(x)
"""


@pytest.fixture
def module(tmp_path):
    torch.manual_seed(0)
    return import_text(tmp_path, TEXT)


@torch.no_grad()
def test_a_model_that_is_called_with_names_is_viewed(module):
    model = module.Model().eval()
    scale = torch.ones(2, 7, 1)
    view = hook_lines(model, TOKENS, scale=scale)
    assert view.hook_dict["parts.1.b"].axes == ("batch", "pos", "neuron")
    assert torch.equal(view(TOKENS, scale=scale * 2), model(TOKENS, scale=scale * 2))
    assert torch.equal(view(idx=TOKENS, scale=scale), model(TOKENS, scale=scale))
    named = hook_lines(model, idx=TOKENS, scale=scale)
    assert {*named.hook_dict} == {*view.hook_dict}


@torch.no_grad()
def test_a_file_that_others_pushed_out_of_the_parser_can_still_be_watched(module, tmp_path):
    model = module.Model().eval()
    view = hook_lines(model, TOKENS, scale=2.0)
    for number in range(70):
        parse(Source(tmp_path / f"{number}.py", f"x = {number}\n", f"other_{number}"))
    with ip.intervene(view, {"parts.1.b": ip.Zero()}) as receipt:
        view(TOKENS, scale=2.0)
    assert receipt.effects[0].fired == 1


@torch.no_grad()
def test_models_that_run_within_a_hook_are_told_apart(module):
    model, other = module.Model().eval(), module.Model().eval()
    view, second = (hook_lines(each, TOKENS, scale=1.0) for each in (model, other))
    expected = {}
    for zeros in ("parts.0.b.2", "parts.1.a"):
        with ip.intervene(view, {zeros: ip.Zero()}):
            expected[zeros] = view(TOKENS, scale=1.0)
    with ip.intervene(second, {"parts.0.b": ip.Zero()}):
        zeroed = second(TOKENS, scale=1.0)
    inner = []

    def run_others(value):
        inner.append(other(TOKENS, scale=1.0))  # the bare model, and a view with its own hook
        with ip.intervene(second, {"parts.0.b": ip.Zero()}):
            inner.append(second(TOKENS, scale=1.0))
        return value

    for zeros, logits in expected.items():
        inner.clear()
        with (
            ip.intervene(view, {"parts.0.a": run_others}, allow_no_effect=True),
            ip.intervene(view, {zeros: ip.Zero()}),
        ):
            assert torch.equal(view(TOKENS, scale=1.0), logits)
        assert torch.equal(inner[0], other(TOKENS, scale=1.0))
        assert torch.equal(inner[1], zeroed)


@torch.no_grad()
def test_nothing_is_compiled_for_a_run_that_watches_what_an_earlier_one_did(module, monkeypatch):
    view = hook_lines(module.Model().eval(), TOKENS, scale=1.0)
    with ip.intervene(view, {"parts.*.b": ip.Zero()}):
        expected = view(TOKENS, scale=1.0)
    monkeypatch.setattr(passing, "compile_function", None)
    with ip.intervene(view, {"parts.*.b": ip.Zero()}):
        assert torch.equal(view(TOKENS, scale=1.0), expected)


@torch.no_grad()
def test_torchs_faster_way_through_an_encoder_stays_the_way(module):
    model = module.Encoder().eval()
    logits = model(TOKENS)
    view = hook_lines(model, TOKENS)
    seen = ip.cache(view, TOKENS, ["layers.*.output", "blocks.*.hook_resid_pre"])
    assert torch.equal(seen["blocks.1.hook_resid_pre"], seen["layers.0.output"])
    with ip.intervene(view, {"layers.*.output": lambda value: value}, allow_no_effect=True):
        assert torch.equal(view(TOKENS), logits)
    with ip.intervene(view, {"layers.1.output": ip.Zero()}):
        assert torch.allclose(view(TOKENS), model.h.bias.expand(2, 7, 31))
    assert "(every block): no line of the model's own files runs in the block" in view.explain()


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")
def test_a_text_in_pieces_from_a_cache_is_the_text_as_a_whole():
    from transformers import DynamicCache

    model = built("llama")
    view = hook_lines(model, TOKENS, attention_mask=torch.ones_like(TOKENS))
    for where in ("blocks.0.attn.hook_rot_k[pos=2]", "blocks.1.attn.hook_z[head=1]"):
        with ip.intervene(view, {where: ip.Zero()}):
            whole, kept = view(TOKENS), DynamicCache()
            pieces = [
                view(part, past_key_values=kept, use_cache=True)
                for part in (TOKENS[:, :4], TOKENS[:, 4:])
            ]
        assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)
        assert not torch.allclose(whole, model(TOKENS).logits, atol=1e-5)
    kept = DynamicCache()
    view(TOKENS[:, :4], None, None, kept)
    with ip.intervene(view, {"blocks.1.hook_resid_pre[pos=5]": ip.Zero()}):
        by_place = view(TOKENS[:, 4:], None, None, kept)  # the cache by its place, not its name
    with ip.intervene(view, {"blocks.1.hook_resid_pre[pos=5]": ip.Zero()}):
        assert torch.allclose(by_place, view(TOKENS)[:, 4:], atol=1e-5)
