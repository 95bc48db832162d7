"""Which model's lines are cut, how is it judged, and on which texts?

studied = studied_model(config)         # of experiments.lines
judge, reference = studied.judge, studied.reference
model = studied.model(ours)             # trained now if need be; ours: trainings of our own model
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import gpt.model
from experiments.support.cli import refuse_options, run_name
from experiments.support.line_options import LineOptions
from experiments.support.models.asking import Asked
from experiments.support.models.ran import choose_files, files_that_ran
from experiments.support.named.coding import TextTokens
from experiments.support.named.kinds import Kind, kind_of
from experiments.support.subjects import Subject, choose_class, train_subject_once
from experiments.support.trained import TrainedSubject, load_subject
from experiments.support.trainings.line_trainings import Trainings, judges, untrained_study
from experiments.support.trainings.tasks import resize_preset
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.model import GPT
from gpt.text import CharTokenizer, Corpus, Data, load_corpus, split
from gpt.train import PRESETS, Preset
from interp.metrics import precise
from interp.runs import Run
from interp.surgery import Study, read_source, study
from interp.surgery.judging import Judge, logits_in
from interp.surgery.running.layers import check_layers
from interp.surgery.source.syntax import tell_apart

FOREIGN_STEPS = 300  # of training somebody else's model in demo
TEXTS = 24
OF_ONE_WITH_WEIGHTS = ("tokenizer", "context", "device", "dtype", "trust_remote_code")
"""Options that have no effect on a model that is trained here."""
LARGE_MODEL = 12, 12
"""Texts that a large model is judged on, and tokens of each: fewer texts could show no effect of
some 1,400 cuts."""


@dataclass(frozen=True)
class StudiedModel:
    """A model whose lines are cut.

    Attributes:
        name: of its class.
        label: for the run's name.
        modules: the files to cut, that of the class first.
        build: makes an untrained one from a seed.
        model: gives the trained one; takes the trainings of our own model.
        train: trains one in place; None of our own, which ``Trainings`` trains, and of one that
            comes with weights.
        settings: what decides the results; goes into the run's config.
        beside: more that decides them.
        notes: what a reader must know of how it was taken from its file.
        preset: size and training of a model that is trained here.
        subject: the model, where it comes with weights: nothing is trained then.
    """

    name: str
    label: str
    modules: list[ModuleType]
    build: Callable[[int], nn.Module]
    model: Callable[[Trainings | None], nn.Module]
    train: Callable[[nn.Module, int], Any] | None
    judge: Judge
    reference: Judge
    data: Data
    tokenizer: TextTokens
    context: int
    corpus: Corpus
    settings: dict[str, Any]
    beside: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    preset: Preset | None = None
    subject: TrainedSubject | None = None


def studied_model(config: LineOptions) -> StudiedModel:
    """The model that the command line asks for.

    Raises:
        UsageError: options that do not fit together, or a model that cannot be had.
    """
    foreign = bool(config.model or config.build)
    kind = kind_of(config.model)
    if config.checkpoint and foreign:
        raise UsageError("--checkpoint is for our own model; leave --model or --checkpoint out")
    if kind is Kind.CHECKPOINT:
        config = replace(config, checkpoint=Path(config.model), model="")
        foreign = bool(config.build)
    comes_trained = kind in (Kind.TRANSFORMERS, Kind.NANOGPT) or config.weights is not None
    if not foreign and (config.set or config.judge or config.files or config.weights):
        raise UsageError(
            "--set, --judge, --files and --weights are for another's model: name it, with --model "
            "FILE:Class"
        )
    if comes_trained:
        require_no_training(config)
        return trained_elsewhere(config)
    refuse_options(
        config,
        OF_ONE_WITH_WEIGHTS,
        "is for a model that comes with weights, and of another class than our own",
    )
    return trained_here(config, foreign)


def trainings_by_seed(studied: StudiedModel, run: Run, workers: int) -> Trainings | None:
    """What trains our own model; None where nothing is trained."""
    if studied.preset is None:
        return None
    assert isinstance(studied.tokenizer, CharTokenizer)
    return Trainings(
        run,
        studied.preset,
        studied.data,
        studied.tokenizer,
        studied.corpus.sha256,
        studied.settings["seeds"],
        workers,
    )


def before_training(studied: StudiedModel) -> Study:
    """The model as it is before it is trained; of one that comes trained, as it is."""
    if studied.preset:
        return untrained_study(studied.preset, studied.data, studied.build, studied.modules)
    return study(
        build=studied.build,
        judge=studied.judge,
        files=studied.modules,
        model=studied.model(None),
        trains=False,
    )


def names_of_files(modules: Sequence[ModuleType]) -> list[str]:
    return [source.file for source in tell_apart([read_source(module) for module in modules])]


def require_no_training(config: LineOptions) -> None:
    """Raises ``UsageError`` where a training is asked for of a model that comes with weights."""
    what = config.model or config.build
    refuse_options(config, ["preset", "seeds"], f"has no effect on {what}, which comes trained")
    asked = {"--retrain-top": config.retrain_top, "--steps": config.steps}
    if wrong := [option for option, value in asked.items() if value]:
        raise UsageError(
            f"{wrong[0]} is for a model that is trained here; {what} comes trained, and what it "
            "would be without a line is not to be had by training it anew for a moment: leave "
            f"{wrong[0]} out"
        )
    if config.build or config.judge:
        raise UsageError(
            "--build and --judge are for a class that is trained here: leave them out, or leave "
            "out the weights"
        )


def trained_elsewhere(config: LineOptions) -> StudiedModel:
    """A model that comes with weights."""
    subject = load_subject(
        config.model,
        text=config.text,
        weights=config.weights,
        given=config.set,
        tokenizer=config.tokenizer,
        context=config.context,
        device=config.device,
        dtype=config.dtype,
        seed=config.seed,
        runs=config.runs,
        trust_remote_code=config.trust_remote_code,
        large_model=LARGE_MODEL,
    )
    model, texts = subject.inner, config.texts or (subject.texts if subject.is_large else TEXTS)
    tokens, others = subject.examples(texts), subject.reference(texts)
    named = subject.named
    assert named is not None
    if config.layers:
        check_layers(model, config.layers)
    own = model.model if isinstance(model, Asked) else model
    main = sys.modules[type(own).__module__]
    with torch.no_grad():
        ran = files_that_ran(partial(model, tokens[:1]))
    modules, notes = choose_files(main, named.modules or [main], ran, config.files)

    @torch.no_grad()
    def judge(judged: nn.Module) -> Tensor:
        judged.eval()
        return losses_of(logits_in(judged(tokens)), tokens).mean(dim=1)

    @torch.no_grad()
    def reference(judged: nn.Module) -> None:
        judged.eval()
        judged(others)

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        with uninitialized():
            return named.build(seed) if named.build else build_of_config(own, seed)

    corpus = load_corpus(config.text)
    settings = {
        "subject": subject.config,
        "file": main.__name__,
        "class": type(own).__name__,
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "texts": len(tokens),
        "seed": config.seed,
        "layers": config.layers,
        "taken": {"files": names_of_files(modules)},
    }
    return StudiedModel(
        type(own).__name__,
        run_name(subject.label, main.__name__.rpartition(".")[2]),
        modules,
        build,
        lambda _: model,
        None,
        judge,
        reference,
        subject.data,
        subject.tokenizer,
        subject.context,
        corpus,
        settings,
        notes=notes,
        subject=subject,
    )


def build_of_config(model: Any, seed: int) -> nn.Module:
    """Another model of a class that is built of its config alone."""
    return GPT(model.config, seed=seed) if isinstance(model, GPT) else type(model)(model.config)


@contextmanager
def uninitialized() -> Iterator[None]:
    """Inside the block nobody draws weights: they are put in later."""
    names = [name for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")]
    before = {name: getattr(nn.init, name) for name in names}
    with ExitStack() as stack:
        if "transformers" in sys.modules:
            from transformers.initialization import no_init_weights

            stack.enter_context(no_init_weights())
        for name, draw in before.items():
            stack.callback(setattr, nn.init, name, draw)
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield


def losses_of(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch next"]:
    """The cross-entropy in nats of every next token, to more than 1e-6 whatever the vocabulary: the
    sum of exponentials is a double. Logits that are doubles take four times as long."""
    told = precise(logits[:, :-1])
    most = told.amax(dim=-1, keepdim=True)
    total = (told - most).exp().sum(dim=-1, dtype=torch.float64).log()
    right = told.gather(-1, tokens[:, 1:, None]).double() - most.double()
    return total - right[..., 0]


def trained_here(config: LineOptions, foreign: bool) -> StudiedModel:
    """Our own model, or a class of another file, trained on the text."""
    preset, corpus = PRESETS[config.preset], load_corpus(config.text)
    loaded = checkpoint.load(config.checkpoint) if config.checkpoint else None
    tokenizer = (loaded and loaded.tokenizer) or CharTokenizer.from_text(corpus.text)
    if loaded:
        preset = replace(preset, model=loaded.model.config)
    steps = config.steps
    if foreign and config.preset == "demo":
        steps = steps or FOREIGN_STEPS
    preset = resize_preset(preset, tokenizer.vocab_size, steps)
    data = split(corpus, tokenizer, preset.model.block_size)
    other = class_asked_for(config, data, preset) if foreign else None
    modules = other.modules if other else [gpt.model]
    texts = config.texts or TEXTS
    judge, reference = judges(data, preset.model.block_size, texts)
    settings: dict[str, Any] = {
        "preset": config.preset,
        "model": asdict(preset.model),
        "train": asdict(preset.train),
        "file": modules[0].__name__,
        "class": other.name if other else GPT.__name__,
        "checkpoint": str(config.checkpoint or ""),
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "texts": texts,
        "seeds": list(range(config.seed, config.seed + config.seeds)),
    }
    if config.layers:
        settings["layers"] = config.layers
    if other:
        taken = {key: other.about[key] for key in ("given", "built")}
        settings["taken"] = {"files": names_of_files(modules)} | taken

    def model(ours: Trainings | None) -> nn.Module:
        if other:
            return train_subject_once(other, config.seed, config.runs)
        assert ours is not None
        return loaded.model if loaded else ours.model()

    return StudiedModel(
        other.name if other else GPT.__name__,
        run_name(config.preset, corpus.name, Path(str(modules[0].__file__)).stem),
        modules,
        other.build if other else lambda seed: GPT(preset.model, seed=seed),
        model,
        other.train if other else None,
        judge,
        reference,
        data,
        tokenizer,
        preset.model.block_size,
        corpus,
        settings,
        # its files as they are now: the same command after an edit is a fresh answer
        {"beside": other.about["beside"]} if other else {},
        other.notes if other else [],
        preset,
    )


def class_asked_for(config: LineOptions, data: Data, preset: Preset) -> Subject:
    return choose_class(
        config.model,
        data,
        preset,
        config.seed,
        config.runs,
        given=config.set,
        build=config.build,
        judge=config.judge,
        files=config.files,
    )
