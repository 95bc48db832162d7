import json
import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.runs import (
    Run,
    identity_of,
    write_atomically,
)

CONFIG = {"steps": 200, "seeds": [0, 1], "train": {"lr": 1e-3}}


def begin(root, config=CONFIG, **more):
    return Run.open(root, "course", "demo", config, **more)


def identity(index):
    return identity_of(index=index)


def rows_of(index):
    return [{"step": step, "loss": 1 / (3 + index + step)} for step in range(50)]


def bits(number):
    return struct.pack("<d", number)


@pytest.fixture
def full_disk():
    """Every file stops growing at 20 kB, as a full disk would stop it; the kernel refuses."""

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: limit(20_000)
    limit(soft)


def test_a_run_says_how_it_is_made_before_it_holds_anything_else(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "experiments.course", "--name", "a b"])
    with begin(tmp_path, provenance={"text_sha256": "86c4"}) as run:
        description = json.loads((run.folder / "run.json").read_text())
        assert run.folder == tmp_path / "course" / "demo"
        assert run.description == description
    assert description["config"] == CONFIG
    assert description["provenance"] == {"text_sha256": "86c4"}
    assert description["packages"]["numpy"] == np.__version__
    assert description["python"] == sys.version.split()[0]
    assert description["command"] == "python -m experiments.course --name 'a b'"


def test_the_commit_is_that_of_the_checkout_this_code_lies_in(tmp_path):
    def git(*arguments):
        done = ["git", "-C", Path(__file__).parents[2], *arguments]
        return subprocess.run(done, capture_output=True, text=True)

    with begin(tmp_path) as run:
        found = run.description["commit"]
    if git("ls-files", "--error-unmatch", "interp/runs/description.py").returncode == 0:
        assert found.split(" with ")[0] == git("rev-parse", "HEAD").stdout.strip()
    else:
        assert found is None


def test_a_recorded_task_is_there_when_the_run_is_opened_again(tmp_path):
    with begin(tmp_path) as run:
        assert run.task(identity(0)) is None
        run.record(identity(0), rows_of(0))
    with begin(tmp_path) as run:
        assert run.task(identity(0)) == rows_of(0)
        assert run.task(identity(1)) is None
        assert run.description["resumed"] == []


def test_floats_come_back_bit_for_bit(tmp_path):
    @given(st.lists(st.floats(width=64), min_size=1))
    def check(losses):
        name = identity_of(losses=losses)
        run.record(name, [{"loss": loss} for loss in losses])
        back = [row["loss"] for row in run.task(name)]
        not_nan = [(a, b) for a, b in zip(losses, back, strict=True) if a == a]
        assert all(bits(a) == bits(b) for a, b in not_nan)
        assert sum(b != b for b in back) == len(losses) - len(not_nan)

    with begin(tmp_path) as run:
        check()


def test_a_task_gives_the_same_rows_just_recorded_as_read_later(tmp_path):
    fresh = [{"loss": np.float32(0.1), "step": np.int64(3), "best": np.bool_(True), "note": None}]
    with begin(tmp_path) as run:
        recorded = run.record(identity(0), fresh)
        assert recorded == run.task(identity(0))
    assert bits(recorded[0]["loss"]) == bits(float(np.float32(0.1)))
    assert [type(value) for value in recorded[0].values()] == [float, int, bool, type(None)]


def test_recording_twice_is_harmless_unless_the_rows_differ(tmp_path):
    with begin(tmp_path) as run:
        run.record(identity(0), [{"loss": float("nan")}])
        run.record(identity(0), [{"loss": float("nan")}])
        with pytest.raises(UsageError, match="already recorded"):
            run.record(identity(0), [{"loss": 1.0}])
        assert np.isnan(run.task(identity(0))[0]["loss"])


def test_what_json_cannot_hold_is_refused_and_nothing_recorded(tmp_path):
    with begin(tmp_path) as run:
        with pytest.raises(UsageError, match="ndarray"):
            run.record(identity(0), [{"loss": np.zeros(3)}])
        assert run.task(identity(0)) is None


KILLED = """
import sys
import time
from contextlib import closing
from pathlib import Path
from interp.runs import Run, identity_of

with Run.open(Path(sys.argv[1]), "course", "demo", {}) as run:
    for index in range(1_000_000):
        identity = identity_of(index=index)
        if run.task(identity) is None:
            rows = [{"step": step, "loss": 1 / (3 + index + step)} for step in range(50)]
            run.record(identity, rows)
            print(index, flush=True)
"""


