"""A small model with and without anything learned by heart."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer
from tests.interp.memorising.sentences import SENTENCES

CHARACTERS = "".join(chr(code) for code in range(32, 127)) + "\n"


@pytest.fixture(scope="session")
def tokenizer() -> CharTokenizer:
    return CharTokenizer.from_text(CHARACTERS)


def build(tokenizer: CharTokenizer, block_size: int = 64) -> GPT:
    torch.manual_seed(0)
    size = GPTConfig(
        block_size=block_size, vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=48
    )
    model = GPT(size).eval()
    model.tokenizer = tokenizer
    return model


@pytest.fixture
def untrained(tokenizer) -> GPT:
    """Random weights, large enough for contexts to matter."""
    model = build(tokenizer, block_size=24)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="session")
def learned(tokenizer) -> GPT:
    """A model that was trained on three sentences until it knew them by heart."""
    model = build(tokenizer)
    tokens = tokenizer.encode(3 * SENTENCES)
    blocks = tokens.unfold(0, 65, 1)[:: len(SENTENCES) // 24][:48]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        logits = model(blocks[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
