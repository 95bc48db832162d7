"""How does a small model learn one task, and nothing else, in a moment?

    model, tokenizer, about = small_model("induction", recipe, batch_of, seed, runs, device)

The unembedding has weights of its own, which the surgery ``untie`` gives it: with tied ones
induction heads form many times later.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

import gpt.model
from experiments.support.cli import console
from experiments.support.devices import keep_to_one_thread
from experiments.support.keeping import kept, model_path, require_same
from experiments.support.named.checkpoints import opened
from gpt import checkpoint
from gpt.diverging import check_step
from gpt.model import GPTConfig
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer
from gpt.train import TrainConfig, learning_rate, make_optimizer, update
from interp.runs import identity_of
from interp.surgery import edited_module, find, read_source

BatchOf = Callable[[torch.Generator], Tensor]
"""Draws a batch of the task, [batch pos]."""


@dataclass(frozen=True)
class SmallRecipe:
    """The model and its training."""

    letters: str = ascii_lowercase
    block_size: int = 32
    n_layer: int = 2
    n_embd: int = 64
    n_head: int = 2
    steps: int = 700
    batch_size: int = 32
    learning_rate: float = 4e-3


def small_model(
    task: str, recipe: SmallRecipe, batch_of: BatchOf, seed: int, runs: Path, device: torch.device
) -> tuple[LanguageModel, CharTokenizer, dict[str, Any]]:
    """A model trained on one task, on ``device``; read, if trained before.

    Args:
        task: as its file is called; all else that decides what ``batch_of`` draws is in the recipe.

    Returns:
        The model in evaluation mode, its characters, and what decides its weights.
    """
    source = read_source(gpt.model)
    cut = find(source, "untie")
    about = {"source": cut.text, "recipe": asdict(recipe), "seed": seed}
    path = model_path(runs, task, about)
    described = {"model": path.stem, "recipe": asdict(recipe), "seed": seed, "surgery": cut.id}
    tokenizer = CharTokenizer(recipe.letters)
    module = edited_module(source, cut)
    size = GPTConfig(
        block_size=recipe.block_size,
        vocab_size=tokenizer.vocab_size,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        n_embd=recipe.n_embd,
    )
    model = module.GPT(module.GPTConfig(**asdict(size)), seed=seed).to(device)
    identity = checkpoint.Identity.of(
        model, text=identity_of(**asdict(recipe)), seed=seed, surgery=cut.id
    )

    def load(path: Path) -> tuple[LanguageModel, CharTokenizer, dict[str, Any]]:
        require_same(path, checkpoint.identify(path), identity)
        return opened(path)

    if found := kept(path, load):
        model, tokenizer, _ = found
        return model.to(device), tokenizer, described
    keep_to_one_thread(model)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(f"training on {task}", total=recipe.steps)
        train_on(model, recipe, batch_of, seed, lambda: progress.advance(bar))
    model.tokenizer = tokenizer
    checkpoint.save(path, model, identity, tokenizer)
    return model, tokenizer, described


def train_on(
    model: LanguageModel,
    recipe: SmallRecipe,
    batch_of: BatchOf,
    seed: int,
    tell: Callable[[], None] = lambda: None,
) -> None:
    """Train ``model`` in place, with nanoGPT's recipe; evaluation mode afterwards.

    Args:
        tell: is called after each step.
    """
    train = TrainConfig(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        min_learning_rate=recipe.learning_rate / 10,
        warmup_steps=min(100, recipe.steps // 5),
    )
    optimizer = make_optimizer(model, train)
    generator = torch.Generator().manual_seed(seed)
    device = model.W_E.device
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        tokens = batch_of(generator).to(device)
        loss = model(tokens, return_type="loss")
        loss.backward()
        norm = update(model, optimizer, train)
        check_step(step + 1, loss.item(), norm.item())
        tell()
    model.eval()
