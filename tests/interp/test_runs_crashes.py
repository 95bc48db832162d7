"""A run's folder after its process was killed between any two calls of the system.

A child is stopped at every call that it makes (ptrace), and killed at the n-th. What it was told to
be done must be there; what it was at is there whole or not at all.
"""

import ctypes
import json
import os
import platform
import shutil
import signal
import struct
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from interp.errors import UsageError
from interp.runs import Run, description, identity_of, recorded_elsewhere
from interp.runs.store import faults

TRACE_ME, NEXT_CALL, SET_OPTIONS = 0, 24, 0x4200
TELL_CALLS_APART, DIE_WITH_PARENT = 1, 0x100000
CONFIG = {"steps": 200}
ENVIRONMENT = {"command": "", "commit": None, "python": "3", "platform": "", "packages": {}}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason=f"ptrace here is as on Linux, not {platform.system()}"
)


def ptrace(request, pid=0, data=0):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def killed_at(call: int, work) -> tuple[bool, list[int]]:
    """Do ``work(say)`` in a child and kill it at its ``call``-th call of the system.

    Returns whether it ended by itself, and the numbers that it said before.
    """
    heard, saying = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ptrace(TRACE_ME)
            os.kill(os.getpid(), signal.SIGSTOP)
            work(lambda number: os.write(saying, struct.pack("<q", number)))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(saying)
    os.waitpid(child, 0)
    ptrace(SET_OPTIONS, child, TELL_CALLS_APART | DIE_WITH_PARENT)
    ended, calls = False, 0
    while True:
        ptrace(NEXT_CALL, child)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            ended = True
            assert os.WEXITSTATUS(status) == 0, "the child's work failed"
            break
        calls += 1  # counts the way in and the way out of each
        if calls == call:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
    with os.fdopen(heard, "rb") as file:
        said = [number for (number,) in struct.iter_unpack("<q", file.read())]
    return ended, said


def rows_of(index: int, length: int = 3) -> list[dict]:
    return [{"step": step, "loss": 1 / (3 + index + step)} for step in range(length)]


def identity(index: int) -> str:
    return identity_of(index=index)


@pytest.fixture(scope="module", autouse=True)
def _environment_known():
    """What the process runs with is asked of git and of packages: not of this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(description, "environment", lambda: ENVIRONMENT)
        yield


def begin(root: Path) -> Run:
    return Run.open(root, "course", "demo", CONFIG)


def write_all(root: Path, say) -> None:
    """A whole small run: begun, two tasks with scratch files recorded, a table saved."""
    with begin(root) as run:
        for index in (0, 1):
            run.scratch(identity(index)).write_bytes(b"state")
            run.record(identity(index), rows_of(index))
            say(index)
        run.save_table(pd.DataFrame(rows_of(0)))
        say(2)


def read_beside(root: Path) -> int | None:
    """How many tasks someone who only reads finds; None where there is no store yet."""
    path = root / "course" / "demo" / "tasks.sqlite"
    if not path.exists():
        return None
    tasks, wrong = faults(path)
    assert wrong == []
    return tasks


def test_killed_at_any_call_of_the_system_a_run_is_whole_and_goes_on(tmp_path):
    crashes, call, answers = 0, 1, set()
    while True:
        root = tmp_path / str(call)
        ended, said = killed_at(call, lambda say, root=root: write_all(root, say))
        answers.add(answer := read_beside(root))
        assert (answer or 0) >= len({*said} - {2})
        with begin(root) as run:
            description = json.loads((run.folder / "run.json").read_bytes())
            assert description["config"] == CONFIG
            kept = [run.task(identity(index)) for index in (0, 1)]
            for index, rows in enumerate(kept):
                assert rows == rows_of(index) or (rows is None and index not in said)
                assert (
                    rows is None or not run.scratch(identity(index)).exists() or index not in said
                )
            if (run.folder / "results.parquet").exists():
                assert len(run.table()) == 3
            else:
                assert 2 not in said
            assert not list(run.folder.rglob("*.partial"))
        write_all(root, lambda number: None)
        with begin(root) as run:
            assert [run.task(identity(index)) for index in (0, 1)] == [rows_of(0), rows_of(1)]
            assert len(run.table()) == 3
        shutil.rmtree(root)
        if ended:
            break
        crashes, call = crashes + 1, call + 5  # ways in and ways out by turns
    assert crashes > 50
    assert answers == {None, 0, 1, 2}


class KilledStore(RuleBasedStateMachine):
    """Tasks recorded, tables saved and runs opened by processes that are killed at any moment."""

    @initialize()
    def start(self):
        self.root = Path(tempfile.mkdtemp())
        self.recorded: dict[int, list[dict]] = {}
        self.table: int | None = None

    def teardown(self):
        shutil.rmtree(self.root)

    @rule(index=st.integers(0, 9), call=st.integers(1, 400))
    def record(self, index, call):
        rows = self.recorded.get(index, rows_of(index))

        def work(say):
            with begin(self.root) as run:
                run.record(identity(index), rows)
                say(index)

        _, said = killed_at(call, work)
        if said or self.kept(index) is not None:
            self.recorded[index] = rows

    @rule(first=st.integers(0, 9), call=st.integers(1, 600))
    def record_many(self, first, call):
        def work(say):
            with begin(self.root) as run:
                for index in range(first, first + 5):
                    run.record(identity(index), rows_of(index, 60))
                    say(index)

        if any(index in self.recorded for index in range(first, first + 5)):
            return
        _, said = killed_at(call, work)
        under_way = first + len(said)
        assert said == list(range(first, under_way))
        for index in said:
            self.recorded[index] = rows_of(index, 60)
        if under_way < first + 5 and self.kept(under_way) is not None:
            self.recorded[under_way] = rows_of(under_way, 60)

    @rule(length=st.integers(1, 50), call=st.integers(1, 400))
    def save_table(self, length, call):
        def work(say):
            with begin(self.root) as run:
                run.save_table(pd.DataFrame(rows_of(0, length)))
                say(length)

        _, said = killed_at(call, work)
        path = self.root / "course" / "demo" / "results.parquet"
        found = len(pd.read_parquet(path)) if path.exists() else None
        assert found in ({length} if said else {length, self.table})
        self.table = found

    @rule(index=st.integers(0, 9))
    def record_other_rows(self, index):
        if index in self.recorded:
            with begin(self.root) as run, pytest.raises(UsageError, match="already recorded"):
                run.record(identity(index), rows_of(index, 2))

    def kept(self, index):
        found = list(recorded_elsewhere(self.root, identity(index)))
        return found[0][1] if found else None

    @invariant()
    def what_was_recorded_is_there_and_nothing_else(self):
        with begin(self.root) as run:
            for index in range(15):
                assert run.task(identity(index)) == self.recorded.get(index)


KilledStore.TestCase.settings = settings(
    max_examples=6, stateful_step_count=8, deadline=None, derandomize=True
)
TestKilledStore = KilledStore.TestCase
