"""Retraining sweeps, end to end, on a model that trains in seconds."""

import json
import os
import resource
import signal
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.retrain import Config, Sweep, main
from experiments.support.cli import launch
from experiments.support.retraining import run_all
from experiments.support.trainings.choosing import choose_surgeries
from experiments.support.trainings.executors import InProcess
from experiments.support.trainings.tasks import resize_preset, tasks_of
from gpt import GPTConfig
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, Preset, TrainConfig
from interp import surgery
from interp.runs import Run

TINY = Preset(
    GPTConfig(block_size=16, n_layer=2, n_head=2, n_embd=16),
    TrainConfig(
        steps=60, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=20, eval_blocks=16
    ),
)
SWEEP = {"surgeries": ("no_residual", "top:2"), "seeds": 2, "texts": 4}


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "demo", TINY)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished sweep, trained in this process."""
    return main(Config(runs=tmp_path_factory.mktemp("runs"), workers=0, **SWEEP)).parent


def test_every_surgery_has_every_seed_and_the_model_as_it_is_has_five(run):
    table = pd.read_parquet(run / "results.parquet")
    seeds = table.groupby("variant", sort=False)["seed"].unique().map(list)
    assert seeds["none"] == [0, 1, 2, 3, 4]
    assert len(seeds) == 4
    assert all(found == [0, 1] for variant, found in seeds.items() if variant != "none")
    assert set(table["status"]) <= {"changed", "leak"}


def test_an_id_that_only_a_run_of_the_model_can_find_may_be_asked_for():
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    preset = resize_preset(TINY, tokenizer.vocab_size, None)
    data = split(corpus, tokenizer, TINY.model.block_size)
    found = choose_surgeries(["model.py:203:zero", "model.py:203:cut-skip"], preset, data)
    assert [cut.after for cut in found.values()] == [
        "x = torch.zeros_like(x + mlp_out)",
        "x = mlp_out",
    ]


def test_the_lines_chosen_are_those_that_do_the_trained_model_most_harm(run):
    posthoc = pd.read_parquet(run / "posthoc.parquet")
    whole = posthoc.set_index("id")
    function = whole["same_as"].where(whole["same_as"] != "", whole.index)
    lines = surgery.headlines(posthoc)
    lines = lines[lines["status"].isin(["changed", "leak"]) & ~lines["code"].str.contains("hook_")]
    lines = lines[lines["operator"] != "mean"].set_index("id")
    order = lines["delta"].abs().sort_values(ascending=False, kind="stable").index
    effects = pd.read_parquet(run / "lasting_cost.parquet")
    assert effects["variant"].iloc[0] == "no_residual"
    largest = list(effects["variant"].iloc[1:])
    assert [function[one] for one in largest] == list(function[order].unique()[:2])
    chosen = effects.set_index("id")
    again = whole.loc[largest, "delta"]
    assert chosen.loc[largest, "delta"].to_numpy() == pytest.approx(again.to_numpy(), abs=1e-6)


def test_damage_and_lasting_cost_meet_in_one_table_and_figure(run):
    effects = pd.read_parquet(run / "lasting_cost.parquet").set_index("variant")
    summary = pd.read_parquet(run / "summary.parquet").set_index("variant")
    for variant in effects.index:
        assert effects.loc[variant, "retrained_delta"] == summary.loc[variant, "delta"]
    assert effects["retrained_ci_low"].isna().all() and (effects["retrained_n"] == 2).all()
    assert (run / "figures" / "damage_and_lasting_cost.pdf").stat().st_size > 0
    assert "no_residual" in (run / "report.html").read_text()


def test_killed_with_its_workers_at_work_it_ends_with_the_same_tables(run, tmp_path):
    """The driver dies by SIGKILL after one task, and again after five; then a last time none."""
    for enough in (1, 5):
        driver = forked(lambda: main(Config(runs=tmp_path, workers=2, **SWEEP)))
        finished(tmp_path, enough)
        os.kill(driver, signal.SIGKILL)
        os.waitpid(driver, 0)
    page = main(Config(runs=tmp_path, workers=0, **SWEEP))
    for name in ("results", "summary", "lasting_cost", "confirmed"):
        table = pd.read_parquet(page.parent / f"{name}.parquet")
        expected = pd.read_parquet(run / f"{name}.parquet")
        pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_a_finished_sweep_makes_no_table_again(run, monkeypatch):
    options = Config(runs=run.parents[1], workers=0, **SWEEP)
    first = {path.name: path.read_bytes() for path in run.glob("*.parquet")}
    with monkeypatch.context() as patched:
        patched.setattr(Sweep, "save_tables", None)
        main(options)
    (run / "damage.parquet").unlink()  # what is lost is made again, and is the same
    main(options)
    assert {path.name: path.read_bytes() for path in run.glob("*.parquet")} == first


def test_a_disk_that_is_full_is_one_sentence_and_nothing_is_lost(tmp_path, capfd):
    def on_a_full_disk():
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        argv = ["--runs", str(tmp_path), "--workers", "1", "--surgeries", "single_head"]
        launch(main, Config, argv)

    driver = forked(on_a_full_disk)
    assert os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) == 2
    assert "File too large" in capfd.readouterr().err
    assert main(Config(runs=tmp_path, workers=0, surgeries=("single_head",))).exists()


def test_another_run_beside_it_lends_what_it_has_finished(run, monkeypatch):
    monkeypatch.setattr("experiments.support.retraining.train_side_by_side", None)
    root = run.parents[1]
    page = main(Config(runs=root, workers=0, seeds=2, surgeries=("no_residual",), texts=4))
    lent = pd.read_parquet(page.parent / "results.parquet")
    table = pd.read_parquet(run / "results.parquet")
    table = table[table["variant"].isin(["none", "no_residual"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(lent, table, check_exact=True)


def test_a_surgery_that_cannot_be_trained_or_sees_the_future_is_a_row(tmp_path):
    source = surgery.read_source("gpt/model.py")
    found = surgery.enumerate_surgeries(source)
    unmasked = next(s for s in found if "is_causal=False" in s.after)
    mistaken = next(s for s in found if s.operator == "bypass-call" and "self.fc" in s.before)
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    model = GPTConfig(**{**vars(TINY.model), "vocab_size": tokenizer.vocab_size})
    data = split(corpus, tokenizer, model.block_size)
    with Run.open(tmp_path, "retrain", "test", {}) as run:
        variants = {"unmasked": unmasked, "mistaken": mistaken}
        tasks = tasks_of(run, variants, [0], Preset(model, TINY.train), corpus.sha256)
        rows = pd.DataFrame(run_all(run, tasks, {corpus.sha256: (data, tokenizer)}, InProcess()))
    status = rows.groupby("variant")["status"].unique().map(list)
    assert status["unmasked"] == ["leak"]
    assert status["mistaken"] == ["error"]
    assert "TypeError" in rows.set_index("variant").loc["mistaken", "detail"]


def test_status_tells_how_far_a_run_is_without_touching_it(run, capsys):
    argv = ["--runs", str(run.parents[1]), "--name", run.name, "--status"]
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    launch(main, Config, argv)
    said = capsys.readouterr().out
    assert "done, 0 running, 0 left" in said
    assert "nobody is at it" in said
    assert before == {path: path.stat().st_mtime_ns for path in run.iterdir()}
    kept = json.loads((run / "progress.json").read_bytes())
    assert len(kept["final"]) == len(kept["names"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--surgeries", "top:none"], "write top:12, once"),
        (["--surgeries", "no_residuals"], "no surgery is called 'no_residuals'; nearest: no_resid"),
        (["--seeds", "0"], "--seeds is 0; it must be from 1 to 10000"),
        (["--status"], "no training has begun"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(tmp_path, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        launch(main, Config, ["--runs", str(tmp_path / "runs"), *arguments])
    assert exit_.value.code == 2
    answer = capsys.readouterr().err
    assert answer.startswith("error: ") and answer.count("\n") == 1
    assert sentence in answer
    assert not (tmp_path / "runs").exists()


def forked(work) -> int:
    """A process that does ``work``, with all that this one has imported."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            os._exit(status)
    return child


def finished(root: Path, enough: int, within: float = 120.0) -> None:
    """Wait until so many tasks are recorded."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        for path in root.glob("retrain/*/tasks.sqlite"):
            with sqlite3.connect(path) as store:
                try:
                    if store.execute("SELECT count(*) FROM tasks").fetchone()[0] >= enough:
                        return
                except sqlite3.OperationalError:  # the table is not made yet
                    pass
        time.sleep(0.01)
    raise AssertionError(f"{enough} tasks were not finished in {within} s")


def test_a_training_in_another_precision_is_another_task(tmp_path):
    with Run.open(tmp_path, "retrain", "test", {}) as run:
        here, there = (
            tasks_of(run, {"none": None}, [0], TINY, "text", device=device)[0]
            for device in ("cpu", "cuda")
        )
    assert (here.train.precision, there.train.precision) == ("float32", "bfloat16")
    assert here.identity != there.identity
    assert here.state != there.state
