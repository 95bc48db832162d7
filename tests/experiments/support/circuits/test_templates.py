"""Pairs from templates align in a model's tokens, or are left out and counted."""

import pytest

from experiments.support.circuits.templates import (
    CAPITALS,
    OF_NAMES,
    OTHERS,
    capital_pairs,
    choose_aligned,
    name_pairs,
)
from experiments.support.named.coding import token_after
from experiments.support.pairs import Pair
from gpt.errors import UsageError
from gpt.text import CharTokenizer

LETTERS = CharTokenizer("".join(sorted({*" .abcdefghijklmnopqrstuvwxyz"})))


def test_only_pairs_of_one_length_with_single_token_answers_are_taken_and_all_are_counted():
    made = [
        Pair("an a", "an b", "c", "d"),
        Pair("an e", "an f", "g", "h"),
        Pair("an a", "an c", "c", "d"),  # its clean text has a pair
        Pair("an ab", "an b", "c", "d"),  # uneven
        Pair("an g", "an b", "cc", "d"),  # several tokens
        Pair("an h", "an b", "c", "c"),  # the same answer
        Pair("some a", "some b", "c", "d"),  # apart
    ]
    chosen = choose_aligned(made, LETTERS, 10)
    assert chosen.pairs == made[:2]
    assert (chosen.made, chosen.uneven, chosen.several, chosen.apart) == (7, 1, 2, 1)
    assert chosen.again == 1
    assert "make 7 pairs" in chosen.told
    assert "1 with a clean text that has a pair already" in chosen.told
    assert "2 with an answer that is no single token" in chosen.told
    assert "1 with two texts of different length" in chosen.told
    assert "1 with another length than most" in chosen.told
    assert chosen.told.endswith("2 are taken.")
    assert choose_aligned(made, LETTERS, 1).pairs == made[:1]


def test_too_few_pairs_that_align_are_refused_with_the_reasons():
    with pytest.raises(UsageError, match=r"of 2 pairs .* 0 align .* 2 have an answer"):
        choose_aligned([Pair("a", "b", "cc", "d"), Pair("e", "b", "cd", "d")], LETTERS, 10)


def test_capitals_are_asked_of_each_country_beside_another():
    made = capital_pairs(0)
    first = made[: len(CAPITALS)]
    assert len({*made}) == len(made) == OTHERS * len(CAPITALS)
    assert {pair.answer.strip() for pair in first} == {*CAPITALS.values()}
    assert all(pair.clean != pair.corrupted and pair.answer != pair.wrong for pair in made)
    for pair in first:
        country = next(each for each in CAPITALS if each in pair.clean)
        assert pair.answer == f" {CAPITALS[country]}"
        assert pair.clean.replace(country, "") == pair.corrupted.replace(
            next(each for each in CAPITALS if each in pair.corrupted), ""
        )
    assert capital_pairs(1) != made


def test_the_one_who_is_given_is_the_one_who_does_not_give():
    for pair in name_pairs(3):
        answer, wrong = pair.answer.strip(), pair.wrong.strip()
        assert pair.clean.count(answer) == pair.corrupted.count(wrong) == 1
        assert pair.clean.count(wrong) == pair.corrupted.count(answer) == 2
        clean, corrupted = pair.clean.split(), pair.corrupted.split()
        differing = [
            n for n, words in enumerate(zip(clean, corrupted, strict=True)) if words[0] != words[1]
        ]
        assert len(differing) == 1
    assert len({len(template.split()) for template in OF_NAMES[:3]}) == 1


def test_an_answer_is_one_token_after_its_text():
    assert token_after(LETTERS, "an", "a") == int(LETTERS.encode("a"))
