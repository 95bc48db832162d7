"""Documents with a passage in common are found, all of them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.curation import Pipeline, make_document, run_pipeline
from interp.curation.passages import find_sharing
from interp.curation.steps import split_documents
from interp.errors import UsageError
from interp.texts import shared_passages
from tests.interp.curation.piles_of_tests import sentences

TEXTS = st.lists(st.text("ab ", max_size=30), min_size=2, max_size=5)


@settings(deadline=None)
@given(TEXTS, st.integers(2, 9), st.integers(1, 3))
def test_what_has_a_passage_in_common_is_found_and_nothing_else(texts, at_least, put_aside):
    documents = [make_document(str(n), text) for n, text in enumerate(texts)]
    aside = documents[:put_aside]
    passages = [{t[n : n + at_least] for n in range(len(t) - at_least + 1)} for t in texts]
    expected = {}
    for document, own in zip(documents[put_aside:], passages[put_aside:], strict=True):
        sharing = [n for n in range(len(aside)) if passages[n] & own]
        if sharing:
            expected[document.id] = aside[sharing[0]].source
    assert find_sharing(documents, {one.id for one in aside}, at_least=at_least) == expected


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


def test_what_shares_a_passage_is_left_out_and_said(tmp_path):
    common = sentences(2, 500)
    pile = [
        make_document(f"{n:02}", sentences(8, n) + "\n" + common * (n % 3 == 0)) for n in range(30)
    ]
    found = {document.source: document for document in split_documents(pile, val_share=0.2)}
    sharing = [found[f"{n:02}"] for n in range(0, 30, 3)]
    val = {document.source for document in sharing if document.split == "val"}
    assert val
    for document in sharing:
        if document.source not in val:
            assert document.dropped == (
                f"has a passage in common with {min(val)}, which is validated on"
            )
    others = [found[f"{n:02}"] for n in range(30) if n % 3]
    assert not any(document.dropped for document in others)
    with pytest.raises(UsageError, match="at least 2 characters"):
        find_sharing(pile, {pile[0].id}, at_least=1)


def test_a_cluster_larger_than_the_share_is_trained_on():
    pile = [make_document(f"big{n}", sentences(9, 5) + f"\nLine {n}.") for n in range(20)]
    pile += [make_document(f"small{n}", sentences(9, 50 + n)) for n in range(3)]
    for seed in range(5):
        found = {document.source: document.split for document in split_documents(pile, seed=seed)}
        assert {found[f"big{n}"] for n in range(20)} == {"train"}
        assert "val" in found.values()
