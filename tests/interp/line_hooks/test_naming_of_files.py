"""Names in files as people write them; and in files that only look like it."""

import pytest
import torch

import interp as ip
from interp import hook_lines
from tests.interp.line_hooks.families import TOKENS
from tests.interp.surgery.written_files import import_text

TEXT = """
import torch
from torch import nn
from torch.nn import functional as F

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(16, dim=2)
        q = q.view(B, T, 4, 4).transpose(1, 2)
        k = k.view(B, T, 4, 4).transpose(1, 2)
        v = v.view(B, T, 4, 4).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.out(y)

class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(16, 24)
        self.down = nn.Linear(24, 16)
    def forward(self, x):
        return self.down(F.gelu(self.up(x)))

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1 = nn.LayerNorm(16)
        self.attn = Attention()
        self.ln2 = nn.LayerNorm(16)
        self.mlp = MLP()
    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        x = x + self.mlp(self.ln2(x))
        return x

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(31, 16)
        self.p = nn.Embedding(24, 16)
        self.layers = nn.ModuleList([Block(), Block(), Block()])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 31, bias=False)
    def forward(self, idx):
        x = self.e(idx) + self.p(torch.arange(idx.shape[1]))
        for block in self.layers:
            x = block(x)
        return self.head(self.norm(x))
"""
HEADS = """        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(B, T, C)
"""
ONE_LINE = """        attend = F.scaled_dot_product_attention
        y = attend(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
"""


def made_of(tmp_path, *edits):
    text = TEXT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    torch.manual_seed(0)
    model = import_text(tmp_path, text).Model().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 3 if weight.ndim > 1 else 1
    return model


def zeroed_head(model, layer, head):
    """The logits without one head, by its columns of the projection."""
    weight = model.layers[layer].attn.out.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[:, 4 * head : 4 * head + 4] = 0
        logits = model(TOKENS)
        weight.copy_(kept)
    return logits


@pytest.mark.parametrize("edits", [(), ((HEADS, ONE_LINE),)], ids=["own axis", "flat"])
@torch.no_grad()
def test_heads_have_an_axis_also_where_a_line_keeps_them_flat(tmp_path, edits):
    model = made_of(tmp_path, *edits)
    view = hook_lines(model, TOKENS)
    where = ip.sites(view, "blocks.*.attn.hook_z", each="head")
    assert len(where) == 12
    assert "y = " in where[0].source.code
    table = ip.sweep(view, TOKENS, {site: ip.Zero() for site in where}, ip.loss, progress=False)
    for row in table.to_dict("records"):
        logits = zeroed_head(model, int(row["layer"]), int(row["head"]))
        assert row["value"] == pytest.approx(ip.loss(logits, TOKENS).mean().item(), abs=1e-5)
    z = ip.cache(view, TOKENS, "blocks.1.attn.hook_z")["blocks.1.attn.hook_z"]
    axes = view.hook_dict["blocks.1.attn.hook_z"].axes
    assert z.shape[axes.index("head")] == z.shape[axes.index("neuron")] == 4
    assert torch.equal(view(TOKENS), model(TOKENS))
    other = {site: ip.Patch({site.hook: z.flip(0)}) for site in where if site.layer == 1}
    with ip.intervene(view, other):  # all heads of one text for those of another
        patched = view(TOKENS)
    with ip.intervene(
        view, {"blocks.1.attn.hook_z": ip.Patch({"blocks.1.attn.hook_z": z.flip(0)})}
    ):
        assert torch.allclose(view(TOKENS), patched, atol=1e-6)


@torch.no_grad()
def test_in_place_sums_and_a_block_in_one_line(tmp_path):
    edits = (
        ("        x = x + self.attn(self.ln1(x))\n", "        x += self.attn(self.ln1(x))\n"),
        (
            "        x = x + self.mlp(self.ln2(x))\n        return x\n",
            "        return x + self.mlp(self.ln2(x))\n",
        ),
    )
    model = made_of(tmp_path, *edits)
    view, plain = hook_lines(model, TOKENS), hook_lines(made_of(tmp_path), TOKENS)
    names = [name for name in plain.naming.named if name.startswith("blocks.")]
    assert {*names} <= {*view.hook_dict}
    kept, expected = (ip.cache(each, TOKENS, names) for each in (view, plain))
    for name in names:
        assert torch.allclose(kept[name], expected[name], atol=1e-6), name
    for name in ("blocks.1.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"):
        with ip.intervene(view, {name: ip.Zero()}):
            hooked = view(TOKENS)
        with ip.intervene(plain, {name: ip.Zero()}):
            assert torch.allclose(hooked, plain(TOKENS), atol=1e-6), name


NO_NAMES = {
    "attention that looks nowhere": (
        (HEADS, "        y = v.transpose(1, 2).reshape(B, T, C) * torch.sigmoid(self.out(x))\n"),
        "blocks.0.attn.hook_z",
        "nothing that a block adds to the stream depends on other positions",
    ),
    "a sum with a weight that has no name": (
        ("x = x + self.attn(self.ln1(x))", "x = x + 0.5 * self.attn(self.ln1(x))"),
        "blocks.0.hook_attn_out",
        "no two values of the block's lines add up to what it adds",
    ),
    "a projection that is no linear map": (
        ("return self.out(y)", "return torch.tanh(self.out(y * y))"),
        "blocks.0.attn.hook_z",
        "no value was seen to be a pattern's mean of others",
    ),
    "blocks out of order": (
        ("for block in self.layers:", "for block in self.layers[::-1]:"),
        "blocks.0.hook_resid_pre",
        "the modules of layers are not called in turn, once each",
    ),
    "a block that is called twice": (
        ("for block in self.layers:", "for block in [*self.layers, self.layers[0]]:"),
        "blocks.0.hook_resid_pre",
        "the modules of layers are not called in turn, once each",
    ),
}


@pytest.mark.parametrize("case", NO_NAMES)
@torch.no_grad()
def test_what_only_looks_like_it_has_no_name_but_a_reason(tmp_path, case):
    edit, name, why = NO_NAMES[case]
    view = hook_lines(made_of(tmp_path, edit), TOKENS)
    assert name not in view.hook_dict
    assert why in view.explain()


@torch.no_grad()
def test_our_own_models_values_have_the_names_that_it_gives_them(model, clean):
    view = hook_lines(model, clean)
    names = [name for name in view.naming.named if name in model.hook_dict]
    assert len(names) > 12 * len(model.blocks) - 6
    expected = ip.cache(model, clean, names)
    kept = ip.cache(view, clean, names)
    for name in names:
        axes = view.hook_dict[name].axes
        value = kept[name]
        if "head" in axes and "key" not in axes:
            value = value.movedim(axes.index("head"), 2)
        assert torch.allclose(value.expand_as(expected[name]), expected[name], atol=1e-6), name


@torch.no_grad()
def test_heads_that_look_at_all_alike_are_not_counted_by_guessing(tmp_path):
    model = made_of(tmp_path, (HEADS, ONE_LINE))
    for layer in model.layers:
        layer.attn.qkv.weight[:16] = 0  # no query asks for anything
        layer.attn.qkv.bias[:16] = 0
    view = hook_lines(model, TOKENS)
    assert "blocks.0.attn.hook_z" not in view.hook_dict
    assert "blocks.0.hook_attn_out" in view.hook_dict
