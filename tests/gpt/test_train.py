import math
from dataclasses import replace

import pytest
import torch

from gpt import GPT
from gpt import train as training
from gpt.errors import UsageError
from gpt.text import Data, ngram_entropy
from gpt.train import (
    PRESETS,
    Progress,
    TrainConfig,
    descend,
    learning_rate,
    make_optimizer,
    mean_loss,
    train,
    update,
)

SHORT = TrainConfig(
    steps=30, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=10, eval_blocks=8
)


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


def test_presets_have_the_published_sizes():
    course, laptop = PRESETS["course"], PRESETS["laptop"]
    assert (course.model.n_layer, course.model.n_head, course.model.n_embd) == (6, 6, 384)
    assert (course.model.block_size, course.train.batch_size, course.train.steps) == (256, 64, 5000)
    assert (laptop.model.n_layer, laptop.model.n_head, laptop.model.n_embd) == (4, 4, 128)
    assert (laptop.model.block_size, laptop.train.batch_size, laptop.train.steps) == (64, 12, 2000)


def test_a_model_in_evaluation_mode_trains_with_dropout_and_stays_in_evaluation_mode(model, data):
    """As the same model in training mode does, to the bit."""
    config = replace(model.config, dropout=0.3)
    training, looking = GPT(config).train(), GPT(config).eval()
    looking.blocks[0].mlp.train()  # whatever mode each part is in, it is in afterwards
    modes = [module.training for module in looking.modules()]
    seen = []
    looking.blocks[0].mlp.register_forward_hook(lambda part, *_: seen.append(part.training))
    curves = [train(each, data, SHORT).curve for each in (training, looking)]
    assert curves[0] == curves[1]
    assert same(weights(training), weights(looking))
    assert [module.training for module in looking.modules()] == modes
    assert training.training
    assert {True, False} == set(seen)  # between batches it was evaluated without dropout


def test_a_model_is_in_its_own_mode_again_however_a_training_ends(model, data):
    model.eval()

    def fail(progress: Progress) -> None:
        assert model.training
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train(model, data, SHORT, report=fail)
    assert not model.training


@pytest.mark.parametrize(("token", "named"), [(-1, "-1"), (500, "500")])
def test_a_token_that_the_model_does_not_know_is_refused_before_a_step(model, data, token, named):
    val = data.val.clone()
    val[7] = token
    with pytest.raises(UsageError, match=f"the val text has the token {named}, and this model"):
        train(model, Data(data.train, val, "text"), SHORT)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be a finite number"),
        ({"learning_rate": -1.0}, r"learning_rate is -1\.0"),
        ({"min_learning_rate": math.inf}, "min_learning_rate is inf"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1"),
        ({"grad_clip": math.nan}, "grad_clip is nan"),
        ({"beta1": 1.0}, r"beta1 is 1\.0; it must be from 0 to below 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe, sentence):
    with pytest.raises(UsageError, match=sentence):
        TrainConfig(**recipe)


@pytest.mark.parametrize("field", ["steps", "batch_size", "eval_interval", "eval_blocks"])
def test_a_training_of_nothing_is_refused(field):
    with pytest.raises(UsageError, match=f"{field} is 0; it must be at least 1"):
        TrainConfig(**{field: 0})
