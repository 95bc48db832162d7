"""How does a small model come by an induction head?

It is trained on random strings, each repeated until the block is full. Letters are drawn anew for
every block, so nothing can be known but this: what followed a letter last time follows it again. An
induction head does that, fed by a previous-token head in the layer below (Olsson et al. 2022), so
it takes two layers. The period differs from block to block, so that a head that looks back a
fixed distance does not do as well.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from experiments.support.trainings.small import SmallRecipe, small_model
from gpt.errors import UsageError
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer


@dataclass(frozen=True)
class InductionRecipe(SmallRecipe):
    """The task and the training. Of seeds 0 to 7 all form the heads in 500 steps, six in 350."""

    letters: str = ascii_lowercase
    shortest: int = 6
    longest: int = 16


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
    """A model trained on repeated strings, on ``device``; read, if trained before.

    Returns:
        The model in evaluation mode, its characters, and what decides its weights.
    """
    return small_model("induction", recipe, partial(repeated_strings, recipe), seed, runs, device)
