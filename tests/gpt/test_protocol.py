"""TransformerLens' own tools run on the model unchanged and agree with plain computations."""

from dataclasses import replace

import pytest
import torch
from transformer_lens import patching
from transformer_lens.head_detector import detect_head

from gpt import GPT, GPTConfig
from gpt.errors import UsageError
from gpt.ladder import RUNGS
from gpt.text import CharTokenizer

TEXT = "abcab cabbac"


@pytest.fixture
def model() -> GPT:
    model = GPT(GPTConfig(block_size=16, vocab_size=4, n_layer=2, n_head=2, n_embd=8, bias=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)), alpha=0.3)
    model.tokenizer = CharTokenizer.from_text(TEXT)
    return model.eval()


@pytest.fixture
def tokens(model) -> torch.Tensor:
    return model.to_tokens([TEXT, TEXT[::-1]])


SWEEPS = {
    name: getattr(patching, name) for name in dir(patching) if name.startswith("get_act_patch_")
}


@pytest.mark.parametrize(
    "sweep", [name for name in SWEEPS if not name.startswith("get_act_patch_direct_path")]
)
def test_every_patching_sweep_runs_and_is_neutral_where_clean_is_corrupted(model, tokens, sweep):
    def metric(logits):
        return logits[:, -1, 0].mean()

    tokens = tokens[:, :6]  # some sweeps run once for each pair of positions
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        grid = SWEEPS[sweep](model, tokens, cache, metric)
        torch.testing.assert_close(grid, torch.full_like(grid, metric(logits)))
        corrupted = tokens.roll(1, dims=0)
        assert not torch.allclose(
            SWEEPS[sweep](model, corrupted, cache, metric), metric(model(corrupted)), atol=1e-4
        )


def test_patching_agrees_with_and_without_gradients(model, tokens):
    def metric(logits):
        return logits[0, -1, 0]

    _, cache = model.run_with_cache(tokens)
    corrupted = tokens.roll(1, dims=0)
    for name in ("get_act_patch_resid_mid", "get_act_patch_resid_pre", "get_act_patch_mlp_out"):
        with_gradients = SWEEPS[name](model, corrupted, cache, metric)
        with torch.no_grad():
            without = SWEEPS[name](model, corrupted, cache, metric)
        torch.testing.assert_close(with_gradients, without)


def test_head_detection_scores_the_pattern_itself(model):
    scores = detect_head(model, TEXT, "previous_token_head")
    _, cache = model.run_with_cache(model.to_tokens(TEXT), remove_batch_dim=True)
    expected = [
        [cache["pattern", layer][head].diagonal(-1).sum() / len(TEXT) for head in range(2)]
        for layer in range(2)
    ]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_all_components_sum_to_the_residual_stream(model, tokens):
    _, cache = model.run_with_cache(tokens)
    final = cache["resid_post", 1]
    parts = cache.decompose_resid(mode="all")
    torch.testing.assert_close(parts.sum(0), final, atol=1e-5, rtol=1e-5)
    for expand_neurons in (False, True):
        full, labels = cache.get_full_resid_decomposition(
            expand_neurons=expand_neurons, return_labels=True
        )
        torch.testing.assert_close(full.sum(0), final, atol=1e-5, rtol=1e-5)
        assert {"L0H0", "L1H1", "embed", "pos_embed", "bias"} <= set(labels)


def test_per_head_results_are_what_the_projection_adds_up(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: True)
    total = cache["blocks.0.attn.hook_result"].sum(2) + model.blocks[0].attn.b_O
    torch.testing.assert_close(total, cache["attn_out", 0])


