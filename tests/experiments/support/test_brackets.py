"""Strings of brackets are well formed, and a pair's answer closes the bracket that is open."""

from functools import partial

import pytest
import torch

from experiments.support.trainings.brackets import (
    CLOSING,
    NEAREST,
    OPENING,
    BracketRecipe,
    bracket_strings,
    swapped_brackets,
)
from gpt.errors import UsageError
from gpt.text import CharTokenizer

RECIPE = BracketRecipe()
LETTERS = CharTokenizer(RECIPE.letters)
CLOSES = dict(zip(OPENING, CLOSING, strict=True))


def open_brackets(text: str) -> list[int]:
    """The places of brackets that are open at the end; fails where one closes another's kind."""
    found: list[int] = []
    for place, letter in enumerate(text):
        if letter in OPENING:
            found.append(place)
        elif letter in CLOSING:
            assert CLOSES[text[found.pop()]] == letter
    return found


def test_every_bracket_closes_the_last_open_one_and_the_place_told_is_its():
    generator = torch.Generator().manual_seed(0)
    tokens, last = bracket_strings(RECIPE, 24, 200, generator)
    depths = set()
    for row, place in zip(tokens, last.tolist(), strict=True):
        still = open_brackets(LETTERS.decode(row))
        assert place == (still[-1] if still else -1)
        depths.add(len(still))
    assert depths == {*range(RECIPE.deepest + 1)}


def test_pairs_differ_in_the_bracket_to_be_closed_alone():
    clean, corrupted, answer, wrong = swapped_brackets(RECIPE, 16, 50, seed=1)
    assert ((clean != corrupted).sum(dim=1) == 1).all()
    for own, other, right, not_right in zip(clean, corrupted, answer, wrong, strict=True):
        for row, closing in ((own, right), (other, not_right)):
            text = LETTERS.decode(row)
            place = open_brackets(text)[-1]
            assert LETTERS.decode(closing[None]) == CLOSES[text[place]]
            assert len(text) - 1 - place >= NEAREST
        assert right != not_right


def test_the_seed_decides_the_pairs():
    pairs = partial(swapped_brackets, RECIPE, 12, 8)
    assert all(torch.equal(*both) for both in zip(pairs(seed=2), pairs(seed=2), strict=True))
    assert not torch.equal(pairs(seed=2)[0], pairs(seed=3)[0])


def test_strings_too_short_are_refused():
    with pytest.raises(UsageError, match="length is 3; it must be at least"):
        swapped_brackets(RECIPE, 3, 4)
