"""Which weights of others does the model understand?

GPT-2 in the two forms it is met in: Hugging Face's ``GPT2LMHeadModel`` and the ``ckpt.pt`` that
nanoGPT's training script writes. Both name their parameters ``transformer.h.0.attn.c_attn.weight``;
Hugging Face keeps matrices transposed. A weight that has no place in this model is refused by name:
without it the model would compute something else.

    model = from_huggingface(GPT2LMHeadModel.from_pretrained("gpt2"))
    model = from_nanogpt("out-shakespeare-char/ckpt.pt")
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gpt import checkpoint
from gpt.errors import UsageError
from gpt.model import GPT, GPTConfig
from gpt.text import CharTokenizer

OUTSIDE = {"wte": "wte", "wpe": "wpe", "ln_f": "ln_final"}
INSIDE = {"ln_1": "ln1", "ln_2": "ln2", "attn.c_proj": "attn.proj"} | {
    "mlp.c_fc": "mlp.fc",
    "mlp.c_proj": "mlp.proj",
}
GELUS: dict[str, Literal["none", "tanh"]] = {
    "gelu": "none",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
WRAPPERS = ("_orig_mod.", "module.")  # before the names of a compiled model, and a parallel one
SIZES = ("block_size", "vocab_size", "n_layer", "n_head", "n_embd")


def from_huggingface(gpt2: Any) -> GPT:
    """Our model with the weights of a Hugging Face ``GPT2LMHeadModel``, in evaluation mode.

    Half precision becomes float32, which holds the same numbers; float64 stays. Dropout, in case
    the model is trained on, is ``resid_pdrop`` everywhere.

    Raises:
        UsageError: an activation, a variant of attention or a weight that this model does not have;
            an unembedding that is not the embedding; another kind of model.
    """
    theirs = getattr(gpt2, "config", None)
    if getattr(theirs, "model_type", None) != "gpt2" or not hasattr(gpt2, "state_dict"):
        raise UsageError(f"{type(gpt2).__name__} is not a GPT-2: give a GPT2LMHeadModel")
    assert theirs is not None
    if theirs.activation_function not in GELUS:
        raise UsageError(f"this model's MLP is a GELU, not {theirs.activation_function!r}")
    if theirs.scale_attn_by_inverse_layer_idx or not theirs.scale_attn_weights:
        raise UsageError("this model scales attention scores by 1/sqrt(d_head) in every layer")
    if theirs.n_inner not in (None, 4 * theirs.n_embd):
        raise UsageError(f"this model's MLP is 4 times as wide as n_embd, not {theirs.n_inner}")
    if theirs.layer_norm_epsilon != 1e-5:
        raise UsageError(f"this model's norms have epsilon 1e-5, not {theirs.layer_norm_epsilon}")
    config = GPTConfig(
        block_size=theirs.n_positions,
        vocab_size=theirs.vocab_size,
        n_layer=theirs.n_layer,
        n_head=theirs.n_head,
        n_embd=theirs.n_embd,
        dropout=theirs.resid_pdrop,
        bias=True,
        gelu_approximate=GELUS[theirs.activation_function],
    )
    matrices = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    weights = {
        name: tensor.T if name.endswith(matrices) and tensor.ndim == 2 else tensor
        for name, tensor in gpt2.state_dict().items()
    }
    return build_model(config, weights, "the GPT-2 given")


def from_nanogpt(path: str | Path) -> GPT:
    """Our model with the weights of nanoGPT's ``ckpt.pt``, in evaluation mode.

    Half precision becomes float32, which holds the same numbers; float64 stays. The GELU is exact,
    as in nanoGPT since February 2023. Nothing of the file but numbers and names is loaded.

    Raises:
        UsageError: the file is missing, damaged, or not what nanoGPT writes; a fork's model with
            settings or weights that this model does not have.
    """
    saved = read_saved(path)
    missing = f"{path} is not a ckpt.pt that nanoGPT wrote: it has no"
    if not isinstance(saved, Mapping) or not isinstance(saved.get("model_args"), Mapping):
        raise UsageError(f"{missing} sizes under 'model_args'")
    if not isinstance(saved.get("model"), Mapping) or not saved["model"]:
        raise UsageError(f"{missing} weights under 'model'")
    return build_model(config_of(saved["model_args"], path), strip_wrappers(saved["model"]), path)


def read_saved(path: str | Path) -> Any:
    """What ``torch.save`` wrote, of numbers and names alone."""
    checkpoint.require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a reader of somebody's bytes comes upon
        raise UsageError(
            f"{path} is not a ckpt.pt that nanoGPT wrote: it is damaged, or holds more than "
            f"numbers and names, which is not loaded because it could run code"
        ) from error


def dataset_of(path: str | Path) -> str:
    """The folder of nanoGPT's data on which a ``ckpt.pt`` was trained; empty where it does not say.

    Raises:
        UsageError: the file is missing, damaged, or not what ``torch.save`` writes.
    """
    saved = read_saved(path)
    config = saved.get("config") if isinstance(saved, Mapping) else None
    name = config.get("dataset") if isinstance(config, Mapping) else None
    return name if isinstance(name, str) and re.fullmatch(r"[\w-]+", name) else ""


class PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dictionaries, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which could run code")


def read_characters(path: str | Path) -> CharTokenizer:
    """The characters of nanoGPT's ``meta.pkl``, in the order of their tokens.

    Raises:
        UsageError: the file is missing, damaged, holds more than numbers and texts, or its tokens
            are no single characters in order, as those of nanoGPT's data sets of characters are.
    """
    checkpoint.require_file(path)
    try:
        with Path(path).open("rb") as file:
            meta = PlainUnpickler(file).load()
        spelt = {int(token): str(character) for token, character in meta["itos"].items()}
        characters = "".join(spelt[token] for token in range(len(spelt)))
    except Exception as error:  # whatever a reader of somebody's bytes comes upon
        raise UsageError(
            f"{path} is not a meta.pkl that nanoGPT wrote, with characters under 'itos' ({error})"
        ) from error
    if len(characters) != len(spelt):
        raise UsageError(f"{path} has tokens that are no single characters")
    try:
        return CharTokenizer(characters)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def config_of(sizes: Mapping[Any, Any], path: str | Path) -> GPTConfig:
    """The config that nanoGPT's ``model_args`` are. Raises ``UsageError`` where they are not."""
    given: dict[str, Any] = {"dropout": 0.0, "bias": True} | dict(sizes)  # nanoGPT's own defaults
    if extra := [name for name in given if name not in (*SIZES, "dropout", "bias")]:
        raise UsageError(
            f"{path} was written by a fork of nanoGPT: its model takes {extra[0]!r} "
            f"({given[extra[0]]!r}), and this model knows no such thing"
        )
    if missing := [name for name in SIZES if type(given.get(name)) is not int]:
        raise UsageError(
            f"{path} is not a ckpt.pt that nanoGPT wrote: {missing[0]} in its 'model_args' is "
            f"{given.get(missing[0], 'missing')!r}"
        )
    if type(given["bias"]) is not bool or not isinstance(given["dropout"], float | int):
        raise UsageError(
            f"{path} is not a ckpt.pt that nanoGPT wrote: bias and dropout in its 'model_args' are "
            f"{given['bias']!r} and {given['dropout']!r}"
        )
    try:
        return GPTConfig(**given)
    except UsageError as error:
        raise UsageError(f"{path} holds no model that can be built: {error}") from error


