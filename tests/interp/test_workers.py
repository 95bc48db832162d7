"""Tasks that workers share, with workers that do no more than they are told to."""

import os
import signal
import time
from contextlib import closing

import pytest

from interp.runs.workers import ATTEMPTS, DIED, DONE, LOST, TOLD, end, share, start_worker


def serve(pipe, driver, work):
    assert driver == os.getppid()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        for message in work(task):
            pipe.send(message)


def stop(workers):
    for worker in workers:
        end(worker)


def messages(tasks, work, workers=2):
    started = []

    def start(others):
        started.append(start_worker("fork", serve, (work,), others))
        return started[-1]

    with closing(share(tasks, workers, start, stop)) as found:
        yield from found
    assert not any(worker.process.is_alive() for worker in started)


def test_news_of_a_task_come_before_its_result_and_every_task_has_one():
    found = list(messages([3, 4, 5], lambda task: [(TOLD, task), (DONE, task**2)]))
    for number, task in enumerate([3, 4, 5]):
        assert [what for at, *what in found if at == number] == [[TOLD, task], [DONE, task**2]]
    assert len(found) == 6


def test_what_the_machine_stops_is_begun_again_in_another_process_and_is_then_said(tmp_path):
    def work(task):
        (tmp_path / f"{task}-{os.getpid()}").touch()
        if task == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return [(LOST, "no memory") if task == "lost" else ("failed", task)]

    found = sorted(messages(["dies", "lost", "fails"], work))
    assert found == [(0, DIED, -signal.SIGKILL), (1, LOST, "no memory"), (2, "failed", "fails")]
    for task, begun in {"dies": ATTEMPTS, "lost": ATTEMPTS, "fails": 1}.items():
        assert len(list(tmp_path.glob(f"{task}-*"))) == begun


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_holds_no_pipe_of_another_so_that_each_ends_with_its_own(workers):
    """Workers that are at nothing end as their pipes close, not only when they are killed."""
    others = []
    for _ in range(workers):
        others.append(start_worker("fork", serve, (list,), others))
    for worker in others:
        began = time.monotonic()
        end(worker, 20.0)
        assert time.monotonic() - began < 10.0
        assert worker.process.exitcode == 0


def test_leaving_early_ends_the_workers():
    found = messages(range(100), lambda task: [(DONE, os.getpid())], workers=1)
    _, _, pid = next(found)
    found.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
