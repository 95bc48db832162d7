"""Precision, compilation and quick masks: what is fast is what is slow."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gpt import GPT
from gpt.speed import quick_masks, resolve_precision
from gpt.train import TrainConfig, train

SHORT = TrainConfig(
    steps=30, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=10, eval_blocks=8
)


def test_precision_is_as_asked_and_bfloat16_learns_the_same(model, data):
    # on a processor narrow models spend the gain in casts
    assert resolve_precision(SHORT.precision, model.config.n_embd, "cpu") == "float32"
    assert resolve_precision(SHORT.precision, model.config.n_embd, "cuda") == "bfloat16"
    losses = {}
    for precision in ("float32", "bfloat16"):
        training = train(GPT(model.config), data, replace(SHORT, precision=precision))
        assert training.precision == precision
        losses[precision] = training.curve[-1].val_loss
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)


COMPILED = """
import os
os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
from dataclasses import replace
from gpt import GPT, GPTConfig
from gpt import train as training
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import TrainConfig, train

corpus = load_corpus("python-docs")
tokenizer = CharTokenizer.from_text(corpus.text)
size = GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16)
data = split(corpus, tokenizer, size.block_size)
short = TrainConfig(steps=3, batch_size=8, eval_interval=3, eval_blocks=8)
losses = [
    train(GPT(size), data, replace(short, compile=compile)).curve[-1].val_loss
    for compile in (False, True)
]
assert abs(losses[0] - losses[1]) < 1e-4, losses
assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ, "neither import nor training leaves it behind"
"""


def test_compiled_training_takes_the_same_path():
    """In a process of its own: compilation cannot see through the checks of shapes in tests."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_mask_is_one_as_often_as_asked(p):
    torch.manual_seed(0)
    n = 400_003  # not a multiple of four
    with quick_masks():
        mask = torch.empty(n).bernoulli_(p)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs(mask.mean().item() - p) <= 4 * (p * (1 - p) / n) ** 0.5


def test_neighbours_that_share_a_draw_are_independent():
    torch.manual_seed(0)
    with quick_masks():
        fours = torch.empty(200_000, 4).bernoulli_(0.5)
    together = torch.corrcoef(fours.T) - torch.eye(4)
    assert together.abs().max() < 5 / 200_000**0.5


def test_dropout_scales_what_it_keeps_and_follows_the_seed():
    x = torch.ones(64, 64, dtype=torch.bfloat16)

    def dropped(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with quick_masks():
            return F.dropout(x, 0.2)

    assert set(dropped(0).unique().tolist()) == {0.0, 1.25}
    assert torch.equal(dropped(0), dropped(0))
    assert not torch.equal(dropped(0), dropped(1))


def test_attention_drops_weights_by_the_same_masks():
    """One query, keys whose values are one-hot: what comes out is the dropped pattern."""
    torch.manual_seed(0)
    q, k = torch.zeros(2000, 1, 1, 8), torch.zeros(2000, 1, 8, 8)
    v = torch.eye(8).expand(2000, 1, 8, 8)
    with quick_masks():
        z = F.scaled_dot_product_attention(q, k, v, dropout_p=0.25)
    assert sorted(z.unique().tolist()) == pytest.approx([0, 1 / 8 / 0.75])
    assert abs((z == 0).float().mean().item() - 0.25) < 0.02
