"""How is a model studied that somebody else wrote?

The class of any file: a script of sixty lines or a modelling file that came with a library. It is
built small for the text at hand and trained for a moment, once.

    subject = choose_class("modeling_gpt2.py:GPT2LMHeadModel", data, preset, 0, runs)
    model = train_subject_once(subject, 0, runs)
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from experiments.support.keeping import kept, model_path, require_same
from experiments.support.models.asking import Asked, require_logits
from experiments.support.models.blaming import blame, silence
from experiments.support.models.building import (
    builder,
    class_of,
    find_asking,
    function_of,
    read_setting,
    require_built,
    sizes_told,
    split_name,
    state_of,
)
from experiments.support.models.configs import arguments
from experiments.support.models.loading import explain_left, load_foreign, modules_beside
from experiments.support.models.ran import choose_files, files_that_ran, path_of_module
from experiments.support.models.sizes import sizes_of
from gpt import checkpoint
from gpt.diverging import check_step
from gpt.errors import UsageError
from gpt.text import Data, batch
from gpt.train import Preset
from interp.runs.identity import to_json_value
from interp.surgery.judging import logits_in
from interp.surgery.source.imports import hash_of_imports
from interp.surgery.source.syntax import read_source

__all__ = ["Subject", "arguments", "choose_class", "train_subject_once"]


@dataclass(frozen=True)
class Subject:
    """A model to study: its files, how it is built and trained, and what decides its weights.

    Attributes:
        module: in which its class is.
        name: of its class.
        modules: the files to study, that of the class first.
        notes: what a reader must know of how it was taken from its file.
    """

    module: ModuleType
    name: str
    build: Callable[[int], nn.Module]
    train: Callable[[nn.Module, int], Any]
    about: dict[str, Any]
    modules: list[ModuleType] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose_class(
    model: str,
    data: Data,
    preset: Preset,
    seed: int,
    runs: Path,
    *,
    given: Sequence[str] = (),
    build: str = "",
    judge: str = "",
    files: Sequence[str] = (),
) -> Subject:
    """The class that ``FILE:Class`` names; where it was not trained with this seed yet, tried out.

    Args:
        model: FILE:Class; may be empty where ``build`` is given.
        data: the text.
        preset: how large it is built, and how it is trained.
        seed: of the training.
        runs: where trained weights are kept.
        given: ``NAME=VALUE``, sizes and settings that go before the preset's.
        build: FILE:function that returns an untrained model; its parameters are sizes by name.
        judge: FILE:function that takes a model and tokens [batch, pos] and returns logits.
        files: the names of the files to study; by default those of the folder that ran.

    Raises:
        UsageError: no such class in the file, or one that cannot be built, run, or trained, with
            what would tell how.
        SurgeryError: a file that is none, or with a syntax error.
    """
    sizes = sizes_of(preset, dict(map(read_setting, given)))
    named = model or build
    loaded = load_foreign(split_name("--model" if model else "--build", named)[0], sizes.known)
    make = builder(loaded, model, build, sizes)
    ask = function_of("--judge", judge) if judge else None
    with explain_left(named, loaded.left):
        require_built(named, make, sizes)
        way = find_asking(named, make, ask, data, preset, sizes)

    def build_asked(seed: int) -> nn.Module:
        return make(seed) if way is None else Asked(make(seed), way)

    def train(model: nn.Module, seed: int) -> None:
        train_plainly(model, data, preset, seed)

    require_logits(named, build_asked, data, preset)
    module, name = class_of(loaded, model, make)
    tokens = data.train[None, : preset.model.block_size]

    def run() -> None:
        with silence(), torch.no_grad():
            build_asked(0).eval()(tokens)

    beside = modules_beside(loaded)
    own = [m for m in beside if m is module or path_of_module(m) not in files_named(build, judge)]
    modules, others = choose_files(module, own, files_that_ran(run), files)
    told = [str(getattr(way, "words", ""))] if way is not None else []
    notes = [*loaded.notes, *sizes_told(loaded, sizes), *filter(None, told), *others]
    about = {
        "source": read_source(module).text,
        "imports": hash_of_imports([read_source(module)]),
        "class": name,
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "trained_on": data.sha256,
        "given": sorted(given),
        "built": [build.rpartition(":")[2], judge.rpartition(":")[2]],
        "beside": hash_of_files([*map(path_of_module, beside), *files_named(build, judge)]),
    }
    subject = Subject(module, name, build_asked, train, about, modules, notes)
    if not path_of(subject, seed, runs).exists():
        require_trainable(named, build_asked, data, preset)
    return subject


def files_named(*given: str) -> list[Path]:
    """The files of what FILE:function names."""
    return [Path(one.rpartition(":")[0]).resolve() for one in given if one]


def hash_of_files(paths: Sequence[Path]) -> str:
    """sha256 of files, whatever the order in which they are given."""
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    parts = sorted(f"{path.name} {digest}" for path, digest in found.items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def require_trainable(
    named: str, build: Callable[[int], nn.Module], data: Data, preset: Preset
) -> None:
    """Train a model for one step, before anything is begun.

    Raises:
        UsageError: it cannot be trained, or has other parameters afterwards, which nothing could
            put into a model that is built again.
    """
    one_step = replace(preset, train=replace(preset.train, steps=1))
    shape = (preset.train.batch_size, preset.model.block_size)
    with blame(f"{named} runs, but cannot be trained on tokens of shape {shape}"):
        model = build(0)
        before = shapes_of(model)
        train_plainly(model, data, one_step, 0)
        after = shapes_of(model)
    for name in before | after:
        if before.get(name) != after.get(name):
            raise UsageError(
                f"{named} makes its parameter {name} while it runs: make it in __init__ and give "
                f"it its size there, so that what was trained can be put into a new model"
            )


def shapes_of(model: nn.Module) -> dict[str, Any]:
    """Of every parameter; None where it waits for a first run, as those of Lazy modules do."""
    return {
        name: None if is_lazy(parameter) else parameter.shape
        for name, parameter in model.named_parameters()
    }


def train_subject_once(subject: Subject, seed: int, runs: Path) -> nn.Module:
    """The subject, trained: read, if it was trained before."""
    path = path_of(subject, seed, runs)
    about = {"about": subject.about, "seed": seed}

    def read(path: Path) -> dict[str, Tensor]:
        tensors, metadata = checkpoint.read(path)
        require_same(path, metadata, to_json_value(about))
        return tensors

    tensors = kept(path, read)
    if tensors is None:
        model = subject.build(seed)
        with blame(f"{subject.name} cannot be trained"):
            subject.train(model, seed)
        checkpoint.write_tensors(path, state_of(model), about)
        tensors = read(path)
    model = subject.build(seed)
    with torch.no_grad():
        for name, tensor in state_of(model).items():
            if tensor.shape != tensors[name].shape:  # a buffer that grows as it runs
                tensor.data = torch.empty_like(tensors[name])
            tensor.copy_(tensors[name])
    return model.eval()


def path_of(subject: Subject, seed: int, runs: Path) -> Path:
    return model_path(runs, subject.name, {**subject.about, "seed": seed})


def train_plainly(model: nn.Module, data: Data, preset: Preset, seed: int) -> None:
    """AdamW at a steady rate, on the batches that our own model sees."""
    recipe = preset.train
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    for step in range(recipe.steps):
        tokens, targets = batch(
            data.train,
            batch_size=recipe.batch_size,
            block_size=preset.model.block_size,
            seed=seed,
            step=step,
        )
        logits = logits_in(model(tokens))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.grad_clip)
        optimizer.step()
        check_step(step + 1, loss.item(), norm.item())
    model.eval()
