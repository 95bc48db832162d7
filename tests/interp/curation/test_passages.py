"""Documents with a passage in common are found, all of them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.curation import Pipeline, make_document, run_pipeline
from interp.curation import passages as curation_passages
from interp.curation.passages import group_by_passages
from interp.curation.steps import split_documents
from interp.errors import UsageError
from interp.texts import shared_passages
from tests.interp.curation.piles_of_tests import sentences

TEXTS = st.lists(st.text("ab ", max_size=30), min_size=2, max_size=5)


@settings(deadline=None)
@given(TEXTS, st.integers(2, 9), st.integers(1, 3))
def test_no_passage_in_common_is_missed(texts, at_least, parts):
    documents = [make_document(str(n), text) for n, text in enumerate(texts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curation_passages, "AT_ONCE", 1 + sum(map(len, texts)) // parts)
        first = group_by_passages(documents, at_least=at_least)
    passages = [{t[n : n + at_least] for n in range(len(t) - at_least + 1)} for t in texts]
    for one, of_one in zip(documents, passages, strict=True):
        for other, of_other in zip(documents, passages, strict=True):
            if of_one & of_other:
                assert first[one.id] == first[other.id]


def test_texts_that_have_little_in_common_are_left_apart():
    documents = [make_document(f"{n:02}", sentences(20, n)) for n in range(50)]
    assert len(set(group_by_passages(documents, at_least=100).values())) == 50
    passage = sentences(1, 99) + sentences(1, 98)
    linked = [make_document(f"l{n}", sentences(9, 60 + n) + passage) for n in range(3)]
    first = group_by_passages([*documents, *linked], at_least=100)
    assert {first[document.id] for document in linked} == {linked[0].id}
    assert len(set(first.values())) == 51


@pytest.mark.parametrize("seed", range(3))
def test_no_passage_of_the_validation_text_stands_in_the_training_text(seed, tmp_path):
    rng = random.Random(seed)
    common = [sentences(2, 200 + n) for n in range(6)]
    pile = [
        make_document(f"{n:02}", sentences(8, n) + "\n\n" + rng.choice([*common, "", "", "", ""]))
        for n in range(60)
    ]
    whole = Pipeline.default().with_options("split", seed=seed, val_share=0.2)
    curated = run_pipeline(whole, pile, tmp_path / "whole")
    assert shared_passages(curated.train, curated.val, 100).stretches == []
    without = whole.with_options("split", passage=0)
    apart = run_pipeline(without, pile, tmp_path / "without")
    assert shared_passages(apart.train, apart.val, 100).longest >= 100


def test_what_hangs_together_is_not_parted():
    pile = [make_document(str(n), sentences(9, 5) + f"\nLine {n}.") for n in range(5)]
    with pytest.raises(UsageError, match="the 5 documents all hang together"):
        list(split_documents(pile))
    with pytest.raises(UsageError, match="at least 2 characters"):
        group_by_passages(pile, at_least=1)


def test_a_group_larger_than_the_share_is_trained_on():
    pile = [make_document(f"big{n}", sentences(9, 5) + f"\nLine {n}.") for n in range(20)]
    pile += [make_document(f"small{n}", sentences(9, 50 + n)) for n in range(3)]
    for seed in range(5):
        found = {document.source: document.split for document in split_documents(pile, seed=seed)}
        assert {found[f"big{n}"] for n in range(20)} == {"train"}
        assert "val" in found.values()
