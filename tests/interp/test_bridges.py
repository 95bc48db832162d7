"""Interventions on TransformerLens' bridge say what plain torch says of the model inside it."""

import pytest
import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedTokenizerFast,
)

from interp import Mean, Noise, Patch, Resample, Steer, Zero, cache, intervene, logit_difference
from interp.attribution import attribution
from interp.errors import InterventionError, UsageError
from interp.patching import activation_patching
from interp.site import Site
from interp.sweep import effects_of

WIDTH, PAD = 16, 30
TEXTS = torch.randint(0, 29, (3, 8), generator=torch.Generator().manual_seed(1))
LLAMA = {
    "vocab_size": 31,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "attn_implementation": "eager",
}
GPT2 = {"vocab_size": 31, "n_positions": 16, "n_embd": WIDTH, "n_layer": 2, "n_head": 4}
INSIDE = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2, attn_implementation="eager")),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, num_key_value_heads=2)),
    "gemma": lambda: Gemma2ForCausalLM(
        Gemma2Config(**LLAMA, num_key_value_heads=2, head_dim=4, sliding_window=3)
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**LLAMA)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=31, hidden_size=WIDTH, n_layer=2, n_head=4)
    ),
    "openai": lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**GPT2)),
}
NAMES = {
    "gpt2": "gpt2",
    "llama": "meta-llama/Llama-3.2-1B",
    "gemma": "google/gemma-2-2b",
    "neox": "EleutherAI/pythia-70m",
    "bloom": "bigscience/bloom-560m",
    "openai": "openai-community/openai-gpt",
}


def bridge_of(kind, dtype=torch.float32):
    torch.manual_seed(0)
    model = INSIDE[kind]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= 5
    words = {str(i): i for i in range(29)} | {"<bos>": 29, "<pad>": PAD}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="0")),
        bos_token="<bos>",
        eos_token="<bos>",
        pad_token="<pad>",
        unk_token="0",
        name_or_path="none",  # without a tokenizer that prepends, the bridge asks a hub for one
        add_bos_token=True,
    )
    return TransformerBridge.boot_transformers(
        NAMES[kind], hf_model=model.to(dtype), tokenizer=tokenizer, dtype=dtype
    )


def run(model, tokens, interventions, **kwargs):
    with torch.no_grad(), intervene(model, interventions):
        return model(tokens, **kwargs)


def with_attention_shifted(bridge, layer, change, tokens):
    """The logits where a change is added to what attention writes to the stream."""
    point = bridge.hook_dict[f"blocks.{layer}.hook_attn_out"]
    handle = point.register_forward_hook(lambda module, args, output: output + change)
    with torch.no_grad():
        logits = bridge(tokens)
    handle.remove()
    return logits


# the middle of the residual stream


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma"])
def test_the_middle_of_a_bridges_stream_goes_to_the_mlp_and_around_it(kind):
    bridge = bridge_of(kind)
    change = torch.randn(3, 8, WIDTH, generator=torch.Generator().manual_seed(2))
    change[:, [0, 1, 3, 4, 5, 6, 7]] = 0
    for layer in range(2):
        name = f"blocks.{layer}.hook_resid_mid"
        expected = with_attention_shifted(bridge, layer, change, TEXTS)
        found = run(bridge, TEXTS, {name: Steer(change)})
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
        branch = run(bridge, TEXTS, {name.replace("hook_resid_mid", "ln2.hook_in"): Steer(change)})
        assert (branch - expected).abs().max() > 1e-2


def test_later_hooks_see_the_changed_stream_and_blocks_nest():
    bridge = bridge_of("gpt2")
    mid, out, post = (f"blocks.0.hook_{kind}" for kind in ("resid_mid", "mlp_out", "resid_post"))
    inner = {f"{mid}[pos=1]": Steer(torch.ones(WIDTH))}
    with intervene(bridge, {mid: lambda value: 2 * value}), intervene(bridge, inner):
        kept = cache(bridge, TEXTS, [mid, out, post])
    torch.testing.assert_close(kept[post], kept[mid] + kept[out])
    plain = cache(bridge, TEXTS, mid)[mid]
    torch.testing.assert_close(kept[mid][:, 1], 2 * plain[:, 1] + 1)
    after = cache(bridge, TEXTS, [mid, out, post])
    torch.testing.assert_close(after[post], after[mid] + after[out])


def test_a_run_that_ends_in_the_middle_of_a_block_leaves_nothing_for_the_next():
    bridge = bridge_of("gpt2")

    def fail(value, hook):
        raise KeyError

    expected = run(bridge, TEXTS, {"blocks.0.hook_resid_mid": Zero()})
    with torch.no_grad(), intervene(bridge, {"blocks.0.hook_resid_mid": Zero()}):
        with pytest.raises(KeyError):
            bridge.run_with_hooks(TEXTS, fwd_hooks=[("blocks.0.mlp.hook_in", fail)])
        with pytest.raises(KeyError), bridge.hooks(fwd_hooks=[("blocks.0.mlp.hook_in", fail)]):
            bridge(TEXTS)
        torch.testing.assert_close(bridge(TEXTS), expected)


