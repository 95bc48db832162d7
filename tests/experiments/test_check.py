"""The command that says of every file of a run whether it is as the run left it."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from experiments import check, course, report
from experiments.check import Config, main, verdicts
from experiments.support.cli import launch
from gpt.errors import UsageError
from interp.runs import Run

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def course_run(small, runs, text) -> Path:
    return course.main(
        course.Config(
            runs=runs, text=str(text), name="checked", seeds=1, only=("no_residual",), workers=1
        )
    ).parent


@pytest.fixture
def copied(course_run, tmp_path) -> Path:
    return shutil.copytree(course_run, tmp_path / "course" / "checked")


def wrong(folder):
    return {verdict.file: verdict.fault for verdict in verdicts(folder) if verdict.fault}


def test_every_file_of_a_finished_run_is_sound_in_one_line(course_run, capsys):
    main(Config(run=("course/checked",), runs=course_run.parents[1]))
    lines = capsys.readouterr().out.splitlines()[1:]
    files = [str(path.relative_to(course_run)) for path in course_run.rglob("*") if path.is_file()]
    made = [name for name in files if re.search(r"parquet|figures|models|run\.json|sqlite$", name)]
    assert [sum(name in line for line in lines) for name in made] == [1] * len(made)
    assert not [line for line in lines if not re.search("sound|the one that|not compared", line)]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def change_row(path):
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE tasks SET rows = replace(rows, '\"step\": 20', '\"step\": 21')")


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("tasks.sqlite", change_row, "2 of 5 tasks fail their checksum"),
        ("tasks.sqlite", lambda path: path.write_bytes(b"no store" * 999), "is damaged"),
        ("results.parquet", flip, "is damaged, or not the table"),
        ("summary.parquet", lambda path: shutil.copy(path.parent / "entropies.parquet", path), ""),
        ("results.parquet", Path.unlink, "it is missing"),
        ("models/none-0.safetensors", flip, "damaged"),
        ("figures/loss_bars.png", flip, "it is damaged"),
        ("figures/loss_bars.svg", lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
        ("figures/loss_bars.pdf", lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
    ],
)
def test_what_is_damaged_is_named_and_nothing_else_but_what_hangs_on_it(
    copied, name, spoil, told, capsys
):
    spoil(copied / name)
    found = wrong(copied)
    assert told in found.pop(name)
    assert all("drawn from another" in fault for fault in found.values())
    with pytest.raises(SystemExit) as exit_:
        launch(check.main, Config, [str(copied)])
    assert exit_.value.code == 1
    assert "the command that makes them anew" in capsys.readouterr().out


def test_a_description_that_was_changed_is_believed_by_nobody(copied, capsys):
    path = copied / "run.json"
    path.write_text(path.read_text().replace('"python": "3', '"python": "2'))
    (fault,) = wrong(copied).values()
    assert "it was changed since the run wrote it" in fault
    for command in (check, report):
        with pytest.raises(SystemExit) as exit_:
            launch(command.main, command.Config, [str(copied)])
        assert exit_.value.code in (1, 2)
        said = capsys.readouterr()
        assert "it was changed since the run wrote it" in said.out + said.err


@pytest.mark.parametrize("command", [check, report])
@pytest.mark.parametrize("name", ["x" * 300, "", "a\0b"])
def test_what_can_name_no_folder_is_one_sentence(command, name, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        launch(command.main, command.Config, [name, "--runs", str(tmp_path)])
    assert exit_.value.code == 2
    assert re.fullmatch(r"error: [^\n]* is no run's folder[^\n]*\n", capsys.readouterr().err)


def test_a_figure_beside_a_newer_table_is_named(copied):
    with Run.open(copied.parents[1], "course", "checked", described(copied)) as run:
        run.save_table(run.table().assign(loss=0.0))
    assert {name.partition("/")[0] for name in wrong(copied)} == {"figures"}
    assert "drawn from another results" in wrong(copied)["figures/loss_bars.png"]


def described(folder):
    return check.SavedRun.at(folder).description["config"]


def test_a_text_or_a_source_that_changed_is_named(copied, monkeypatch, text):
    monkeypatch.setattr(check, "option", lambda command, name: str(text) * (name == "--text"))
    assert wrong(copied) == {}
    monkeypatch.setattr(check, "hash_file", lambda path: "0" * 64)
    monkeypatch.setattr(check, "option", lambda command, name: __file__ * (name == "--text"))
    assert sorted(wrong(copied).values()) == [
        "it is another source than the run read",
        "it is another text than the run read",
    ]


def test_a_run_under_way_or_unfinished_is_no_sound_one(copied):
    with Run.open(copied.parents[1], "course", "checked", described(copied)):
        assert "the run is under way" in wrong(copied)["run.json"]
    for page in copied.glob("*.html"):
        page.unlink()
    assert wrong(copied) == {"run.json": "the run is not finished: it has no page"}


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no run is given"):
        main(Config(run=()))
    with pytest.raises(UsageError, match="there are no runs"):
        main(Config(run=("course/x",), runs=tmp_path))
