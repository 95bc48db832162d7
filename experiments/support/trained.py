"""Which trained model is studied, and on which text?

One word names it, on every command line and here. Without one it is the preset's small model,
trained on the text once and kept in ``runs/models`` under everything that decides its weights: the
next experiment that asks for the same one has it at once.

    subject = load_subject("smollm2", text="notes.txt")
    loss(subject.model(subject.examples()), subject.examples())

    subject = find_subject(config)          # the one that the command line asks for
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import tyro
from jaxtyping import Int
from torch import Tensor, nn

from experiments.support.cli import Between, Examples, Options, refuse_options, run_name
from experiments.support.devices import Device, Dtype, device_named
from experiments.support.named.checkpoints import (
    load_checkpoint,
    load_nanogpt,
    tokenizer_named,
)
from experiments.support.named.classes import load_class
from experiments.support.named.coding import TextTokens, special_before
from experiments.support.named.found import Check, NamedModel, Size
from experiments.support.named.kinds import Kind, kind_of
from experiments.support.named.reading import load_transformers
from experiments.support.trained_here import class_trained_here, preset_model
from experiments.support.trainings.executors import Executor, executor_of, one_thread
from gpt.checkpoint import first_not_finite
from gpt.errors import UsageError
from gpt.text import (
    CharTokenizer,
    Corpus,
    Data,
    check_tokens,
    evaluation_blocks,
    hash_tokens,
    load_corpus,
    split,
)
from gpt.train import PRESETS
from interp.line_hooks import hook_lines
from interp.site import Model
from interp.surgery.judging import weights_hash

LARGE = 10_000_000  # parameters
EXAMPLES, CONTEXT = 128, 16
FEW = 8
"""Texts, and tokens of each, that a large model is measured on where nothing else is asked for."""
VIEWED = 12  # tokens of the run that finds what a model's lines make


@dataclass(frozen=True)
class NamedOptions(Options):
    """What all experiments share to which a model can be named."""

    model: str = ""
    """The model to study: smollm2 (a pretrained Llama of 135 million parameters),
    hf:NAME_OR_FOLDER (a causal language model of transformers), nanogpt:ckpt.pt, FILE.safetensors
    (a checkpoint of this project), or FILE.py:Class. Without one, the preset's model is trained on
    the text."""
    weights: Path | None = None
    """With --model FILE.py:Class: its trained weights, a .safetensors file. Without them it is
    trained for a moment."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """With --model FILE.py:Class: NAME=VALUE, an argument that it is built with. Repeat it for
    several."""
    tokenizer: str = ""
    """What makes its tokens, of a model that brings none: smollm2, hf:NAME_OR_FOLDER, or nanoGPT's
    meta.pkl. By default the characters of the text."""
    context: Annotated[int, Between(2, 10**6)] | None = None
    """Tokens of a text that the model reads at once; by default as many as it can, and of a large
    model 16."""
    examples: Examples | None = None
    """Stretches of the validation text to measure on; by default 128, and 8 of a large model. More
    make the intervals narrower."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Dtype = "auto"
    """The numbers it computes with; auto is float32 on a CPU, and elsewhere what its weights were
    saved in."""
    large_model: ClassVar[tuple[int, int]] = (FEW, CONTEXT)
    """How many texts of how many tokens a large model is measured on by default."""
    trust_remote_code: bool = False
    """With --model hf:…: run the code that comes with the weights. Without it, none is run."""


@dataclass(frozen=True)
class StudyOptions(NamedOptions):
    """What all experiments share that look into a trained model."""

    preset: Literal["demo", "laptop"] = "demo"
    """Size of the model that is trained where none is named. demo: seconds; laptop: some minutes.
    It is trained once and used again."""


@dataclass(frozen=True)
class SweepOptions(StudyOptions):
    """What the experiments share whose sweeps can be spread over workers."""

    workers: Annotated[int, Between(0, 4096)] = 0
    """Processes that share a sweep, each with one thread; 0 computes in this one."""
    ray: str = ""
    """Spread a sweep over a Ray cluster: its address, or "local" to start one here."""


def workers_of(config: SweepOptions) -> Executor | None:
    """The workers that share a sweep; None where this process does it all.

    Raises:
        UsageError: no cluster answers; or it has its own number of workers.
    """
    if not (config.workers or config.ray):
        return None
    if config.ray not in ("", "local"):
        refuse_options(config, ["workers"], f"has no effect on the cluster at {config.ray}")
    return executor_of(config.workers, config.ray)


