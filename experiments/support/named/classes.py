"""A class of any file: with weights that were trained elsewhere, or trained for a moment here.

named = load_class("model.py:GPT", Path("model.safetensors"), tokens, check, given)
"""

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from experiments.support.models.asking import Asked, find_way
from experiments.support.models.blaming import blame, silence
from experiments.support.models.building import (
    builder,
    class_named,
    read_setting,
    split_name,
)
from experiments.support.models.loading import explain_left, load_foreign, modules_beside
from experiments.support.models.sizes import ALIASES, Sizes
from experiments.support.named.coding import TextTokens
from experiments.support.named.found import Check, NamedModel, Size
from gpt import checkpoint
from gpt.errors import UsageError
from interp.samples.running import CONTEXTS, context_of

VOCABULARY = ALIASES["vocab_size"]
TRIED_CONTEXTS = (1024, 512, 256, 128, 64, 32, 16, 8)
"""How much a model may read at once whose configuration does not say."""


def load_class(
    name: str, weights: Path, tokenizer: TextTokens, check: Check, given: Sequence[str] = ()
) -> NamedModel:
    """The class of a file, built as the file says, with weights from a safetensors file.

    Args:
        name: ``FILE:Class``.
        weights: by the names of the model's parameters and buffers.
        tokenizer: of its texts.
        check: as for every model.
        given: ``NAME=VALUE``, what it is built with in place of the file's own sizes.

    Raises:
        UsageError: no such class, or one that cannot be built; weights that are damaged, of
            another class or of other sizes; a model that gives no logits.
    """
    tensors = read_weights(weights)
    sizes = Sizes({}, dict(map(read_setting, given)))
    path, named = split_name("--model", name)
    loaded = load_foreign(path, sizes.known)
    for size in required(class_named(loaded, path, named)):
        if size in VOCABULARY:
            sizes.given.setdefault(size, tokenizer.vocab_size)
    make = builder(loaded, name, "", sizes)
    hint = "; --set NAME=VALUE gives it the sizes that the weights are of"
    with explain_left(name, loaded.left), blame(f"{name} cannot be built", hint):
        model = make(0).eval()
    put_weights(model, tensors, weights, hint)
    tokens = torch.arange(16).reshape(2, -1) % tokenizer.vocab_size
    with blame(f"{name} cannot be run on tokens of shape {tuple(tokens.shape)}", hint), silence():
        way = find_way(model, tokens, tokenizer.vocab_size)
    asked = model if way.is_plain else Asked(model, way).eval()
    context = context_of(model) or own_context(model) or tried_context(asked)
    check(Size(context), tokenizer)
    source = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    about: dict[str, Any] = {
        "class": type(model).__name__,
        "given": sorted(given),
        "source": source,
    }

    def build(seed: int) -> nn.Module:
        return make(seed) if way.is_plain else Asked(make(seed), way)

    return NamedModel(asked, tokenizer, context, about, build, modules_beside(loaded))


def required(kind: type) -> list[str]:
    """What a class cannot be built without."""
    parameters = inspect.signature(kind).parameters.values()
    return [each.name for each in parameters if each.default is each.empty]


def own_context(model: nn.Module) -> int | None:
    """How much a model reads at once, where it keeps that itself."""
    found = (getattr(model, name, None) for name in CONTEXTS)
    return next((size for size in found if isinstance(size, int) and size > 0), None)


@torch.no_grad()
def tried_context(model: nn.Module) -> int:
    """The longest text, of some lengths, that a model reads without an error."""
    for length in TRIED_CONTEXTS:
        try:
            with silence():
                model(torch.zeros((1, length), dtype=torch.long))
        except Exception:  # whatever a model says of a text that is too long
            continue
        return length
    return TRIED_CONTEXTS[-1]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ``UsageError`` where it is missing, damaged, or of
    another kind."""
    checkpoint.require_file(path)
    if path.suffix != ".safetensors":
        raise UsageError(
            f"--weights is {path}: give a .safetensors file, which no code runs to read; "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors') writes one"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # whatever a reader of damaged bytes comes upon
        raise UsageError(f"{path} is damaged or no safetensors file ({error})") from error


def put_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path, hint: str) -> None:
    """Copy weights into a model. One that is tied to another may be under either name, and buffers
    that the file leaves out stay as the model makes them.

    Raises:
        UsageError: a parameter that the file lacks, a name or a shape of another model.
    """
    state = model.state_dict(keep_vars=True)
    wanted = {
        id(value): [name for name, other in state.items() if other is value]
        for value in state.values()
    }
    ours: dict[str, Tensor] = {}
    for names in wanted.values():
        held = [name for name in names if name in tensors]
        if held:
            ours[names[0]] = widened(tensors[held[0]], state[names[0]])
        elif names[0] in dict(model.named_buffers()):
            ours[names[0]] = state[names[0]].detach().clone()
    unknown = sorted(tensors.keys() - state.keys())
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UsageError(
            f"{path} holds {unknown[0]}{more}, for which {type(model).__name__} has no place: it "
            "is of another class"
        )
    try:
        checkpoint.put(model, ours, path)
    except UsageError as error:
        raise UsageError(f"{error}{hint}") from error


def widened(tensor: Tensor, wanted: Tensor) -> Tensor:
    """A tensor in the numbers of another, where those hold the same values: half in single."""
    if torch.promote_types(tensor.dtype, wanted.dtype) == wanted.dtype:
        return tensor.to(wanted.dtype)
    return tensor
