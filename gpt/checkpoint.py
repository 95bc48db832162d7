"""Which model, trained on what, made these weights, and are they still what was saved?

A checkpoint is one safetensors file that carries its identity. Weights go into a model whose source
says something else only on request: four of five ablated models have the same parameters as the
whole one, and nothing but the identity tells them apart. Every file carries a checksum of all that
it holds, which is compared before anything of it is used: a flipped bit is still a number.

    save("model.safetensors", model, Identity.of(model, text=corpus.sha256, seed=0), tokenizer)
    model = load("model.safetensors").model
    verify("model.safetensors")  # whole, or a UsageError that says what is wrong
"""

import fcntl
import hashlib
import json
import linecache
import os
import stat
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from inspect import unwrap
from os import O_RDONLY, close
from os import open as open_descriptor
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from gpt.errors import UsageError
from gpt.model import GPT, GPTConfig
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer

FORMAT = "nanogpt-interp/2"
WITHOUT_CHECKSUM = "nanogpt-interp/1"


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
    model: LanguageModel
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
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def save(
    path: str | Path,
    model: LanguageModel,
    identity: Identity,
    tokenizer: CharTokenizer | None = None,
) -> None:
    """Write the weights, whole or not at all.

    Raises:
        UsageError: the disk refuses; a weight is no finite number, so that nothing could load it.
    """
    tensors = values_of(model)
    if name := first_not_finite(model, tensors):
        raise UsageError(f"{path} was not saved: {name} holds a number that is not finite")
    write_tensors(
        path,
        tensors,
        {
            "config": asdict(model.config),
            "identity": asdict(identity),
            "characters": tokenizer.characters if tokenizer else None,
        },
    )


def build_gpt(config: dict[str, Any]) -> LanguageModel:
    return GPT(GPTConfig(**config))


def load(
    path: str | Path,
    build: Callable[[dict[str, Any]], LanguageModel] = build_gpt,
    *,
    allow_other_source: bool = False,
) -> Checkpoint:
    """Build the model that a checkpoint holds, in evaluation mode and in the dtype it was saved in.

    Args:
        path: the checkpoint.
        build: makes the model from its config; for the model of an edited source, its own classes.
        allow_other_source: load also where the model's source is not the one that was trained.

    Raises:
        UsageError: the file is missing, damaged, or no checkpoint; the model's source differs.
    """
    tensors, metadata = read(path)
    identity, characters, config = parse_metadata(path, metadata)
    if build is build_gpt:
        check_sizes(config, tensors, path)
    try:
        model = build(config)
        tokenizer = None if characters is None else CharTokenizer(characters)
    except (TypeError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise UsageError(f"{path} holds no model that can be built: {error}") from error
    if not allow_other_source and source_hash(model) != identity.source:
        made_by = f"with the surgery {identity.surgery}" if identity.surgery else "without surgery"
        raise UsageError(
            f"{path} was trained {made_by}, from a source ({identity.source[:12]}) that is not "
            f"this model's ({source_hash(model)[:12]}); allow_other_source=True loads it anyway"
        )
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())
    put(model, tensors, path)
    model.tokenizer = tokenizer
    return Checkpoint(model.eval(), tokenizer, identity)


def identify(path: str | Path) -> Identity:
    """What model a checkpoint holds, without building it.

    Raises:
        UsageError: the file is missing, damaged, or no checkpoint.
    """
    return parse_metadata(path, read(path)[1])[0]


def verify(path: str | Path) -> str:
    """The checksum of a file that ``write_tensors`` wrote, once all of it was read and found whole.

    Raises:
        UsageError: the file is missing, damaged, without a checksum, or not of this project.
    """
    return read_verified(path)[1]["sha256"]


def values_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and the buffers of a model's state; those that are shared once."""
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: named[name] for name in model.state_dict() if name in named}


