"""A value that a line makes is a hook point: what is seen there is the value, and what is put there
is what the edited line would make."""

import copy
import re

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import interp as ip
from interp.errors import HookNameError, NoEffectError, UsageError
from interp.line_hooks import hook_lines
from tests.interp.surgery.written_files import import_text

TOKENS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(3))
SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
}
OTHERS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=31, n_positions=24, n_embd=16, n_layer=2, n_head=4)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, num_key_value_heads=2)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL)),
}
TEXT = """
import torch
from torch import nn
from torch.nn import functional as F

def scaled(x, by):
    y = x * by
    return y + 1.0

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)
        self.r = nn.Linear(8, 8)
    def forward(self, x):
        a = scaled(x, 0.5)
        b = scaled(a, 2.0)
        c, d = self.l(b), torch.tanh(self.r(b))
        c += d
        self.kept = c * 0.25
        for i in range(3):
            d = d + self.kept * i
        e: torch.Tensor = F.relu(self.l(torch.tanh(d)))
        return x + e

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(31, 8)
        self.parts = nn.ModuleList([Part(), Part()])
        self.h = nn.Linear(8, 31)
    def forward(self, idx):
        x = self.e(idx)
        for part in self.parts:
            x = part(x)
        return self.h(x)
"""


def built(kind):
    torch.manual_seed(0)
    model = OTHERS[kind]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= 5
    return model.eval()


@pytest.fixture
def written(tmp_path):
    """A model from a file, and a function that builds it from another text, weights alike."""

    def of(text):
        torch.manual_seed(0)
        return import_text(tmp_path, text).Model().eval()

    return of(TEXT), of


@pytest.mark.parametrize("kind", OTHERS)
@torch.no_grad()
def test_to_look_changes_nothing_and_what_is_seen_is_what_modules_return(kind):
    model = built(kind)
    logits = model(TOKENS).logits
    view = hook_lines(model, TOKENS)
    assert torch.equal(view(TOKENS), logits)
    seen, returned = {}, {}
    handles = [
        module.register_forward_hook(
            lambda module, args, output, name=name: returned.update({name: output})
        )
        for name, module in model.named_modules()
        if name
    ]
    model(TOKENS)
    for handle in handles:
        handle.remove()
    watched, seen = view.run_with_cache(TOKENS)
    assert torch.equal(watched, logits)
    compared = 0
    for name, value in returned.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(seen[f"{name}.output"], value), name
            compared += 1
    assert compared > 10
    assert {*seen} == {*view.hook_dict}


@torch.no_grad()
def test_a_value_is_found_by_the_name_that_its_line_gives_it():
    model = built("llama")
    view = hook_lines(model, TOKENS)
    names = [name for name in view.hook_dict if name.startswith("model.layers.1.")]
    for name in ("self_attn.query_states", "mlp.down_proj.input", "hidden_states.3", "residual"):
        assert f"model.layers.1.{name}" in names
    point = view.hook_dict["model.layers.1.self_attn.query_states"]
    assert point.source.code.startswith("query_states = self.q_proj(")
    assert point.source.file.endswith("modeling_llama.py")
    (site,) = ip.sites(view, "model.layers.1.mlp.down_proj.input")
    assert "self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))" in site.source.code
    _, seen = view.run_with_cache(TOKENS)
    mlp = model.model.layers[1].mlp
    x = seen["model.layers.1.post_attention_layernorm.output"]
    by_hand = mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)
    assert torch.equal(seen["model.layers.1.mlp.down_proj.input"], by_hand)


@torch.no_grad()
def test_axes_are_seen_and_not_guessed_from_sizes():
    torch.manual_seed(0)
    tokens = torch.randint(31, (4, 4))  # as many texts as tokens, as heads, as neurons of a head
    view = hook_lines(built("llama"), tokens)
    axes = {name: point.axes for name, point in view.hook_dict.items()}
    assert axes["model.layers.0.self_attn.query_states"] == ("batch", "head", "pos", "neuron")
    assert axes["model.layers.0.self_attn.attn_output"] == ("batch", "pos", "head", "neuron")
    assert axes["model.layers.0.self_attn.x1"] == ("batch", "axis1", "pos", "neuron")
    assert axes["model.layers.0.hidden_states"] == ("batch", "pos", "neuron")
    neurons = ip.sites(view, "model.layers.*.mlp.down_proj.input", each="neuron")
    assert len(neurons) == 2 * 24