def test_patching_the_middle_of_the_stream_everywhere_gives_the_clean_answer():
    bridge, metric = bridge_of("llama"), logit_difference(answer=3, wrong=5)
    clean, corrupted = TEXTS, TEXTS.flip(0)
    kept = cache(bridge, clean, "blocks.1.hook_resid_mid")
    patched = run(bridge, corrupted, {"blocks.1.hook_resid_mid": Patch(kept)})
    torch.testing.assert_close(patched, bridge(clean), atol=2e-5, rtol=1e-4)
    corrupted = clean.clone()
    corrupted[:, 3] = (corrupted[:, 3] + 5) % 29
    table = activation_patching(bridge, clean, corrupted, metric, ["resid_mid"], progress=False)
    ahead = table[(table["pos"] == 3) & (table["layer"] == 0)]["recovered"]
    last = table[(table["pos"] == 7) & (table["layer"] == 1)]["recovered"]
    assert float(last.iloc[0]) == pytest.approx(1, abs=1e-3)  # all that the last layer hands on
    assert abs(float(ahead.iloc[0])) > 0


def test_attribution_at_the_middle_of_the_stream_counts_the_way_around():
    bridge, metric = bridge_of("gpt2"), logit_difference(answer=3, wrong=5)
    near = TEXTS.clone()
    near[:, -1] = (near[:, -1] + 1) % 29
    with torch.no_grad():
        bridge.embed.original_component.weight[:] = bridge.embed.original_component.weight[
            0
        ] + 1e-3 * torch.randn(31, WIDTH, generator=torch.Generator().manual_seed(0))
    found = attribution(
        bridge, TEXTS, near, metric, [Site("blocks.1.hook_resid_mid", pos=7)], verify=1,
        progress=False,
    )  # fmt: skip
    (row,) = found.table.to_dict("records")
    assert row["approximate"] == pytest.approx(row["exact"], rel=0.05)


def test_a_stream_that_no_adding_behind_the_block_changes_is_refused():
    bridge = bridge_of("openai")  # its norm comes after the addition
    with pytest.raises(InterventionError, match="is what the MLP reads"):
        run(bridge, TEXTS, {"blocks.0.hook_resid_mid": Zero()})


# masked keys

WHAT = {
    "zero": lambda kept: Zero(),
    "uniform": lambda kept: torch.zeros_like,
    "in place": lambda kept: lambda value: value.fill_(0.3),
    "noise": lambda kept: Noise(0.5),
    "steer": lambda kept: Steer(torch.tensor(0.3)),
    "mean": lambda kept: Mean(kept, positions="each"),
    "patch": lambda kept: Patch(kept),
    "resample": lambda kept: Resample(kept),
}


@pytest.mark.parametrize("kind", ["gpt2", "gemma", "bloom"])
@pytest.mark.parametrize("point", ["hook_attn_scores", "hook_pattern"])
def test_no_intervention_opens_a_key_that_the_model_hides(kind, point):
    bridge = bridge_of(kind)
    name = f"blocks.0.attn.{point}"
    kept = cache(bridge, TEXTS.flip(1), f"blocks.0.attn.{point}")
    hidden = cache(bridge, TEXTS, "blocks.0.attn.hook_pattern")["blocks.0.attn.hook_pattern"] == 0
    for what, make in WHAT.items():
        with torch.no_grad(), intervene(bridge, {f"{name}[head=1]": make(kept)}) as receipt:
            logits = bridge(TEXTS)
            pattern = cache(bridge, TEXTS, "blocks.0.attn.hook_pattern")
        assert logits.isfinite().all(), what
        assert not pattern["blocks.0.attn.hook_pattern"][hidden].any(), what
        effect = next(iter(receipt))
        assert effect.elements == 2 * int((~hidden[:, 1]).sum())
        assert effect.relative_norm < 100  # no mask's number is among the activations


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masks_in_half_precision_stay_closed(dtype):
    bridge = bridge_of("llama", dtype)
    later = TEXTS.clone()
    later[:, -1] = (later[:, -1] + 1) % 29
    for what in (Zero(), Noise(0.5, seed=1)):
        site = {"blocks.0.attn.hook_attn_scores[head=2]": what}
        first, second = run(bridge, TEXTS, site), run(bridge, later, site)
        assert first.isfinite().all()
        if isinstance(what, Zero):
            assert torch.equal(first[:, :-1], second[:, :-1])


def test_padding_that_the_model_hides_stays_hidden():
    bridge = bridge_of("llama")
    padded = torch.cat([torch.full((1, 3), PAD), TEXTS[:1, :5]], dim=1)
    mask = (padded != PAD).long()
    for point in ("hook_attn_scores", "hook_pattern"):
        site = {f"blocks.0.attn.{point}[head=1]": lambda value: torch.ones_like(value) / 8}
        alone = run(bridge, TEXTS[:1, :5], site)
        beside = run(bridge, padded, site, attention_mask=mask)
        torch.testing.assert_close(beside[:, 3:], alone, atol=2e-5, rtol=1e-4)


