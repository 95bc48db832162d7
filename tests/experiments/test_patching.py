"""Activation patching, end to end: induction heads form and are found; any pair can be asked."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

import experiments.support.trainings.small
from experiments import patching
from experiments.patching import Config, main
from experiments.support.trainings.induction import InductionRecipe, repeated_strings, swapped_cues

LENGTH = 16


@pytest.fixture(scope="module")
def folder(runs) -> Path:
    """The built-in task, on a model trained for a little less long than the experiment's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
        return main(Config(runs=runs, examples=32, length=LENGTH)).parent


@pytest.fixture(scope="module")
def table(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def by_position(table: pd.DataFrame) -> pd.DataFrame:
    rows = table[table["pos"].notna()].astype({"layer": int, "pos": int})
    return rows.set_index(["component", "layer", "pos"]).sort_index()


def by_head(rows: pd.DataFrame, value: str) -> pd.Series:
    return rows.astype({"layer": int, "head": int}).set_index(["layer", "head"])[value].sort_index()


def test_the_trained_model_has_induction_heads_above_a_previous_token_head(folder):
    scores = pd.read_parquet(folder / "scores.parquet")
    best = scores.pivot_table("value", "layer", "metric", aggfunc="max")
    assert best.loc[1, "induction"] > 0.5
    assert best.loc[0, "induction"] < 0.2
    patterns = pd.read_parquet(folder / "patterns.parquet")
    first = patterns[(patterns["query"] > 0) & (patterns["query"] < LENGTH)]
    back = first[first["key"] == first["query"] - 1]
    assert back.groupby(["layer", "head"])["value"].mean().loc[0].max() > 0.5


def test_the_model_answers_clean_and_is_misled_corrupted(table):
    assert table["clean"].iloc[0] > 5
    assert table["baseline"].iloc[0] < -5


def test_patching_localises_to_the_heads_whose_scores_are_high(folder, table):
    heads = by_head(table[table["component"] == "z"], "recovered")
    scores = pd.read_parquet(folder / "scores.parquet")
    previous = by_head(scores[scores["metric"] == "previous_token"], "value")
    assert heads.loc[0].idxmax() == previous.loc[0].idxmax()
    assert heads.loc[0].max() > 0.9
    induction = by_head(scores[scores["metric"] == "induction"], "value")
    carrying = heads.loc[1][heads.loc[1] > 0.2].index
    assert len(carrying) > 0
    assert (induction.loc[1].loc[carrying] > 0.5).all()


def test_what_is_carried_moves_one_position_on_in_layer_0_and_to_the_end_in_layer_1(table):
    """The cue's letter reaches the position after it, where the last position finds it."""
    cells = by_position(table)["recovered"]
    cue, other, last = LENGTH - 2, LENGTH // 2 - 1, 2 * LENGTH - 2
    for layer, places in ((0, {cue, other}), (1, {cue + 1, other + 1})):
        row = cells.loc[("resid_pre", layer)]
        assert set(row.index[row.abs() > 0.1]) == places
    assert cells.loc[("attn_out", 1, last)] > 0.9
    rest = cells.loc[("attn_out", 1)].drop(last)
    assert rest.abs().max() < 1e-3


def test_figures_and_page_are_there_in_every_format(folder):
    files = {path.name for path in (folder / "figures").iterdir()}
    assert {path.rpartition(".")[2] for path in files} == {"png", "svg", "pdf"}
    names = {path.rpartition(".")[0] for path in files}
    assert {"positions", "heads", "scores"} <= names
    assert sum(name.startswith("pattern_") for name in names) == 2
    assert "induction score of layer 1" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_model_is_trained_once_and_its_corrupted_answer_can_be_asked_about_too(
    folder, runs, monkeypatch
):
    monkeypatch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
    monkeypatch.setattr(experiments.support.trainings.small, "train_on", None)
    again = main(Config(runs=runs, examples=32, length=12, corrupt="answer", name="answer"))
    table = pd.read_parquet(again.parent / "results.parquet")
    cells = by_position(table)["recovered"]
    for layer in (0, 1):  # the letter itself is what matters, and it stays in its place
        assert cells.loc[("resid_pre", layer)].idxmax() == 11
        assert cells.loc[("resid_pre", layer, 11)] > 0.95
    # entering layer 0 nothing else differs: putting it back is the clean run
    assert cells.loc[("resid_pre", 0, 11)] == pytest.approx(1, abs=1e-6)


def test_a_block_is_one_string_of_different_letters_over_and_over():
    recipe = InductionRecipe(shortest=3, longest=7, block_size=20, batch_size=40)
    tokens = repeated_strings(recipe, torch.Generator().manual_seed(0))
    periods = set()
    for row in tokens.tolist():
        period = next(p for p in range(1, 20) if row[p:] == row[:-p])
        assert len(set(row[:period])) == period
        periods.add(period)
    assert periods == {3, 4, 5, 6, 7}


def test_a_swapped_cue_leaves_the_answer_in_place_and_gives_the_cue_another_successor():
    clean, corrupted, answer, wrong = swapped_cues(26, 10, 20, seed=3)
    assert clean.shape == corrupted.shape == (20, 19)
    for one, other in zip(clean.tolist(), corrupted.tolist(), strict=True):
        assert len(set(one[:10])) == 10
        assert one[10:] == one[:9]
        assert sorted(one) == sorted(other)
        assert sum(a != b for a, b in zip(one, other, strict=True)) == 2
        cue = one[-1]
        assert one[one.index(cue) + 1] == one[answer] == other[answer]
        assert other[other.index(cue) + 1] == one[wrong] == other[wrong]


@pytest.mark.usefixtures("small")
def test_a_pair_from_the_command_line_is_patched(runs, text):
    config = Config(
        runs=runs, text=str(text), clean="the ob", corrupted="the me", answer="j", wrong="t"
    )
    folder = main(config).parent
    table = pd.read_parquet(folder / "results.parquet")
    assert (table["n"] == 1).all()
    assert table["p_adjusted"].isna().all()
    deltas = by_position(table)["delta"].loc[("resid_pre", 1)]
    assert (deltas.loc[:3] == 0).all()
    assert deltas.loc[5] != 0
    positions = pd.read_parquet(folder / "positions.parquet")
    assert "".join(positions["corrupted"]) == "the me"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "1 pair, no interval from fewer than three" in page


@pytest.mark.usefixtures("small")
def test_a_file_of_pairs_is_patched_together(runs, text, tmp_path):
    path = tmp_path / "several.csv"
    path.write_text('clean,corrupted,answer,wrong\n"a, b",a. b,c,e\nthe ,tha ,o,d\n')
    folder = main(Config(runs=runs, text=str(text), pairs=path)).parent
    assert folder.name.endswith("-several")
    assert (pd.read_parquet(folder / "results.parquet")["n"] == 2).all()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--clean", "abc", "--corrupted", "abcd"], "'abc' has 3 characters and 'abcd' has 4"),
        (["--clean", "abc"], "--clean is given and --corrupted is not"),
        (["--corrupted", "abc"], "--corrupted is given and --clean is not"),
        (["--clean", "abc", "--corrupted", "abc"], "both clean and corrupted"),
        (["--answer", "a"], "--answer and --wrong are about a pair"),
        (["--length", "17"], "take 33 letters, and this model's block holds 32"),
        (["--length", "5"], "it must be at least 6"),
        (["--examples", "1"], "--examples is 1"),
        (["--pairs", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--model", "nowhere.safetensors"], "there is no checkpoint at nowhere.safe"),
    ],
)
def test_misuse_is_one_sentence_and_nothing_is_written(refused, arguments, sentence):
    assert sentence in refused(main, Config, *arguments)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ({"clean": "the Ω", "corrupted": "the o"}, "the character 'Ω' at position 4"),
        ({"clean": "the", "corrupted": "tho", "answer": "ab"}, "it must be one token"),
        ({"clean": "the", "corrupted": "tho", "answer": "a", "wrong": "a"}, "'a' both times"),
    ],
)
def test_a_pair_that_the_model_cannot_answer_starts_no_run(runs, text, pair, sentence):
    with pytest.raises(ValueError, match=sentence):
        main(Config(runs=runs, text=str(text), name="never", **pair))
    assert not (runs / "patching" / "never").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("clean,wrong\nab,c\n", "must have columns clean and corrupted"),
        ("clean,corrupted\n", "it has 0 rows"),
        ("clean,corrupted\nab,ac\nabc,abd\n", "'ab' has 2 characters and 'abc' has 3"),
    ],
)
def test_a_file_that_holds_no_pairs_is_one_sentence(refused, tmp_path, content, sentence):
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    assert sentence in refused(main, Config, "--pairs", str(path))
