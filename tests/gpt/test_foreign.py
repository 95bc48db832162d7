"""The model agrees with others' implementations of the same architecture."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
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
    for switch in ("attn_in", "attn_result", "hook_mlp_in"):
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
        if name.endswith("hook_attn_in"):  # of which the bridge has a copy for each head
            mine = mine[:, :, None].expand_as(other)
        torch.testing.assert_close(mine, other.expand_as(mine), atol=1e-5, rtol=0, msg=name)


ARGS = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "bias": True, "vocab_size": 13}


def weights_of(gpt2: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """As nanoGPT keeps them."""
    matrices = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return {
        name: (tensor.T if name.endswith(matrices) else tensor).contiguous()
        for name, tensor in gpt2.state_dict().items()
    }


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    return random_gpt2(activation_function="gelu")


@pytest.fixture
def nanogpt(gpt2, tmp_path):
    """Writes a checkpoint as nanoGPT does, with changes; its path."""

    def write(change=lambda weights: weights, **sizes) -> Path:
        weights = change(weights_of(gpt2))
        args = {name: size for name, size in (ARGS | sizes).items() if size is not None}
        saved = {"model": weights, "model_args": args, "iter_num": 5, "config": {"device": "cpu"}}
        torch.save(saved, tmp_path / "ckpt.pt")
        return tmp_path / "ckpt.pt"

    return write


def renamed(prefix: str):
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


MASK = torch.ones(16, 16).tril().view(1, 1, 16, 16)
READ = {
    "as it is": lambda weights: weights,
    "compiled": renamed("_orig_mod."),
    "parallel": renamed("module."),
    "compiled and parallel": renamed("module._orig_mod."),
    "parallel and compiled": renamed("_orig_mod.module."),
    "no lm_head beside the tied embedding": lambda w: (w.pop("lm_head.weight"), w)[1],
    "causal masks as buffers": lambda w: w | {f"transformer.h.{i}.attn.bias": MASK for i in (0, 1)},
    "masks of Hugging Face's": lambda w: (
        w
        | {"transformer.h.0.attn.bias": MASK.bool()}
        | {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
    ),
    "float64": lambda w: {name: tensor.double() for name, tensor in w.items()},
}


@pytest.mark.parametrize("form", READ)
def test_a_checkpoint_of_nanogpt_is_read(gpt2, tokens, nanogpt, form):
    model = from_nanogpt(nanogpt(READ[form], dropout=0.0))
    assert not model.training
    ours = model(tokens)
    assert ours.dtype == (torch.float64 if form == "float64" else torch.float32)
    torch.testing.assert_close(ours.float(), gpt2(tokens).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_without_a_loss(gpt2, tokens, nanogpt, dtype):
    halved = GPT2LMHeadModel(gpt2.config).eval()
    halved.load_state_dict({name: w.to(dtype).float() for name, w in gpt2.state_dict().items()})
    path = nanogpt(lambda weights: {name: tensor.to(dtype) for name, tensor in weights.items()})
    torch.testing.assert_close(from_nanogpt(path)(tokens), halved(tokens).logits, atol=1e-5, rtol=0)


H = "transformer.h.0"
NOT_READ = {
    "untied": ({"lm_head.weight": torch.zeros(13, 8)}, "has an unembedding of its own"),
    "untied and padded": ({"lm_head.weight": torch.zeros(16, 8)}, "has an unembedding of its own"),
    "head bias": ({"lm_head.bias": torch.zeros(13)}, r"has lm_head\.bias, for which"),
    "query norm": ({f"{H}.attn.q_norm.weight": torch.ones(8)}, r"attn\.q_norm\.weight, for which"),
    "two more": ({f"{H}.a": torch.ones(8), f"{H}.b": torch.ones(8)}, r"h\.0\.a and 1 more, for"),
    "gate": ({f"{H}.mlp.c_gate.weight": torch.ones(8)}, r"mlp\.c_gate\.weight, for which"),
    "a third norm": ({f"{H}.ln_3.weight": torch.ones(8)}, r"ln_3\.weight, for which"),
    "final head": ({"value_head.weight": torch.ones(8)}, r"value_head\.weight, for which"),
    "rotary": ({f"{H}.attn.rotary.inv_freq": torch.ones(2)}, "inv_freq, for which"),
    "scales": ({"transformer.ln_f.gamma": torch.ones(8)}, r"ln_f\.gamma, for which"),
    "window": ({f"{H}.attn.bias": MASK.triu(-3)}, r"h\.0\.attn\.bias, for which"),
    "all seen": ({f"{H}.attn.bias": torch.ones_like(MASK)}, r"h\.0\.attn\.bias, for which"),
    "soft mask": ({f"{H}.attn.masked_bias": torch.tensor(-1.0)}, "masked_bias, for which"),
    "fewer keys": ({f"{H}.attn.c_attn.weight": torch.ones(16, 8)}, r"c_attn\.weight, for which"),
    "a number": ({f"{H}.attn.c_attn.bias": torch.tensor(1.0)}, r"c_attn\.bias, for which"),
    "one layer more": ({"transformer.h.2.ln_1.weight": torch.ones(8)}, "n_layer is 2 there"),
    "a layer of another name": (
        {"transformer.h.00.ln_1.weight": torch.ones(8)},
        r"00\.ln_1\.weight",
    ),
    "the same twice": ({"wte.weight": torch.zeros(13, 8)}, r"wte\.weight, for which"),
    "some wrapped": ({"_orig_mod.lm_head.bias": torch.zeros(13)}, "_orig_mod.lm_head.bias, for"),
    "no number": ({"transformer.wpe.weight": torch.full((16, 8), torch.nan)}, "is not finite"),
    "whole numbers": ({f"{H}.ln_1.weight": torch.ones(8).int()}, "is int32 in the file"),
    "no tensor": ({f"{H}.ln_1.weight": [1.0] * 8}, "no plain tensor"),
    "sparse": ({f"{H}.mlp.c_fc.weight": torch.zeros(32, 8).to_sparse()}, "no plain tensor"),
}


@pytest.mark.parametrize("form", NOT_READ)
def test_a_weight_that_has_no_place_is_refused_by_name(nanogpt, form):
    more, sentence = NOT_READ[form]
    path = nanogpt(lambda weights: weights | more)
    with pytest.raises(UsageError, match=sentence) as refused:
        from_nanogpt(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("transformer.wpe.weight", r"wpe\.weight is missing in the file"),
        ("transformer.ln_f.bias", r"ln_final\.bias is missing in the file"),
        (f"{H}.attn.c_attn.weight", r"attn\.\w+\.weight is missing in the file"),
    ],
)
def test_a_weight_that_is_missing_is_refused_by_name(nanogpt, missing, sentence):
    with pytest.raises(UsageError, match=sentence):
        from_nanogpt(nanogpt(lambda weights: (weights.pop(missing), weights)[1]))


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"n_kv_head": 1}, r"by a fork of nanoGPT: its model takes 'n_kv_head' \(1\)"),
        ({"gelu_approximate": "tanh"}, "its model takes 'gelu_approximate'"),
        ({"n_head": None}, "n_head in its 'model_args' is 'missing'"),
        ({"n_head": 2.0}, r"n_head in its 'model_args' is 2\.0"),
        ({"n_layer": "2"}, "n_layer in its 'model_args' is '2'"),
        (
            {"n_head": 3},
            r"ckpt\.pt holds no model that can be built: n_embd \(8\) is not divisible",
        ),
        ({"bias": "yes"}, "bias and dropout in its 'model_args' are 'yes'"),
        ({"bias": False}, r"\.bias is \(\d+,\) in the file and missing in the model"),
        ({"dropout": 7.0}, r"dropout is 7\.0; it must"),
        ({"n_embd": 10**12}, r"h\.0\.attn\.c_attn\.weight and 3 more, for which"),
        ({"n_layer": 10**12}, "n_layer is 1000000000000 there"),
        ({"block_size": 10**12}, "block_size is 1000000000000 there"),
        ({"vocab_size": 16}, "vocab_size is 16 there, and the weights are of 13"),
    ],
)
def test_sizes_that_are_not_the_model_s_are_refused(nanogpt, sizes, sentence):
    with pytest.raises(UsageError, match=sentence):
        from_nanogpt(nanogpt(**sizes))


class Evil:
    def __reduce__(self):
        return open, ("evil was here", "w")


def test_what_is_no_checkpoint_of_nanogpt_is_refused(tmp_path, nanogpt, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no checkpoint at"):
        from_nanogpt(tmp_path / "nowhere.pt")
    with pytest.raises(UsageError, match="is a folder"):
        from_nanogpt(tmp_path)
    whole = nanogpt().read_bytes()
    for content in (b"", b"no zip", b"\x80\x02}.", b"\x80\x04N.", whole[:500], whole[500:]):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"is not a ckpt\.pt that nanoGPT wrote"):
            from_nanogpt(tmp_path / "bad.pt")
    save_file({"wte.weight": torch.zeros(2)}, tmp_path / "bad.pt")
    with pytest.raises(UsageError, match=r"is not a ckpt\.pt that nanoGPT wrote"):
        from_nanogpt(tmp_path / "bad.pt")
    torch.save({"model_args": ARGS, "model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match="not loaded because it could run code") as refused:
        from_nanogpt(tmp_path / "evil.pt")
    assert "weights_only" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "evil was here").exists()


@pytest.mark.parametrize(
    "saved",
    [
        {"weights": 1},
        torch.zeros(3),
        [1, 2],
        {"model_args": None, "model": {"a": torch.zeros(1)}},
        {"model_args": ARGS, "model": None},
        {"model_args": ARGS, "model": {}},
        {"model_args": ARGS},
        {"model_args": [1], "model": {"a": torch.zeros(1)}},
    ],
)
def test_another_container_is_refused(tmp_path, saved):
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"ckpt\.pt that nanoGPT wrote: it has no (sizes|weights)"):
        from_nanogpt(tmp_path / "other.pt")


def test_hugging_face_s_models_that_are_not_this_one_are_refused(tokens):
    untied = random_gpt2(tie_word_embeddings=False)
    with pytest.raises(UsageError, match="the GPT-2 given has an unembedding of its own"):
        from_huggingface(untied)
    with torch.no_grad():
        untied.lm_head.weight.copy_(untied.transformer.wte.weight)  # tied in all but name
    torch.testing.assert_close(
        from_huggingface(untied)(tokens), untied(tokens).logits, atol=1e-5, rtol=0
    )
    crossed = random_gpt2(add_cross_attention=True)
    with pytest.raises(UsageError, match=r"crossattention\.\S+ and \d+ more, for which"):
        from_huggingface(crossed)
    for other in (torch.nn.Linear(2, 2), None, "gpt2"):
        with pytest.raises(UsageError, match="is not a GPT-2: give a GPT2LMHeadModel"):
            from_huggingface(other)


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