def strip_wrappers(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights under the model's own names, without those of what it was wrapped in."""
    found = {str(name): tensor for name, tensor in weights.items()}
    while around := [each for each in WRAPPERS if all(name.startswith(each) for name in found)]:
        found = {name.removeprefix(around[0]): tensor for name, tensor in found.items()}
    return found


def build_model(config: GPTConfig, weights: Mapping[str, Any], origin: str | Path) -> GPT:
    """The model of a size, with GPT-2's weights under GPT-2's names.

    Raises:
        UsageError: a weight that is missing, does not fit, or that the model has no place for.
    """
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise UsageError(f"{origin} cannot be used: {name} is no plain tensor of numbers")
    floats = [tensor.dtype for tensor in weights.values() if tensor.is_floating_point()]
    precision = torch.float64 if torch.float64 in floats else torch.float32
    ours: dict[str, Tensor] = {}
    unread = []
    for name, tensor in weights.items():
        places = places_of(name, tensor, config)
        if not places or places.keys() & ours.keys():
            unread.append(name)
            continue
        exact = tensor.is_floating_point() and not tensor.is_quantized
        ours |= {n: part.to("cpu", precision) if exact else part for n, part in places.items()}
    unread = [name for name in unread if not is_mask(name, weights[name], config)]
    head = ours.pop("lm_head.weight", None)
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise UsageError(
            f"{origin} has {unread[0]}{more}, for which this model has no place: without it the "
            f"model would compute something else"
        )
    if head is not None and "wte.weight" in ours and not torch.equal(head, ours["wte.weight"]):
        raise UsageError(
            f"{origin} has an unembedding of its own (lm_head.weight is not wte.weight), and this "
            f"model's is its embedding: tie them and train on, or study it with --model FILE:Class"
        )
    checkpoint.check_sizes(asdict(config), ours, origin)
    model = GPT(config).to(precision)
    checkpoint.put(model, ours, origin)
    return model.eval()


def places_of(name: str, tensor: Tensor, config: GPTConfig) -> dict[str, Tensor]:
    """A weight of GPT-2 under our names, in three where it is; empty where there is no place."""
    module, _, kind = name.removeprefix("transformer.").rpartition(".")
    if kind not in ("weight", "bias"):
        return {}
    if module in OUTSIDE:
        return {f"{OUTSIDE[module]}.{kind}": tensor}
    if (module, kind) == ("lm_head", "weight"):
        return {"lm_head.weight": tensor}
    inside = re.fullmatch(r"h\.(0|[1-9]\d*)\.(.+)", module)
    if inside is None:
        return {}
    block, part = f"blocks.{inside[1]}", inside[2]
    if part == "attn.c_attn" and tensor.ndim and len(tensor) == 3 * config.n_embd:
        parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
        return {f"{block}.attn.{each}.{kind}": value for each, value in parts}
    return {f"{block}.{INSIDE[part]}.{kind}": tensor} if part in INSIDE else {}


def is_mask(name: str, tensor: Tensor, config: GPTConfig) -> bool:
    """Whether a buffer is the causal mask, or its number for the future, which older files keep."""
    if re.fullmatch(r"(transformer\.)?h\.\d+\.attn\.masked_bias", name):
        return tensor.ndim == 0 and bool(tensor <= -1e4)
    if not re.fullmatch(r"(transformer\.)?h\.\d+\.attn\.bias", name):
        return False
    square = tensor.shape == (1, 1, config.block_size, config.block_size)
    return square and torch.equal(tensor.bool(), torch.ones_like(tensor, dtype=torch.bool).tril())
