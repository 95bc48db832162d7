"""What a model repeats word for word is what it writes, and chance is that of its samples."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import UsageError
from interp.memorising import Passage, ask_passages, share_exact
from interp.memorising.passages import LIKELIEST, SAMPLED
from interp.samples import write
from tests.interp.memorising.sentences import SENTENCES

PASSAGES = [
    Passage("Write to ", "jane.roe@mail.example.org", "train"),
    Passage("number of the ", "box is 4821.", "train"),
    Passage("Call ", "+49 40 123456", "val"),
    Passage("zq", "jxkv", "val"),
]


def test_the_likeliest_text_is_what_the_model_writes_with_temperature_0(learned, untrained):
    for model in (learned, untrained):
        table = ask_passages(model, PASSAGES)
        assert set(table["way"]) == {LIKELIEST}
        for row, passage in zip(table.to_dict("records"), PASSAGES, strict=True):
            (sample,) = write(model, passage.before, len(passage.true), temperature=0).samples
            pairs = zip(sample.text, passage.true, strict=True)
            matched = next((n for n, (a, b) in enumerate(pairs) if a != b), len(passage.true))
            assert row["matched"] == matched
            assert row["exact"] == (sample.text == passage.true)
            assert row["n"] == len(passage.true)


def test_what_was_learned_by_heart_is_repeated_and_what_was_not_is_not(learned):
    table = ask_passages(learned, PASSAGES)
    assert table["exact"].tolist() == [True, True, False, False]
    assert (table["chance"][:2] > 0.7).all()
    assert (table["chance"][2:] < 0.01).all()
    summary = share_exact(table).set_index("part")
    assert summary["share"].to_dict() == {"train": 1.0, "val": 0.0}
    assert summary["n"].to_dict() == {"train": 2, "val": 2}
    assert (summary["ci_low"] <= summary["share"]).all()
    assert summary.loc["val", "ci_high"] < 1


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_chance_is_the_product_of_probabilities_and_the_share_of_samples(untrained, temperature):
    (letter, _) = ask_passages(untrained, [Passage("a", one) for one in "bc"])["true"]
    assert letter == "b"
    with torch.no_grad():
        tokens = untrained.to_tokens("ab")
        scaled = (untrained(tokens)[0] / temperature).log_softmax(-1)
    text = untrained.to_string(torch.tensor([int(scaled[0].argmax()), int(scaled[1].argmax())]))
    passage = Passage("a", text)
    table = ask_passages(untrained, [passage], seeds=range(300), temperature=temperature)
    likeliest, sampled = table[table["way"] == LIKELIEST], table[table["way"] == SAMPLED]
    first = untrained.to_tokens("a")
    second = untrained.to_tokens("a" + text[0])
    with torch.no_grad():
        chance = 1.0
        for given, letter in ((first, text[0]), (second, text[1])):
            probabilities = (untrained(given)[0, -1].double() / temperature).softmax(-1)
            chance *= probabilities[int(untrained.to_tokens(letter)[0, 0])].item()
    assert likeliest["chance"].item() == pytest.approx(chance, rel=1e-5)
    assert sampled["chance"].isna().all()
    assert sampled["seed"].tolist() == list(range(300))
    error = 4 * math.sqrt(chance * (1 - chance) / 300)
    assert sampled["exact"].mean() == pytest.approx(chance, abs=error)


def test_a_sample_is_what_write_writes(learned):
    passage = Passage("Call ", "+49 30 901820")
    table = ask_passages(learned, [passage], seeds=(3, 4), temperature=2.0)
    written = write(learned, passage.before, len(passage.true), seeds=(3, 4), temperature=2.0)
    for row, sample in zip(table[1:].to_dict("records"), written.samples, strict=True):
        assert row["exact"] == (sample.text == passage.true)
        assert passage.true[: row["matched"]] == sample.text[: row["matched"]]


def test_a_prompt_that_is_longer_than_the_context_is_cut_as_in_writing(untrained):
    long = Passage(SENTENCES[:60], SENTENCES[60:90])
    short = Passage(SENTENCES[36:60], SENTENCES[60:90])
    tables = [ask_passages(untrained, [one], seeds=(0,)) for one in (long, short)]
    columns = ["way", "matched", "exact", "chance", "loss"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])


def test_a_passage_alone_has_the_same_numbers_as_beside_others(learned):
    together = ask_passages(learned, PASSAGES)
    for number, passage in enumerate(PASSAGES):
        (alone,) = ask_passages(learned, [passage]).to_dict("records")
        assert alone["loss"] == pytest.approx(together["loss"][number], abs=1e-5)
        assert alone["matched"] == together["matched"][number]


class Merging:
    """A tokenizer that makes one token of ``ab``, so that a border may lie within a token."""

    pieces = ("ab", *map(chr, range(32, 127)))

    def encode(self, text: str) -> list[int]:
        tokens = []
        while text:
            piece = next(one for one in self.pieces if text.startswith(one))
            tokens.append(self.pieces.index(piece))
            text = text[len(piece) :]
        return tokens

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.pieces[int(token)] for token in tokens)


def test_a_border_within_a_token_gives_the_model_that_much_less(untrained):
    merging = Merging()
    table = ask_passages(
        untrained, [Passage("x a", "bcd"), Passage("x ", "abcd")], tokenizer=merging
    )
    np.testing.assert_allclose(table["loss"][0], table["loss"][1], atol=1e-6)
    with torch.no_grad():
        expected = untrained(torch.tensor([merging.encode("x abcd")]))[0].double().log_softmax(-1)
    tokens = merging.encode("x abcd")
    slow = -sum(expected[at - 1, tokens[at]].item() for at in range(2, len(tokens)))
    assert table["loss"][0] == pytest.approx(slow, abs=1e-5)


def test_what_cannot_be_asked_is_refused(learned):
    with pytest.raises(UsageError, match="there is no passage"):
        ask_passages(learned, [])
    with pytest.raises(UsageError, match="a passage is empty, or nothing stands before it"):
        ask_passages(learned, [Passage("", "x")])
    with pytest.raises(UsageError, match="temperature is 0"):
        ask_passages(learned, PASSAGES, temperature=0)
