"""Shared passages are found exactly."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.text import load_corpus
from interp.errors import UsageError
from interp.texts import shared_passages

SMALL_ALPHABET = st.text("ab\n", max_size=40)


def by_hand(train: str, val: str, at_least: int) -> tuple[set[int], int]:
    """Which characters of ``val`` are covered, and how long the longest shared passage is, by
    trying all substrings."""
    covered, longest = set(), 0
    for start in range(len(val)):
        for stop in range(start + at_least, len(val) + 1):
            if val[start:stop] in train:
                covered |= set(range(start, stop))
                longest = max(longest, stop - start)
    return covered, longest


@settings(deadline=None)
@given(train=SMALL_ALPHABET, val=SMALL_ALPHABET, at_least=st.integers(1, 9))
def test_shared_passages_are_those_that_trying_all_substrings_finds(train, val, at_least):
    found = shared_passages(train, val, at_least)
    covered, longest = by_hand(train, val, at_least)
    assert found.longest == longest
    assert found.characters == len(covered)
    assert found.share == len(covered) / max(1, len(val))
    assert {at for start, stop in found.stretches for at in range(start, stop)} == covered
    assert all(stop < start for (_, stop), (start, _) in pairwise(found.stretches))


def test_a_passage_planted_in_real_text_is_found_to_the_character():
    text = load_corpus("python-docs").text
    train, val = text[:50_000], "".join(chr(0x4E00 + i) for i in range(3000))
    planted = train[20_000:20_137]
    found = shared_passages(train, val[:1000] + planted + val[1000:], at_least=50)
    assert found.stretches == [(1000, 1137)]
    assert found.longest == found.characters == 137
    assert shared_passages(train, val[:1000] + planted[:49] + val[1000:], 50).stretches == []


def test_a_text_shares_all_of_itself():
    text = load_corpus("python-docs").text[:5000]
    found = shared_passages(text, text, at_least=50)
    assert (found.share, found.longest, found.stretches) == (1.0, 5000, [(0, 5000)])


def test_a_passage_of_no_characters_is_refused():
    with pytest.raises(UsageError, match="at_least is 0"):
        shared_passages("a", "a", at_least=0)