def test_logit_attributions_sum_to_the_logit(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    parts = cache.decompose_resid(mode="all")
    attribution = cache.logit_attrs(parts, tokens[:, 0])
    logit = logits[torch.arange(2), :, tokens[:, 0]]
    constant = (model.ln_final.bias @ model.W_U)[tokens[:, 0]][:, None]
    torch.testing.assert_close(attribution.sum(0), logit - constant)


def test_weights_read_as_the_field_reads_them_compute_what_the_model_computes(model, tokens):
    _, cache = model.run_with_cache(tokens)
    attn, mlp = model.blocks[0].attn, model.blocks[0].mlp
    x = model.blocks[0].ln1(cache["resid_pre", 0])
    for name, weight, bias in (
        ("q", attn.W_Q, attn.query.bias),
        ("k", attn.W_K, attn.key.bias),
        ("v", attn.W_V, attn.value.bias),
    ):
        expected = torch.einsum("bpm,hmd->bphd", x, weight) + bias.view(2, 4)
        torch.testing.assert_close(cache[name, 0], expected)
    y = model.blocks[0].ln2(cache["resid_mid", 0])
    torch.testing.assert_close(cache["blocks.0.mlp.hook_pre"], y @ mlp.W_in + mlp.b_in)
    post = cache["blocks.0.mlp.hook_post"]
    torch.testing.assert_close(cache["mlp_out", 0], post @ mlp.W_out + mlp.b_out)
    final = model.ln_final(cache["resid_post", 1])
    torch.testing.assert_close(cache["hook_logits"], final @ model.W_U + model.b_U)


def test_accumulated_bias_is_the_residual_stream_of_a_model_that_reads_nothing(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
    x = model(torch.zeros(1, 1, dtype=torch.long), stop_at_layer=2)
    torch.testing.assert_close(x[0, 0], model.accumulated_bias(2))
    mid = model.run_with_cache(torch.zeros(1, 1, dtype=torch.long))[1]["resid_mid", 1]
    torch.testing.assert_close(mid[0, 0], model.accumulated_bias(1, mlp_input=True))


def test_cfg_tells_the_size_of_the_model_as_it_is(model):
    cfg = model.cfg
    sizes = (cfg.n_layers, cfg.n_heads, cfg.d_model, cfg.d_head, cfg.d_mlp, cfg.d_vocab, cfg.n_ctx)
    assert sizes == (2, 2, 8, 4, 32, 4, 16)
    assert model.double().cfg.dtype == torch.float64


def test_cfg_names_the_activation_and_is_there_on_every_rung_that_has_blocks():
    size = GPTConfig(block_size=8, vocab_size=7, n_layer=2, n_head=2, n_embd=8)
    assert GPT(size).cfg.act_fn == "gelu"
    assert GPT(replace(size, gelu_approximate="tanh")).cfg.act_fn == "gelu_new"
    for name, rung in RUNGS.items():
        model = rung(size)
        if name in ("bigram", "position"):
            with pytest.raises(UsageError, match="has no blocks"):
                _ = model.cfg
            continue
        kept = model.run_with_cache(torch.zeros(1, 3, dtype=torch.long))[1]
        neurons = [value.shape[-1] for key, value in kept.items() if key.endswith("mlp.hook_post")]
        cfg = model.cfg
        assert (cfg.n_layers, cfg.d_head) == (len(model.blocks), kept["z", 0].shape[-1]), name
        assert [cfg.d_mlp] * cfg.n_layers == (neurons or [4 * 8]), name
        assert cfg.attn_only == (not neurons)
        assert cfg.act_fn == ("relu" if neurons else "none")


def test_text_becomes_tokens_with_nothing_prepended(model):
    assert model.tokenizer.decode(model.to_tokens(TEXT)[0]) == TEXT
    assert model.to_single_token("b") == model.to_tokens("b")[0, 0]
    with pytest.raises(UsageError, match="'ab' is 2 tokens, not one"):
        model.to_single_token("ab")
    with pytest.raises(UsageError, match=r"equal lengths, not \[2, 3\]"):
        model.to_tokens(["ab", "abc"])
    model.tokenizer = None
    with pytest.raises(UsageError, match="has no tokenizer"):
        model.to_tokens("ab")
