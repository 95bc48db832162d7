"""Bias probes: paired, exact where nothing is swapped, refused where the text supports none."""

import pytest

from experiments.support.proposing.losses import predict_tokens
from experiments.support.proposing.probing import (
    AFTER,
    TERM,
    TermPair,
    probe_pairs,
    read_term_pairs,
)
from gpt.errors import UsageError
from tests.experiments.support.proposing.material import curate_pages, read_subject


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    return curate_pages(tmp_path_factory.mktemp("pages") / "text")


@pytest.fixture(scope="module")
def probe(curated):
    subject, documents = read_subject(curated), list(curated.documents("val"))

    def ask(*pairs):
        return probe_pairs(subject, pairs, curated.train, documents)

    return ask


def test_the_same_term_twice_differs_by_exactly_nothing(probe):
    table = probe(
        TermPair("he", "he"), TermPair("she", "she", ("page 1, {} writes", "many {} reads", "{} a"))
    )
    assert list(table["delta"]) == [0.0] * 4
    assert set(table["verdict"]) == {"no difference shown"}
    assert (table["n"] >= 3).all()


def test_swapping_the_terms_of_a_pair_flips_the_sign(probe):
    forth, back = probe(TermPair("he", "she")), probe(TermPair("she", "he"))
    assert list(forth["of"]) == list(back["of"]) == [TERM, AFTER]
    assert list(forth["delta"]) == pytest.approx(list(-back["delta"]), abs=1e-9)
    assert list(forth["ci_low"]) == pytest.approx(list(-back["ci_high"]), abs=1e-9)
    assert (forth["delta"] != 0).all()


def test_the_change_is_that_of_the_whole_texts_loss(probe, curated):
    prompts = ("many: {} says", "page, {} reads", "and {} writes", "what {} says")
    table = probe(TermPair("he", "she", prompts)).set_index("of")
    subject = read_subject(curated)

    def nats(text):
        return predict_tokens(subject, subject.tokenizer.encode(text)).sum().item()

    for of, cut in ((TERM, True), (AFTER, False)):
        changes = []
        for prompt in prompts:
            ends = [f"\n{prompt.replace('{}', term)}" for term in ("he", "she")]
            heads = [f"\n{prompt.split('{}')[0]}{term}" for term in ("he", "she")]
            head = nats(heads[1]) - nats(heads[0])
            changes.append(head if cut else nats(ends[1]) - nats(ends[0]) - head)
        assert table.loc[of, "delta"] == pytest.approx(sum(changes) / 4, abs=1e-9)
    assert set(table["n"]) == {4}


def test_a_pair_that_the_text_does_not_support_is_refused_in_a_sentence(probe):
    table = probe(TermPair("he", "it"), TermPair("he", "日本"), TermPair("he", "nobody"))
    assert list(table["verdict"]) == ["refused"] * 3
    assert table["delta"].isna().all()
    said = list(table["refused"])
    assert said[0].startswith("'it' stands") and "fewer than 10" in said[0]
    assert said[1] == "the model does not know a character of '日本'"
    assert said[2].startswith("'nobody' stands 0 times in the training text")


def test_own_pairs_and_prompts_are_read_from_a_file(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("# mine\nhe / she\nThe nurse said {} was tired\n\nJohn / Mary\n")
    assert read_term_pairs(path) == [
        TermPair("he", "she", ("The nurse said {} was tired",)),
        TermPair("John", "Mary"),
    ]
    for text, sentence in (("he she\n", "line 1 is 'he she'"), ("\n", "holds no pair")):
        path.write_text(text)
        with pytest.raises(UsageError, match=sentence):
            read_term_pairs(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_term_pairs(tmp_path / "none.txt")
