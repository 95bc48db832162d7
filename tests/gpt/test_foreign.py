"""The model agrees with others' implementations of the same architecture."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpt.errors import UsageError
from gpt.foreign import from_huggingface, from_nanogpt

SIZE = {"n_positions": 16, "vocab_size": 13, "n_layer": 2, "n_head": 2, "n_embd": 8}


def random_gpt2(**settings) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    gpt2 = GPT2LMHeadModel(GPT2Config(**SIZE | tokens | settings)).eval()
    with torch.no_grad():  # biases are 0 and norms 1 at the start; shared weights must show
        for parameter in gpt2.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return gpt2


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(13, (2, 12), generator=torch.manual_seed(1))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_logits_agree_with_hugging_face_gpt2(tokens, activation):
    gpt2 = random_gpt2(activation_function=activation)
    torch.testing.assert_close(
        from_huggingface(gpt2)(tokens), gpt2(tokens).logits, atol=1e-5, rtol=0
    )


def test_every_activation_agrees_with_the_bridge_of_transformer_lens(tokens, bridge_over):
    gpt2 = random_gpt2(activation_function="gelu_new")
    model, bridge = from_huggingface(gpt2), bridge_over(gpt2)
    for switch in ("attn_result", "hook_mlp_in"):
        getattr(bridge, f"set_use_{switch}")(True)
    with torch.no_grad():
        logits, ours = model.run_with_cache(tokens, names_filter=lambda name: True)
        their_logits, theirs = bridge.run_with_cache(tokens)
    torch.testing.assert_close(logits, their_logits, atol=1e-5, rtol=0)
    compared = [name for name in ours if name in theirs]
    # the bridge has no hook point on the logits by this name
    assert set(ours) - set(compared) <= {"hook_logits"}
    for name in compared:
        mine, other = ours[name], theirs[name]
        if name.endswith("hook_attn_scores"):  # the bridge masks with a large number
            seen = torch.ones(12, 12, dtype=torch.bool).tril()
            mine, other = mine[..., seen], other[..., seen]
        torch.testing.assert_close(mine, other.expand_as(mine), atol=1e-5, rtol=0, msg=name)


def test_a_checkpoint_of_nanogpt_is_read(tokens, tmp_path):
    gpt2 = random_gpt2(activation_function="gelu")
    matrices = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    theirs = {
        f"_orig_mod.{name}": (tensor.T if name.endswith(matrices) else tensor).contiguous()
        for name, tensor in gpt2.state_dict().items()
    }
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "bias": True}
    path = tmp_path / "ckpt.pt"
    torch.save({"model": theirs, "model_args": sizes | {"vocab_size": 13, "dropout": 0.0}}, path)
    torch.testing.assert_close(from_nanogpt(path)(tokens), gpt2(tokens).logits, atol=1e-5, rtol=0)


def test_what_is_no_checkpoint_of_nanogpt_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no checkpoint at"):
        from_nanogpt(tmp_path / "nowhere.pt")
    for content in (b"", b"no zip", b"\x80\x02}."):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"is not a ckpt\.pt that nanoGPT wrote"):
            from_nanogpt(tmp_path / "bad.pt")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"is not a ckpt\.pt that nanoGPT wrote \('model_args'\)"):
        from_nanogpt(tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"activation_function": "relu"}, "is a GELU, not 'relu'"),
        ({"scale_attn_weights": False}, "scales attention scores"),
        ({"n_inner": 9}, "not 9"),
        ({"layer_norm_epsilon": 1e-3}, r"not 0\.001"),
    ],
)
def test_variants_of_gpt2_that_the_model_is_not_are_refused(setting, sentence):
    with pytest.raises(UsageError, match=sentence):
        from_huggingface(random_gpt2(**setting))
