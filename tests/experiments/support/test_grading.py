"""Hand-ins: what an honest one shows, and that whatever was changed in another is found."""

import json
import os
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from experiments import course, report
from experiments.support.cli import launch
from experiments.support.grading import grade_all, grade_folder, table_of_grades
from experiments.support.grading.reproducing import FIRST, compare_repetition, smallest_training
from experiments.support.pages.joining import quiz_of
from experiments.support.pages.summary import summarise
from interp.runs import Run, SavedRun
from interp.runs.store import checksum_of_rows
from tests.experiments.spoiling import change_description, change_table

pytestmark = pytest.mark.usefixtures("small")
CUT = "x = x + attn_out => x = attn_out"


@pytest.fixture(scope="module")
def course_run(small, runs, text) -> Path:
    """A run without figures, which take longer to draw than the rest and are not graded."""
    settings = {"runs": runs, "text": str(text), "seeds": 2, "workers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course, "present", lambda run, *_: run.folder / "report.html")
        patch.setattr(course, "TEXTS", 2)
        return course.main(course.Config(name="own", cut=(f"no_skip={CUT}",), **settings)).parent


@pytest.fixture
def hand_in(course_run, tmp_path) -> Path:
    shutil.copytree(course_run, tmp_path / "anna" / "own")
    return tmp_path / "anna"


def change_config(folder, **changes):
    change_description(folder, lambda run: run | {"config": run["config"] | changes})


def config_of(folder):
    return SavedRun.at(folder).description["config"]


def test_an_honest_hand_in_passes(hand_in, capsys):
    (hand_in / "notes.md").write_text("# no skip\nIt ends at {{ course.no_skip.val_last:.3f }}.\n")
    grade = grade_folder(hand_in)
    assert grade.sound and not grade.remarks
    assert grade.runs == ["course/own"] and grade.notes == "1 by reference, 0 typed"
    (cut,) = grade.cuts
    assert cut == "no_skip (model.py:197:edit[no_skip]): model.py:197  " + CUT.replace("=>", "→")


def test_a_run_s_folder_is_a_hand_in(course_run):
    assert grade_folder(course_run).sound


def test_a_training_is_repeated_to_the_last_bit(hand_in, text):
    grade = grade_folder(hand_in, repeat=True, text=str(text))
    assert not grade.remarks
    assert grade.repeated.startswith("yes: no_skip seed 0, 60 steps: ")
    assert grade.repeated.endswith("to the last bit")


def lower_losses(table):
    cut = table["variant"] == "no_skip"
    return table.assign(loss=table["loss"].where(~cut, table["loss"] - 0.1))


def forge_loss(folder):
    change_table(folder, "results", lower_losses)
    again = summarise(SavedRun.at(folder).table(), 60)
    change_table(folder, "summary", lambda _: again)


def change_seed(folder):
    change_table(folder, "results", lambda t: t.assign(seed=t["seed"] + 5))
    change_config(folder, seeds=[5, 6])


def change_diff(folder):
    def changed(table):
        return table.assign(
            diff=table["diff"].str.replace("+        x = attn_out", "+        x = x")
        )

    assert SavedRun.at(folder).table()["diff"].str.contains(r"\+        x = attn_out").any()
    change_table(folder, "results", changed)


def change_source(folder):
    def changed(table):
        return table.assign(code=table["code"].str.replace("mlp_out", "mlp_put"))

    change_table(folder, "source", changed)


def edit_number(folder):
    table = pd.read_parquet(folder / "summary.parquet")
    table.assign(delta=table["delta"] / 2).to_parquet(folder / "summary.parquet")


def edit_store(folder):
    with closing(sqlite3.connect(folder / "tasks.sqlite")) as store, store:
        store.execute("UPDATE tasks SET rows = replace(rows, '\"step\": 20', '\"step\": 21')")


def edit_config(folder):
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"seeds"', '"sedes"'))


def change_recipe(folder):
    change_config(folder, train=config_of(folder)["train"] | {"learning_rate": 0.02})


TAMPERED = {
    "a number in a table": (edit_number, "summary.parquet is damaged, or not the table that was"),
    "the config": (edit_config, "it was changed since the run wrote it"),
    "a recorded row": (edit_store, "tasks fail their checksum"),
    "weights": (
        lambda folder: next((folder / "models").glob("*")).write_bytes(b"none"),
        r"models/.*\.safetensors",
    ),
    "a loss, with checksums": (forge_loss, "say something else than was recorded: no_skip seed 0"),
    "a difference, with checksums": (
        lambda folder: change_table(
            folder, "summary", lambda t: t.assign(delta=[0.0, *(t["delta"][1:] + 0.01)])
        ),
        "its summary does not follow from its trainings: delta",
    ),
    "a text, with checksums": (
        lambda folder: change_table(folder, "samples", lambda t: t.assign(text="To be, or not")),
        "say something else than was recorded: none seed 0",
    ),
    "a seed, with checksums": (change_seed, "no training was recorded of this source, diff"),
    "a seed left out, with checksums": (
        lambda folder: change_table(folder, "results", lambda t: t[t["seed"] == 0]),
        "lacks trainings that its config names: none seed 1, no_skip seed 1",
    ),
    "the diff, with checksums": (change_diff, "the cut no_skip is not the one that its config"),
    "the cut's name, with checksums": (
        lambda folder: change_table(
            folder,
            "results",
            lambda t: t.assign(surgery=t["variant"].replace("none", "")),
        ),
        "the cut no_skip is not the one that its config names",
    ),
    "the recipe, with checksums": (change_recipe, "no training was recorded of this source"),
    "the text's hash, with checksums": (
        lambda folder: change_config(folder, text={"name": "docs.txt", "sha256": "0" * 64}),
        "no training was recorded of this source",
    ),
    "the source, with checksums": (change_source, "the source that it keeps is not the one"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_found(hand_in, what):
    change, told = TAMPERED[what]
    change(hand_in / "own")
    grade = grade_folder(hand_in)
    assert grade.sound is False
    assert pd.Series(grade.remarks).str.contains(told).any(), grade.remarks
    assert not any("\n" in remark for remark in grade.remarks)


def test_only_a_repetition_finds_what_was_forged_throughout(hand_in, text):
    folder = hand_in / "own"
    forge_loss(folder)
    forged = {
        (row["seed"], row["step"], row["split"]): row["loss"]
        for row in SavedRun.at(folder).table().query("variant == 'no_skip'").to_dict("records")
    }
    with closing(sqlite3.connect(folder / "tasks.sqlite")) as store, store:
        for identity, kept in store.execute("SELECT identity, rows FROM tasks").fetchall():
            rows = json.loads(kept)
            for seed in (0, 1):
                if [r["loss"] for r in rows if "step" in r and r["split"] == "val"][-1:] == [
                    pytest.approx(forged[seed, 60, "val"] + 0.1, abs=1e-12)
                ]:
                    for row in rows:
                        if "step" in row:
                            row["loss"] = forged[seed, row["step"], row["split"]]
            text_of_rows = json.dumps(rows)
            store.execute(
                "UPDATE tasks SET rows = ?, sha256 = ? WHERE identity = ?",
                (text_of_rows, checksum_of_rows(identity, text_of_rows), identity),
            )
    assert grade_folder(hand_in).sound
    grade = grade_folder(hand_in, repeat=True, text=str(text))
    assert grade.repeated.startswith("NO: no_skip seed 0")
    assert any("it does not repeat" in remark for remark in grade.remarks)


def test_another_processor_s_rounding_is_not_held_against_a_run(course_run):
    training = smallest_training([SavedRun.at(course_run)])
    for change, same in ((FIRST / 2, True), (0.2, False)):
        made = [
            row | ({"loss": row["loss"] + change} if "loss" in row else {}) for row in training.rows
        ]
        assert compare_repetition(training, made).is_same is same


def test_a_number_that_was_not_measured_is_found_in_a_study_of_lines(tmp_path):
    measured = {"value": 2.5, "delta": 0.7}
    with Run.open(tmp_path, "lines", "own", {}) as run:
        run.record("1" * 64, [measured])
        run.save_table(pd.DataFrame([measured]))
    assert grade_folder(run.folder).sound
    change_table(run.folder, "results", lambda t: t.assign(delta=0.6))
    (remark,) = grade_folder(run.folder).remarks
    assert remark == "lines/own: its results hold 1 numbers that were not recorded: 0.6000"


def link_elsewhere(folder):
    (folder / "own" / "summary.parquet").unlink()
    (folder / "own" / "summary.parquet").symlink_to("/etc/hostname")


def read_another_file(folder):
    """A diff that is the path of a file of whoever grades."""
    change_table(
        folder / "own",
        "results",
        lambda t: t.assign(diff=t["diff"].where(t["diff"] == "", "/etc/hostname")),
    )


BAD = {
    "no run": (lambda folder: shutil.rmtree(folder / "own"), "it is empty"),
    "no description": (lambda folder: (folder / "own" / "run.json").unlink(), "it holds no run"),
    "no results": (lambda folder: (folder / "own" / "results.parquet").unlink(), "it is missing"),
    "no store": (lambda folder: (folder / "own" / "tasks.sqlite").unlink(), "unable to open"),
    "half a table": (
        lambda folder: (folder / "own" / "samples.parquet").write_bytes(b"PAR1"),
        "samples.parquet is damaged",
    ),
    "a link": (link_elsewhere, "own/summary.parquet is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "notes.md"), "neither a file nor a folder"),
    "a path for a diff": (read_another_file, "no_skip has no diff"),
    "a name that leads away": (
        lambda folder: change_description(
            folder / "own", lambda run: run | {"experiment": "../../course"}
        ),
        "that has no page",
    ),
    "a config of another kind": (
        lambda folder: change_config(folder / "own", model=["<b>"], text=None),
        "its trainings: it does not hold what it must",
    ),
    "notes that are no text": (
        lambda folder: (folder / "notes.md").write_bytes(b"\xff\xfe"),
        "the notes: it does not hold what it must",
    ),
    "notes that quote nothing": (
        lambda folder: (folder / "notes.md").write_text("{{ course.no_skip.lst }} and 9.99"),
        "is no number of these runs",
    ),
    "a score that is none": (
        lambda folder: (folder / "quiz.json").write_text('{"quiz": 1, "questions": [{}]}'),
        "quiz.json: it does not hold what it must",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_hand_in_is_a_sentence_and_the_others_are_graded(hand_in, course_run, what):
    spoil, told = BAD[what]
    spoil(hand_in)
    bad, good = grade_all([hand_in, course_run])
    assert any(told in remark for remark in bad.remarks), bad.remarks
    assert good.sound and good.cuts


def test_what_is_no_folder_is_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "ben.zip", "w") as packed:
        packed.writestr("run.json", "{}")
    (tmp_path / "carl.txt").write_text("my run")
    grades = grade_all([tmp_path / "ben.zip", tmp_path / "carl.txt", tmp_path / "dora"])
    assert [grade.remarks for grade in grades] == [
        ["it is packed: unpack it into a folder"],
        ["it is a file, not a folder"],
        ["there is no such folder"],
    ]


def test_the_same_run_handed_in_twice_is_said(hand_in, course_run):
    one, other = grade_all([hand_in, course_run])
    assert "is in own" in one.remarks[-1] and "is in anna" in other.remarks[-1]


def test_typed_numbers_are_looked_for_among_those_that_can_be_quoted(hand_in):
    last = SavedRun.at(hand_in / "own").table("summary").set_index("variant")["last"]["no_skip"]
    (hand_in / "notes.md").write_text(f"It ends at {last:.3f}, not at {last + 1:.3f}; v1.2.3.")
    grade = grade_folder(hand_in)
    assert grade.notes == "0 by reference, 2 typed"
    assert grade.remarks == [
        f"notes: typed by hand, and no number that can be quoted: {last + 1:.3f}"
    ]


def test_a_score_is_counted_of_the_run_s_own_questions(hand_in):
    quiz = quiz_of([SavedRun.at(hand_in / "own")])
    records = [
        {"tries": 1 + number, "right": True, "shown": False, "hinted": bool(number)}
        for number, _ in enumerate(quiz.questions)
    ]
    (hand_in / "quiz.json").write_text(json.dumps({"quiz": quiz.name, "questions": records}))
    count = len(quiz.questions)
    said = f"{count} of {count}: 1 at the first try, {count - 1} with a hint"
    assert grade_folder(hand_in).quiz == said
    (hand_in / "quiz.json").write_text(json.dumps({"quiz": "0" * 16, "questions": records}))
    assert grade_folder(hand_in).quiz == "of a page of other runs"


def test_the_command_writes_tables_in_which_nothing_acts(hand_in, tmp_path, capsys):
    hostile = hand_in.rename(tmp_path / "=cmd()<script>alert(1)<|script>\x1b[31m[red]")
    out = tmp_path / "out"
    launch(report.main, report.Config, [str(hostile), "--grade", "--output", str(out)])
    said = capsys.readouterr().out
    assert "\x1b" not in said and "[red]" in said
    assert (out / "grades.csv").read_text().splitlines()[1].startswith("\"'=cmd()<script>")
    html = (out / "grades.html").read_text()
    assert "<script>alert" not in html and "&lt;script&gt;alert" in html
    assert list(pd.read_csv(out / "grades.csv")) == list(table_of_grades([]))


def test_options_of_grading_alone_are_refused(course_run, capsys):
    with pytest.raises(SystemExit):
        launch(report.main, report.Config, [str(course_run), "--repeat"])
    assert "are for --grade" in capsys.readouterr().err


def test_nothing_of_a_hand_in_is_imported(hand_in, monkeypatch):
    (hand_in / "own" / "__init__.py").write_text("raise SystemExit('executed')")
    (hand_in / "model.py").write_text("raise SystemExit('executed')")
    (hand_in / "own" / "models" / "none-0.pkl").write_bytes(b"cposix\nabort\n(tR.")
    monkeypatch.chdir(hand_in)
    assert grade_folder(hand_in).sound
