"""The losses of documents, by group, are those of the model and make up the whole."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.support.proposing.losses import (
    document_losses,
    loss_table,
    predict_tokens,
    ratio_interval,
    reference_lines,
)
from gpt.errors import UsageError
from gpt.text import ngram_entropy
from interp.curation import make_document
from tests.experiments.support.proposing.material import curate_pages, read_subject


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    return curate_pages(tmp_path_factory.mktemp("pages") / "text")


@pytest.fixture(scope="module")
def subject(curated):
    return read_subject(curated)


@pytest.fixture(scope="module")
def measured(subject, curated):
    return document_losses(subject, curated.documents("val"))


def test_each_token_but_the_first_is_predicted_once_from_those_before_it_in_its_window(subject):
    tokens = subject.tokenizer.encode("he says that she reads " * 9)
    found = predict_tokens(subject, tokens)
    assert len(found) == len(tokens) - 1
    for at in (0, 1, 47, 48, 100, len(tokens) - 2):
        start = at - at % 48
        with torch.no_grad():
            logits = subject.inner(tokens[None, start : at + 1])[0, -1].double()
        expected = -logits.log_softmax(-1)[tokens[at + 1]]
        assert found[at].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_document_has_the_loss_and_the_bytes_of_all_its_tokens_but_the_first(
    measured, subject, curated
):
    for row, document in zip(
        measured.table.to_dict("records"), curated.documents("val"), strict=True
    ):
        tokens = subject.tokenizer.encode(document.text)
        assert row["tokens"] == len(tokens) - 1
        assert row["bytes"] == len(document.text[1:].encode())
        nats = predict_tokens(subject, tokens).sum().item()
        assert row["nats"] == pytest.approx(nats, abs=1e-9)
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / row["bytes"])


@pytest.mark.parametrize("group", ["kind", "language"])
def test_the_losses_of_groups_weighted_by_their_tokens_are_the_loss_of_all(measured, group):
    table = loss_table(measured.table)
    whole = table[table["group"] == "all"].iloc[0]
    parts = table[table["group"] == group]
    assert len(parts) == measured.table[group].nunique()
    assert parts["tokens"].sum() == whole["tokens"]
    weighted = np.average(parts["nats_per_token"], weights=parts["tokens"])
    assert weighted == pytest.approx(whole["nats_per_token"], abs=1e-12)
    assert whole["nats_per_token"] == pytest.approx(
        measured.table["nats"].sum() / measured.table["tokens"].sum(), abs=1e-12
    )


def test_an_interval_lies_about_the_ratio_of_sums_and_takes_three_documents():
    generator = np.random.default_rng(0)
    tokens = pd.Series(generator.integers(50, 500, 40).astype(float))
    nats = tokens * 2.0 + generator.normal(0, 20, 40)
    ratio, low, high = ratio_interval(nats, tokens)
    assert ratio == pytest.approx(nats.sum() / tokens.sum())
    draws = []
    for _ in range(2000):
        chosen = generator.integers(40, size=40)
        draws.append(nats[chosen].sum() / tokens[chosen].sum())
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.01)
    assert ratio_interval(nats * 0 + tokens * 2, tokens)[1:] == pytest.approx((2.0, 2.0))
    assert all(map(math.isnan, ratio_interval(nats[:2], tokens[:2])[1:]))


def test_reference_lines_are_those_of_models_that_only_counted(measured, subject):
    lines = reference_lines(subject, measured).set_index("line")
    for n, line in enumerate(("unigram", "bigram", "trigram"), 1):
        expected = ngram_entropy(subject.data.train, measured.tokens, n)
        assert lines.loc[line, "nats_per_token"] == pytest.approx(expected)
    assert lines["nats_per_token"].is_monotonic_decreasing


def test_documents_that_the_model_cannot_read_are_counted_and_where_all_are_it_is_said(subject):
    strange, plain = make_document("a", "日本"), make_document("b", "he says that")
    assert document_losses(subject, [strange, plain]).unread == 1
    with pytest.raises(UsageError, match="can read none of the validation documents"):
        document_losses(subject, [strange])
