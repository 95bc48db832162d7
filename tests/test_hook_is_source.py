"""A cut by hook and the same cut as an edit of the source are one: every logit agrees to 1e-6.

The two are built independently: one edits activations of the model as it runs, the other compiles
the edited source and gives the result the same weights.
"""

from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

import gpt.model
from experiments.support.variants import course_variants
from gpt import GPT, GPTConfig
from interp import Zero, intervene, surgery
from interp.surgery import Surgery

Hooks = list[tuple[str, Callable[..., Tensor | None]]]
LAYERS = range(2)


@pytest.fixture(params=[False, True], ids=["no bias", "bias"])
def model(request) -> GPT:
    size = GPTConfig(
        block_size=16, vocab_size=11, n_layer=2, n_head=2, n_embd=16, bias=request.param
    )
    model = GPT(size).eval()
    with torch.no_grad():  # large enough for every part to matter, norms and biases too
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)), alpha=0.1)
    return model


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(11, (4, 16), generator=torch.manual_seed(1))


def from_source(model: GPT, cut: Surgery) -> GPT:
    """The model of the edited source with the same weights."""
    module = surgery.edited_module(surgery.read_source(gpt.model), cut)
    edited = module.GPT(module.GPTConfig(**asdict(model.config))).eval()
    edited.load_state_dict(model.state_dict())
    return edited


def found(operator: str, **description: str) -> Surgery:
    cuts = surgery.find_all(surgery.read_source(gpt.model), operator, **description)
    return surgery.combine(cuts)


def replaced_by(target: str, source: str, change: Callable[[Tensor, int], Tensor]) -> Hooks:
    """In every layer the value at ``target`` becomes a function of the value seen at ``source``."""
    seen: dict[int, Tensor] = {}
    hooks: Hooks = []
    for layer in LAYERS:

        def keep(value: Tensor, hook, layer=layer) -> None:
            seen[layer] = value

        def give(value: Tensor, hook, layer=layer) -> Tensor:
            return change(seen[layer], layer)

        hooks += [(f"blocks.{layer}.{source}", keep), (f"blocks.{layer}.{target}", give)]
    return hooks


def no_residual(model: GPT) -> Hooks:
    attention = replaced_by("hook_resid_mid", "hook_attn_out", lambda out, layer: out)
    return attention + replaced_by("hook_resid_post", "hook_mlp_out", lambda out, layer: out)


def identity_norm(name: str, read: str) -> Callable[[GPT], Hooks]:
    def hooks(model: GPT) -> Hooks:
        def before_the_affine_part(x: Tensor, layer: int) -> Tensor:
            norm = model.get_submodule(f"blocks.{layer}.{name}")
            return (x if norm.bias is None else x - norm.bias) / norm.weight

        return replaced_by(f"{name}.hook_normalized", read, before_the_affine_part)

    return hooks


def no_layer_norm(model: GPT) -> Hooks:
    first, second = identity_norm("ln1", "hook_resid_pre"), identity_norm("ln2", "hook_mlp_in")
    return first(model) + second(model)


def single_head(model: GPT) -> Hooks:
    """One head as wide as the residual stream, computed from the queries, keys and values seen."""
    hooks: Hooks = []
    for layer in LAYERS:
        seen: dict[str, Tensor] = {}

        def keep(value: Tensor, hook, seen=seen) -> None:
            seen[hook.name[-1]] = value.flatten(2)

        def give(value: Tensor, hook, seen=seen) -> Tensor:
            q, k, v = seen["q"], seen["k"], seen["v"]
            scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(
                torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1), -torch.inf
            )
            return (scores.softmax(-1) @ v).view(value.shape)

        hooks += [(f"blocks.{layer}.attn.hook_{name}", keep) for name in "qkv"]
        hooks += [(f"blocks.{layer}.attn.hook_z", give)]
    return hooks


def identity_gelu(model: GPT) -> Hooks:
    return replaced_by("mlp.hook_post", "mlp.hook_pre", lambda pre, layer: pre)


def identity_final_norm(model: GPT) -> Hooks:
    seen: dict[str, Tensor] = {}

    def keep(value: Tensor, hook) -> None:
        seen["x"] = value

    def give(value: Tensor, hook) -> Tensor:
        norm = model.ln_final
        return (seen["x"] if norm.bias is None else seen["x"] - norm.bias) / norm.weight

    return [("blocks.1.hook_resid_post", keep), ("ln_final.hook_normalized", give)]


COURSE = course_variants()
CUTS: dict[str, tuple[Surgery, Callable[[GPT], Hooks]]] = {
    "no residual": (COURSE["no_residual"], no_residual),
    "no layer norm": (COURSE["no_layer_norm"], no_layer_norm),
    "single head": (COURSE["single_head"], single_head),
    "ln1 is the identity": (
        found("bypass-call", qualname="Block.forward", target="ln1"),
        identity_norm("ln1", "hook_resid_pre"),
    ),
    "ln2 is the identity": (
        found("bypass-call", qualname="Block.forward", target="ln2"),
        identity_norm("ln2", "hook_mlp_in"),
    ),
    "ln_final is the identity": (
        found("bypass-call", qualname="GPT.forward", target="ln_final"),
        identity_final_norm,
    ),
    "GELU is the identity": (
        found("bypass-call", qualname="MLP.forward", target="gelu"),
        identity_gelu,
    ),
}
ZEROS: dict[str, tuple[Surgery, str]] = {
    "no position embedding": (COURSE["no_position_embedding"], "hook_pos_embed"),
    "no attention": (
        found("cut-branch", qualname="Block.forward", code="attn_out"),
        "blocks.*.hook_attn_out",
    ),
    "no MLP": (
        found("cut-branch", qualname="Block.forward", code="mlp_out"),
        "blocks.*.hook_mlp_out",
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CUTS)
def test_replacing_an_activation_is_editing_its_line(model, tokens, name):
    cut, hooks = CUTS[name]
    by_hook = model.run_with_hooks(tokens, fwd_hooks=hooks(model))
    by_source = from_source(model, cut)(tokens)
    torch.testing.assert_close(by_hook, by_source, atol=1e-6, rtol=0)
    assert (by_source - model(tokens)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("name", ZEROS)
def test_zeroing_a_site_is_cutting_its_line(model, tokens, name):
    cut, site = ZEROS[name]
    with intervene(model, {site: Zero()}):
        by_hook = model(tokens)
    by_source = from_source(model, cut)(tokens)
    torch.testing.assert_close(by_hook, by_source, atol=1e-6, rtol=0)
    assert (by_source - model(tokens)).abs().max() > 1e-3
