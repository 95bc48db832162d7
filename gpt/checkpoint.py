"""Which model, trained on what, made these weights?

A checkpoint is one safetensors file that carries its identity. Weights go into a model whose source
says something else only on request: four of five ablated models have the same parameters as the
whole one, and nothing but the identity tells them apart.

    save("model.safetensors", model, Identity.of(model, text=corpus.sha256, seed=0), tokenizer)
    model = load("model.safetensors").model
"""

import json
import linecache
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from inspect import unwrap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from gpt.errors import UsageError
from gpt.lens import LensModel
from gpt.model import GPT, GPTConfig
from gpt.text import CharTokenizer

FORMAT = "nanogpt-interp/1"


@dataclass(frozen=True)
class Identity:
    """What a model is, beyond the shape of its weights.

    Attributes:
        source: sha256 of the source of the model's file, edits included.
        surgery: the ids of the edits made to that source; empty for the model as it stands.
        text: sha256 of the text it was trained on.
        seed: of its initial weights and of the order of its batches.
    """

    source: str
    surgery: str
    text: str
    seed: int

    @classmethod
    def of(cls, model: nn.Module, *, text: str, seed: int, surgery: str = "") -> "Identity":
        return cls(source=source_hash(model), surgery=surgery, text=text, seed=seed)


@dataclass(frozen=True)
class Checkpoint:
    model: LensModel
    tokenizer: CharTokenizer | None
    identity: Identity


def source_hash(model: nn.Module) -> str:
    """sha256 of the source file that defines ``model``, as it was when it was compiled or edited.

    Raises:
        UsageError: the class was not read from a file, nor from an edit that ``linecache`` knows.
    """
    filename = unwrap(type(model).forward).__code__.co_filename
    lines = linecache.getlines(filename)
    if not lines:
        raise UsageError(f"the source of {type(model).__name__} is not available at {filename!r}")
    return sha256("".join(lines).encode()).hexdigest()


def save(
    path: str | Path, model: LensModel, identity: Identity, tokenizer: CharTokenizer | None = None
) -> None:
    """Write the weights, whole or not at all. Raises ``UsageError`` where the disk refuses."""
    write(
        path,
        dict(model.named_parameters()),
        {
            "config": asdict(model.config),
            "identity": asdict(identity),
            "characters": tokenizer.characters if tokenizer else None,
        },
    )


def load(
    path: str | Path,
    build: Callable[[dict[str, Any]], LensModel] = lambda config: GPT(GPTConfig(**config)),
    *,
    allow_other_source: bool = False,
) -> Checkpoint:
    """Build the model that a checkpoint holds, in evaluation mode.

    Args:
        path: the checkpoint.
        build: makes the model from its config; for the model of an edited source, its own classes.
        allow_other_source: load also where the model's source is not the one that was trained.

    Raises:
        UsageError: the file is missing, damaged, or no checkpoint; the model's source differs.
    """
    tensors, metadata = read(path)
    identity = Identity(**metadata["identity"])
    model = build(metadata["config"])
    if not allow_other_source and source_hash(model) != identity.source:
        made_by = f"with the surgery {identity.surgery}" if identity.surgery else "without surgery"
        raise UsageError(
            f"{path} was trained {made_by}, from a source ({identity.source[:12]}) that is not "
            f"this model's ({source_hash(model)[:12]}); allow_other_source=True loads it anyway"
        )
    put(model, tensors, path)
    tokenizer = CharTokenizer(metadata["characters"]) if metadata["characters"] else None
    model.tokenizer = tokenizer
    return Checkpoint(model.eval(), tokenizer, identity)


def put(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy ``tensors`` into the parameters of the same names; all must be there and fit.

    Raises:
        UsageError: a name that one side lacks, or a shape that differs; ``path`` is named.
    """
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != given:
        name = min(name for name in shapes | given if shapes.get(name) != given.get(name))
        raise UsageError(
            f"{path} does not fit the model: {name} is {given.get(name, 'missing')} in the file "
            f"and {shapes.get(name, 'missing')} in the model"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def write(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a safetensors file so that a crash leaves the old file or the new one, never a part.

    Raises:
        UsageError: the disk refuses.
    """
    path = Path(path)
    content = to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        {"format": FORMAT, **{key: json.dumps(value) for key, value in metadata.items()}},
    )
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} could not be saved: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and metadata of a file that ``write`` wrote.

    Raises:
        UsageError: the file is missing, damaged, or not of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path} is damaged or no safetensors file ({error}): restore it, or train it again"
        ) from error
    if metadata.pop("format", None) != FORMAT:
        raise UsageError(f"{path} is a safetensors file but no checkpoint of this project")
    return tensors, {key: json.loads(value) for key, value in metadata.items()}
