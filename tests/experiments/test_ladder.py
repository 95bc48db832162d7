"""The ladder's experiment, end to end, on rungs that train in a moment."""

import math
from pathlib import Path

import pandas as pd
import pytest

from experiments import ladder
from experiments.ladder import Config, main, rung_sentence, scaling, summarise_rungs
from experiments.support.cli import launch
from experiments.support.sampling import prompts_of, writing_parts
from experiments.support.trainings import rungs
from gpt.ladder import RUNGS, Recipe, climb
from gpt.text import CharTokenizer, load_corpus, split
from interp.runs import SavedRun
from interp.samples import write


@pytest.fixture(scope="module")
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs, "DEMO", Recipe(8, 21, 10, eval_batches=2))
        patch.setattr(ladder, "SAMPLE", 12)  # characters after each prompt
        yield patch


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> Path:
    return main(Config(runs=tmp_path_factory.mktemp("runs"))).parent


def test_every_rung_has_its_curve_and_its_diff(run):
    table, summary = (pd.read_parquet(run / f"{n}.parquet") for n in ("results", "summary"))
    assert list(summary["rung"]) == list(RUNGS)
    steps = table.groupby(["variant", "split"])["step"].agg(list)
    assert len(steps) == 2 * len(RUNGS)
    assert all(at == [0, 10, 20] for at in steps)
    assert list(summary["diff"] == "") == [name == "bigram" for name in RUNGS]


def test_every_rung_continues_the_same_prompts_on_the_same_random_numbers(run, tiny, monkeypatch):
    samples = pd.read_parquet(run / "samples.parquet")
    prompts = samples.groupby("variant", sort=False)["prompt"].agg(list)
    assert list(prompts.index) == list(RUNGS) and len(set(map(tuple, prompts))) == 1
    assert (samples["text"].str.len() == 12).all() and (samples["seed"] == 1337).all()
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, 8)
    size, recipe = rungs.plan_rung("heads", "demo", tokenizer.vocab_size)
    model, _ = climb(RUNGS["heads"], data, vocab_size=size.vocab_size, size=size, recipe=recipe)
    asked = prompts_of(data, 8)
    alone = write(model, asked, 12, seeds=[1337], tokenizer=tokenizer, use_cache=False)
    wrote = samples.loc[samples["variant"] == "heads", "text"]
    assert [one.text for one in alone.samples] == list(wrote)


def test_what_rungs_write_is_counted_against_the_lowest_and_no_place_is_marked(run):
    counted = pd.read_parquet(run / "text_measures.parquet")
    assert set(counted.loc[counted["delta"].isna() & counted["value"].notna(), "variant"]) == {
        "bigram"
    }
    (view,) = writing_parts([SavedRun.at(run)])
    assert view.title == "Text of each rung" and view.baseline == "bigram"
    texts = view.continued(view.prompts[0]).texts
    assert [text.variant for text in texts] == list(RUNGS)
    assert all(alike for text in texts for alike, _ in text.pieces)
    page = (run / "report.html").read_text()
    assert "difference to the lowest rung" in page and "table of which token" in page


def test_gains_add_up_to_the_whole_staircase(run):
    summary = pd.read_parquet(run / "summary.parquet")
    whole = summary["val"].iloc[0] - summary["val"].iloc[-1]
    assert summary["gain"].sum() == pytest.approx(whole)
    last = pd.read_parquet(run / "results.parquet").query("split == 'val' and step == 20")
    assert last["loss"].tolist() == summary["val"].tolist()


def test_the_page_holds_every_step_and_figure(run):
    page = (run / "report.html").read_text()
    for rung in list(RUNGS)[1:]:
        assert f"+++ {rung}" in page
    for figure in ("staircase", "steps", "learning_curves", "scaled_scores"):
        assert all((run / "figures" / f"{figure}.{kind}").exists() for kind in ("png", "svg"))


def test_what_was_climbed_is_not_climbed_again(run, monkeypatch):
    def climb(*args: object, **kwargs: object) -> None:
        raise AssertionError("climbed again")

    before = pd.read_parquet(run / "summary.parquet")
    monkeypatch.setattr(ladder, "climb", climb)
    monkeypatch.setattr(ladder, "present", lambda run, draw: run.folder)
    main(Config(runs=run.parent.parent))
    pd.testing.assert_frame_equal(pd.read_parquet(run / "summary.parquet"), before)


def test_some_rungs_are_climbed_from_the_lowest_up(tiny, tmp_path):
    page = main(Config(runs=tmp_path, rung=("one head", "bigram")))
    summary = pd.read_parquet(page.parent / "summary.parquet")
    assert list(summary["rung"]) == ["bigram", "one head"]
    assert summary["gain"].isna().all()  # the rung between them is not there to compare with


@pytest.mark.parametrize(
    ("val", "said"),
    [(2.28583, "as published (2.2858)"), (2.2959, "0.0101 off what is published (2.2858)")],
)
def test_a_loss_is_held_against_the_published_one(val, said):
    record = {
        "curve": [{"step": 4500, "train_loss": 2.2, "val_loss": val}],
        "parameters": 1,
    }
    (row,) = summarise_rungs({"heads": record}, of_lecture=True).to_dict("records")
    assert said in rung_sentence(row)
    (row,) = summarise_rungs({"heads": record}, of_lecture=False).to_dict("records")
    assert "published" not in rung_sentence(row)


def test_scores_grow_with_the_head_unless_they_are_divided():
    table = scaling(draws=50)
    for row in table.to_dict("records"):
        expected = 1 if row["scaled"] else row["d_head"]
        error = 5 * row["variance_sd"] / math.sqrt(row["n"])
        assert row["variance"] == pytest.approx(expected, abs=error)
        assert 0 < row["entropy"] < row["uniform"]
    unscaled = table[~table["scaled"]].sort_values("d_head")["entropy"]
    assert unscaled.is_monotonic_decreasing


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rung", "layernorm"], "there is no rung 'layernorm'; nearest: layer norm"),
        (["--text", "shakespear"], "shakespear"),
    ],
)
def test_bad_input_is_answered_with_one_sentence_and_nothing_is_written(
    tmp_path, capsys, arguments, sentence
):
    with pytest.raises(SystemExit) as exit_:
        launch(main, Config, ["--runs", str(tmp_path / "runs"), *arguments])
    assert exit_.value.code == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ")
    assert answer.count("\n") == 1
    assert sentence in answer
    assert not (tmp_path / "runs").exists()
