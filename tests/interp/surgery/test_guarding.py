import faulthandler
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.surgery.guarding import guarded
from interp.surgery.guarding.outcomes import Outcome, is_the_machines


def outcomes(tasks, **how):
    found = dict(guarded(tasks, **how))
    assert sorted(found) == list(range(len(tasks)))
    return [found[index] for index in range(len(tasks))]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_task_has_its_outcome(workers):
    found = outcomes([lambda n=n: n * n for n in range(7)], limit_s=20.0, workers=workers)
    assert [one.value for one in found] == [n * n for n in range(7)]


def test_errors_exits_and_hangs_are_told_apart_and_the_rest_goes_on():
    def fail():
        raise KeyError("gone")

    tasks = [fail, lambda: os._exit(7), lambda: time.sleep(60), lambda: "fine", exit]
    found = outcomes(tasks, limit_s=1.0, workers=2)
    assert [one.status for one in found] == ["error", "error", "timeout", "done", "error"]
    assert found[0].detail == "KeyError: 'gone'"
    assert found[1].detail == "the process ended with code 7"
    assert found[4].detail.startswith("SystemExit")


@pytest.mark.parametrize("take", [lambda: torch.ones(2**28).sum(), lambda: np.ones(2**28).sum()])
def test_a_task_that_finds_no_memory_is_lost_and_no_finding(take):
    tasks = [take, lambda: 1]
    found = outcomes(tasks, limit_s=20.0, workers=1, memory_gib=0.5)
    assert [one.status for one in found] == ["lost", "done"]
    assert "no room left" in found[0].detail
    assert found[0].detail.endswith("tried 3 times")


def test_a_task_killed_from_outside_is_begun_again(tmp_path):
    def killed(times):
        marks = len(list(tmp_path.iterdir()))
        (tmp_path / str(marks)).touch()
        if marks < times:
            os.kill(os.getpid(), signal.SIGKILL)
        return marks

    assert outcomes([lambda: killed(2)], limit_s=20.0, workers=1) == [Outcome("done", 2)]
    (found,) = outcomes([lambda: killed(99)], limit_s=20.0, workers=1)
    assert found.status == "lost"
    assert "was killed by SIGKILL" in found.detail
    assert len(list(tmp_path.iterdir())) == 6


def test_a_crash_of_its_own_is_an_outcome():
    def crash():
        faulthandler.disable()  # pytest's would print where
        os.kill(os.getpid(), signal.SIGSEGV)

    (found,) = outcomes([crash], limit_s=20.0, workers=1)
    assert (found.status, found.detail) == ("error", "the process crashed (SIGSEGV)")


def test_each_task_begins_with_the_same_memory():
    held: list[int] = []

    def hold():
        held.append(1)
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return len(held), dtype

    found = outcomes([hold] * 4, limit_s=20.0, workers=2)
    assert [one.value for one in found] == [(1, torch.float32)] * 4


def leave_a_process(daemon):
    """Start a process that lives long, as a child or as nobody's, and say its number."""
    process = os.fork()
    if process:
        return process
    if daemon:
        os.setsid()
    time.sleep(300)
    os._exit(0)


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize("hangs", [False, True])
def test_nothing_that_a_task_started_outlives_it(daemon, hangs, tmp_path):
    def start():
        (tmp_path / "process").write_text(str(leave_a_process(daemon)))
        if hangs:
            time.sleep(300)
        return "started"

    found = outcomes([start, lambda: 1], limit_s=0.5, workers=1)
    assert [one.status for one in found] == ["timeout" if hangs else "done", "done"]
    assert not lives(int((tmp_path / "process").read_text()))


def test_a_task_that_forks_answers_once_and_for_itself():
    def fork():
        if os.fork() == 0:
            time.sleep(0.05)
        return "forked"

    tasks = [fork, *(lambda n=n: time.sleep(0.05) or n for n in range(3))]
    found = outcomes(tasks, limit_s=20.0, workers=1)
    assert [one.value for one in found] == ["forked", 0, 1, 2]


def test_a_hanging_task_ends_with_its_driver(tmp_path):
    def hang():
        (tmp_path / "child").write_text(str(os.getpid()))
        while True:
            pass

    driver = os.fork()
    if driver == 0:
        list(guarded([hang], limit_s=60.0, workers=1))
        os._exit(0)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    until(lambda: not lives(int((tmp_path / "child").read_text())))


def test_time_in_which_a_task_could_not_run_does_not_count():
    def stop_for_a_while():
        waker = os.fork()
        if waker == 0:
            time.sleep(0.3)
            os.kill(os.getppid(), signal.SIGCONT)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGSTOP)
        return "went on"

    assert outcomes([stop_for_a_while], limit_s=20.0, workers=1)[0].value == "went on"

    driver = os.fork()
    if driver == 0:
        os.setsid()
        (found,) = outcomes([lambda: work(0.4)], limit_s=1.5, workers=1)
        os._exit(0 if found.status == "done" else 7)
    time.sleep(0.2)
    os.killpg(driver, signal.SIGSTOP)
    time.sleep(2.0)
    os.killpg(driver, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) == 0


def work(seconds):
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_what_cannot_be_handed_on_is_an_error_and_much_is_handed_on_whole():
    found = outcomes(
        [lambda: lambda: 1, lambda: "x" * 10_000_000, lambda: os.closerange(3, 100)],
        limit_s=20.0,
        workers=1,
    )
    assert [one.status for one in found] == ["error", "done", "error"]
    assert "cannot be handed on" in found[0].detail
    assert len(found[1].value) == 10_000_000


@pytest.mark.parametrize(
    ("error", "machines"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (OSError(28, "No space left on device"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (FileNotFoundError(2, "No such file"), False),
        (ValueError("memory"), False),
    ],
)
def test_errors_of_the_machine_are_told_from_the_codes_own(error, machines):
    assert is_the_machines(error) == machines
    wrapped = ValueError("the model failed")
    wrapped.__cause__ = error
    assert is_the_machines(wrapped) == machines


def until(happened, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_a_child_does_comes_back():
    weights = torch.zeros(3)

    def spoil():
        weights.fill_(1.0)
        return weights.sum().item()

    assert [one.value for one in outcomes([spoil], limit_s=20.0, workers=1)] == [3.0]
    assert weights.sum() == 0


def test_children_end_when_the_caller_stops_listening():
    runs = guarded([lambda: os.getpid(), lambda: time.sleep(60)], limit_s=60.0, workers=2)
    _, first = next(runs)
    runs.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{first.value}"):  # noqa: PTH110
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child is still there")
