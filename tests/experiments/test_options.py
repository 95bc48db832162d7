"""Every option of every experiment counts, or is refused: none has no effect and says nothing."""

import importlib
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import interp.errors
from experiments import patching, report, retrain
from experiments.heads import Config as HeadsConfig
from experiments.support import trained
from experiments.support.circuits import asking
from experiments.support.cli import check_options
from experiments.support.listing import questions
from experiments.support.trained import NamedOptions, workers_of
from experiments.support.trainings.brackets import BracketRecipe
from experiments.support.trainings.induction import InductionRecipe
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.train import PRESETS
from interp.runs import Run
from tests.experiments.conftest import SMALL

HOW = {"runs", "name", "model", "workers", "limit_s", "published", "retrain_top"}
"""Options that say which model, where to, by what means and how much is shown beside: the run of
the same name goes on with another value of them."""
PAIR = {"clean": "x is not", "corrupted": "y is not", "answer": "\n", "wrong": " "}
MODES = {
    "attention": ({}, {"model": "hf"}),
    "attribution": (PAIR, {"model": "hf", **PAIR}),
    "circuits": ({}, {"task": "brackets"}, {"model": "hf", **PAIR}),
    "components": (
        {},
        {"model": "hf"},
        {"model": "checkpoint"},
        {"model": "class"},
        {"model": "class", "weights": "weights"},
    ),
    "heads": ({}, {"model": "hf"}),
    "lines": ({}, {"model": "hf", "layers": (0,)}, {"model": "checkpoint"}),
    "neurons": ({}, {"model": "hf"}),
    "patching": ({}, PAIR, {"model": "hf", **PAIR}, {"model": "checkpoint"}),
}
OTHERS: dict[str, Any] = {
    "answer": "a",
    "build": "model.py:make",
    "clean": "z is not",
    "context": 8,
    "corrupt": "answer",
    "corrupted": "w is not",
    "cut": ("x = x + attn_out => x = attn_out",),
    "device": "cuda",
    "dtype": "bfloat16",
    "examples": 3,
    "faithfulness": 0.5,
    "files": ("model.py",),
    "head": 1,
    "head_parts": "output",
    "judge": "model.py:ask",
    "layer": 1,
    "layers": (1,),
    "length": 5,
    "neuron": (3,),
    "methods": ("random",),
    "pairs": Path("pairs.csv"),
    "ray": "127.0.0.1:1",
    "replaced_by": "mean",
    "retrain": 2,
    "retrain_top": 1,
    "rung": "residual",
    "seed": 7,
    "seeds": 2,
    "set": ("n_layer=1",),
    "show": "is not",
    "steps": 3,
    "texts": 5,
    "tokenizer": "hf:none",
    "trust_remote_code": True,
    "verify": 3,
    "ways": ("zero",),
    "wrong": "e",
}
MODEL = '''
"""A model of one file."""
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, vocab_size=SIZE, block_size=16, n_embd=8, n_layer=2):
        super().__init__()
        self.block_size = block_size
        self.embed = nn.Embedding(vocab_size, n_embd)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        x = self.embed(idx)
        return self.head(x)
'''


class BegunError(Exception):
    """A run was about to begin."""


@pytest.fixture(scope="module", autouse=True)
def quick(small) -> Iterator[None]:
    """Trainings take a moment, views are found once, and no run begins."""
    known: dict[Any, Any] = {}
    found = trained.hooked_view

    def view(model: Any, *given: Any) -> Any:
        first = next(model.parameters())
        key = type(model).__qualname__, first.dtype, first.numel()  # a class's file is run anew
        if key not in known:
            known[key] = found(model, *given)
        return known[key]

    def stop(*given: Any) -> None:
        raise BegunError(repr(given[3:]))

    with pytest.MonkeyPatch.context() as patch:
        laptop = replace(SMALL, train=replace(SMALL.train, steps=40))
        patch.setitem(PRESETS, "laptop", laptop)
        patch.setattr(trained, "hooked_view", view)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(Run, "open", stop)
        patch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=20))
        patch.setattr(asking, "BracketRecipe", partial(BracketRecipe, steps=20))
        yield