def test_a_killed_process_leaves_exactly_the_tasks_it_committed(tmp_path):
    committed = 0
    for more in (1, 7, 23):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(more):
            said = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]  # the last line may be cut short
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        said = int(rest[-1]) if rest else said
        assert said >= committed + more - 1
        with begin(tmp_path, config={}) as run:
            committed = said + 1
            for index in range(committed):
                assert run.task(identity(index)) == rows_of(index)
            if run.task(identity(committed)) is not None:  # killed between commit and its line
                assert run.task(identity(committed)) == rows_of(committed)
                committed += 1
            assert run.task(identity(committed)) is None


def test_a_second_process_learns_who_holds_the_run(tmp_path):
    with begin(tmp_path, config={}) as run:
        run.record(identity(0), rows_of(0))
        second = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True
        )
        assert run.task(identity(1)) is None
    sentence = second.stderr.strip().splitlines()[-1]
    assert f"held by process {os.getpid()} on {os.uname().nodename}" in sentence
    assert second.returncode == 1


def test_a_run_is_held_once_within_a_process_too_and_free_when_closed(tmp_path):
    with begin(tmp_path), pytest.raises(UsageError, match="held by process"):
        begin(tmp_path)
    begin(tmp_path).close()


def test_a_run_is_free_again_when_its_block_raises(tmp_path):
    with pytest.raises(KeyboardInterrupt), begin(tmp_path):
        raise KeyboardInterrupt
    begin(tmp_path).close()


def test_another_config_is_refused_naming_what_differs(tmp_path):
    with begin(tmp_path) as run:
        run.record(identity(0), rows_of(0))
    changed = {"steps": 300, "seeds": (0, 1), "train": {"lr": 1e-3, "beta2": 0.99}}
    with pytest.raises(UsageError) as refusal:
        begin(tmp_path, changed)
    sentence = str(refusal.value)
    assert "steps 200, not 300; train.beta2 nothing, not 0.99" in sentence
    assert "seeds" not in sentence
    assert "lr" not in sentence
    assert "--name" in sentence
    with begin(tmp_path) as run:
        assert run.task(identity(0)) == rows_of(0)


def test_a_config_with_nan_and_paths_is_the_same_config_again(tmp_path):
    for _ in range(2):
        begin(tmp_path, {"text": Path("some/text"), "limit": float("nan")}).close()


def test_what_changed_before_a_run_was_resumed_is_noted_once(tmp_path):
    for source in ("a", "b", "b", "a"):
        begin(tmp_path, provenance={"source": source}).close()
    with begin(tmp_path, provenance={"source": "a"}) as run:
        noted = [change["provenance"]["source"] for change in run.description["resumed"]]
    assert run.description["provenance"]["source"] == "a"
    assert noted == ["b", "a"]


