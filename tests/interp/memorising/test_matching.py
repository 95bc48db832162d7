"""Copies are those that trying all substrings finds; what a model continues is beside a control."""

import itertools

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import UsageError
from interp.memorising import match_writing, measure_extraction, share_exact
from interp.samples import write
from tests.interp.memorising.sentences import SENTENCES

FEW = st.text("ab\n", max_size=30)


def by_hand(text: str, train: str, at_least: int) -> tuple[int, str, float]:
    longest, covered = "", set()
    for start in range(len(text)):
        for stop in range(start + 1, len(text) + 1):
            if text[start:stop] in train:
                longest = max(longest, text[start:stop], key=len)
                if stop - start >= at_least:
                    covered |= set(range(start, stop))
    return len(longest), longest, len(covered) / max(1, len(text))


@settings(deadline=None, max_examples=60)
@given(text=FEW, train=FEW.filter(bool), at_least=st.integers(1, 9))
def test_the_longest_copy_is_that_of_trying_all(text, train, at_least):
    (row,) = match_writing(
        pd.DataFrame({"text": [text]}), train, at_least=at_least
    ).to_dict("records")  # fmt: skip
    assert (row["longest"], row["copy"], row["copied"]) == by_hand(text, train, at_least)
    assert row["at"] == train.find(row["copy"])


def test_prompts_do_not_count_and_what_was_learned_is_found(learned, untrained):
    prompts = ["Write to ", "The number "]
    for model, least, most in ((learned, 25, 60), (untrained, 0, 8)):
        samples = write(model, prompts, 60, seeds=(0, 1), temperature=0.1).table()
        table = match_writing(samples, 3 * SENTENCES, control="0" * 20 + "x" * 60, at_least=20)
        assert table[["prompt", "seed", "text"]].equals(samples[["prompt", "seed", "text"]])
        assert table["longest"].between(least, most).all()
        assert (table["control_longest"] <= 1).all()  # 'x' stands in the text once, '00' nowhere
        for row in table.to_dict("records"):
            assert row["copy"] in row["text"]
            assert (3 * SENTENCES)[row["at"] :].startswith(row["copy"])


def test_passages_of_the_text_are_continued_and_those_of_another_are_not(learned):
    other = SENTENCES[:71:-1][:24] * 3 + SENTENCES[:48]
    table = measure_extraction(learned, SENTENCES, other, before=12, length=12, passages=8)
    summary = share_exact(table).set_index("part")
    assert summary.loc["train", "share"] > 0.6
    assert summary.loc["val", "share"] == 0
    for row in table.to_dict("records"):
        text = SENTENCES if row["part"] == "train" else other
        assert text[row["at"] :].startswith(row["true"])
        assert text[: row["at"]].endswith(row["before"])
        known = row["before"] + row["true"] in SENTENCES
        assert (row["part"] != "val") == known
    assert "val, also in train" in set(table["part"])
    spans = sorted(table[table["part"] == "train"]["at"])
    assert all(b - a >= 24 for a, b in itertools.pairwise(spans))


def test_the_same_passages_are_drawn_for_every_model(learned, untrained):
    columns = ["part", "at", "before", "true"]
    first, second = (
        measure_extraction(model, SENTENCES, SENTENCES[::-1], before=9, length=9, passages=3)
        for model in (learned, untrained)
    )
    assert first[columns].equals(second[columns])
    other = measure_extraction(
        learned, SENTENCES, SENTENCES[::-1], before=9, length=9, passages=3, seed=1
    )
    assert not other[columns].equals(first[columns])


def test_what_cannot_be_matched_is_refused(learned):
    samples = pd.DataFrame({"text": ["a text"]})
    with pytest.raises(UsageError, match="no column 'text'"):
        match_writing(pd.DataFrame({"prompt": ["a"]}), "train")
    with pytest.raises(UsageError, match="at_least is 0"):
        match_writing(samples, "train", at_least=0)
    with pytest.raises(UsageError, match="the control has 3 characters and a sample 6"):
        match_writing(samples, "train", control="abc")
    with pytest.raises(UsageError, match="the val text has 3 characters"):
        measure_extraction(learned, SENTENCES, "abc")
    with pytest.raises(UsageError, match="passages 0"):
        measure_extraction(learned, SENTENCES, SENTENCES, passages=0)
