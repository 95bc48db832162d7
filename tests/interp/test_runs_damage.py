"""What is damaged is never a result, and of two that begin nobody spoils the other's files."""

import json
import os
import random
import re
import select
import shutil
import sqlite3
import time
from contextlib import closing

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from gpt import checkpoint
from interp.errors import UsageError
from interp.runs import (
    Run,
    SavedRun,
    description,
    identity_of,
    locking,
    recorded_elsewhere,
    write_atomically,
)
from interp.runs.files import remove_unfinished
from interp.runs.store import Store, faults

CONFIG = {"steps": 200}


def begin(root):
    return Run.open(root, "course", "demo", CONFIG)


def identity(index):
    return identity_of(index=index)


def rows_of(index):
    return [{"step": step, "loss": 1 / (3 + index + step)} for step in range(50)]


def tampered(root, change):
    """The store of a run after SQL that no run would say."""
    with closing(sqlite3.connect(root / "course" / "demo" / "tasks.sqlite")) as store, store:
        store.execute(change)


DAMAGE = {
    "a number": "UPDATE tasks SET rows = replace(rows, '0.25', '0.75') WHERE identity = '{1}'",
    "a checksum": "UPDATE tasks SET sha256 = 'a' || substr(sha256, 2) WHERE identity = '{1}'",
    "no text": "UPDATE tasks SET rows = x'ff00' WHERE identity = '{1}'",
    "another type": "UPDATE tasks SET sha256 = 4.5 WHERE identity = '{1}'",
    "another task's rows": """UPDATE tasks SET (rows, sha256) = (SELECT rows, sha256 FROM tasks
                              WHERE identity = '{2}') WHERE identity = '{1}'""",
    "another task's identity": """DELETE FROM tasks WHERE identity = '{1}';
                                  UPDATE tasks SET identity = '{1}' WHERE identity = '{2}'""",
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_no_result_and_is_recorded_again_with_a_word(tmp_path, capfd, change):
    with begin(tmp_path) as run:
        for index in (1, 2, 3):
            run.record(identity(index), rows_of(index))
    for statement in change.split(";"):
        named = statement.replace("{1}", identity(1)).replace("{2}", identity(2))
        tampered(tmp_path, named)
    assert list(recorded_elsewhere(tmp_path, identity(1))) == []
    with begin(tmp_path) as run:
        assert run.task(identity(1)) is None
        assert re.fullmatch(r"note: .*tasks\.sqlite .* is damaged: .*\n", capfd.readouterr().err)
        assert run.record(identity(1), rows_of(1)) == rows_of(1)
        assert run.task(identity(1)) == rows_of(1)
        assert run.task(identity(3)) == rows_of(3)
        assert capfd.readouterr().err == ""


def test_a_store_with_flipped_bits_never_gives_other_rows(tmp_path, capfd):
    with begin(tmp_path) as run:
        for index in range(8):
            run.record(identity(index), rows_of(index)[: 5 * index])
    path = tmp_path / "course" / "demo" / "tasks.sqlite"
    whole, outcomes = path.read_bytes(), set()
    for place in range(0, len(whole), 997):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << place % 8
        path.write_bytes(spoilt)
        try:
            with closing(Store(path)) as store:
                for index in range(8):
                    kept = store.rows(identity(index))
                    assert kept is None or kept == rows_of(index)[: 5 * index]
                    outcomes.add(kept is not None)
        except UsageError as error:
            assert "tasks.sqlite" in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {True, False, "refused"}


def only_begun(path):
    """A store as SQLite leaves it before the first table, in its own journal mode."""
    with closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize("half", [lambda path: path.touch(), only_begun], ids=["no byte", "begun"])
def test_a_store_with_nothing_in_it_is_made_again(tmp_path, half):
    begin(tmp_path).close()
    path = tmp_path / "course" / "demo" / "tasks.sqlite"
    path.unlink()
    half(path)
    with pytest.raises(UsageError, match="holds nothing: start the same command again"):
        faults(path)
    assert list(recorded_elsewhere(tmp_path, identity(0))) == []
    with begin(tmp_path) as run:
        run.record(identity(0), rows_of(0))
    with begin(tmp_path) as run:
        assert run.task(identity(0)) == rows_of(0)
    assert faults(path) == (1, [])


def test_a_store_of_another_version_is_one_sentence(tmp_path):
    begin(tmp_path).close()
    path = tmp_path / "course" / "demo" / "tasks.sqlite"
    path.unlink()
    tampered(tmp_path, "CREATE TABLE tasks (identity TEXT PRIMARY KEY, rows TEXT NOT NULL)")
    with pytest.raises(UsageError, match="written by another version"):
        begin(tmp_path)
    assert list(recorded_elsewhere(tmp_path, identity(0))) == []


def test_what_is_recorded_in_a_folder_that_was_removed_or_replaced_is_an_error(tmp_path):
    folder = tmp_path / "course" / "demo"
    with pytest.raises(UsageError, match="removed or replaced"), begin(tmp_path):
        shutil.rmtree(folder)  # nothing is recorded since: closing says it
    run = begin(tmp_path)
    folder.rename(tmp_path / "moved")
    with begin(tmp_path):  # the folder is another's now
        for write in (
            lambda: run.record(identity(0), rows_of(0)),
            lambda: run.save_table(pd.DataFrame(rows_of(0))),
            lambda: run.save_figure(Figure(), "loss"),
        ):
            with pytest.raises(UsageError, match="removed or replaced"):
                write()
        assert list(folder.glob("*.parquet")) == []
    run.close()


def begun_at(moment, root, gate):
    """Begin a run at a moment and hold it till the gate opens; 2 where it is another's."""
    while time.time() < moment:
        pass
    try:
        with begin(root) as run:
            run.record(identity(0), rows_of(0))
            opened, _, _ = select.select([gate], [], [], 10)
    except UsageError as error:
        return 2 if "held by" in str(error) else 3
    return 0 if opened else 4


def test_of_runs_that_begin_at_one_moment_one_wins_and_nobody_spoils_its_files(
    tmp_path, monkeypatch
):
    known = description.environment()
    monkeypatch.setattr(description, "environment", lambda: known)  # asks git, which takes its time
    monkeypatch.setattr(locking, "PATIENCE_S", 0.01)
    for number in range(8):
        root, moment, codes = tmp_path / str(number), time.time() + 0.03, []
        gate, opening = os.pipe()
        for _ in range(6):
            if os.fork() == 0:
                os._exit(begun_at(moment, root, gate))
        for ended in range(6):
            if ended == 5:
                os.write(opening, b"!")
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
        os.close(gate)
        os.close(opening)
        assert codes == [2, 2, 2, 2, 2, 0]
        with begin(root) as run:
            assert run.task(identity(0)) == rows_of(0)


def spoilt(content):
    yield content[:100]
    yield b""
    for place in range(4, len(content), 97):
        yield content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_a_table_that_is_not_the_one_that_was_saved_is_refused_until_it_is_saved_again(tmp_path):
    table = pd.DataFrame({"variant": ["none", "cut"], "loss": [0.25, 0.5]})
    with begin(tmp_path) as run:
        path, whole = run.save_table(table), run.save_table(table).read_bytes()
        other = run.save_table(table, "summary").read_bytes()
    with Run.open(tmp_path, "course", "else", CONFIG) as run:
        another = run.save_table(table).read_bytes()
    plain = tmp_path / "plain.parquet"
    table.to_parquet(plain)  # by hand
    for content in [*spoilt(whole), other, another, plain.read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(
            UsageError, match=r"^[^\n]+results.parquet is damaged, or not the table"
        ):
            SavedRun.at(path.parent).table()
    with begin(tmp_path) as run:
        run.save_table(table)
        pd.testing.assert_frame_equal(run.table(), table)


@pytest.mark.parametrize(
    "change",
    [
        lambda known: {key: value for key, value in known.items() if key != "command"},
        lambda known: known | {"resumed": [1]},
        lambda known: known | {"config": None},
        lambda known: known | {"format": 99},
        lambda known: [known],
    ],
)
def test_a_description_that_was_edited_is_one_sentence(tmp_path, change):
    begin(tmp_path).close()
    path = tmp_path / "course" / "demo" / "run.json"
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    for read in (lambda: begin(tmp_path), lambda: SavedRun.at(path.parent)):
        with pytest.raises(
            UsageError, match=r"^[^\n]+(does not describe a run|is a run of a newer version)"
        ):
            read()


def test_no_flipped_bit_of_a_description_passes_for_what_was_written(tmp_path):
    begin(tmp_path).close()
    path = tmp_path / "course" / "demo" / "run.json"
    whole, written = path.read_bytes(), SavedRun.at(path.parent).description
    draws = random.Random(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        path.write_bytes(damaged)
        try:
            assert SavedRun.at(path.parent).description == written  # a blank between two words
        except UsageError as error:
            assert "does not describe a run" in str(error)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomically(path, b"all of it"),
        lambda path: checkpoint.write_tensors(path, {"weight": torch.ones(2)}, {}),
    ],
)
def test_what_is_left_of_a_killed_writer_is_removed_and_what_is_being_written_stays(
    tmp_path, monkeypatch, write
):
    (tmp_path / ".model.state.1f2e.partial").write_bytes(b"half of it")
    synced, seen = os.fsync, []

    def sync(descriptor):
        remove_unfinished(tmp_path)  # as another process that begins now
        seen.append([path.name for path in tmp_path.iterdir()])
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    write(tmp_path / "new")
    ((partial,), *_) = seen
    assert partial.startswith(".new.") and partial.endswith(".partial")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_name_too_long_for_a_folder_is_one_sentence(tmp_path):
    for name in ("n" * 300, "ü" * 150):
        with pytest.raises(UsageError, match="bytes, and at most"):
            Run.open(tmp_path, "course", name, {})
    assert list(tmp_path.iterdir()) == []