def test_a_name_is_one_folder(tmp_path):
    for name in ("../else", "", ".", "..", "a/b"):
        with pytest.raises(UsageError, match="cannot name a run"):
            Run.open(tmp_path, "course", name, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*demo \(Not a directory\)"):
        begin(tmp_path / "file")


def test_a_full_disk_at_the_beginning_leaves_nothing(tmp_path, full_disk):
    full_disk()
    with pytest.raises(UsageError, match="cannot write"):
        begin(tmp_path, CONFIG | {"long": "x" * 30_000})
    assert list((tmp_path / "course").iterdir()) == []


def test_what_was_in_the_folder_before_is_never_removed(tmp_path, full_disk):
    folder = tmp_path / "course" / "demo"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    full_disk()
    with pytest.raises(UsageError, match="cannot write"):
        begin(tmp_path, CONFIG | {"long": "x" * 30_000})
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_full_disk_later_loses_the_task_alone(tmp_path, full_disk):
    with begin(tmp_path) as run:
        run.record(identity(0), rows_of(0))
        run.save_table(pd.DataFrame(rows_of(0)))
        full_disk()
        with pytest.raises(UsageError, match=r"cannot write .*tasks.sqlite"):
            for index in range(1, 100):
                run.record(identity(index), rows_of(index))
        with pytest.raises(UsageError, match=r"cannot write .*results.parquet \(File too large\)"):
            run.save_table(pd.DataFrame(np.random.default_rng(0).normal(size=(1000, 9))))
        assert run.task(identity(index)) is None
        assert [run.task(identity(i)) for i in range(index)] == [rows_of(i) for i in range(index)]
        assert len(run.table()) == 50
        assert list(run.folder.rglob("*.partial")) == []


def test_a_damaged_store_or_description_is_one_sentence(tmp_path):
    begin(tmp_path).close()
    store, description = (tmp_path / "course" / "demo" / n for n in ("tasks.sqlite", "run.json"))
    store.write_bytes(b"no database " * 1000)
    with pytest.raises(UsageError, match=r"tasks\.sqlite is damaged"):
        begin(tmp_path)
    description.write_text("[]")
    with pytest.raises(UsageError, match="does not describe a run"):
        begin(tmp_path)
    assert store.read_bytes() == b"no database " * 1000


def test_a_scratch_file_lasts_until_its_task_is_recorded(tmp_path):
    with begin(tmp_path) as run:
        for index in (0, 1):
            run.scratch(identity(index)).write_bytes(b"checkpoint")
        run.record(identity(0), rows_of(0))
    with begin(tmp_path) as run:
        assert run.scratch(identity(1)).read_bytes() == b"checkpoint"
        assert not run.scratch(identity(0)).exists()
        with pytest.raises(UsageError, match="not an identity"):
            run.scratch("../elsewhere")


def test_half_written_files_of_a_killed_process_are_swept_up(tmp_path):
    begin(tmp_path).close()
    figures = tmp_path / "course" / "demo" / "figures"
    figures.mkdir()
    (figures / ".loss.png.4711.partial").write_bytes(b"half")
    begin(tmp_path).close()
    assert list(figures.iterdir()) == []


def test_a_table_comes_back_as_it_was_saved(tmp_path):
    table = pd.DataFrame({"variant": ["none", "no <b>"], "loss": [0.1 + 0.2, float("inf")]})
    table = table.assign(lines=[(197, 203), ()], sites=[("a, b", "c"), ("d",)], alone=[(), ()])
    with begin(tmp_path) as run:
        path = run.save_table(table)
        first = path.read_bytes()
        pd.testing.assert_frame_equal(run.table(), table, check_exact=True)
        assert run.save_table(table).read_bytes() == first
        with pytest.raises(UsageError, match="no table 'result'; nearest: results"):
            run.table("result")


def test_a_figure_is_saved_in_three_formats_and_twice_the_same(tmp_path):
    def drawn():
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot([1, 2, 3], label="a")
        return figure

    with begin(tmp_path) as run:
        paths = run.save_figure(drawn(), "loss")
        first = {kind: path.read_bytes() for kind, path in paths.items()}
        again = {kind: p.read_bytes() for kind, p in run.save_figure(drawn(), "loss").items()}
    assert paths["png"] == run.folder / "figures" / "loss.png"
    assert first == again
    assert all(b"made of." in content for content in first.values())
    assert first["png"].startswith(b"\x89PNG") and struct.unpack(">II", first["png"][16:24]) == (
        800,
        600,
    )
    assert b"<svg" in first["svg"]
    assert first["pdf"].startswith(b"%PDF")


def test_an_identity_depends_on_every_part_and_on_no_order():
    base = identity_of(source="x", config={"a": 1, "b": [1.5, None]})
    assert identity_of(config={"b": [1.5, None], "a": 1}, source="x") == base
    others = [
        identity_of(source="y", config={"a": 1, "b": [1.5, None]}),
        identity_of(source="x", config={"a": 1.0, "b": [1.5, None]}),
        identity_of(source="x", config={"a": 1, "b": [np.nextafter(1.5, 2), None]}),
        identity_of(source="x", config={"a": 1}),
    ]
    assert len({base, *others}) == 5
    with pytest.raises(UsageError, match="object"):
        identity_of(source=object())


def test_an_atomic_write_replaces_the_whole_file_or_leaves_it(tmp_path, full_disk):
    path = write_atomically(tmp_path / "deep" / "page.html", b"old")
    full_disk()
    with pytest.raises(UsageError, match="File too large"):
        write_atomically(path, b"x" * 30_000)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
