"""Patterns, distances and scores, end to end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.attention import (
    NEAR,
    REAL,
    REPEATED,
    Config,
    main,
    near_sums,
    score_reading,
)


@pytest.fixture(scope="module")
def folder(small, runs, text) -> Path:
    return main(Config(runs=runs, text=str(text), examples=8, show="the module")).parent


def test_every_head_has_its_three_scores_on_both_texts(folder):
    scores = pd.read_parquet(folder / "results.parquet")
    assert scores["value"].between(0, 1).all()
    counts = scores.groupby(["text", "layer", "head"])["metric"].agg(set)
    assert len(counts) == 2 * 4
    assert set(scores["text"]) == {REAL, REPEATED}
    assert all(kinds == {"previous_token", "duplicate_token", "induction"} for kinds in counts)


def test_a_pattern_is_of_the_text_shown_and_every_query_spends_its_attention(folder):
    patterns = pd.read_parquet(folder / "patterns.parquet")
    spent = patterns.groupby(["layer", "head", "query"])["value"].sum()
    assert len(spent) == 4 * len("the module")
    assert spent.to_numpy() == pytest.approx(1, abs=1e-5)
    assert (patterns["key"] <= patterns["query"]).all()
    one = patterns.drop_duplicates("query").sort_values("query")
    assert "".join(one["query_character"]) == "the module"


def test_the_first_token_of_every_text_looks_at_itself(folder):
    distances = pd.read_parquet(folder / "distances.parquet")
    assert distances["distance"].max() == 15
    assert distances["value"].between(0, 1).all()
    patterns = pd.read_parquet(folder / "patterns.parquet")
    assert patterns.query("query == 0")["value"].to_numpy() == pytest.approx(1)


def test_figures_and_page_are_there_in_every_format(folder):
    names = {"grid", "head", "distances", "scores"}
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}
    assert "is the most local" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"layer": 1}, "give both or neither"),
        ({"layer": 0, "head": 2}, "--head is 2; this model has heads 0 to 1"),
        ({"layer": -1, "head": 0}, "--layer is -1; this model has layers 0 to 1"),
        ({"show": "far too long a text"}, "--show has 19 characters; this model takes 2 to 16"),
        ({"show": "Ωmega"}, "the character 'Ω'"),
    ],
)
def test_misuse_is_one_sentence_and_starts_no_run(small, runs, text, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        main(Config(runs=runs, text=str(text), name="never", **arguments))
    assert not (runs / "attention" / "never").exists()


@pytest.mark.parametrize("length", [3, 12])
def test_what_goes_to_the_tokens_nearby_is_a_share_of_all_attention(length):
    """Of a head that looks at all tokens before alike, and of one that looks at the last alone."""
    alike = np.tril(np.ones((length, length))) / np.arange(1, length + 1)[:, None]
    rows = [
        {"layer": 0, "head": head, "distance": back, "value": np.diagonal(pattern, -back).mean()}
        for head, pattern in enumerate([alike, np.eye(length)])
        for back in range(length)
    ]
    shares = near_sums(pd.DataFrame(rows))["value"].tolist()
    expected = np.mean([sum(query[max(0, at - NEAR) :]) for at, query in enumerate(alike)])
    assert shares == pytest.approx([expected, 1.0])


def test_a_score_of_too_few_texts_says_so_in_place_of_its_interval():
    row = {"layer": 14, "head": 3, "value": 0.9, "ci_low": np.nan, "ci_high": np.nan, "n": 2}
    told = score_reading(REAL, "duplicate_token", pd.DataFrame([row]))
    assert told == (
        "The highest duplicate-token score is 0.90 (of 2 texts, too few for an interval), of head "
        "14.3, on the validation text."
    )
    none = score_reading(REAL, "induction", pd.DataFrame([row | {"value": np.nan, "n": 0}]))
    assert none.startswith("No head has an induction score")
