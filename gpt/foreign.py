"""Which weights of others does the model understand?

GPT-2 in the two forms it is met in: Hugging Face's ``GPT2LMHeadModel`` and the ``ckpt.pt`` that
nanoGPT's training script writes. Both name their parameters ``transformer.h.0.attn.c_attn.weight``;
Hugging Face keeps matrices transposed.

    model = from_huggingface(GPT2LMHeadModel.from_pretrained("gpt2"))
    model = from_nanogpt("out-shakespeare-char/ckpt.pt")
"""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gpt import checkpoint
from gpt.errors import UsageError
from gpt.model import GPT, GPTConfig

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


def from_huggingface(gpt2: Any) -> GPT:
    """Our model with the weights of a Hugging Face ``GPT2LMHeadModel``, in evaluation mode.

    Raises:
        UsageError: an activation or a variant of attention that this model does not have.
    """
    theirs = gpt2.config
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
        name: tensor.T if name.endswith(matrices) else tensor
        for name, tensor in gpt2.state_dict().items()
    }
    return built(config, weights, "the GPT-2 given")


def from_nanogpt(path: str | Path) -> GPT:
    """Our model with the weights of nanoGPT's ``ckpt.pt``, in evaluation mode.

    Raises:
        UsageError: the file is missing, damaged, or not what nanoGPT writes.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        sizes, weights = saved["model_args"], saved["model"]
    except FileNotFoundError as error:
        raise UsageError(f"there is no checkpoint at {path}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a ckpt.pt that nanoGPT wrote ({error})") from error
    config = replace(GPTConfig(), **sizes)
    compiled = "_orig_mod."  # nanoGPT saves a compiled model under its wrapper's names
    weights = {name.removeprefix(compiled): tensor for name, tensor in weights.items()}
    return built(config, weights, path)


def built(config: GPTConfig, weights: Mapping[str, Tensor], origin: str | Path) -> GPT:
    """The model of a size, with GPT-2's weights under GPT-2's names."""
    model = GPT(config)
    ours: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        module, _, kind = name.removeprefix("transformer.").rpartition(".")
        if module in OUTSIDE:
            ours[f"{OUTSIDE[module]}.{kind}"] = tensor
        elif module.startswith("h."):
            _, layer, inside = module.split(".", 2)
            if inside == "attn.c_attn":
                parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
                ours |= {f"blocks.{layer}.attn.{part}.{kind}": value for part, value in parts}
            elif inside in INSIDE:
                ours[f"blocks.{layer}.{INSIDE[inside]}.{kind}"] = tensor
    checkpoint.put(model, ours, origin)
    return model.eval()
