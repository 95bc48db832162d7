import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gpt import GPT, GPTConfig
from gpt import train as training
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Data, load_corpus, ngram_entropy, split
from gpt.train import (
    PRESETS,
    Progress,
    TrainConfig,
    descend,
    learning_rate,
    make_optimizer,
    mean_loss,
    resolve_precision,
    train,
    update,
)

SMALL = GPTConfig(block_size=16, vocab_size=103, n_layer=1, n_head=2, n_embd=16)
SHORT = TrainConfig(
    steps=30, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=10, eval_blocks=8
)


@pytest.fixture(scope="module")
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


def weights(model: GPT) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_training_learns_more_than_how_frequent_each_character_is(model, data):
    curve = train(model, data, replace(SHORT, steps=300, eval_interval=100)).curve
    assert [evaluation.step for evaluation in curve] == [0, 100, 200, 300]
    assert curve[0].val_loss == pytest.approx(math.log(model.config.vocab_size), abs=0.1)
    assert curve[-1].val_loss < ngram_entropy(data.train, data.val, 1)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(model, data):
    results = []
    for seed in (0, 0, 1):
        fresh = GPT(model.config, seed=0)
        train(fresh, data, SHORT, seed=seed)
        results.append(weights(fresh))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stop", [1, 10, 17])
def test_an_interrupted_training_goes_on_to_bit_identical_weights(
    data, model, tmp_path, stop, dropout
):
    config = replace(model.config, dropout=dropout)
    whole = GPT(config)
    curve = train(whole, data, SHORT).curve

    def press_ctrl_c(progress: Progress) -> None:
        if progress.step == stop:
            os.kill(os.getpid(), signal.SIGINT)

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(GPT(config), data, SHORT, state=state, report=press_ctrl_c)
    assert state.exists()
    resumed, steps = GPT(config, seed=99), []  # its own weights must not matter
    again = train(resumed, data, SHORT, state=state, report=lambda p: steps.append(p.step))
    assert steps[0] == stop + 1
    assert again.curve == curve
    assert same(weights(resumed), weights(whole))
    assert not state.exists()


def test_a_training_stopped_on_its_way_goes_on_to_bit_identical_weights(data, model, tmp_path):
    whole, stopped = GPT(model.config), GPT(model.config)
    curve = train(whole, data, SHORT).curve
    state = tmp_path / "state.safetensors"
    assert train(stopped, data, SHORT, state=state, stop_at=20).curve == curve[:3]
    assert train(stopped, data, SHORT, state=state).curve == curve
    assert same(weights(stopped), weights(whole))
    with pytest.raises(UsageError, match="one of the evaluations, every 10 steps, before step 30"):
        train(stopped, data, SHORT, stop_at=15)


def test_the_gradient_of_a_batch_taken_in_parts_is_that_of_the_whole(model, monkeypatch):
    x, y = torch.randint(model.config.vocab_size, (2, 7, 16))
    model.double()
    model(x, y, return_type="loss").backward()
    whole = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    monkeypatch.setattr(training, "ROWS_IN_CACHE", 3 * 16)  # parts of 3, 3 and 1 rows
    calls = []
    loss = descend(lambda *a, **k: calls.append(len(a[0])) or model(*a, **k), x, y)
    assert calls == [3, 3, 1]
    assert loss.item() == pytest.approx(model(x, y, return_type="loss").item(), abs=1e-12)
    for ours, theirs in zip((p.grad for p in model.parameters()), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_a_killed_training_goes_on_from_its_last_evaluation(data, model, tmp_path):
    class KilledError(Exception):
        pass

    def die(progress: Progress) -> None:
        if progress.step == 25:
            raise KilledError

    state, whole = tmp_path / "state.safetensors", GPT(model.config)
    train(whole, data, SHORT)
    with pytest.raises(KilledError):
        train(GPT(model.config), data, SHORT, state=state, report=die)
    resumed, steps = GPT(model.config), []
    train(resumed, data, SHORT, state=state, report=lambda p: steps.append(p.step))
    assert steps[0] == 21
    assert same(weights(resumed), weights(whole))


def test_a_state_of_another_training_is_refused_and_kept(data, model, tmp_path):
    state = tmp_path / "state.safetensors"

    def die(progress: Progress) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(model, data, SHORT, state=state, report=die)
    before = state.read_bytes()
    with pytest.raises(UsageError, match=r"another training \(it differs in: train, seed\)"):
        train(model, data, replace(SHORT, steps=31), seed=1, state=state)
    assert state.read_bytes() == before


def test_a_damaged_state_is_refused(data, model, tmp_path):
    state = tmp_path / "state.safetensors"
    state.write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UsageError, match="is damaged or no safetensors file"):
        train(model, data, SHORT, state=state)


