"""What is a model that is named without weights? One that is trained here, once.

    named = preset_model(PRESETS["demo"], corpus, seed, runs, device, check)
    named = class_trained_here("model.py:GPT", PRESETS["demo"], corpus, seed, runs, (), check)

Trained weights are kept in a folder of runs, under everything that decides them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from experiments.support.cli import console
from experiments.support.devices import keep_to_one_thread
from experiments.support.keeping import kept, model_path, require_same
from experiments.support.named.found import Check, NamedModel, Size
from experiments.support.subjects import choose_class, train_subject_once
from experiments.support.trainings.tasks import resize_preset
from gpt import checkpoint
from gpt.model import GPT
from gpt.speed import resolve_precision
from gpt.text import CharTokenizer, Corpus, Data, split
from gpt.train import Preset, train

FOREIGN_STEPS = 300
"""Of training somebody else's model that comes without weights, in demo."""


def preset_model(
    preset: Preset, corpus: Corpus, seed: int, runs: Path, device: torch.device, check: Check
) -> NamedModel:
    """The preset's model, trained on a text."""
    tokenizer = CharTokenizer.from_text(corpus.text)
    size = replace(preset.model, vocab_size=tokenizer.vocab_size)
    data = split(corpus, tokenizer, size.block_size)
    check(Size(size.block_size, size.n_layer, size.n_head), tokenizer)
    preset = Preset(size, preset.train)
    model, about = train_preset_once(preset, data, tokenizer, seed, runs, device)
    return NamedModel(model, tokenizer, size.block_size, about)


def class_trained_here(
    name: str,
    preset: Preset,
    corpus: Corpus,
    seed: int,
    runs: Path,
    given: Sequence[str],
    check: Check,
) -> NamedModel:
    """A class of a file that comes without weights, trained for a moment."""
    tokenizer = CharTokenizer.from_text(corpus.text)
    steps = min(preset.train.steps, FOREIGN_STEPS)
    preset = resize_preset(preset, tokenizer.vocab_size, steps)
    data = split(corpus, tokenizer, preset.model.block_size)
    check(Size(preset.model.block_size), tokenizer)
    found = choose_class(name, data, preset, seed, runs, given=given)
    for told in found.notes:
        console.print(f"note    {told}", soft_wrap=True, markup=False)
    with console.status(f"training {found.name}"):
        model = train_subject_once(found, seed, runs)
    about = found.about | {"source": hashlib.sha256(found.about["source"].encode()).hexdigest()}
    return NamedModel(model, tokenizer, preset.model.block_size, about)


def train_preset_once(
    preset: Preset,
    data: Data,
    tokenizer: CharTokenizer,
    seed: int,
    runs: Path,
    device: torch.device,
) -> tuple[GPT, dict[str, Any]]:
    """The preset's model trained on a text: read, if it was trained before."""
    model = GPT(preset.model, seed=seed).to(device)
    keep_to_one_thread(model)
    precision = resolve_precision(preset.train.precision, preset.model.n_embd, device.type)
    about = {
        "source": checkpoint.source_hash(model),
        "model": asdict(preset.model),
        "train": asdict(replace(preset.train, precision=precision)),
        "trained_on": data.sha256,
        "seed": seed,
    }
    path = model_path(runs, "gpt", about)
    identity = checkpoint.Identity.of(model, text=data.sha256, seed=seed)

    def load(path: Path) -> checkpoint.Checkpoint:
        found = checkpoint.load(path)
        require_same(path, (found.identity, found.model.config), (identity, preset.model))
        return found

    if loaded := kept(path, load):
        return loaded.model, about
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("training a model to study", total=preset.train.steps)
        train(
            model,
            data,
            preset.train,
            seed=seed,
            state=path.with_suffix(".state"),
            report=lambda at: progress.update(bar, completed=at.step),
        )
    checkpoint.save(path, model, identity, tokenizer)
    return model.eval(), about
