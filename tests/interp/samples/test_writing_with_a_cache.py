"""With a key/value cache a model writes what it writes without."""

import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from interp import Zero
from interp.samples import write

PROMPT = [3, 1, 4, 1, 5]

SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
}


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=31, n_positions=24, n_embd=16, n_layer=2, n_head=4)
    )


CACHED = {
    "gpt2": gpt2,
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "gemma, a window of 3": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=4, sliding_window=3)
    ),
}


def louder(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= 5
    return model.eval()


@pytest.mark.parametrize("kind", CACHED)
@pytest.mark.parametrize("count", [10, 40], ids=["inside the context", "beyond it"])
def test_with_a_key_value_cache_the_text_is_the_same(kind, count):
    torch.manual_seed(0)
    model = louder(CACHED[kind]())
    prompts = [torch.tensor(PROMPT), torch.tensor([2, 7, 1])]
    fast = write(model, prompts, count, seeds=(0, 1))
    slow = write(model, prompts, count, seeds=(0, 1), use_cache=False)
    assert fast.cached and not slow.cached
    assert [each.tokens for each in fast.samples] == [each.tokens for each in slow.samples]


def test_a_cache_that_says_something_else_is_not_used():
    torch.manual_seed(0)
    model = louder(gpt2())
    forward = model.forward

    def forgets(*args, cache=None, use_cache=False):
        if cache is not None:
            cache.layers[0].keys = cache.layers[0].keys * 0
        return forward(*args, cache=cache, use_cache=use_cache)

    slow = write(model, torch.tensor([PROMPT]), 10, use_cache=False)
    model.forward = forgets
    fast = write(model, torch.tensor([PROMPT]), 10)
    assert not fast.cached and fast.samples == slow.samples


@torch.no_grad()
def test_a_hook_of_ones_own_sees_every_token_of_a_model_with_a_cache():
    torch.manual_seed(0)
    model = louder(gpt2())
    half = model.transformer.h[0].register_forward_hook(lambda *given: given[2] / 2)
    writing = write(model, torch.tensor([PROMPT]), 12, temperature=0)
    assert not writing.cached
    tokens = list(PROMPT)
    for _ in range(12):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert list(writing.samples[0].tokens) == tokens[5:]
    half.remove()
    assert write(model, torch.tensor([PROMPT]), 12, temperature=0).samples != writing.samples


def test_a_bridge_writes_what_the_model_inside_writes(bridge_over):
    torch.manual_seed(0)
    inside = louder(gpt2())
    slow = write(inside, torch.tensor([PROMPT]), 12, use_cache=False)
    bridge = bridge_over(inside)
    assert [each.tokens for each in write(bridge, torch.tensor([PROMPT]), 12).samples] == [
        each.tokens for each in slow.samples
    ]
    cut = write(bridge, "3", 12, interventions={"blocks.0.hook_mlp_out": Zero()})
    assert cut.receipt["positions"].item() == 2 + 12 - 1  # a first token of the bridge's own
