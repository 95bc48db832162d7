"""How does a small model come by an induction head?

It is trained on random strings, each repeated until the block is full. Letters are drawn anew for
every block, so nothing can be known but this: what followed a letter last time follows it again. An
induction head does that, fed by a previous-token head in the layer below (Olsson et al. 2022), so
it takes two layers. The period differs from block to block, so that a head that looks back a
fixed distance does not do as well.

The unembedding has weights of its own, which the surgery ``untie`` gives it: with tied ones the
heads form many times later.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from jaxtyping import Int
from rich.progress import Progress
from torch import Tensor

import gpt.model
from experiments.support.cli import console
from experiments.support.devices import keep_to_one_thread
from experiments.support.keeping import kept, model_path, require_same
from experiments.support.named.checkpoints import opened
from gpt import checkpoint
from gpt.diverging import check_step
from gpt.errors import UsageError
from gpt.model import GPTConfig
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer
from gpt.train import TrainConfig, learning_rate, make_optimizer, update
from interp.runs import identity_of
from interp.surgery import edited_module, find, read_source


@dataclass(frozen=True)
class InductionRecipe:
    """The task and the training. Of seeds 0 to 7 all form the heads in 500 steps, six in 350."""

    letters: str = ascii_lowercase
    shortest: int = 6
    longest: int = 16
    block_size: int = 32
    n_embd: int = 64
    n_head: int = 2
    steps: int = 700
    batch_size: int = 32
    learning_rate: float = 4e-3


def repeated_strings(
    recipe: InductionRecipe, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """A batch of blocks: a string of different letters, of random length, over and over."""
    letters = torch.rand(recipe.batch_size, len(recipe.letters), generator=generator).argsort(1)
    period = torch.randint(
        recipe.shortest, recipe.longest + 1, (recipe.batch_size, 1), generator=generator
    )
    return letters.gather(1, torch.arange(recipe.block_size) % period)


def swapped_cues(
    letters: int, length: int, batch: int, seed: int = 0
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"], int, int]:
    """Clean and corrupted strings that differ in which letter comes before the answer.

    Clean is a string of different letters twice, without the last letter, the answer; the letter
    that the clean text ends with is its cue. Corrupted, the first occurrence has the cue and a
    letter from its middle changed for each other: the cue is then followed by another letter, the
    wrong answer. The answer itself stays where it is, so what is patched is how it is found.

    Returns:
        Clean and corrupted tokens, [batch, 2 length - 1], and the positions in them of the answer
        and of the wrong answer.

    Raises:
        UsageError: strings too short for two places apart, or longer than there are letters.
    """
    if not 6 <= length <= letters:
        raise UsageError(
            f"length is {length}; it must be at least 6 and at most the {letters} letters there are"
        )
    generator = torch.Generator().manual_seed(seed)
    string = torch.rand(batch, letters, generator=generator).argsort(1)[:, :length]
    clean = torch.cat([string, string[:, :-1]], dim=1)
    cue, other = length - 2, length // 2 - 1
    corrupted = clean.clone()
    corrupted[:, [cue, other]] = clean[:, [other, cue]]
    return clean, corrupted, cue + 1, other + 1


def induction_model(
    recipe: InductionRecipe, seed: int, runs: Path, device: torch.device
) -> tuple[LanguageModel, CharTokenizer, dict[str, Any]]:
    """A two-layer model trained on repeated strings, on ``device``; read, if trained before.

    Returns:
        The model in evaluation mode, its characters, and what decides its weights.
    """
    source = read_source(gpt.model)
    cut = find(source, "untie")
    about = {"source": cut.text, "recipe": asdict(recipe), "seed": seed}
    path = model_path(runs, "induction", about)
    described = {"model": path.stem, "recipe": asdict(recipe), "seed": seed, "surgery": cut.id}
    tokenizer = CharTokenizer(recipe.letters)
    module = edited_module(source, cut)
    size = GPTConfig(
        block_size=recipe.block_size,
        vocab_size=tokenizer.vocab_size,
        n_layer=2,
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
    train_on_repeats(model, recipe, seed)
    model.tokenizer = tokenizer
    checkpoint.save(path, model, identity, tokenizer)
    return model, tokenizer, described


def train_on_repeats(model: LanguageModel, recipe: InductionRecipe, seed: int) -> None:
    """Train ``model`` in place, with nanoGPT's recipe; evaluation mode afterwards."""
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
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("training on repeated strings", total=recipe.steps)
        for step in range(recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, train)
            tokens = repeated_strings(recipe, generator).to(device)
            loss = model(tokens, return_type="loss")
            loss.backward()
            norm = update(model, optimizer, train)
            check_step(step + 1, loss.item(), norm.item())
            progress.update(bar, completed=step + 1)
    model.eval()
