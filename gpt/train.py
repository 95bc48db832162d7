"""How does a GPT learn a text?

nanoGPT's recipe: AdamW that decays matrices only, linear warmup and cosine decay, clipped
gradients. Batches depend on the seed and the step alone, so that two variants of the model see the
same text in the same order; evaluation reads the same blocks every time, so that it adds no noise.

    preset = PRESETS["demo"]
    training = train(GPT(preset.model), data, preset.train)
    training.curve[-1].val_loss
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gpt import checkpoint
from gpt.diverging import GoodValues, wrong_step
from gpt.errors import DivergedError, UsageError
from gpt.model import GPTConfig
from gpt.modes import in_mode
from gpt.protocol import LanguageModel
from gpt.resuming import exists, interrupts, load_state, save_state
from gpt.speed import (
    Precision,
    autocast_to,
    compile_model,
    masks_for,
    repeatable,
    resolve_precision,
)
from gpt.text import Data, batch, check_tokens, evaluation_blocks, hash_tokens


@dataclass(frozen=True)
class TrainConfig:
    """How to train: nanoGPT's recipe for characters, and its laptop sizes, by default.

    Lengths are in steps (updates of the weights); a batch is ``batch_size`` blocks.

    Raises:
        UsageError: a count below 1, a rate or a share that cannot be one.
    """

    steps: int = 2000
    batch_size: int = 12
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup_steps: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    grad_clip: float = 1.0
    eval_interval: int = 250
    eval_blocks: int | None = None
    """Blocks of each split that an evaluation reads, evenly spaced; None reads all of val."""
    precision: Precision | Literal["auto"] = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_interval", "eval_blocks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        for name in ("warmup_steps", "learning_rate", "min_learning_rate", "weight_decay"):
            check_range(name, getattr(self, name))
        check_range("grad_clip", self.grad_clip)  # 0 clips nothing
        for name in ("beta1", "beta2"):
            check_range(name, getattr(self, name), below=1.0)


def check_range(name: str, value: float | int, below: float = math.inf) -> None:
    if not 0 <= value < below:  # NaN is neither
        limit = "a finite number, 0 or above" if below == math.inf else f"from 0 to below {below:g}"
        raise UsageError(f"{name} is {value}; it must be {limit}")


@dataclass(frozen=True)
class Preset:
    """A size of model and the training that suits it. The text decides ``vocab_size``."""

    model: GPTConfig
    train: TrainConfig


# Of the residual stream, on a CPU: benchmarks/train.py at the course's size.
ROWS_IN_CACHE = 4096

PRESETS = {
    "demo": Preset(
        GPTConfig(block_size=32, n_layer=2, n_head=4, n_embd=64),
        TrainConfig(
            steps=600,
            batch_size=16,
            learning_rate=4e-3,
            min_learning_rate=4e-4,
            warmup_steps=40,
            eval_interval=50,
            eval_blocks=256,
        ),
    ),
    "laptop": Preset(
        GPTConfig(block_size=64, n_layer=4, n_head=4, n_embd=128),
        TrainConfig(steps=2000, batch_size=12, eval_blocks=600),
    ),
    "course": Preset(
        GPTConfig(block_size=256, n_layer=6, n_head=6, n_embd=384, dropout=0.2),
        TrainConfig(steps=5000, batch_size=64),
    ),
}


@dataclass(frozen=True)
class Evaluation:
    """Mean loss in nats per token after ``step`` updates, and a text that the model then wrote,
    where it was asked for one."""

    step: int
    train_loss: float
    val_loss: float
    sample: str = ""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: the last batch's loss in nats, the speed without evaluations."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float


@dataclass
class Training:
    """A finished training: its curve, and the precision it was run in."""

    curve: list[Evaluation] = field(default_factory=list)
    precision: Precision = "float32"


def train(
    model: LanguageModel,
    data: Data,
    config: TrainConfig,
    *,
    seed: int = 0,
    state: str | Path | None = None,
    stop_at: int | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    sample: Callable[[LanguageModel, int], str] = lambda model, step: "",
) -> Training:
    """Train ``model`` in place, with dropout whatever mode it is in; it stays in that mode.

    Args:
        model: on the device to train on.
        data: token ids of the two splits.
        config: the recipe.
        seed: of the order of the batches, and of dropout.
        state: where to keep the training's state at every evaluation and on Ctrl-C. If the file
            exists, training goes on from there, to weights bit-identical with those of a training
            never interrupted on the same machine; once finished it is deleted.
        stop_at: the evaluation after which to stop, long before the end of the schedule; the state
            stays, to go on from another time.
        report: called after every step.
        sample: called at every evaluation with the model and the step; the text that the model
            writes then. It draws no random number of torch's own generator, of which dropout
            depends.

    Raises:
        UsageError: the state belongs to another training, or is damaged; the disk is full; there is
            no evaluation at ``stop_at``; a token that the model has no embedding for.
        DivergedError: a loss, a gradient or a weight is no finite number any more. ``model`` has
            the weights of the last evaluation again, and so has ``state``.
        KeyboardInterrupt: on Ctrl-C, once the step is finished and the state is saved.
    """
    if stop_at is not None and (stop_at % config.eval_interval or not 0 < stop_at < config.steps):
        raise UsageError(
            f"stop_at is {stop_at}; it must be one of the evaluations, every "
            f"{config.eval_interval} steps, before step {config.steps}"
        )
    check_tokens(data, model.config.vocab_size)
    device = next(model.parameters()).device
    precision = resolve_precision(config.precision, model.config.n_embd, device.type)
    training = Training(precision=precision)
    optimizer = make_optimizer(model, config)
    torch.manual_seed(seed)
    identity = {
        "source": checkpoint.source_hash(model),
        "model": asdict(model.config),
        "train": asdict(replace(config, precision=precision)),
        "seed": seed,
        "text": data.sha256,
        "tokens": hash_tokens(data),
    }
    step = 0
    if state is not None and exists(state):
        step, evaluated = load_state(state, model, optimizer, identity)
        training.curve = [Evaluation(**losses) for losses in evaluated]
        if stop_at is not None and step > stop_at:
            raise UsageError(f"{state} is at step {step} already, after stop_at ({stop_at})")
    kept = GoodValues.of(model, step)
    compute_loss = compile_model(model) if config.compile else model
    train_tokens = data.train.to(device)
    blocks = {
        split: evaluation_blocks(tokens.to(device), model.config.block_size, config.eval_blocks)
        for split, tokens in (("train", data.train), ("val", data.val))
    }
    if config.eval_blocks is None:  # as many of train as there are of val
        blocks["train"] = evaluation_blocks(
            train_tokens, model.config.block_size, len(blocks["val"][0])
        )
    autocast, masks = autocast_to(precision, device), masks_for(model, compile=config.compile)
    tokens_read, seconds = 0, 0.0

    def save() -> None:
        if state is not None:
            save_state(state, model, optimizer, list(map(asdict, training.curve)), identity, step)

    with interrupts() as interrupted, repeatable(device), in_mode(model, training=True):
        while True:
            if (step % config.eval_interval == 0 or step == config.steps) and not (
                training.curve and training.curve[-1].step == step
            ):
                losses = [mean_loss(model, *blocks[split], autocast) for split in ("train", "val")]
                evaluation = Evaluation(step, losses[0], losses[1])
                if what := find_not_finite(evaluation, model):
                    raise restore_kept(model, kept, training, step, config, what)
                training.curve.append(replace(evaluation, sample=sample(model, step)))
                kept = GoodValues.of(model, step)
                if step < config.steps:
                    save()
            if step in (stop_at, config.steps):
                break
            if interrupted():
                save()
                raise KeyboardInterrupt
            started = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config)
            x, y = batch(
                train_tokens,
                batch_size=config.batch_size,
                block_size=model.config.block_size,
                seed=seed,
                step=step,
            )
            loss = descend(compute_loss, x, y, autocast, masks)
            gradient = update(model, optimizer, config)
            # a GPU is waited for here, so no sooner than need be
            last_loss, norm = torch.stack([loss, gradient]).tolist()
            step += 1
            if what := wrong_step(last_loss, norm):
                raise restore_kept(model, kept, training, step, config, what)
            tokens_read += x.numel()
            seconds += time.perf_counter() - started
            report(Progress(step, config.steps, last_loss, tokens_read / seconds))
    if state is not None and step == config.steps:
        Path(state).unlink(missing_ok=True)
    return training


def find_not_finite(evaluation: Evaluation, model: nn.Module) -> str:
    """What of a model and its evaluation is no finite number; empty where all is."""
    for split, loss in (("train", evaluation.train_loss), ("val", evaluation.val_loss)):
        if not math.isfinite(loss):
            return f"the {split} loss is {loss}"
    name = checkpoint.first_not_finite(model, checkpoint.values_of(model))
    return name and f"{name} holds a number that is not finite"


def restore_kept(
    model: nn.Module,
    kept: GoodValues,
    training: Training,
    step: int,
    config: TrainConfig,
    what: str,
) -> DivergedError:
    """Give the model back the values that were kept; the error that says so."""
    kept.put_back(model)
    return DivergedError(
        f"training stopped at step {step} of {config.steps}, for {what}: the model is left with "
        f"its weights after step {kept.step}; take a lower learning_rate (now "
        f"{config.learning_rate:g}), more warmup_steps ({config.warmup_steps}), or clip gradients "
        f"(grad_clip, now {config.grad_clip:g}; 0 clips nothing)",
        step,
        training,
    )


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate at a step: linear warmup, then half a cosine down to the minimum at the last step.

    Examples:
        >>> recipe = TrainConfig(steps=2000)
        >>> [round(learning_rate(step, recipe), 6) for step in (0, 100, 1050, 2000)]
        [1e-05, 0.001, 0.00055, 0.0001]
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return config.min_learning_rate + cosine * (config.learning_rate - config.min_learning_rate)


def descend(
    compute_loss: Callable[..., Tensor],
    x: Int[Tensor, "batch pos"],
    y: Int[Tensor, "batch pos"],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    masks: Callable[[], AbstractContextManager] = nullcontext,
) -> Float[Tensor, ""]:
    """Add the gradient of the batch's mean loss to the parameters'; the loss, in nats per token.

    On a CPU as many rows at a time as stay in its cache.
    """
    rows = max(1, ROWS_IN_CACHE // x.shape[1]) if x.device.type == "cpu" else len(x)
    losses = []
    for inputs, targets in zip(x.split(rows), y.split(rows), strict=True):
        with masks(), autocast():
            loss = compute_loss(inputs, targets, return_type="loss")
        loss = loss * (len(inputs) / len(x))
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses).sum()


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and embeddings, not norms and biases."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)


def update(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig
) -> Float[Tensor, ""]:
    """One step of the optimizer on clipped gradients; their norm before that."""
    for parameter in model.parameters():
        # On CPUs the fused kernel of torch 2.13 misreads a gradient that is not contiguous.
        if parameter.grad is not None and not parameter.grad.is_contiguous():
            parameter.grad = parameter.grad.contiguous()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


@torch.no_grad()
def mean_loss(
    model: LanguageModel,
    x: Int[Tensor, "blocks pos"],
    y: Int[Tensor, "blocks pos"],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    rows: int = 64,
) -> float:
    """The loss in nats per token over all blocks, ``rows`` at a time, without dropout."""
    total = 0.0
    with in_mode(model, training=False):
        for inputs, targets in zip(x.split(rows), y.split(rows), strict=True):
            with autocast():
                total += model(inputs, targets, return_type="loss").item() * len(inputs)
    return total / len(x)
