"""Which options does a command have that studies the lines of any model?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.support.cli import Between, Options, Seeds, Steps, Texts
from experiments.support.devices import Device, Dtype


@dataclass(frozen=True)
class LineOptions(Options):
    """Which model, on which texts, in which layers."""

    preset: Literal["demo", "laptop"] = "demo"
    """Size of model and training."""
    model: str = ""
    """The model: FILE.py:Class, smollm2 (a pretrained Llama of 135 million parameters),
    hf:NAME_OR_FOLDER (a causal language model of transformers), nanogpt:ckpt.pt, or
    FILE.safetensors (a checkpoint of this project); by default our own, gpt/model.py."""
    weights: Path | None = None
    """With --model FILE.py:Class: its trained weights, a .safetensors file. Without them it is
    trained for a moment."""
    tokenizer: str = ""
    """What makes the tokens of a model with weights that brings none: smollm2, hf:NAME_OR_FOLDER,
    or nanoGPT's meta.pkl. By default the characters of the text."""
    context: Annotated[int, Between(2, 10**6)] | None = None
    """Tokens of a text that a model with weights reads at once; by default as many as it can, and
    of a large one 12."""
    layers: tuple[Annotated[int, Between(0, 10**6)], ...] = ()
    """In which layers lines are cut one layer at a time; by default in each. Of a large model these
    are the headline cuts of the lines and your own, of others all."""
    device: Device = "auto"
    """Where a model with weights computes; auto takes a GPU if there is one."""
    dtype: Dtype = "auto"
    """The numbers that it computes with; auto is float32 on a CPU, and elsewhere what its weights
    were saved in."""
    trust_remote_code: bool = False
    """With --model hf:…: run the code that comes with the weights. Without it, none is run."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """With --model FILE.py:Class: NAME=VALUE, an argument that the model is built with, as in
    --set n_kv_head=2. Repeat it for several."""
    build: str = ""
    """FILE:function that builds the untrained model, in place of --model or where its class is hard
    to build; its parameters are sizes by name, as in def make(vocab_size, block_size)."""
    judge: str = ""
    """FILE:function that gets the logits from the model, where model(tokens) does not return them:
    def ask(model, tokens) returns logits [batch, pos, vocab]."""
    files: tuple[str, ...] = ()
    """With --model: the files whose lines are cut; by default those of the model's folder that
    run."""
    checkpoint: Path | None = None
    """Trained weights of our own model; without it one is trained, as the preset says."""
    steps: Steps | None = None
    """Steps of training; by default the preset's, and 300 with --model in demo."""
    texts: Texts | None = None
    """Blocks of the validation text on which a cut model is measured; by default 24, and 12 of a
    large model."""
    retrain_top: Annotated[int, Between(0, 10_000)] | None = None
    """How many lines are also cut before training, those of the largest effect; by default 8,
    with --model in demo 3, and none of a model that comes with weights."""
    seeds: Seeds = 3
    """Trainings of each; from three on, lasting costs have intervals."""
