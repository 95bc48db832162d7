"""How do worker processes share tasks, and what becomes of a task whose worker dies?

Each worker gets one task after another through its pipe and sends messages back, each a kind and
what there is to say. A task whose worker died, or that the machine stopped, is begun again in a new
worker; where that does not help, three times, the caller hears so.

    def start(others):
        return start_worker("fork", serve, (work,), others)

    with closing(share(tasks, 4, start, stop)) as messages:
        for number, kind, what in messages:
            ...
"""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, runtime_checkable

ATTEMPTS = 3
"""Times that a task is begun which the machine stops: what stopped it thrice would do so again."""

TOLD, DONE, LOST, DIED = "told", "done", "lost", "died"
"""Kinds of message: news of a task under way, its result, that the machine stopped it, and that its
worker is gone. Any other ends a task too, and means what worker and caller agree on."""

PR_SET_PDEATHSIG = 1  # of Linux' prctl.h

Message = tuple[str, Any]


@runtime_checkable
class Elsewhere(Protocol):
    """A place where independent work is done."""

    def run(
        self,
        work: Callable[..., Any],
        shared: Any,
        tasks: Sequence[Any],
        told: Callable[[int, Any], None],
        done: Callable[[int, Any], None],
    ) -> None:
        """Call ``work(shared, task, tell)`` for every task, and ``done(number, result)`` here."""


@dataclass
class Worker:
    """A process, the pipe to it, and the number of the task that it is at, None between two."""

    process: Any
    pipe: Connection
    number: int | None = None


def share(
    tasks: Sequence[Any],
    workers: int,
    start: Callable[[list[Worker]], Worker],
    stop: Callable[[list[Worker]], None],
    *,
    patience_s: float = 0.0,
    read: Callable[[bytes], Message] = pickle.loads,
) -> Generator[tuple[int, str, Any]]:
    """Give tasks to workers, and yield each message with the number of its task.

    Close the generator where you leave it early: only then have the workers ended.

    Args:
        tasks: what is sent to a worker, one after another.
        workers: how many there are at a time; no more than there are tasks.
        start: makes a worker, given those there are.
        stop: ends the workers that there are when the caller leaves, or an error comes up.
        patience_s: how long a worker that nobody needs any more may take to end by itself.
        read: makes a message of what a worker sent.

    Yields:
        The task's number, the message's kind and its content. ``lost`` and ``died`` (whose content
        is the process's exit code) come only when the task has been begun ``ATTEMPTS`` times.
    """
    waiting = list(range(len(tasks)))[::-1]
    attempts = dict.fromkeys(waiting, 0)
    running: list[Worker] = []
    try:
        for _ in range(min(workers, len(tasks))):
            running.append(start(running))
        for worker in running:
            give(worker, waiting.pop(), tasks)
        while running:
            for pipe in wait([worker.pipe for worker in running]):
                worker = next(worker for worker in running if worker.pipe is pipe)
                number = worker.number
                assert number is not None
                kind, what = hear(worker, read)
                if kind == TOLD:
                    yield number, kind, what
                    continue
                worker.number = None
                attempts[number] += 1
                stopped = kind in (LOST, DIED)
                if stopped and attempts[number] < ATTEMPTS:
                    waiting.insert(0, number)  # last, when those that crowded it out have ended
                else:
                    yield number, kind, what
                if stopped or not waiting:
                    running.remove(worker)
                    end(worker, patience_s)
                if stopped and waiting:
                    worker = start(running)
                    running.append(worker)
                if waiting:
                    give(worker, waiting.pop(), tasks)
    finally:
        stop(running)


def start_worker(
    method: str, life: Callable[..., None], arguments: tuple[Any, ...], others: Sequence[Worker]
) -> Worker:
    """A new process that runs ``life(pipe, driver, *arguments)``, where ``driver`` is this one.

    Args:
        method: ``fork``, or ``spawn`` where a fork is not safe.
        life: what the worker does until its pipe closes.
        arguments: for ``life``.
        others: the workers there are, whose pipes a fork must not hold open.
    """
    ours, theirs = multiprocessing.Pipe()
    inherited = [ours, *(worker.pipe for worker in others)] if method == "fork" else []
    context: Any = multiprocessing.get_context(method)
    given = (life, theirs, inherited, os.getpid(), arguments)
    process = context.Process(target=live, args=given, daemon=True)
    with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return Worker(process, ours)


def live(
    life: Callable[..., None],
    pipe: Connection,
    inherited: Sequence[Connection],
    driver: int,
    arguments: tuple[Any, ...],
) -> None:
    """A worker's life, once it holds no pipe but its own."""
    for other in inherited:
        other.close()
    life(pipe, driver, *arguments)


def give(worker: Worker, number: int, tasks: Sequence[Any]) -> None:
    worker.number = number
    with suppress(OSError):  # of a process that died: listening to it will tell
        worker.pipe.send(tasks[number])


def hear(worker: Worker, read: Callable[[bytes], Message] = pickle.loads) -> Message:
    """The next message of a worker: ``died`` and its exit code where there is none any more."""
    try:
        sent = worker.pipe.recv_bytes()
    except (EOFError, OSError):
        worker.process.join()
        return DIED, worker.process.exitcode
    return read(sent)


def interrupt(workers: Sequence[Worker], patience_s: float) -> None:
    """Send SIGINT to the workers that are at a task, until each has ended it or time is up."""
    deadline = time.monotonic() + patience_s
    busy = [worker for worker in workers if worker.number is not None]
    while busy and time.monotonic() < deadline:
        for worker in busy:  # again and again: it may not listen yet
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT)
        for pipe in wait([worker.pipe for worker in busy], 0.2):
            worker = next(worker for worker in busy if worker.pipe is pipe)
            if hear(worker)[0] != TOLD:
                busy.remove(worker)


def end(worker: Worker, patience_s: float = 0.0) -> None:
    """End a worker: by itself, as its pipe closes, or by SIGKILL once patience ends."""
    worker.pipe.close()
    if patience_s:
        worker.process.join(patience_s)
    worker.process.kill()
    worker.process.join()


def die_with(parent: int) -> None:
    """End this process when its parent ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was gone before this process could ask
        os._exit(1)


def follow(parent: int) -> None:
    """End this process once its parent is another: the first has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
