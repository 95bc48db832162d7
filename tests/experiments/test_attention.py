"""Patterns, distances and scores, end to end."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.attention import REAL, REPEATED, Config, main


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
