"""The course's experiment, end to end, on a model that trains in seconds."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from experiments.course import Config, main
from experiments.support.cli import launch
from experiments.support.pages.joining import quizzes_of
from gpt import GPTConfig
from gpt.train import PRESETS, Preset, TrainConfig
from interp.runs import SavedRun

TINY = Preset(
    GPTConfig(block_size=16, n_layer=2, n_head=2, n_embd=16),
    TrainConfig(
        steps=60, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=20, eval_blocks=16
    ),
)
CUTS = {
    "no_residual": ["x = x + attn_out → x = attn_out", "x = x + mlp_out → x = mlp_out"],
    "no_layer_norm": [
        "self.ln1(attn_in) → attn_in = attn_in",
        "self.ln2(mlp_in) → mlp_in = mlp_in",
    ],
    "no_position_embedding": ["x = tok_emb + pos_emb → x = tok_emb"],
    "single_head": ["self.n_head = config.n_head → self.n_head = 1"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "demo", TINY)
        page = main(Config(runs=tmp_path_factory.mktemp("runs"), seeds=2))
    return page.parent


def test_every_variant_and_seed_has_its_whole_curve_and_the_lines_that_were_cut(run):
    table = pd.read_parquet(run / "results.parquet")
    assert set(table["variant"]) == {"none", *CUTS}
    counts = table.groupby(["variant", "seed", "split"])["step"].agg(list)
    assert len(counts) == 5 * 2 * 2
    assert all(steps == [0, 20, 40, 60] for steps in counts)
    for variant, cuts in CUTS.items():
        rows = table[table["variant"] == variant]
        label, diff = rows["label"].iloc[0], rows["diff"].iloc[0]
        for cut in cuts:
            assert cut in label
        assert label.count("model.py:") == len(cuts)
        assert diff.count("\n-  ") == diff.count("\n+  ") == len(cuts)


def test_a_study_stopped_on_its_way_is_the_beginning_of_the_whole_and_goes_on(
    run, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRESETS, "demo", TINY)
    config = Config(runs=tmp_path, name="study", seeds=1, only=("no_residual",), stop_at=40)
    keys = ["variant", "seed", "split", "step"]
    whole = pd.read_parquet(run / "results.parquet").set_index(keys)["loss"]

    def losses() -> pd.Series:
        return pd.read_parquet(folder / "results.parquet").set_index(keys)["loss"]

    folder = main(config).parent
    assert sorted(losses().index.unique("step")) == [0, 20, 40]
    pd.testing.assert_series_equal(losses(), whole[losses().index])
    assert len(list((folder / "scratch").iterdir())) == 2
    main(replace(config, stop_at=None))
    assert sorted(losses().index.unique("step")) == [0, 20, 40, 60]
    pd.testing.assert_series_equal(losses(), whole[losses().index])
    assert not list((folder / "scratch").iterdir())


def test_variants_start_from_the_same_weights_and_part_when_trained(run):
    """Cut lines that do nothing at the start leave the loss of step 0 almost as it was."""
    val = pd.read_parquet(run / "results.parquet").query("split == 'val' and seed == 0")
    start = val[val["step"] == 0].set_index("variant")["loss"]
    assert start["single_head"] == pytest.approx(start["none"], abs=0.01)
    end = val[val["step"] == 60].set_index("variant")["loss"]
    assert end.nunique() == 5
    assert end["none"] < start["none"] - 0.5


def test_figures_and_page_are_there_in_every_format(run):
    names = {"learning_curves", "loss_bars", *(f"curve_{variant}" for variant in CUTS)}
    files = {path.name for path in (run / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "x = attn_out" in page
    assert "against the model as it is" in page


def test_trained_weights_know_which_lines_were_cut(run):
    from gpt import checkpoint
    from gpt.errors import UsageError

    whole = checkpoint.load(run / "models" / "none-0.safetensors")
    assert whole.identity.surgery == ""
    with pytest.raises(UsageError, match=r"with the surgery model\.py:\d+\+\d+:cut-skip"):
        checkpoint.load(run / "models" / "no_residual-0.safetensors")


def test_started_again_it_trains_nothing_and_gives_the_same_table(run, monkeypatch):
    monkeypatch.setitem(PRESETS, "demo", TINY)
    monkeypatch.setattr("experiments.support.retraining.train_side_by_side", None)
    before = (run / "results.parquet").read_bytes()
    main(Config(runs=run.parent.parent, seeds=2))
    assert (run / "results.parquet").read_bytes() == before


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_course import TINY
from experiments.support.cli import launch
from experiments.course import Config, main
from gpt.train import PRESETS
PRESETS["demo"] = TINY
launch(main, Config, ["--runs", sys.argv[1], "--seeds", "2"])
"""


