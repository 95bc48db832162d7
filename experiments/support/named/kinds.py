"""What kind of model does a word name?

kind_of("smollm2"), kind_of("hf:gpt2"), kind_of("nanogpt:ckpt.pt"), kind_of("model.py:GPT")
"""

import difflib
from enum import StrEnum
from pathlib import Path

from gpt.errors import UsageError

NAMES = (
    "smollm2 (a pretrained Llama of 135 million parameters), hf:NAME_OR_FOLDER (a causal language "
    "model of transformers), nanogpt:ckpt.pt, FILE.safetensors (a checkpoint of this project), or "
    "FILE.py:Class"
)


class Kind(StrEnum):
    """How a model is read."""

    PRESET = "preset"
    TRANSFORMERS = "transformers"
    NANOGPT = "nanoGPT"
    CHECKPOINT = "checkpoint"
    CLASS = "class"


def kind_of(name: str) -> Kind:
    """How the model that a word names is read.

    Raises:
        UsageError: the word names none.
    """
    if not name:
        return Kind.PRESET
    before, colon, _ = name.partition(":")
    if name == "smollm2" or (before == "hf" and colon):
        return Kind.TRANSFORMERS
    if before == "nanogpt" and colon:
        return Kind.NANOGPT
    if name.endswith(".safetensors") and not before.endswith(".py"):
        return Kind.CHECKPOINT
    if name.rpartition(":")[0].endswith(".py"):
        return Kind.CLASS
    raise UsageError(f"--model is {name!r}, which names no model: {advice_on_name(name)}")


def advice_on_name(name: str) -> str:
    """What somebody may have meant who wrote a word that names no model."""
    prefix, colon, rest = name.partition(":")
    if colon and (near := nearest_of(prefix, ["hf", "nanogpt"])):
        return f"did you mean {near}:{rest}? It can be {NAMES}"
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return f"a folder is written hf:{name}"
        if path.suffix in (".pt", ".pth", ".bin"):
            return f"a ckpt.pt of nanoGPT is written nanogpt:{name}; it can be {NAMES}"
        if path.suffix == ".py":
            return f"a file is written with the name of its class, as in {name}:GPT"
        if path.suffix == ".gguf":
            return f"weights in a GGUF file are written hf:{name}"
    except OSError:  # a name that no system takes
        pass
    if near := nearest_of(name, ["smollm2", "hf", "nanogpt"]):
        return f"did you mean {near}{'' if near == 'smollm2' else ':'}? It can be {NAMES}"
    if name.count("/") == 1:
        return f"one of the hub is written hf:{name}; it can be {NAMES}"
    return f"it can be {NAMES}"


def nearest_of(name: str, known: list[str]) -> str:
    """The nearest of some words; empty where none looks like it."""
    found = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return found[0] if found else ""
