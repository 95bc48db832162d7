"""Work done here, in processes, and by workers that are killed while they are at it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.support.trainings.executors import InProcess, Processes
from gpt.errors import UsageError
from interp.runs import write_atomically


@dataclass(frozen=True)
class Count:
    """A task that counts to ``end`` in a file, and counts on from what it finds there."""

    state: Path
    end: int


def count(shared, task, tell):
    began = int(task.state.read_text()) if task.state.exists() else 0
    for number in range(began, task.end):
        tell((os.getpid(), began, number))
        write_atomically(task.state, str(number + 1).encode())
        if number == task.end // 2:
            time.sleep(shared)
    return began, task.end


def counts(folder, amount=4, end=40):
    return [Count(folder / str(i), end + i) for i in range(amount)]


def performed(executor, tasks, told=lambda number, what: None, shared=0.05, work=count):
    results = {}

    def done(number, result):
        assert number not in results, "a task was done twice"
        results[number] = result

    executor.run(work, shared, tasks, told, done)
    return results


@pytest.mark.parametrize("executor", [InProcess(), Processes(1), Processes(3)])
def test_every_task_is_done_once_and_its_news_come_in_order(tmp_path, executor):
    news = {}
    tasks = counts(tmp_path)
    results = performed(executor, tasks, lambda n, what: news.setdefault(n, []).append(what[2]))
    assert results == {i: (0, 40 + i) for i in range(4)}
    assert news == {i: list(range(40 + i)) for i in range(4)}


def test_a_worker_does_many_tasks_and_shared_data_reaches_it(tmp_path):
    pids = performed(Processes(2), list(range(10)), work=lambda shared, n, tell: os.getpid())
    assert len(set(pids.values())) <= 2
    assert os.getpid() not in pids.values()


def test_a_killed_workers_task_goes_on_in_another_and_the_others_never_notice(tmp_path):
    killed = []

    def told(number, what):
        pid, _, reached = what
        if number == 1 and reached == 21 and not killed:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    results = performed(Processes(2), counts(tmp_path), told, shared=0.3)
    assert killed
    assert results[1][0] > 0
    assert {n: result for n, result in results.items() if n != 1} == {
        0: (0, 40),
        2: (0, 42),
        3: (0, 43),
    }


def test_a_task_that_kills_every_worker_ends_the_run_with_one_sentence(tmp_path):
    def die(shared, task, tell):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UsageError, match=r"died 3 times \(SIGKILL, which the system sends when"):
        performed(Processes(2), [0], work=die)


@pytest.mark.parametrize("executor", [InProcess(), Processes(2)])
def test_what_the_work_raises_is_raised_here_once_the_rest_has_ended(tmp_path, executor):
    def fail(shared, task, tell):
        raise UsageError("the disk is full") if task == 1 else KeyboardInterrupt

    with pytest.raises(UsageError, match="the disk is full"):
        performed(executor, [1], work=fail)


def test_what_is_under_way_is_interrupted_when_the_driver_stops(tmp_path):
    """Both workers raise on SIGINT, as a training does, having saved."""

    def work(shared, task, tell):
        asked = []
        signal.signal(signal.SIGINT, lambda *_: asked.append(1))
        tell("ready")
        while not asked:
            time.sleep(0.01)
        (task / f"saved-{os.getpid()}").touch()
        raise KeyboardInterrupt

    ready = []

    def told(number, what):
        ready.append(number)
        if len(ready) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        performed(Processes(2), [tmp_path, tmp_path], told, work=work)
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_workers_do_not_outlive_a_killed_driver(tmp_path):
    driver = os.fork()
    if driver == 0:
        try:
            performed(Processes(2), counts(tmp_path, 2), work=lambda *_: time.sleep(600))
        finally:
            os._exit(1)
    group = Path(f"/proc/{driver}/task/{driver}/children")
    workers = until(lambda: [int(pid) for pid in group.read_text().split()], lambda w: len(w) == 2)
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    until(lambda: [pid for pid in workers if alive(pid)], lambda left: not left)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(look, enough, within=20.0):
    deadline = time.monotonic() + within
    while not enough(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found
