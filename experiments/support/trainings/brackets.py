"""How does a small model learn which bracket closes?

It is trained on random strings of letters and brackets of four kinds, in which every bracket that
closes is of the kind that was opened last and is still open. Which kind closes can be known from
that one bracket alone, however much lies between.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from experiments.support.trainings.small import SmallRecipe, small_model
from gpt.errors import UsageError
from gpt.protocol import LanguageModel
from gpt.text import CharTokenizer

OPENING, CLOSING = "([{<", ")]}>"
FILLING = "abcdefgh"
SHARE_OF_LETTERS = 0.3
NEAREST = 3
"""How far back the bracket is, at least, that is to be closed."""


@dataclass(frozen=True)
class BracketRecipe(SmallRecipe):
    """The task and the training."""

    letters: str = "".join(sorted(OPENING + CLOSING + FILLING))
    deepest: int = 3
    n_head: int = 4
    steps: int = 500


def bracket_strings(
    recipe: BracketRecipe, length: int, batch: int, generator: torch.Generator
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch"]]:
    """Random strings, and where in each the last bracket stands that is still open; -1 where none
    is."""
    kinds = len(OPENING)
    stack = torch.zeros(batch, recipe.deepest, 2, dtype=torch.long)  # place and kind
    depth = torch.zeros(batch, dtype=torch.long)
    rows, text = torch.arange(batch), torch.empty(batch, length, dtype=torch.long)
    for pos in range(length):
        what, which = torch.rand(2, batch, generator=generator)
        kind = (which * kinds).long()
        opens = (depth == 0) | ((depth < recipe.deepest) & (what < (1 + SHARE_OF_LETTERS) / 2))
        inner = stack[rows, (depth - 1).clamp(min=0), 1]
        token = torch.where(opens, kind, kinds + inner)
        letter = what < SHARE_OF_LETTERS
        text[:, pos] = torch.where(letter, 2 * kinds + (which * len(FILLING)).long(), token)
        opens, closes = opens & ~letter, ~opens & ~letter
        now = torch.stack([torch.full_like(kind, pos), kind], dim=1)
        place = depth.clamp(max=recipe.deepest - 1)
        stack[rows, place] = torch.where(opens[:, None], now, stack[rows, place])
        depth += opens.long() - closes.long()
    last = torch.where(depth > 0, stack[rows, (depth - 1).clamp(min=0), 0], -1)
    return CharTokenizer(recipe.letters).encode(OPENING + CLOSING + FILLING)[text], last


def bracket_batch(recipe: BracketRecipe, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
    """A batch of blocks to train on."""
    return bracket_strings(recipe, recipe.block_size, recipe.batch_size, generator)[0]


def swapped_brackets(
    recipe: BracketRecipe, length: int, batch: int, seed: int = 0
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"], Tensor, Tensor]:
    """Clean and corrupted strings that differ in the bracket that is to be closed at their end.

    Returns:
        Clean and corrupted tokens, [batch pos], and what closes them, [batch] each.

    Raises:
        UsageError: strings too short to hold a bracket so far back.
    """
    if length < NEAREST + 1:
        raise UsageError(f"length is {length}; it must be at least {NEAREST + 1} for brackets")
    generator = torch.Generator().manual_seed(seed)
    letters = CharTokenizer(recipe.letters)
    opening, closing = (letters.encode(each) for each in (OPENING, CLOSING))
    found: list[Tensor] = []
    places: list[Tensor] = []
    while sum(len(texts) for texts in found) < batch:
        text, last = bracket_strings(recipe, length, 4 * batch, generator)
        far = (last >= 0) & (last <= length - 1 - NEAREST)
        found.append(text[far])
        places.append(last[far])
    clean, place = torch.cat(found)[:batch], torch.cat(places)[:batch]
    rows = torch.arange(batch)
    kind = (clean[rows, place][:, None] == opening).long().argmax(dim=1)
    other = (kind + torch.randint(1, len(OPENING), (batch,), generator=generator)) % len(OPENING)
    corrupted = clean.clone()
    corrupted[rows, place] = opening[other]
    return clean, corrupted, closing[kind], closing[other]


def brackets_model(
    recipe: BracketRecipe, seed: int, runs: Path, device: torch.device
) -> tuple[LanguageModel, CharTokenizer, dict[str, Any]]:
    """A model trained on strings with brackets, on ``device``; read, if trained before.

    Returns:
        The model in evaluation mode, its characters, and what decides its weights.
    """
    return small_model("brackets", recipe, partial(bracket_batch, recipe), seed, runs, device)
