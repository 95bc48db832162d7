"""What is promised of tokens, batches and the n-gram lines."""

import hashlib
import math
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.errors import UsageError
from gpt.text import (
    CharTokenizer,
    Corpus,
    Data,
    batch,
    evaluation_blocks,
    load_corpus,
    ngram_entropy,
    split,
)

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def tokens_of(text: str) -> torch.Tensor:
    return CharTokenizer.from_text(text).encode(text)


def corpus_of(text: str) -> Corpus:
    return Corpus("a text", text, hashlib.sha256(text.encode()).hexdigest())


@pytest.fixture
def tiny_shakespeare(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    folder = Path(os.environ.get("GPT_TEXT_DIR") or SHARED)
    if not any((folder / name).is_file() for name in ("tinyshakespeare.txt", "input.txt")):
        pytest.skip("no local copy of tiny shakespeare: set GPT_TEXT_DIR")
    monkeypatch.setenv("GPT_TEXT_DIR", str(folder))
    return load_corpus("shakespeare")


# Tokens


@given(st.text())
def test_decoding_undoes_encoding(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int64
    assert set(tokens.tolist()) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(tokens) == text


def test_a_character_outside_the_vocabulary_is_named_with_its_position() -> None:
    with pytest.raises(UsageError, match="'ö' at position 2"):
        CharTokenizer("abc").encode("abözö")


@pytest.mark.parametrize("token", [-1, 3])
def test_a_token_outside_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(UsageError, match=f"^{token} is no token: this vocabulary has 0 to 2"):
        CharTokenizer("abc").decode(torch.tensor([0, token]))


@pytest.mark.parametrize("characters", ["ba", "aab"])
def test_a_vocabulary_is_sorted_and_unique(characters: str) -> None:
    with pytest.raises(UsageError, match="sorted"):
        CharTokenizer(characters)


# The split


@given(block_size=st.integers(1, 500), spare=st.integers(-20, 20))
@settings(deadline=None)
def test_a_text_is_split_nine_to_one_or_the_length_it_needs_is_named(
    block_size: int, spare: int
) -> None:
    needed = 10 * block_size + 1
    text = ("ab" * needed)[: max(needed + spare, 1)]
    corpus, tokenizer = corpus_of(text), CharTokenizer("ab")
    if len(text) < needed:
        with pytest.raises(UsageError, match=f"has {len(text)} characters.* needs {needed}$"):
            split(corpus, tokenizer, block_size)
        return
    data = split(corpus, tokenizer, block_size)
    assert data.sha256 == corpus.sha256
    assert len(data.train) == len(text) * 9 // 10
    assert tokenizer.decode(torch.cat([data.train, data.val])) == text


# Batches


def test_targets_are_the_tokens_that_follow(docs: Data) -> None:
    x, y = batch(docs.train, batch_size=5, block_size=16, seed=0, step=0)
    assert x.shape == y.shape == (5, 16)
    assert x.is_contiguous()
    assert y.is_contiguous()  # so that targets.view(-1), as lectures write it, works
    text = docs.train.numpy().tobytes()
    for inputs, targets in zip(x, y, strict=True):
        assert torch.cat([inputs, targets[-1:]]).numpy().tobytes() in text
        assert inputs[1:].equal(targets[:-1])


def test_batches_depend_on_the_seed_and_the_step_alone(docs: Data) -> None:
    def starts(seed: int, step: int) -> tuple[int, ...]:
        positions = torch.arange(len(docs.train))
        x, _ = batch(positions, batch_size=8, block_size=64, seed=seed, step=step)
        return tuple(x[:, 0].tolist())

    first = {(seed, step): starts(seed, step) for seed in range(3) for step in range(50)}
    torch.manual_seed(1)
    torch.rand(7)
    assert all(starts(*key) == drawn for key, drawn in reversed(first.items()))
    assert len(set(first.values())) == len(first)


def test_every_block_of_the_text_is_drawn_about_equally_often() -> None:
    x, y = batch(torch.arange(12), batch_size=8000, block_size=4, seed=0, step=0)
    counts = x[:, 0].bincount()
    assert len(counts) == 8  # the last block ends where the text ends
    assert y.max() == 11
    assert (counts - 1000).abs().max() < 5 * math.sqrt(8000 / 8 * 7 / 8)


# Evaluation blocks


@given(length=st.integers(2, 300), block_size=st.integers(1, 30))
def test_evaluation_blocks_cover_the_text_once_but_for_a_rest(length: int, block_size: int) -> None:
    tokens = torch.arange(length)
    if length < block_size + 1:
        with pytest.raises(UsageError, match="too short"):
            evaluation_blocks(tokens, block_size)
        return
    x, y = evaluation_blocks(tokens, block_size)
    assert y.view(-1).equal(y.flatten())
    assert x.flatten().equal(tokens[: x.numel()])
    assert y.equal(x + 1)
    assert length - 1 - x.numel() < block_size


@given(at_most=st.integers(1, 120))
def test_fewer_evaluation_blocks_are_evenly_spaced(at_most: int) -> None:
    tokens = torch.arange(1000)
    every, _ = evaluation_blocks(tokens, 10)
    x, y = evaluation_blocks(tokens, 10, at_most)
    assert len(x) == min(at_most, len(every))
    assert y.equal(x + 1)
    gaps = {int(b - a) for a, b in pairwise(x[:, 0] // 10)}
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


# n-gram lines


@pytest.mark.parametrize(
    ("n", "train", "val"), [(1, 3.309, 3.347), (2, 2.452, 2.484), (3, 1.910, 2.046)]
)
def test_the_lines_of_tiny_shakespeare_are_the_published_ones(
    tiny_shakespeare: Corpus, n: int, train: float, val: float
) -> None:
    tokenizer = CharTokenizer.from_text(tiny_shakespeare.text)
    data = split(tiny_shakespeare, tokenizer, block_size=256)
    assert round(ngram_entropy(data.train, data.train, n), 3) == train
    assert round(ngram_entropy(data.train, data.val, n), 3) == val


@given(
    train=st.text("abcd", min_size=5, max_size=60),
    val=st.text("abcde", min_size=5, max_size=60),
    n=st.integers(1, 5),
    smoothing=st.floats(1e-3, 10),
)
def test_an_ngram_line_is_the_loss_of_a_model_that_counted(
    train: str, val: str, n: int, smoothing: float
) -> None:
    def grams(text: str) -> list[str]:
        return [text[i : i + n] for i in range(len(text) - n + 1)]

    seen = Counter(grams(train))
    alphabet = sorted(set(train + val))

    def probability(gram: str) -> float:
        options = {c: seen[gram[:-1] + c] + smoothing for c in alphabet}
        return options[gram[-1]] / sum(options.values())

    expected = -sum(math.log(probability(gram)) for gram in grams(val)) / len(grams(val))
    tokens = tokens_of(train + val)
    got = ngram_entropy(tokens[: len(train)], tokens[len(train) :], n, smoothing)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_unigram_line_is_the_best_that_constant_logits_can_do(docs: Data) -> None:
    logits = (docs.train.bincount(minlength=int(docs.val.max()) + 1) + 0.1).log()
    loss = torch.nn.functional.cross_entropy(logits.expand(len(docs.val), -1), docs.val)
    assert ngram_entropy(docs.train, docs.val, 1) == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize(("n", "smoothing"), [(0, 0.1), (2, 0.0)])
def test_an_ngram_line_that_cannot_be_is_refused(n: int, smoothing: float) -> None:
    tokens = tokens_of("to be or not to be")
    with pytest.raises(UsageError, match="at least 1 and above 0"):
        ngram_entropy(tokens, tokens, n, smoothing)
