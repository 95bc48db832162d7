"""How is a model studied that somebody else wrote?

The class of any file: a script of sixty lines or a modelling file that came with a library. It is
built small for the text at hand and trained for a moment, once.

    subject = choose_class("modeling_gpt2.py:GPT2LMHeadModel", data, preset, 0, runs)
    model = train_subject_once(subject, 0, runs)
"""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from experiments.support.trained import kept, model_path, require_same
from gpt import checkpoint
from gpt.diverging import check_step
from gpt.errors import DivergedError, UsageError, nearest
from gpt.text import Data, batch
from gpt.train import Preset
from interp.runs.identity import to_json_value
from interp.surgery.imports import hash_of_imports
from interp.surgery.judging import logits_in
from interp.surgery.syntax import module_name, read_source

# What the parameters of other people's configs are called, beside our own names.
ALIASES = {
    "vocab_size": ("vocab_size", "n_vocab"),
    "block_size": ("block_size", "n_positions", "max_position_embeddings", "n_ctx", "seq_len"),
    "n_layer": ("n_layer", "n_layers", "num_hidden_layers", "num_layers"),
    "n_head": ("n_head", "n_heads", "num_attention_heads", "num_heads"),
    "n_embd": ("n_embd", "d_model", "hidden_size", "dim", "embed_dim"),
    "d_mlp": ("intermediate_size", "d_ff", "n_inner"),
    "dropout": ("dropout",),
}


@dataclass(frozen=True)
class Subject:
    """A model to study: its file, how it is built and trained, and what decides its weights."""

    module: ModuleType
    name: str
    build: Callable[[int], nn.Module]
    train: Callable[[nn.Module, int], Any]
    about: dict[str, Any]


def choose_class(model: str, data: Data, preset: Preset, seed: int, runs: Path) -> Subject:
    """The class that ``FILE:Class`` names; where it was not trained with this seed yet, tried out.

    Raises:
        UsageError: no such class in the file, or one that cannot be built from a vocabulary and
            sizes alone, run, or trained.
        SurgeryError: a file that is none, or with a syntax error.
    """
    path, _, name = model.rpartition(":")
    if not path or not name:
        raise UsageError(f"--model is {model!r}; write FILE:Class, as in model.py:GPT")
    module = load_module(path)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        known = [
            key
            for key, item in vars(module).items()
            if isinstance(item, type) and issubclass(item, nn.Module)
        ]
        raise UsageError(f"{path} has no module class {name!r}; nearest: {nearest(name, known)}")

    with blame(f"the config of {model} cannot be made"):
        given = arguments(found, module, preset)

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        built = found(**given)
        assert isinstance(built, nn.Module)
        return built

    def train(model: nn.Module, seed: int) -> None:
        train_plainly(model, data, preset, seed)

    require_logits(model, build, data, preset)
    about = {
        "source": read_source(module).text,
        "imports": hash_of_imports([read_source(module)]),
        "class": name,
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "trained_on": data.sha256,
    }
    subject = Subject(module, name, build, train, about)
    if not path_of(subject, seed, runs).exists():
        require_trainable(model, build, data, preset)
    return subject


def require_logits(
    named: str, build: Callable[[int], nn.Module], data: Data, preset: Preset
) -> None:
    """Build a model and run it once, before anything is begun.

    Raises:
        UsageError: it raises, or gives no logits for every position.
    """
    size = preset.model
    tokens = data.train[None, : size.block_size]
    with (
        blame(f"{named} cannot be built and run on tokens of shape {tuple(tokens.shape)}"),
        torch.no_grad(),
    ):
        shape = tuple(logits_in(build(0).eval()(tokens)).shape)
    if shape[:2] != (1, size.block_size) or len(shape) != 3 or shape[2] < size.vocab_size:
        raise UsageError(
            f"{named} gives {list(shape)} for tokens of shape {list(tokens.shape)}; a study needs "
            f"logits [batch, pos, vocab] of every position, with vocab at least {size.vocab_size}"
        )


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


@contextmanager
def blame(what: str) -> Iterator[None]:
    """Turn whatever somebody's file raises, its own exits included, into one sentence."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, UsageError) and not isinstance(error, DivergedError):
            raise
        raise UsageError(f"{what}: {error_line(error)}") from error


def error_line(error: BaseException) -> str:
    """An exception's name and what it says, on one line."""
    try:
        said = " ".join(str(error).split())
    except Exception:
        said = "it cannot say why"
    return f"{type(error).__name__}: {said}"[:300]


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


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are shared once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def load_module(path: str) -> ModuleType:
    """Import a file: as the module that it is in its package, else by itself."""
    source = read_source(path)
    name = module_name(source.path)
    if "." in name:
        with blame(f"{path} cannot be imported"):
            return importlib.import_module(name)
    if name in sys.modules and getattr(sys.modules[name], "__file__", "") == str(source.path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(f"studied_{name}", source.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with blame(f"{path} cannot be imported"):
        spec.loader.exec_module(module)
    return module


def arguments(found: type, module: ModuleType, preset: Preset) -> dict[str, Any]:
    """What a class is built from: sizes by their usual names, a config made of them.

    Raises:
        UsageError: a parameter without default that is neither.
    """
    sizes = {"d_mlp": 4 * preset.model.n_embd, **vars(preset.model)}
    named = {alias: sizes[name] for name, aliases in ALIASES.items() for alias in aliases}
    given = {}
    for parameter in list(inspect.signature(found).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in named:
            given[parameter.name] = named[parameter.name]
        elif "config" in parameter.name.lower():
            given[parameter.name] = small_config(found, module, parameter.annotation, named)
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"{found.__name__} takes {parameter.name!r}, which nothing here can tell: give it "
                f"a default, or call it one of {', '.join(sorted(named))}"
            )
    return given


def small_config(found: type, module: ModuleType, annotation: Any, named: dict[str, Any]) -> Any:
    """A small config of the class that the model takes."""
    candidates = [annotation, getattr(found, "config_class", None)]
    candidates += [item for item in vars(module).values() if is_dataclass(item)]
    kinds = [item for item in candidates if isinstance(item, type) and item is not inspect._empty]
    if not kinds:
        raise UsageError(
            f"{found.__name__} takes a config, and its file has no dataclass to make it of"
        )
    known = inspect.signature(kinds[0]).parameters
    return kinds[0](**{name: value for name, value in named.items() if name in known})


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