def test_the_learning_rate_warms_up_and_falls_along_half_a_cosine():
    config = TrainConfig(steps=1000, warmup_steps=100)
    assert learning_rate(0, config) == pytest.approx(1e-3 / 101)
    assert learning_rate(99, config) == pytest.approx(1e-3 * 100 / 101)
    assert learning_rate(100, config) == pytest.approx(1e-3)
    assert learning_rate(550, config) == pytest.approx((1e-3 + 1e-4) / 2)
    assert learning_rate(1000, config) == pytest.approx(1e-4)


def test_decay_touches_matrices_and_not_norms(model):
    optimizer = make_optimizer(model, replace(SHORT, weight_decay=0.5, grad_clip=0.0))
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    shrink = 1 - SHORT.learning_rate * 0.5
    for name, parameter in model.named_parameters():
        factor = shrink if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_an_update_is_right_also_where_a_gradient_is_not_contiguous(model):
    """The fused kernel misreads such gradients; the plain optimizer is the reference."""
    other = GPT(model.config)
    config = replace(SHORT, grad_clip=0.0)
    fused = make_optimizer(model, config)
    plain = torch.optim.AdamW(
        [{**group, "fused": False} for group in make_optimizer(other, config).param_groups],
        fused=False,
    )
    for parameter, twin in zip(model.parameters(), other.parameters(), strict=True):
        gradient = torch.randn(parameter.shape[::-1], generator=torch.manual_seed(0))
        parameter.grad = gradient.permute(*reversed(range(gradient.ndim)))
        twin.grad = parameter.grad.contiguous()
    update(model, fused, config)
    plain.step()
    for parameter, twin in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, twin)


def test_evaluation_reads_every_token_once_and_leaves_the_model_in_training(model, data):
    from gpt.text import evaluation_blocks

    model = GPT(replace(model.config, dropout=0.5)).train()
    x, y = evaluation_blocks(data.val, 16, 70)
    loss = mean_loss(model, x, y, rows=32)
    assert model.training
    model.eval()
    torch.testing.assert_close(loss, model(x, y, return_type="loss").item())


def test_precision_is_as_asked_and_bfloat16_learns_the_same(model, data):
    # on a processor narrow models spend the gain in casts
    assert resolve_precision(SHORT, model.config.n_embd, "cpu") == "float32"
    assert resolve_precision(SHORT, model.config.n_embd, "cuda") == "bfloat16"
    losses = {}
    for precision in ("float32", "bfloat16"):
        training = train(GPT(model.config), data, replace(SHORT, precision=precision))
        assert training.precision == precision
        losses[precision] = training.curve[-1].val_loss
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)


COMPILED = """
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
"""


def test_compiled_training_takes_the_same_path():
    """In a process of its own: compilation cannot see through the checks of shapes in tests."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_presets_have_the_published_sizes():
    course, laptop = PRESETS["course"], PRESETS["laptop"]
    assert (course.model.n_layer, course.model.n_head, course.model.n_embd) == (6, 6, 384)
    assert (course.model.block_size, course.train.batch_size, course.train.steps) == (256, 64, 5000)
    assert (laptop.model.n_layer, laptop.model.n_head, laptop.model.n_embd) == (4, 4, 128)
    assert (laptop.model.block_size, laptop.train.batch_size, laptop.train.steps) == (64, 12, 2000)


@pytest.mark.parametrize("field", ["steps", "batch_size", "eval_interval", "eval_blocks"])
def test_a_training_of_nothing_is_refused(field):
    with pytest.raises(UsageError, match=f"{field} is 0; it must be at least 1"):
        TrainConfig(**{field: 0})
