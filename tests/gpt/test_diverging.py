"""A training stops at the first number that is none, with what it had."""

import math
import pickle
from dataclasses import replace

import pytest
import torch

from gpt import GPT, GPTConfig
from gpt.errors import DivergedError
from gpt.train import TrainConfig, train

SHORT = TrainConfig(
    steps=30, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=10, eval_blocks=8
)


def weights(model: GPT) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


class Failing(GPT):
    """A GPT that goes wrong at some batch, in training or evaluation, in one of several ways."""

    def __init__(self, config: GPTConfig, how: str, at: int) -> None:
        super().__init__(config)
        self.how, self.at, self.batches, self.evaluations = how, at, 0, 0

    def forward(self, *args, **kwargs):
        loss = super().forward(*args, **kwargs)
        if not self.training:
            self.evaluations += 1
            bad = self.how == "val" and self.evaluations > self.at
            return loss * math.nan if bad else loss
        self.batches += 1
        if self.how == "val" or self.batches != self.at:
            return loss
        if self.how == "gradient":  # a loss that is right, and a slope that is not
            spoilt = self.wpe.weight.sum()
            spoilt.register_hook(lambda slope: slope * math.nan)
            return loss + 0 * spoilt
        return loss * {"nan": math.nan, "inf": math.inf}[self.how]


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("how", ["nan", "inf", "gradient", "val"])
def test_a_training_stops_at_the_first_number_that_is_none_and_keeps_what_was_trained(
    data, model, tmp_path, how, grad_clip
):
    recipe, state = replace(SHORT, grad_clip=grad_clip), tmp_path / "state.safetensors"
    whole, steps = GPT(model.config), []
    curve = train(whole, data, recipe, stop_at=10).curve
    failing = Failing(model.config, how, at=4 if how == "val" else 17).eval()
    with pytest.raises(
        DivergedError, match=r"the model is left with its weights after step 10; tak"
    ) as stopped:
        train(failing, data, recipe, state=state, report=lambda p: steps.append(p.loss))
    assert all(map(math.isfinite, steps))
    assert stopped.value.step == (20 if how == "val" else 17)
    assert stopped.value.training.curve == curve
    assert same(weights(failing), weights(whole))
    assert not failing.training
    # the state on disk is that of the last good evaluation, and trains on once the cause is gone
    cured = Failing(model.config, "val", at=10**9)
    train(cured, data, recipe, state=state)
    train(whole := GPT(model.config), data, recipe)
    assert same(weights(cured), weights(whole))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_learning_rate_that_diverges_is_named(model, data, precision):
    recipe = replace(SHORT, learning_rate=1e12, grad_clip=0.0, precision=precision)
    with pytest.raises(DivergedError, match=r"stopped at step .* learning_rate \(now 1e\+12\)"):
        train(model, data, recipe)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_weights_that_are_none_are_found_before_a_step_is_made(model, data, tmp_path):
    with torch.no_grad():
        model.wpe.weight[-1, -1] = math.nan
    state, steps = tmp_path / "state", []
    with pytest.raises(DivergedError, match="stopped at step 0 of 30"):
        train(model, data, SHORT, state=state, report=lambda p: steps.append(p.step))
    assert steps == []
    assert not state.exists()


def test_a_diverged_error_comes_whole_out_of_a_worker(model, data):
    error = pickle.loads(pickle.dumps(DivergedError("a sentence", 3, [1])))
    assert (str(error), error.step, error.training) == ("a sentence", 3, [1])
