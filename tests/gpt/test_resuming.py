"""A training goes on from its state as if it had never stopped, or says why it cannot."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch

from gpt import GPT, GPTConfig, checkpoint
from gpt.errors import UsageError
from gpt.text import Data
from gpt.train import Progress, TrainConfig, train

SHORT = TrainConfig(
    steps=30, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=10, eval_blocks=8
)


def weights(model: GPT) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


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


class Counting(GPT):
    """A GPT whose buffers change as it trains, as those of a BatchNorm do."""

    def __init__(self, config: GPTConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, *args, **kwargs):
        if self.training:
            self.scale *= 1.01
        return super().forward(*args, **kwargs) * self.scale


def test_a_resumed_training_has_the_buffers_of_one_never_interrupted(model, data, tmp_path):
    whole, parted = Counting(model.config), Counting(model.config)
    curve = train(whole, data, SHORT).curve
    train(parted, data, SHORT, state=tmp_path / "state", stop_at=10)
    resumed = Counting(model.config)
    assert train(resumed, data, SHORT, state=tmp_path / "state").curve == curve
    assert resumed.scale == whole.scale > 1
    assert same(weights(resumed), weights(whole))


@pytest.fixture
def at_step_20(model, data, tmp_path):
    """A state, its tensors and what it says beside them."""
    path = tmp_path / "state.safetensors"
    train(GPT(model.config), data, SHORT, state=path, stop_at=20)
    return path, *checkpoint.read(path)


FC, WTE = "blocks.0.mlp.fc.weight", "wte.weight"
DAMAGES = {
    "moments of another shape": (
        lambda t, m: t.update({f"optimizer.exp_avg.{FC}": torch.zeros(3)}),
        r"exp_avg\.blocks\.0\.mlp\.fc\.weight is float32 \(3,\), and .* is \(64, 16\)",
    ),
    "moments transposed": (
        lambda t, m: t.update({f"optimizer.exp_avg.{FC}": torch.zeros(16, 64)}),
        r"is float32 \(16, 64\)",
    ),
    "moments in another precision": (
        lambda t, m: t.update({f"optimizer.exp_avg_sq.{FC}": torch.zeros(64, 16).double()}),
        "is float64",
    ),
    "a moment that is none": (
        lambda t, m: t[f"optimizer.exp_avg.{FC}"].view(-1)[5].fill_(math.nan),
        "holds a number that no update makes",
    ),
    "a square below zero": (
        lambda t, m: t[f"optimizer.exp_avg_sq.{FC}"].view(-1)[5].fill_(-1.0),
        "holds a number that no update makes",
    ),
    "one moment missing": (lambda t, m: t.pop(f"optimizer.exp_avg.{FC}"), "is missing"),
    "all moments missing": (
        lambda t, m: [t.pop(name) for name in list(t) if name.startswith("optimizer.")],
        "is missing",
    ),
    "a parameter without moments": (
        lambda t, m: (m["updates"].pop(FC), [t.pop(n) for n in list(t) if n.endswith(f"g.{FC}")]),
        "which no training writes",
    ),
    "no updates at all": (
        lambda t, m: (m["updates"].clear(), [t.pop(n) for n in list(t) if n[:3] == "opt"]),
        "its optimizer made 0 updates",
    ),
    "one count of updates": (
        lambda t, m: t[f"optimizer.step.{FC}"].fill_(3.0),
        "is 3, after 20 updates",
    ),
    "moments of a stranger": (
        lambda t, m: (m["updates"].update(x=20), t.update({"optimizer.exp_avg.x": torch.zeros(1)})),
        "moments of x, which the model does not have",
    ),
    "a tensor more": (lambda t, m: t.update(more=torch.zeros(1)), "it holds more, which no"),
    "a weight missing": (lambda t, m: t.pop(f"model.{FC}"), "missing in the file"),
    "a weight of a stranger": (lambda t, m: t.update({"model.x": t["rng.cpu"]}), "missing in the"),
    "weights in another precision": (
        lambda t, m: t.update({f"model.{FC}": t[f"model.{FC}"].half()}),
        "is float16 in the file",
    ),
    "a weight that is none": (
        lambda t, m: t[f"model.{WTE}"].view(-1)[0].fill_(math.inf),
        "holds a number that is not finite",
    ),
    "no generator": (lambda t, m: t.pop("rng.cpu"), r"rng\.cpu is missing"),
    "another generator": (
        lambda t, m: t.update({"rng.cpu": torch.zeros(16, dtype=torch.uint8)}),
        r"rng\.cpu is no state",
    ),
    "a generator of zeros": (lambda t, m: t["rng.cpu"].zero_(), r"rng\.cpu is no state"),
    "a step beyond the end": (lambda t, m: m.update(step=100), "it is at step 100 of 30"),
    "the last step": (lambda t, m: m.update(step=30), "it is at step 30 of 30"),
    "a step before the start": (lambda t, m: m.update(step=-1), "it is at step -1 of 30"),
    "a step that is none": (lambda t, m: m.update(step="20"), "it is at step 20 of 30"),
    "half a step": (lambda t, m: m.update(step=20.5), r"it is at step 20\.5 of 30"),
    "a step later": (lambda t, m: m.update(step=21), "its optimizer made 20 updates"),
    "a step earlier": (lambda t, m: m.update(step=19), r"evaluated at steps \[0, 10, 20\]"),
    "an evaluation missing": (lambda t, m: m["curve"].pop(1), r"evaluated at steps \[0, 20\]"),
    "a loss that is none": (lambda t, m: m["curve"][1].update(val_loss=math.nan), "it was evalu"),
    "a loss in words": (lambda t, m: m["curve"][1].update(val_loss="low"), "are no numbers"),
    "a curve of words": (lambda t, m: m.update(curve="abc"), "are no numbers"),
    "counts in words": (lambda t, m: m.update(updates=["x"]), "are no numbers"),
    "no curve": (lambda t, m: m.pop("curve"), "is not the state of a training"),
    "an identity of words": (lambda t, m: m.update(identity="x"), "state of another training"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_state_that_no_training_can_have_left_is_refused_and_changes_nothing(
    model, data, at_step_20, damage
):
    path, tensors, metadata = at_step_20
    change, sentence = DAMAGES[damage]
    change(tensors, metadata)
    checkpoint.write_tensors(path, tensors, metadata)
    before, bytes_before = weights(model), path.read_bytes()
    with pytest.raises(UsageError, match=sentence) as refused:
        train(model, data, SHORT, state=path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert same(weights(model), before)
    assert path.read_bytes() == bytes_before


def test_a_state_of_other_tokens_or_precision_or_past_the_stop_is_refused(model, data, at_step_20):
    path, *_ = at_step_20
    turned = Data(data.train.flip(0), data.val, data.sha256)
    with pytest.raises(UsageError, match=r"another training \(it differs in: tokens\)"):
        train(model, turned, SHORT, state=path)
    with pytest.raises(UsageError, match="float32 in the file and float64 in the model"):
        train(GPT(model.config).double(), data, SHORT, state=path)
    heads = GPT(replace(model.config, n_head=1))
    with pytest.raises(UsageError, match=r"another training \(it differs in: model\)"):
        train(heads, data, SHORT, state=path)
    with pytest.raises(UsageError, match=r"is at step 20 already, after stop_at \(10\)"):
        train(model, data, SHORT, state=path, stop_at=10)
    assert path.exists()


def test_a_model_given_as_state_is_refused(model, data, tmp_path):
    identity = checkpoint.Identity.of(model, text="", seed=0)
    checkpoint.save(tmp_path / "model.safetensors", model, identity)
    for name, sentence in (("model.safetensors", "is not the state of a training"), ("", "folder")):
        with pytest.raises(UsageError, match=sentence):
            train(model, data, SHORT, state=tmp_path / name)