# what stands for a line when its value is zeros, in the first part or in both
EDITS = {
    "a": ("a = scaled(x, 0.5)", "a = torch.zeros_like(scaled(x, 0.5))"),
    "b": ("b = scaled(a, 2.0)", "b = torch.zeros_like(scaled(a, 2.0))"),
    "d": (
        "c, d = self.l(b), torch.tanh(self.r(b))",
        "c, d = self.l(b), torch.tanh(self.r(b)) * 0",
    ),
    "c": ("c, d = self.l(b)", "c, d = self.l(b) * 0"),
    "c.2": ("        c += d", "        c += d; c = c * 0"),
    "kept": ("self.kept = c * 0.25", "self.kept = c * 0.0"),
    "d.3": ("d = d + self.kept * i", "d = (d + self.kept * i) * (i != 1)"),
    "e": ("F.relu(self.l(torch.tanh(d)))", "0 * F.relu(self.l(torch.tanh(d)))"),
    "l.input": ("self.l(torch.tanh(d))", "self.l(0 * torch.tanh(d))"),
    "returned.3": ("return x + e", "return (x + e) * 0"),
    "y": ("y = x * by", "y = x * by * (by != 0.5)"),
    "y.2": ("y = x * by", "y = x * by * (by != 2.0)"),
    "returned": ("return y + 1.0", "return (y + 1.0) * (by != 0.5)"),
}


@pytest.mark.parametrize("name", EDITS)
@torch.no_grad()
def test_a_hook_on_a_line_is_the_line_edited(written, name):
    model, of = written
    view = hook_lines(model, TOKENS)
    old, new = EDITS[name]
    assert TEXT.count(old) == 1
    edited = of(TEXT.replace(old, new))
    edited.load_state_dict(model.state_dict())
    with ip.intervene(view, {f"parts.*.{name}": ip.Zero()}) as receipt:
        hooked = view(TOKENS)
    assert sum(effect.fired for effect in receipt) == 2
    assert (hooked - edited(TOKENS)).abs().max() < 1e-6
    assert (hooked - model(TOKENS)).abs().max() > 1e-3
    one = copy.deepcopy(model)
    one.parts[1] = edited.parts[1]
    with ip.intervene(view, {f"parts.1.{name}": ip.Zero()}):
        assert (view(TOKENS) - one(TOKENS)).abs().max() < 1e-6
    assert torch.equal(view(TOKENS), model(TOKENS))


def test_every_hook_point_of_a_model_is_found_again_by_its_line(model, clean):
    view = hook_lines(model, clean)
    own = {**ip.source_lines(model, clean)}
    by_line = {}
    for name, point in view.hook_dict.items():
        by_line.setdefault((name.split(".")[:2], str(point.source)).__repr__(), name)
    compared = 0
    for name in ("hook_attn_out", "hook_mlp_out", "hook_resid_mid", "hook_resid_post"):
        hook = f"blocks.1.{name}"
        same = by_line[(["blocks", "1"], str(own[hook])).__repr__()]
        with torch.no_grad(), ip.intervene(model, {hook: ip.Zero()}):
            expected = model(clean)
        with torch.no_grad(), ip.intervene(view, {same: ip.Zero()}):
            assert torch.allclose(view(clean), expected, atol=1e-6), (hook, same)
        compared += 1
    assert compared == 4


@torch.no_grad()
def test_nothing_stays_behind(written):
    model, _ = written
    before = type(model.parts[0]).forward.__code__
    view = hook_lines(model, TOKENS)
    assert type(model.parts[0]).forward.__code__ is before
    during = []
    with ip.intervene(
        view,
        {"parts.0.a": lambda value: (during.append(code_of(model)), value)[1]},
        allow_no_effect=True,
    ):
        view(TOKENS)
    assert during[0] is not before and code_of(model) is before

    def fails(value):
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), ip.intervene(view, {"parts.0.a": fails}):
        view(TOKENS)
    assert code_of(model) is before
    with ip.intervene(view, {"parts.0.output": lambda value: value}, allow_no_effect=True):
        assert torch.equal(view(TOKENS), model(TOKENS))
    assert not any(module._forward_hooks for module in model.modules())


def code_of(model):
    return type(model.parts[0]).forward.__code__


@torch.no_grad()
def test_another_model_of_the_class_is_left_alone(written):
    model, _ = written
    other = copy.deepcopy(model)
    expected = other(TOKENS)
    view = hook_lines(model, TOKENS)
    found = []
    with ip.intervene(
        view, {"parts.0.a": lambda value: (found.append(other(TOKENS)), value * 2)[1]}
    ):
        view(TOKENS)
    assert torch.equal(found[0], expected)


