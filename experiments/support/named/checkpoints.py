"""A checkpoint of this project, or nanoGPT's: which model is it, and which characters are its own?

named = load_checkpoint(Path("laptop.safetensors"), check)
named = load_nanogpt(Path("out/ckpt.pt"), "", check)
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpt.model
from experiments.support.devices import keep_to_one_thread
from experiments.support.named.coding import TextTokens, TransformersTokenizer
from experiments.support.named.found import Check, NamedModel, Size
from experiments.support.named.reading import quiet, tokenizer_of_folder, weights_place
from experiments.support.variants import course_variants
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.foreign import dataset_of, from_nanogpt, read_characters
from gpt.model import GPT
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer
from interp.surgery import edited_module, enumerate_surgeries, read_source

GPT2_TOKENS = 50257


def load_checkpoint(path: Path, check: Check) -> NamedModel:
    """A checkpoint of this project. Raises ``UsageError`` as ``opened`` does."""
    model, tokenizer, about = opened(path)
    check(size_of_gpt(model), tokenizer)
    return NamedModel(model, tokenizer, model.config.block_size, about)


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


def load_nanogpt(path: Path, tokens: str, check: Check) -> NamedModel:
    """nanoGPT's ``ckpt.pt``, with the characters of the ``meta.pkl`` it was trained with.

    Args:
        path: of the checkpoint.
        tokens: what makes its tokens, as ``tokenizer_named`` takes it; by default a ``meta.pkl``
            beside the checkpoint or in nanoGPT's folder ``data``, or GPT-2's tokens, where the
            vocabulary is as large.
        check: as for every model.

    Raises:
        UsageError: the file is none of nanoGPT's; nothing says what its tokens are.
    """
    model = from_nanogpt(path)
    tokenizer = tokenizer_named(tokens) if tokens else tokens_of_nanogpt(path, model)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UsageError(
            f"{path} knows {model.config.vocab_size} tokens, and its texts are given in "
            f"{tokenizer.vocab_size}: they are not of one another"
        )
    if isinstance(tokenizer, CharTokenizer):
        model.tokenizer = tokenizer
    check(size_of_gpt(model), tokenizer)
    keep_to_one_thread(model)
    return NamedModel(model, tokenizer, model.config.block_size, {"nanogpt": path.name})


def tokens_of_nanogpt(path: Path, model: GPT) -> TextTokens:
    for meta in places_of_meta(path):
        if meta.is_file():
            return read_characters(meta)
    said = f"nothing says what the {model.config.vocab_size} tokens of {path} are: "
    if model.config.vocab_size >= GPT2_TOKENS:
        try:
            return tokenizer_named("hf:gpt2")
        except UsageError as error:
            raise UsageError(
                f"{said}GPT-2's tokenizer cannot be had ({error}); name one, as in --tokenizer "
                "hf:FOLDER"
            ) from error
    raise UsageError(
        f"{said}lay the meta.pkl of its data set beside it, or name a tokenizer, as in --tokenizer "
        "meta.pkl"
    )


def places_of_meta(path: Path) -> Iterator[Path]:
    """Where nanoGPT's ``meta.pkl`` may lie."""
    yield path.with_name("meta.pkl")
    if data := dataset_of(path):
        for folder in (*path.resolve().parents[:3], Path()):
            yield folder / "data" / data / "meta.pkl"


def tokenizer_named(name: str) -> TextTokens:
    """What makes tokens of texts, by its name: ``smollm2``, ``hf:NAME_OR_FOLDER``, a folder, or
    nanoGPT's ``meta.pkl``. Raises ``UsageError`` where there is none."""
    if name.endswith(".pkl"):
        return read_characters(Path(name))
    if name != "smollm2" and not name.startswith("hf:"):
        name = f"hf:{name}"
    place = weights_place(name, weights=False)
    with quiet():
        return TransformersTokenizer(tokenizer_of_folder(name, place.folder, False, place.gguf))


def size_of_gpt(model: LanguageModel) -> Size:
    config = model.config
    return Size(config.block_size, config.n_layer, config.n_head)
