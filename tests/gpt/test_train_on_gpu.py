"""Training on a GPU: it learns, and is repeatable to the bit, interrupted or not."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, Data, load_corpus, ngram_entropy, split
from gpt.train import Progress, TrainConfig, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

RECIPE = TrainConfig(
    steps=300, batch_size=16, warmup_steps=20, learning_rate=3e-3, eval_interval=100, eval_blocks=64
)


@pytest.fixture(scope="module")
def text() -> tuple[Data, CharTokenizer]:
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    return split(corpus, tokenizer, 256), tokenizer


@pytest.fixture
def size(text) -> GPTConfig:
    return GPTConfig(
        block_size=256,
        vocab_size=text[1].vocab_size,
        n_layer=2,
        n_head=2,
        n_embd=128,
        dropout=0.2,
    )


def same(one: GPT, other: GPT) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_training_in_bfloat16_learns_and_is_repeatable(text, size):
    one, other = GPT(size).cuda(), GPT(size).cuda()
    first, second = (train(model, text[0], RECIPE) for model in (one, other))
    assert first.precision == "bfloat16"
    assert first.curve[-1].val_loss < ngram_entropy(text[0].train, text[0].val, 1) - 0.3
    assert first.curve == second.curve
    assert same(one, other)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_interrupted_training_goes_on_to_bit_identical_weights(text, size, tmp_path):
    whole, resumed = GPT(size).cuda(), GPT(size, seed=9).cuda()
    curve = train(whole, text[0], RECIPE).curve

    def press_ctrl_c(progress: Progress) -> None:
        if progress.step == 170:
            os.kill(os.getpid(), signal.SIGINT)

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(GPT(size).cuda(), text[0], RECIPE, state=state, report=press_ctrl_c)
    assert train(resumed, text[0], RECIPE, state=state).curve == curve
    assert same(whole, resumed)


COMPILED = """
import sys
from dataclasses import replace
import torch
from gpt import GPT, GPTConfig
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import TrainConfig, train

corpus = load_corpus("python-docs")
tokenizer = CharTokenizer.from_text(corpus.text)
size = GPTConfig(256, tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=128, dropout=0.2)
data = split(corpus, tokenizer, size.block_size)
short = TrainConfig(steps=100, batch_size=16, warmup_steps=20, eval_interval=50, eval_blocks=64)

def trained(**options):
    model = GPT(size).cuda()
    curve = train(model, data, replace(short, compile=True), **options).curve
    return curve, [p.detach().clone() for p in model.parameters()]

whole, weights = trained()
trained(state=sys.argv[1], stop_at=50)
again, resumed = trained(state=sys.argv[1])
plain = train(GPT(size).cuda(), data, short).curve
assert again == whole, (again, whole)
assert all(map(torch.equal, weights, resumed))
assert abs(plain[-1].val_loss - whole[-1].val_loss) < 0.03, (plain, whole)
"""


def test_a_compiled_training_is_repeatable_too(tmp_path):
    """In a process of its own: compilation cannot see through the checks of shapes in tests."""
    arguments = [sys.executable, "-c", COMPILED, str(tmp_path / "state")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