@torch.no_grad()
def test_a_part_that_is_called_twice_fires_twice(tmp_path):
    text = TEXT.replace("for part in self.parts:", "for part in [self.parts[0], self.parts[0]]:")
    torch.manual_seed(0)
    model = import_text(tmp_path, text).Model().eval()
    view = hook_lines(model, TOKENS)
    with ip.intervene(view, {"parts.0.e": ip.Zero()}) as receipt:
        hooked = view(TOKENS)
    assert sum(effect.fired for effect in receipt) == 2
    assert torch.allclose(hooked, model.h(model.e(TOKENS)), atol=1e-6)


def test_gradients_go_by_the_hook_points(written):
    model, _ = written
    view = hook_lines(model, TOKENS)
    got = {}
    name = "parts.1.b"
    view.hook_dict[name].add_hook(lambda grad, hook: got.update({hook.name: grad}), dir="bwd")
    view(TOKENS).square().sum().backward()
    view.reset_hooks()
    _, seen = view.run_with_cache(TOKENS)
    b = seen[name].detach().requires_grad_()
    part = model.parts[1]
    d = torch.tanh(part.r(b))
    kept = (part.l(b) + d) * 0.25
    for i in range(3):
        d = d + kept * i
    x = model.parts[0](model.e(TOKENS)) + torch.relu(part.l(torch.tanh(d)))
    (expected,) = torch.autograd.grad(model.h(x).square().sum(), b)
    assert torch.allclose(got[name], expected, atol=1e-5)


def test_a_sweep_over_lines_is_a_loop_over_lines(written):
    model, _ = written
    view = hook_lines(model, TOKENS)
    sites = ip.sites(view, "parts.*.[abe]")
    table = ip.sweep(view, TOKENS, {site: ip.Zero() for site in sites}, ip.loss)
    assert len(table) == 6
    for row in table.to_dict("records"):
        with torch.no_grad(), ip.intervene(view, {row["site"]: ip.Zero()}):
            value = ip.loss(view(TOKENS), TOKENS).mean().item()
        assert row["value"] == pytest.approx(value, abs=1e-6)
        assert re.match(r"[abe]\b", row["code"])


def test_what_cannot_be_hooked_is_one_sentence(written):
    model, _ = written
    view = hook_lines(model, TOKENS)
    with pytest.raises(HookNameError, match=r"nearest: parts\.0\.kept"):
        ip.sites(view, "parts.0.keept")
    with pytest.raises(UsageError, match="has source of its own: define the model's class in a"):
        hook_lines(nn.Linear(3, 3), torch.zeros(2, 3))
    with pytest.raises(NoEffectError), ip.intervene(view, {"parts.0.a": ip.Zero()}):
        pass


NAMED = """
import torch
from torch import nn

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)
    def forward(self, input):
        input = input * 2.0
        output = self.l(input).chunk(2, dim=-1)
        output_1 = output[0] * 3.0
        output = torch.cat([output_1, output[1]], -1)
        return output + 1.0, output

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(31, 8)
        self.part = Part()
        self.other = Part()
        self.h = nn.Linear(8, 31)
    def forward(self, idx):
        x, kept = self.part(self.e(idx))
        x = self.other.forward(x + kept)[0]
        return self.h(x)
"""


@torch.no_grad()
def test_no_two_values_have_one_name(tmp_path):
    torch.manual_seed(0)
    model = import_text(tmp_path, NAMED).Model().eval()
    view = hook_lines(model, TOKENS)
    _, seen = view.run_with_cache(TOKENS)
    x = model.e(TOKENS) * 2.0
    one, two = model.part.l(x).chunk(2, dim=-1)
    both = torch.cat([one * 3.0, two], -1)
    values = {
        "part.input": model.e(TOKENS),
        "part.input.2": x,
        "part.output": both + 1.0,
        "part.output_0": one,
        "part.output_1": two,
        "part.output_1.2": one * 3.0,
        "part.output_1.3": both,
        "part.output.2": both,
        "x": both + 1.0,
        "kept": both,
        "input.2": (2 * both + 1.0)
        * 2.0,  # other.forward() is called, which is no call of a module
        "h.output": model(TOKENS),
    }
    for name, value in values.items():
        kept = seen[view.hook_dict[name].name]
        assert kept.shape == value.shape and torch.allclose(kept, value, atol=1e-6), name
    with ip.intervene(view, {"part.output.2": ip.Zero()}):
        hooked = view(TOKENS)
    assert torch.allclose(hooked, model.h(model.other(torch.ones(2, 7, 8))[0]), atol=1e-6)
