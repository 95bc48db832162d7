"""Which trained model is studied, and on which text?

A checkpoint, or else the preset's small model, trained on the text once and kept in ``runs/models``
under everything that decides its weights: the next experiment that asks for the same one has it at
once.

    subject = find_subject(config)
    loss(subject.model(subject.examples(128)), ...)
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Int
from rich.progress import Progress
from torch import Tensor

import gpt.model
from experiments.support.cli import Examples, Options, console, run_name
from experiments.support.variants import course_variants
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.model import GPT, GPTConfig
from gpt.protocol import LanguageModel
from gpt.speed import resolve_precision
from gpt.text import CharTokenizer, Data, evaluation_blocks, load_corpus, split
from gpt.train import PRESETS, Preset, train
from interp.runs import identity_of
from interp.runs.files import note, remove_unfinished
from interp.surgery import edited_module, enumerate_surgeries, read_source

Device = Literal["auto", "cpu", "cuda"]
NARROW = 256  # width of the residual stream


@dataclass(frozen=True)
class StudyOptions(Options):
    """What all experiments share that look into a trained model."""

    preset: Literal["demo", "laptop"] = "demo"
    """Size of the model that is trained where no checkpoint is given. demo: seconds; laptop: some
    minutes. It is trained once and used again."""
    checkpoint: Path | None = None
    """Trained weights to study instead. They bring their characters; --text must be written in
    them."""
    examples: Examples = 128
    """Blocks of the validation text to measure on. More make the intervals narrower."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class TrainedSubject:
    """A trained model and the text to study it on.

    Attributes:
        model: in evaluation mode.
        tokenizer: its characters.
        data: the text in tokens, on the model's device.
        config: which model and text these are; belongs in the run's config.
        label: for the run's name.
    """

    model: LanguageModel
    tokenizer: CharTokenizer
    data: Data
    config: dict[str, Any]
    label: str

    def examples(self, count: int) -> Int[Tensor, "batch pos"]:
        """Blocks of the validation text, evenly spaced."""
        return self._blocks(self.data.val, count)

    def reference(self, count: int) -> Int[Tensor, "batch pos"]:
        """Blocks of the training text, for means and resamples: never those measured on."""
        return self._blocks(self.data.train, count)

    def _blocks(self, tokens: Int[Tensor, "length"], count: int) -> Int[Tensor, "batch pos"]:
        return evaluation_blocks(tokens, self.model.config.block_size, count)[0]


def find_subject(
    config: StudyOptions, check: Callable[[GPTConfig, CharTokenizer], None] = lambda *_: None
) -> TrainedSubject:
    """The model and text that the command line asks for, trained now if need be.

    Args:
        check: sees the model's size and its characters before anything is trained, and raises
            where what was asked for does not fit them.

    Raises:
        UsageError: no such text or checkpoint; a text with characters that the checkpoint's model
            does not know; no GPU.
        KeyboardInterrupt: on Ctrl-C; the same command trains on from there.
    """
    device = device_named(config.device)
    if config.checkpoint is not None:
        model, tokenizer, about = opened(config.checkpoint)
        corpus = load_corpus(config.text)
        data = split(corpus, tokenizer, model.config.block_size)
        label = run_name(config.checkpoint.stem, corpus.name)
        check(model.config, tokenizer)
    else:
        preset, corpus = PRESETS[config.preset], load_corpus(config.text)
        tokenizer = CharTokenizer.from_text(corpus.text)
        size = replace(preset.model, vocab_size=tokenizer.vocab_size)
        data = split(corpus, tokenizer, size.block_size)
        preset = Preset(size, preset.train)
        check(size, tokenizer)
        model, about = train_preset_once(preset, data, tokenizer, config.seed, config.runs, device)
        label = run_name(config.preset, corpus.name)
    about |= {"text": {"name": corpus.name, "sha256": corpus.sha256}}
    on_device = Data(data.train.to(device), data.val.to(device), data.sha256)
    return TrainedSubject(model.to(device), tokenizer, on_device, about, label)


def keep_to_one_thread(model: LanguageModel) -> None:
    """One thread for a narrow model, for the rest of this process, which is said: several spend
    their time waiting for each other, and many times it where other work shares the cores."""
    if model.config.n_embd < NARROW and torch.get_num_threads() > 1:
        note("one thread computes from here on: more are slower for a model this narrow")
        torch.set_num_threads(1)


def device_named(device: Device) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device is cuda, and torch finds no GPU here: take auto or cpu")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def opened(path: Path) -> tuple[LanguageModel, CharTokenizer, dict[str, Any]]:
    """A checkpoint's model, its characters, and what it is. Weights of an edited source are put
    into the model of that edit, where the edit is a single cut or one of the course's.

    Raises:
        UsageError: the file is missing or damaged, holds no characters, or was made with a surgery
            that the source does not know.
    """
    made_with = checkpoint.identify(path).surgery
    module = gpt.model
    if made_with:
        source = read_source(gpt.model)
        cuts = [*enumerate_surgeries(source), *filter(None, course_variants().values())]
        named = [cut for cut in cuts if cut.id == made_with]
        module = edited_module(source, named[0]) if named else module
    loaded = (
        checkpoint.load(path)
        if module is gpt.model
        else checkpoint.load(path, lambda sizes: module.GPT(module.GPTConfig(**sizes)))
    )
    if loaded.tokenizer is None:
        raise UsageError(f"{path} does not say which characters its tokens are: it has no text")
    keep_to_one_thread(loaded.model)
    return loaded.model, loaded.tokenizer, {"checkpoint": str(path), **asdict(loaded.identity)}


def train_preset_once(
    preset: Preset,
    data: Data,
    tokenizer: CharTokenizer,
    seed: int,
    runs: Path,
    device: torch.device,
) -> tuple[LanguageModel, dict[str, Any]]:
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


Loaded = TypeVar("Loaded")


def kept(path: Path, load: Callable[[Path], Loaded]) -> Loaded | None:
    """What was trained before, None where nothing was; or where it is damaged, which is said."""
    remove_unfinished(path.parent)
    if not path.exists():
        return None
    try:
        return load(path)
    except UsageError as error:
        note(f"{error}; it is trained again now")
        return None


def require_same(path: Path, held: Any, wanted: Any) -> None:
    """Raises ``UsageError`` where a file is of another training than its name says."""
    if held != wanted:
        raise UsageError(f"{path} holds the weights of another training")


def model_path(runs: Path, kind: str, about: dict[str, Any]) -> Path:
    """Where a trained model lies: its name holds all that decides its weights."""
    return runs / "models" / f"{kind}-{identity_of(**about)[:16]}.safetensors"
