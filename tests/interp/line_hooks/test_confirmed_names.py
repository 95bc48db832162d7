"""A name is given to what it says, and to nothing that only looks like it: compared with what the
models' own functions make of what their modules return."""

from functools import lru_cache

import pytest
import torch
from transformers.models.gptj import modeling_gptj
from transformers.models.stablelm import modeling_stablelm

from interp import hook_lines
from interp.errors import UsageError
from tests.interp.line_hooks.families import (
    FAMILIES,
    OTHERS,
    TOKENS,
    StopsWhereChanged,
    built,
    viewed,
)

AT = "blocks.1.attn.hook_"


@lru_cache
def seen_in(name, dtype=torch.float32):
    """A model, a view of it, all that the view sees, and what each module takes and returns."""
    model, view = viewed(name, "eager", dtype)
    block = f"{(FAMILIES | OTHERS)[name].blocks}.1"
    modules, handles = {}, []
    for path, module in model.get_submodule(block).named_modules():

        def note(module, args, kwargs, output, path=path):
            modules[path] = output
            modules[f"{path}:in"] = args[0] if args else None

        handles.append(module.register_forward_hook(note, with_kwargs=True))
    with torch.no_grad():
        model(TOKENS)
        for handle in handles:
            handle.remove()
        _, seen = view.run_with_cache(TOKENS)
    return model, view, seen, modules


def by_head(view, seen, name):
    """A value as [batch head pos d_head]."""
    axes = view.hook_dict[name].axes
    return seen[name].movedim([axes.index(each) for each in ("batch", "head", "pos")], (0, 1, 2))


def split(value, heads):
    """[batch pos head*d_head] as [batch head pos d_head]."""
    return value.unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("name", ["gptneo", "opt", "bloom", "gpt2"])
def test_nothing_is_called_turned_where_no_line_turns_it(name):
    # in double precision, GPT-Neo makes single precision of q and k: numbers that differ
    _, view, _, _ = seen_in(name, torch.float64)
    assert not [each for each in view.hook_dict if "hook_rot" in each]
    assert "no attn.hook_rot_q, attn.hook_rot_k (every block): nothing turns" in view.explain()
    assert all(AT + kind in view.hook_dict for kind in "qkvz")


def test_of_heads_that_are_turned_in_part_or_whole_q_and_k_are_seen_before_and_after():
    model, view, seen, modules = seen_in("stablelm")
    cos, sin = model.model.rotary_emb(seen["hook_embed"], torch.arange(7)[None])
    parts = [split(modules[f"self_attn.{each}_proj"], 4 if each == "q" else 2) for each in "qk"]
    size = cos.shape[-1]
    assert size < parts[0].shape[-1]
    turn = modeling_stablelm.apply_rotary_pos_emb
    turned = turn(*(part[..., :size] for part in parts), cos, sin)
    for each, part, first in zip("qk", parts, turned, strict=True):
        assert torch.equal(by_head(view, seen, AT + each), part)
        whole = torch.cat([first, part[..., size:]], -1)
        assert torch.allclose(by_head(view, seen, f"{AT}rot_{each}"), whole, atol=1e-6)
    _, view, seen, _ = seen_in("phi3")  # its whole heads are turned: what is left of them is empty
    assert {f"{AT}rot_q", f"{AT}pattern", "blocks.0.mlp.hook_post"} <= {*seen}


def test_scores_are_products_of_q_and_k_by_the_root_of_a_heads_size():
    """GPT-J's too, by torch alone: turned pair by pair, and divided before the mask is added.
    TransformerLens' bridge shows the pattern under the scores' name there."""
    for name in ("gptj", "opt", "bert", "stablelm", "jamba"):
        _, view, seen, _ = seen_in(name)
        turned = "rot_" if f"{AT}rot_q" in seen else ""
        q, k = (by_head(view, seen, f"{AT}{turned}{each}") for each in "qk")
        k = k.repeat_interleave(4 // k.shape[1], dim=1)
        products = q @ k.mT / q.shape[-1] ** 0.5
        scores = seen[f"{AT}attn_scores"]
        shown = scores > -1e4
        assert shown.sum() > 100
        assert (products - scores)[shown].abs().max() < 1e-5, name
    _, view, seen, modules = seen_in("gptj")
    sines = modeling_gptj.create_sinusoidal_positions(7, 2)
    sin, cos = sines.chunk(2, dim=-1)
    for each in "qk":
        part = modules[f"attn.{each}_proj"].unflatten(-1, (4, -1))
        first = modeling_gptj.apply_rotary_pos_emb(part[..., :2], sin[None], cos[None])
        whole = torch.cat([first, part[..., 2:]], -1).transpose(1, 2)
        assert torch.allclose(by_head(view, seen, f"{AT}rot_{each}"), whole, atol=1e-6)


def test_attention_has_names_where_what_it_adds_has_none():
    _, view, seen, modules = seen_in("opt")
    for each in "qkv":
        projected = modules[f"self_attn.{each}_proj"]
        assert torch.equal(by_head(view, seen, AT + each), split(projected, 4)), each
    assert torch.equal(by_head(view, seen, f"{AT}z"), split(modules["self_attn.out_proj:in"], 4))
    _, view, seen, modules = seen_in("bert")
    told = "no hook_attn_out, hook_mlp_out, hook_resid_mid (every block): the block returns a norm"
    assert told in view.explain()
    for each, path in (("q", "query"), ("k", "key"), ("v", "value")):
        projected = modules[f"attention.self.{path}"]
        assert torch.equal(by_head(view, seen, AT + each), split(projected, 4)), each
    assert torch.equal(
        by_head(view, seen, f"{AT}z"), split(modules["attention.output.dense:in"], 4)
    )
    _, view, seen, modules = seen_in("jamba")  # keys of groups, and nothing turned
    for each, heads in (("q", 4), ("k", 2), ("v", 2)):
        projected = modules[f"self_attn.{each}_proj"]
        assert torch.equal(by_head(view, seen, AT + each), split(projected, heads)), each


def test_neurons_and_keys_that_are_only_a_part_have_no_name():
    _, view, seen, _ = seen_in("mixtral")
    assert not [each for each in seen if "mlp.hook_p" in each]  # was: attention's z
    assert "a linear map takes to all that the MLP adds" in view.explain()
    assert {"blocks.1.hook_mlp_out", f"{AT}z"} <= {*seen}
    model, view, seen, modules = seen_in("deepseek")
    assert "blocks.0.mlp.hook_post" in seen
    assert "blocks.1.mlp.hook_post" not in seen  # was: the shared expert's alone
    assert f"{AT}k" not in seen and "positions are in it already" in view.explain()
    assert torch.equal(by_head(view, seen, f"{AT}q"), split(modules["self_attn.q_b_proj"], 4))
    q, k = (by_head(view, seen, f"{AT}rot_{each}") for each in "qk")
    scores = seen[f"{AT}attn_scores"]
    products = q @ k.mT * model.model.layers[1].self_attn.scaling
    assert (products - scores)[scores > -1e4].abs().max() < 1e-5


def test_a_model_that_does_not_run_is_told_in_one_sentence():
    said = (
        r"Mixtral\w+ does not run on what it is called with: Expected .*float64.*model.float\(\)$"
    )
    with pytest.raises(UsageError, match=said):
        hook_lines(built("mixtral").double(), TOKENS)
    with pytest.raises(UsageError, match="needs inputs on which model"):
        hook_lines(built("gpt2"), TOKENS + 31)
    told = hook_lines(StopsWhereChanged(), TOKENS).explain()
    assert "with some of its values changed: it stops at families.py:" in told
    assert "IndexError" not in told
