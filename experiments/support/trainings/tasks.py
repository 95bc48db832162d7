"""What is one training, and what decides its result?

tasks = tasks_of(run, {"none": None, "no_skip": cut}, [0, 1], preset, text=corpus.sha256)
tasks[0].identity     # the same wherever and whenever it is trained
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gpt.model
from experiments.support.devices import device_named
from experiments.support.sampling import DECIDED_BY
from gpt.model import GPTConfig
from gpt.speed import resolve_precision
from gpt.train import Preset, TrainConfig
from interp.runs import Run, identity_of
from interp.surgery import Surgery, read_source


@dataclass(frozen=True)
class Task:
    """One variant to train with one seed.

    Attributes:
        variant: what the variant is called here.
        surgery: what is cut; None is the model as it is.
        text: sha256 of the text.
        state: where the training's state is kept while it is under way.
        weights: where the trained weights go; None keeps none.
        stop_at: the evaluation after which to stop, on the way of the whole schedule.
    """

    variant: str
    surgery: Surgery | None
    seed: int
    model: GPTConfig
    train: TrainConfig
    text: str
    state: Path
    weights: Path | None
    stop_at: int | None = None

    @property
    def identity(self) -> str:
        source = self.surgery.text if self.surgery else read_source(gpt.model).text
        recipe = asdict(self.model), asdict(self.train)
        return identity_of_training(source, *recipe, self.text, self.seed, self.stop_at)

    @property
    def name(self) -> str:
        return f"{self.variant} seed {self.seed}"


def identity_of_training(
    source: str,
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    text: str,
    seed: int,
    stop_at: int | None = None,
) -> str:
    """What decides the result of a training: source with surgery, recipe, text, seed, and what it
    writes.

    Args:
        source: as it is with the surgery made.
        model, train: the fields of ``GPTConfig`` and ``TrainConfig``, the precision settled.
        text: its sha256.
    """
    stopped = {} if stop_at is None else {"stop_at": stop_at}
    return identity_of(
        source=source,
        model=model,
        train=train,
        text=text,
        seed=seed,
        sampling=DECIDED_BY,
        **stopped,
    )


def resize_preset(preset: Preset, vocab_size: int | None, steps: int | None) -> Preset:
    """A preset for a vocabulary and a number of steps; as many evaluations whatever the steps."""
    recipe, model = preset.train, preset.model
    if steps is not None and steps != recipe.steps:
        share = steps / recipe.steps
        recipe = replace(
            recipe,
            steps=steps,
            warmup_steps=min(recipe.warmup_steps, steps // 5),
            eval_interval=max(1, round(recipe.eval_interval * share)),
        )
    if vocab_size is not None:
        model = replace(model, vocab_size=vocab_size)
    return Preset(model, recipe)


def tasks_of(
    run: Run,
    variants: Mapping[str, Surgery | None],
    seeds: Sequence[int],
    preset: Preset,
    text: str,
    keep: Callable[[str, int], bool] = lambda variant, seed: False,
    stop_at: int | None = None,
    device: str | None = None,
) -> list[Task]:
    """A task for each variant and seed, its precision settled: what a training on a processor gave
    is not taken for one in bfloat16 on a GPU.

    Args:
        run: in whose folder their states lie, and the weights of those to ``keep``, as
            ``models/VARIANT-SEED.safetensors``.
        text: sha256 of the text.
        device: where they will run, cpu or cuda; by default the best of this machine.
    """
    device = device or device_named("auto").type
    precision = resolve_precision(preset.train.precision, preset.model.n_embd, device)
    recipe = replace(preset.train, precision=precision)
    found = []
    for seed in seeds:
        for variant, surgery in variants.items():
            weights = run.folder / "models" / f"{variant}-{seed}.safetensors"
            task = Task(
                variant,
                surgery,
                seed,
                preset.model,
                recipe,
                text,
                state=Path(),
                weights=weights if keep(variant, seed) else None,
            )
            # named after the whole training, which a stopped one can go on to
            state = run.folder / "scratch" / f"{task.identity}.safetensors"
            found.append(replace(task, state=state, stop_at=stop_at))
    return found