def put(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy ``tensors`` into the parameters and buffers of the same names.

    All must be there and fit; else none is copied. Raises ``UsageError`` as ``check_fit`` does.
    """
    check_fit(model, tensors, path)
    with torch.no_grad():
        for name, value in values_of(model).items():
            value.copy_(tensors[name])


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """See that ``tensors`` are values for all of a model's parameters and buffers.

    Raises:
        UsageError: a name that one side lacks, a shape or a dtype that differs, a number that is
            not finite; ``path`` is named.
    """
    values = values_of(model)
    for kind in (shape_of_tensor, dtype_of):
        ours = {name: kind(value) for name, value in values.items()}
        given = {name: kind(tensor) for name, tensor in tensors.items()}
        if ours != given:
            name = min(name for name in ours | given if ours.get(name) != given.get(name))
            raise UsageError(
                f"{path} does not fit the model: {name} is {given.get(name, 'missing')} in the "
                f"file and {ours.get(name, 'missing')} in the model"
            )
    if name := first_not_finite(model, tensors):
        raise UsageError(f"{path} cannot be used: {name} holds a number that is not finite")


def shape_of_tensor(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def first_not_finite(model: nn.Module, values: Mapping[str, Tensor]) -> str:
    """The first of a model's values that holds NaN or infinity; empty where none does.

    Buffers may hold infinity, as masks do.
    """
    buffers = dict(model.named_buffers())
    for name, value in values.items():
        if (value.isnan() if name in buffers else ~value.isfinite()).any():
            return name
    return ""


def check_sizes(config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare a GPT's config with its weights, before memory for what the config says is taken.

    Raises:
        UsageError: sizes in ``config`` that are no numbers, or that the weights do not have.
    """
    for size in ("n_layer", "n_head", "n_embd", "vocab_size", "block_size"):
        if type(config.get(size)) is not int:
            given = config.get(size, "missing")
            raise UsageError(f"{path} holds no model: {size} is {given!r} in its config")
    layers = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    found: dict[str, Any] = {"n_layer": len(layers)}
    for name, rows in (("wte.weight", "vocab_size"), ("wpe.weight", "block_size")):
        if name in tensors and tensors[name].ndim == 2:
            found[rows], found["n_embd"] = tensors[name].shape
    for size, held in found.items():
        if config[size] != held:
            raise UsageError(
                f"{path} does not fit its config: {size} is {config[size]} there, and the weights "
                f"are of {held}"
            )


def parse_metadata(
    path: str | Path, metadata: Mapping[str, Any]
) -> tuple[Identity, str | None, dict[str, Any]]:
    """Identity, characters and config of a checkpoint; a file that is none says what it is."""
    if "step" in metadata:
        raise UsageError(
            f"{path} is the state of a training that has not finished, not a model: start the same "
            f"training again and it goes on from there"
        )
    if "about" in metadata:
        raise UsageError(
            f"{path} holds the weights of a model from somebody's own file, not of this GPT: "
            f"study it with --model FILE:Class"
        )
    try:
        identity = Identity(**metadata["identity"])
        config, characters = metadata["config"], metadata["characters"]
        kinds = (str, str, str, int)
        values = (identity.source, identity.surgery, identity.text, identity.seed)
        if not all(map(isinstance, values, kinds)) or not isinstance(config, dict):
            raise TypeError("a value of another type")
        if not isinstance(characters, str | None):
            raise TypeError("characters that are no text")
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path} was written by this project but holds no model ({error}): give a file that "
            f"checkpoint.save wrote"
        ) from error
    return identity, characters, config


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write a safetensors file with a checksum, on disk when this returns.

    A crash at any instant, of the process or of the machine, leaves the old file or the new one,
    never a part. What is assumed of the disk: a rename within a folder is one step, and what
    ``fsync`` of a file and of its folder has promised to be on disk is there. Disks that lie about
    it (some network folders, some caches without a battery) can lose the newest file; what they
    damage, ``read`` notices by the checksum.

    Args:
        path: of the file; folders above it are made.
        tensors: by name.
        metadata: whatever JSON can hold, by name.

    Raises:
        UsageError: the disk refuses; ``path`` is then as it was.
    """
    path = Path(path)
    # copies, for safetensors takes no two tensors in one memory
    arrays = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    texts = {"format": FORMAT, **{key: json.dumps(value) for key, value in metadata.items()}}
    content = to_bytes(arrays, texts | {"sha256": checksum_of_tensors(arrays, texts)})
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # says that somebody writes it
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"{path} could not be saved: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the folder is on disk: a rename lasts no sooner."""
    descriptor = open_descriptor(folder, O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        close(descriptor)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and metadata of a file that ``write_tensors`` wrote, as they were written.

    Raises:
        UsageError: the file is missing, damaged, without a checksum, or not of this project.
    """
    tensors, texts = read_verified(path)
    del texts["format"], texts["sha256"]
    return tensors, {key: json.loads(value) for key, value in texts.items()}


def read_verified(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All that a file holds, its checksum compared."""
    advice = "restore it, or train it again"
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # whatever a reader of damaged bytes comes upon
        raise UsageError(f"{path} is damaged or no safetensors file ({error}): {advice}") from error
    if texts.get("format") == WITHOUT_CHECKSUM:
        raise UsageError(
            f"{path} was written before files carried a checksum, so that nothing can tell whether "
            f"it is whole: delete it and train again"
        )
    if texts.get("format") != FORMAT:
        raise UsageError(f"{path} is a safetensors file but no checkpoint of this project")
    given = texts.get("sha256", "missing")
    if given != checksum_of_tensors(
        tensors, {k: text for k, text in texts.items() if k != "sha256"}
    ):
        raise UsageError(
            f"{path} is damaged: what it holds is not what was saved (its checksum is "
            f"{given[:12]}, its content has another): {advice}"
        )
    return tensors, texts


def require_file(path: str | Path) -> None:
    """Raises ``UsageError`` where no file can be read."""
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path} is a folder: give one of the files in it")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is no file that could hold weights")
        Path(path).open("rb").close()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"there is no checkpoint at {path}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def checksum_of_tensors(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """sha256 of names, dtypes, shapes and bytes of all tensors, and of the texts beside them."""
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, dtype_of(tensor), shape_of_tensor(tensor)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