# texts that begin with padding


class Masked:
    """A model that is told of padding; no torch module."""

    def __init__(self, bridge):
        self.bridge = bridge

    @property
    def hook_dict(self):
        return self.bridge.hook_dict

    def __call__(self, tokens, **kwargs):
        return self.bridge(tokens, attention_mask=(tokens != PAD).long(), **kwargs)


def test_padding_before_a_text_is_refused_unless_the_model_is_told_of_it():
    bridge, metric = bridge_of("llama"), logit_difference(answer=3, wrong=5)
    padded = torch.cat([torch.full((1, 3), PAD), TEXTS[:1, :5]], dim=1)
    batch = torch.cat([padded, TEXTS[1:2]])
    questions = {f"blocks.0.attn.hook_z[head={head}]": Zero() for head in range(4)}
    with pytest.raises(UsageError, match=r"begins with 3 tokens of padding \(30\)"):
        effects_of(bridge, batch, questions, metric, progress=False)
    with pytest.raises(UsageError, match="attention mask"):
        cache(bridge, batch, "blocks.0.hook_mlp_out")
    alone = effects_of(bridge, TEXTS[:1, :5], questions, metric, progress=False)
    told = effects_of(Masked(bridge), batch, questions, metric, progress=False)
    assert told.values[:, 0] == pytest.approx(alone.values[:, 0], abs=1e-4)
    kept = cache(bridge, batch, "blocks.0.hook_mlp_out", attention_mask=(batch != PAD).long())
    assert kept["blocks.0.hook_mlp_out"].shape == (2, 8, WIDTH)


def test_a_wrapper_is_put_into_evaluation_mode_with_the_model_it_holds():
    bridge, metric = bridge_of("gpt2"), logit_difference(answer=3, wrong=5)
    questions = {"blocks.0.attn.hook_z[head=0]": Zero()}
    expected = effects_of(bridge, TEXTS, questions, metric, progress=False)
    bridge.original_model.train()
    found = effects_of(Masked(bridge), TEXTS, questions, metric, progress=False)
    assert (found.values == expected.values).all()
    assert bridge.original_model.training


# texts that are read in pieces, as a key/value cache has it


RENAMED = pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")


def generated(bridge, site, what, cached):
    how = {"max_new_tokens": 4, "do_sample": False, "verbose": False, "stop_at_eos": False}
    with torch.no_grad(), intervene(bridge, {site: what}):
        return bridge.generate(TEXTS[:1, :5], use_past_kv_cache=cached, **how)


@RENAMED
@pytest.mark.parametrize(
    ("site", "what"),
    [
        ("blocks.0.hook_resid_pre[pos=0]", Steer(3 * torch.ones(WIDTH))),
        ("blocks.1.attn.hook_z[pos=4,head=1]", Zero()),
        ("blocks.0.attn.hook_attn_scores[head=2]", Zero()),
        ("blocks.0.attn.hook_pattern[pos=3]", lambda value: torch.ones_like(value) / 4),
        ("blocks.1.hook_mlp_out", Zero()),
    ],
)
def test_positions_are_those_of_the_text_also_under_a_cache(site, what):
    bridge = bridge_of("neox")
    slow = generated(bridge, site, what, cached=False)
    assert torch.equal(generated(bridge, site, what, cached=True), slow)


@RENAMED
@pytest.mark.parametrize(
    ("kind", "site", "what", "sentence"),
    [
        ("neox", "blocks.0.hook_resid_pre[pos=-1]", Zero(), "another token in every run"),
        ("neox", "blocks.0.hook_resid_pre", Noise(), "drawn for a whole text"),
    ],
)
def test_what_a_cache_would_change_is_refused(kind, site, what, sentence):
    with pytest.raises(InterventionError, match=sentence):
        generated(bridge_of(kind), site, what, cached=True)


@RENAMED
def test_a_reference_does_not_stand_for_a_later_token():
    bridge = bridge_of("neox")
    name = "blocks.0.hook_resid_pre"
    reference = cache(bridge, TEXTS[:1, :1], name)
    with torch.no_grad():
        _, past = bridge(TEXTS[:1, :5], return_type="logits_and_cache", use_cache=True)
    late = pytest.raises(InterventionError, match="this run with token 5 of one")
    with late, torch.no_grad(), intervene(bridge, {name: Patch(reference)}):
        bridge(TEXTS[:1, 5:6], past_key_values=past)


def test_a_cache_that_the_model_leaves_empty_is_refused():
    bridge = bridge_of("neox")
    with torch.no_grad(), intervene(bridge, {"blocks.0.hook_mlp_out": Zero()}):
        _, past = bridge(TEXTS[:1, :5], return_type="logits_and_cache", use_cache=True)
        past.reset()
        with pytest.raises(InterventionError, match="does not fill its cache"):
            bridge(TEXTS[:1, 5:6], past_key_values=past, attention_mask=torch.ones(1, 6))
