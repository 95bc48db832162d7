"""A small model and the text that the tests of training use."""

from dataclasses import replace

import pytest

from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, Data, load_corpus, split

SMALL = GPTConfig(block_size=16, vocab_size=103, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture(scope="session")
def text() -> tuple[Data, CharTokenizer]:
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    return split(corpus, tokenizer, SMALL.block_size), tokenizer


@pytest.fixture
def data(text) -> Data:
    return text[0]


@pytest.fixture
def model(text) -> GPT:
    return GPT(replace(SMALL, vocab_size=text[1].vocab_size), seed=0)
