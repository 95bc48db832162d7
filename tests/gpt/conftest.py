"""A small model and the text that the tests of training use."""

from dataclasses import replace

import pytest

from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, Corpus, Data, load_corpus, split

SMALL = GPTConfig(block_size=16, vocab_size=103, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture(scope="session")
def python_docs() -> Corpus:
    return load_corpus("python-docs")


@pytest.fixture(scope="session")
def docs(python_docs: Corpus) -> Data:
    return split(python_docs, CharTokenizer.from_text(python_docs.text), block_size=64)


@pytest.fixture(scope="session")
def text(python_docs: Corpus) -> tuple[Data, CharTokenizer]:
    tokenizer = CharTokenizer.from_text(python_docs.text)
    return split(python_docs, tokenizer, SMALL.block_size), tokenizer


@pytest.fixture
def data(text) -> Data:
    return text[0]


@pytest.fixture
def model(text) -> GPT:
    return GPT(replace(SMALL, vocab_size=text[1].vocab_size), seed=0)