def test_stopped_by_ctrl_c_and_started_again_it_ends_with_the_same_table(
    run, tmp_path, monkeypatch
):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        # a shell lets what it runs in the background ignore Ctrl-C, and so these tests
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    folder = tmp_path / "course" / "demo-python-docs"
    finished_tasks(folder, at_least=2, within=120)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert finished_tasks(folder, at_least=2) < 10, "it was over before it could be interrupted"
    assert process.returncode == 130
    assert errors.strip() == "stopped; the same command goes on from here"
    monkeypatch.setitem(PRESETS, "demo", TINY)
    main(Config(runs=tmp_path, seeds=2, workers=1))
    table = pd.read_parquet(folder / "results.parquet")
    pd.testing.assert_frame_equal(table, pd.read_parquet(run / "results.parquet"), check_exact=True)


def finished_tasks(folder: Path, at_least: int, within: float = 5) -> int:
    """How many tasks the store holds, once there are enough."""
    deadline = time.monotonic() + within
    count = -1
    while time.monotonic() < deadline and count < at_least:
        if (folder / "tasks.sqlite").exists():
            with sqlite3.connect(folder / "tasks.sqlite") as store:
                try:
                    count = store.execute("SELECT count(*) FROM tasks").fetchone()[0]
                except sqlite3.OperationalError:  # the table is not made yet
                    count = -1
        time.sleep(0.02)
    assert count >= at_least
    return count


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", "shakespear"], "shakespear"),
        (["--only", "no_residuals"], "there is no variant 'no_residuals'; nearest: no_residual"),
        (["--seeds", "0"], "--seeds is 0; it must be from 1 to 10000"),
        (["--name", "../elsewhere"], "'../elsewhere' cannot name a run"),
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


def test_the_page_shows_no_figure_and_says_no_sentence_twice(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img src="(data:[^"]+)"', page)
    texts = re.findall(r"(?s)<(?:p|li|figcaption)\b[^>]*>(.*?)</(?:p|li|figcaption)>", page)
    plain = [" ".join(re.sub("<[^>]+>", "", text).split()) for text in texts]
    said = [one for text in plain for one in re.split(r"(?<=[.:]) ", text) if len(one.split()) > 8]
    assert len(pictures) == len(set(pictures)) > 3
    assert [one for one in said if said.count(one) > 1] == []


def test_a_cut_is_asked_for_once_and_no_text_of_the_quiz_stands_elsewhere_on_the_page(run):
    (quiz,) = quizzes_of([SavedRun.at(run)])
    answers = [line for question in quiz.questions for line in question.lines]
    assert len(answers) == len(set(answers)) and len(quiz.questions) == len(CUTS)
    (by_text,) = (question for question in quiz.questions if question.wrote)
    assert by_text.curve is None and not by_text.bars
    page = unescape(re.sub(r"</?(mark|span)[^>]*>", "", (run / "report.html").read_text()))
    for text in by_text.wrote.texts:
        wrote = "".join(piece for _, piece in text.pieces)
        assert page.count(wrote) == 1
    measured = pd.read_parquet(run / "text_measures.parquet").set_index("variant")
    deltas = measured[measured["measure"] == "trigram_loss"]["delta"].drop("none").abs()
    asked = pd.read_parquet(run / "results.parquet").set_index("surgery")["variant"]
    assert asked.loc[by_text.surgery].iloc[0] == deltas.idxmax()
