import math
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gpt import GPT, GPTConfig, checkpoint
from gpt import train as training
from gpt.errors import DivergedError, UsageError
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


def test_presets_have_the_published_sizes():
    course, laptop = PRESETS["course"], PRESETS["laptop"]
    assert (course.model.n_layer, course.model.n_head, course.model.n_embd) == (6, 6, 384)
    assert (course.model.block_size, course.train.batch_size, course.train.steps) == (256, 64, 5000)
    assert (laptop.model.n_layer, laptop.model.n_head, laptop.model.n_embd) == (4, 4, 128)
    assert (laptop.model.block_size, laptop.train.batch_size, laptop.train.steps) == (64, 12, 2000)


# Modes


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


# Numbers that are none


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


@pytest.mark.parametrize(("token", "named"), [(-1, "-1"), (500, "500")])
def test_a_token_that_the_model_does_not_know_is_refused_before_a_step(model, data, token, named):
    val = data.val.clone()
    val[7] = token
    with pytest.raises(UsageError, match=f"the val text has the token {named}, and this model"):
        train(model, Data(data.train, val, "text"), SHORT)


# States


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
    checkpoint.write(path, tensors, metadata)
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


# Recipes


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