@dataclass(frozen=True)
class TrainedSubject:
    """A trained model and the text to study it on.

    Attributes:
        inner: the model, in evaluation mode, as its own class is.
        tokenizer: what its tokens are.
        data: the text in tokens, on the model's device.
        context: tokens that it is given at once.
        config: which model and text these are; belongs in the run's config.
        label: for the run's name.
        texts: how many stretches of the text are the default.
        is_large: so large that few and short texts are the default.
        named: as it was read, with how another is built and its files; None where it was not.
    """

    inner: nn.Module
    tokenizer: TextTokens
    data: Data
    context: int
    config: dict[str, Any]
    label: str
    texts: int = EXAMPLES
    is_large: bool = False
    named: NamedModel | None = None

    @cached_property
    def model(self) -> Model:
        """The same with hook points: its own, or those of its lines, found when first asked for."""
        return hooked_view(
            self.inner, self.tokenizer, self.data.train[None, : min(self.context, VIEWED)]
        )

    @property
    def room(self) -> int:
        """Tokens of a text that it is given at once, after the special ones."""
        return self.context - len(special_before(self.tokenizer))

    def examples(self, count: int | None = None) -> Int[Tensor, "batch pos"]:
        """Stretches of the validation text, evenly spaced."""
        return self._windows(self.data.val, count)

    def reference(self, count: int | None = None) -> Int[Tensor, "batch pos"]:
        """Stretches of the training text, for means and resamples: never those measured on."""
        return self._windows(self.data.train, count)

    def with_special(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch longer"]:
        """Texts with the special tokens before them that the model was trained with."""
        before = special_before(self.tokenizer).to(tokens)
        return torch.cat([before.expand(len(tokens), -1), tokens], dim=1)

    def _windows(
        self, tokens: Int[Tensor, "length"], count: int | None
    ) -> Int[Tensor, "batch pos"]:
        count = count or self.texts
        return self.with_special(evaluation_blocks(tokens, self.room, count)[0])


def nothing_to_check(size: Size, tokenizer: TextTokens) -> None:
    """Every model will do."""


def find_subject(config: NamedOptions, check: Check = nothing_to_check) -> TrainedSubject:
    """The model and text that the command line asks for, trained now if need be; as
    ``load_subject`` gives them.

    Raises:
        UsageError: as ``load_subject``; or an option has no effect on such a model.
    """
    if comes_trained(config.model, config.weights):
        refuse_options(config, ["preset"], f"has no effect on {config.model}, which comes trained")
    return load_subject(
        config.model,
        text=config.text,
        preset=config.preset if isinstance(config, StudyOptions) else "demo",
        weights=config.weights,
        given=config.set,
        tokenizer=config.tokenizer,
        context=config.context,
        device=config.device,
        dtype=config.dtype,
        seed=config.seed,
        runs=config.runs,
        trust_remote_code=config.trust_remote_code,
        large_model=config.large_model,
        check=check,
    )


def comes_trained(name: str, weights: Path | None) -> bool:
    """Whether a model that is named has weights already."""
    kind = kind_of(name)
    return kind is not Kind.PRESET and (kind is not Kind.CLASS or weights is not None)


def load_subject(
    name: str = "",
    *,
    text: str = "python-docs",
    preset: str = "demo",
    weights: Path | None = None,
    given: Sequence[str] = (),
    tokenizer: str = "",
    context: int | None = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: int = 0,
    runs: Path = Path("runs"),
    trust_remote_code: bool = False,
    large_model: tuple[int, int] = (FEW, CONTEXT),
    check: Check = nothing_to_check,
) -> TrainedSubject:
    """A trained model by its name, with hook points, and a text to study it on.

    Args:
        name: ``smollm2``, ``hf:NAME_OR_FOLDER``, ``nanogpt:ckpt.pt``, a checkpoint's
            ``FILE.safetensors``, or ``FILE.py:Class``; empty is the preset's model.
        text: as ``gpt.text.load_corpus`` takes it.
        preset: size and training of a model that comes without weights.
        weights: of ``FILE.py:Class``.
        given: ``NAME=VALUE``, what that class is built with.
        tokenizer: of a model that brings none.
        context: tokens that it is given at once.
        device, dtype: where and in which numbers it computes.
        seed: of a training.
        runs: where trained weights are kept.
        trust_remote_code: run code that comes with weights of the hub.
        large_model: how many texts of how many tokens are the default where it is large.
        check: sees the model's size and its tokens before anything is trained or read.

    Raises:
        UsageError: the name, text, weights or device are not there or do not fit together, and
            what would.
        KeyboardInterrupt: on Ctrl-C; the same call trains on from there.
    """
    kind, there = kind_of(name), device_named(device)
    if (weights or given) and kind is not Kind.CLASS:
        option = "--weights" if weights else "--set"
        raise UsageError(f"{option} is for a class of a file: name it, as in --model model.py:GPT")
    if tokenizer and kind not in (Kind.CLASS, Kind.NANOGPT):
        raise UsageError("--tokenizer is for a model that brings none: leave it out")
    if tokenizer and kind is Kind.CLASS and weights is None:
        raise UsageError(
            "--tokenizer is for a class that comes with --weights; without them it is trained here "
            "on the characters of the text: leave it out"
        )
    if trust_remote_code and kind is not Kind.TRANSFORMERS:
        raise UsageError("--trust-remote-code is for --model hf:…: leave it out")
    corpus = load_corpus(text)
    coded = cache(partial(coded_parts, corpus))  # asked for before the weights are read, and after

    def check_size(size: Size, tokens: TextTokens) -> None:
        check_context(context, size, tokens)
        check(size, tokens)
        fewest = min(large_model[1], size.context)  # of a small model more, whose reading is short
        data_of(corpus, tokens, context or fewest, coded)

    if kind is Kind.PRESET:
        named = preset_model(PRESETS[preset], corpus, seed, runs, there, check_size)
    elif kind is Kind.CHECKPOINT:
        named = load_checkpoint(Path(name), check_size)
    elif kind is Kind.NANOGPT:
        named = load_nanogpt(Path(name.removeprefix("nanogpt:")), tokenizer, check_size)
    elif kind is Kind.TRANSFORMERS:
        named = load_transformers(name, dtype, there, runs, check_size, trust_remote_code)
    elif weights is not None:
        coder = tokenizer_named(tokenizer) if tokenizer else CharTokenizer.from_text(corpus.text)
        named = load_class(name, weights, coder, check_size, given)
    else:
        named = class_trained_here(name, PRESETS[preset], corpus, seed, runs, given, check_size)
    model = named.model.to(there)
    if dtype != "auto":
        model = model.to(getattr(torch, dtype))
    require_finite(name, model)
    is_large = sum(weight.numel() for weight in model.parameters()) > LARGE
    size = context or (min(large_model[1], named.context) if is_large else named.context)
    data = data_of(corpus, named.tokenizer, size, coded)
    check_tokens(data, named.tokenizer.vocab_size)
    label = run_name(name.rpartition("/")[2] or preset, corpus.name)
    numbers = str(next(model.parameters()).dtype).removeprefix("torch.")
    about = named.about | {
        "named": name,
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "tokens": hash_tokens(data),
        "context": size,
        "weights": weights_hash(model),
        "dtype": numbers,
        "device": there.type,
    }
    data = Data(data.train.to(there), data.val.to(there), data.sha256)
    texts = large_model[0] if is_large else EXAMPLES
    known = (named.tokenizer, data, size, about, label, texts, is_large, named)
    return TrainedSubject(model, *known)


def check_context(context: int | None, size: Size, tokenizer: TextTokens) -> None:
    """Raises ``UsageError`` where a model does not read as many tokens at once as it shall be
    given, or where these are none but the special ones before a text."""
    if context is None:
        return
    if context > size.context:
        raise UsageError(f"--context is {context}; this model reads {size.context} tokens at once")
    if context <= (before := len(special_before(tokenizer))):
        raise UsageError(
            f"--context is {context}, and a text of this model begins with {before} special "
            f"tokens: {before + 1} are the fewest"
        )


def require_finite(name: str, model: nn.Module) -> None:
    """Raises ``UsageError`` where a weight is not finite, as one may be that is too large for the
    numbers it was put into."""
    if wrong := first_not_finite(model, dict(model.named_parameters())):
        numbers = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise UsageError(
            f"{name or 'the model'} cannot be used in {numbers}: {wrong} holds a number that is "
            "not finite"
        )


def hooked_view(model: nn.Module, tokenizer: TextTokens, tokens: Int[Tensor, "batch pos"]) -> Model:
    """A model with hook points: its own, or those of its lines."""
    if isinstance(getattr(model, "hook_dict", None), dict):
        assert isinstance(model, Model)
        return model
    before = special_before(tokenizer).to(tokens)
    with one_thread():  # hundreds of runs of a few tokens, on which several wait for each other
        view = hook_lines(model, torch.cat([before.expand(len(tokens), -1), tokens], dim=1))
    view.tokenizer = getattr(tokenizer, "inner", tokenizer)
    return view.eval()


def coded_parts(
    corpus: Corpus, tokenizer: TextTokens
) -> tuple[Int[Tensor, "train"], Int[Tensor, "val"]]:
    """The tokens of each part of a text."""
    border = corpus.border
    return tokenizer.encode(corpus.text[:border]), tokenizer.encode(corpus.text[border:])


def data_of(
    corpus: Corpus,
    tokenizer: TextTokens,
    context: int,
    coded: Callable[[TextTokens], tuple[Tensor, Tensor]],
) -> Data:
    """A text in tokens, parted as ``gpt.text.split`` does.

    Args:
        coded: the parts in tokens, by their tokenizer.

    Raises:
        UsageError: a part of it is shorter than what the model is given at once; the model does not
            know one of its characters.
    """
    if isinstance(tokenizer, CharTokenizer):
        return split(corpus, tokenizer, context)
    train, val = coded(tokenizer)
    needed = context - len(special_before(tokenizer)) + 1
    if min(len(train), len(val)) < needed:
        raise UsageError(
            f"the text {corpus.name!r} is too short: the part on which models are measured "
            f"is {len(val)} token{'s' * (len(val) != 1)}, and {needed} are needed for a --context "
            f"of {context}: give a longer text or a smaller --context"
        )
    return Data(train, val, corpus.sha256)