@pytest.fixture(scope="module")
def named(folder_of, tmp_path_factory, text, runs) -> dict[str, str]:
    """What each mode's model is called."""
    folder = tmp_path_factory.mktemp("named")
    subject = trained.load_subject(text=str(text), runs=runs)
    identity = checkpoint.Identity.of(subject.inner, text=subject.data.sha256, seed=0)
    checkpoint.save(folder / "ours.safetensors", subject.inner, identity, subject.tokenizer)
    (folder / "model.py").write_text(MODEL.replace("SIZE", str(subject.tokenizer.vocab_size)))
    (folder / "other.txt").write_text(text.read_text(encoding="utf-8")[:15_000])
    size = subject.tokenizer.vocab_size
    torch.manual_seed(0)
    tensors = {
        "embed.weight": torch.randn(size, 8),
        "head.weight": torch.randn(size, 8),
        "head.bias": torch.randn(size),
    }
    save_file(tensors, folder / "weights.safetensors")
    return {
        "hf": f"hf:{folder_of('llama')}",
        "checkpoint": str(folder / "ours.safetensors"),
        "class": f"{folder / 'model.py'}:Tiny",
        "weights": str(folder / "weights.safetensors"),
        "text": str(folder / "other.txt"),
    }


def settings_of(experiment: ModuleType, config: Any) -> str:
    """What a run would begin with, without beginning it."""
    check_options(config)
    with pytest.raises(BegunError) as begun:
        experiment.main(config)
    return str(begun.value)


def other_value(field: Any, config: Any, named: dict[str, str]) -> Any:
    """A value of an option that is neither its default nor what is given."""
    if field.name == "text":
        return named["text"]
    if field.name == "task":
        return "brackets" if config.task is None else "induction"
    if field.name == "preset":
        return "lecture" if type(config).__module__.endswith("neurons") else "laptop"
    if field.name in ("weights", "checkpoint"):
        return Path(named[field.name])
    return OTHERS[field.name]


def test_every_experiment_to_which_a_model_is_named_is_tried():
    modules = {name: importlib.import_module(f"experiments.{name}") for name in questions()}
    assert {
        name
        for name, module in modules.items()
        if hasattr(module, "Config") and issubclass(module.Config, NamedOptions)
    } <= {*MODES}


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, modes in MODES.items() for mode in modes]
)
def test_every_option_counts_or_is_refused(name, mode, named, runs, text):
    experiment = importlib.import_module(f"experiments.{name}")
    given = {option: named.get(value, value) for option, value in mode.items()}
    if "weights" in given:
        given["weights"] = Path(given["weights"])
    config = experiment.Config(runs=runs, text=str(text), **given)
    if name in ("patching", "circuits") and "clean" not in mode:  # random strings, of no text
        config = replace(config, text="python-docs", length=6)
    before = settings_of(experiment, config)
    done = (
        HOW
        | ({"weights"} & {*given})
        | ({"trust_remote_code"} if mode.get("model") == "hf" else {*()})
    )
    for field in fields(config):
        if field.name in done:
            continue
        changed = replace(config, **{field.name: other_value(field, config, named)})
        try:
            after = settings_of(experiment, changed)
        except (UsageError, interp.errors.UsageError) as refusal:
            option = f"--{field.name.replace('_', '-')}"
            value = str(getattr(changed, field.name)).partition(":")[0]
            assert option in str(refusal) or value in str(refusal)
        else:
            assert after != before, f"--{field.name} has no effect, and nothing says so"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--grade", "--format", "pdf"], "--format has no effect with --grade"),
        (["--grade", "--notes", "notes.md"], "--notes has no effect with --grade"),
        (["--grade", "--text", "x.txt"], "--text is for --repeat"),
        (["--references", "--title", "Mine"], "--title has no effect with --references"),
        (["--worksheet", "--format", "md"], "--format has no effect with --worksheet"),
    ],
)
def test_an_option_of_another_kind_of_report_is_refused(refused, arguments, sentence):
    assert sentence in refused(report.main, report.Config, "course/any", *arguments)


def test_a_share_of_a_gpu_is_for_a_cluster(refused):
    assert "--gpus is for --ray" in refused(retrain.main, retrain.Config, "--gpus", "0.5")


def test_a_cluster_has_its_own_number_of_workers(refused):
    sentence = "--workers has no effect on the cluster at 127.0.0.1:1"
    with pytest.raises(UsageError, match=sentence):
        workers_of(HeadsConfig(workers=2, ray="127.0.0.1:1"))
    given = ("--workers", "3", "--ray", "127.0.0.1:1")
    assert sentence in refused(retrain.main, retrain.Config, *given)
