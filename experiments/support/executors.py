"""Where does independent work run, and what becomes of it when a worker dies?

One interface, three places: this process, processes on this machine, and a Ray cluster
(``experiments.support.cluster``). The work is the same function everywhere:

    def work(shared, task, tell):
        tell("half way")
        return result

    Processes(4).run(work, shared, tasks, told, done)

``done(number, result)`` is called here, in the driver, once for every task, in whatever order they
finish; ``told(number, what)`` for whatever the work tells meanwhile. All work computes on one
thread, so that a task gives the same bits wherever it runs.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import torch

from gpt.errors import UsageError
from interp.memory import keep_freed
from interp.surgery.outcomes import is_the_machines

Tell = Callable[[Any], None]
Work = Callable[[Any, Any, Tell], Any]
Heard = Callable[[int, Any], None]

ATTEMPTS = 3
"""Workers that one task may lose: what kills three of them would kill the next."""


ON_GPU = 4
"""Trainings that keep one GPU busy: each leaves it idle while it prepares its next kernels."""


def at_once() -> int:
    """How many tasks run side by side on this machine: one for each core, or what its GPU takes."""
    return ON_GPU if torch.cuda.is_available() else os.cpu_count() or 1


class Executor(Protocol):
    """A place where tasks run."""

    def run(self, work: Work, shared: Any, tasks: Sequence[Any], told: Heard, done: Heard) -> None:
        """Do all tasks.

        Args:
            work: does one task, and may tell how far it is; on SIGINT it saves what it has and
                raises ``KeyboardInterrupt``.
            shared: what all tasks share; it reaches a worker once.
            tasks: independent of each other.
            told: is called with a task's number and what its work tells.
            done: is called with a task's number and result, once for each task.

        Raises:
            UsageError: a task's worker died three times.
            KeyboardInterrupt: on Ctrl-C, once the work under way has ended.
            Exception: what the work or ``done`` raised, once the other work has ended likewise.
        """


@dataclass(frozen=True)
class InProcess:
    """One task after another, in this process."""

    def run(self, work: Work, shared: Any, tasks: Sequence[Any], told: Heard, done: Heard) -> None:
        with one_thread():
            for number, task in enumerate(tasks):
                done(number, work(shared, task, partial(told, number)))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch for a while: on a narrow model several wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Processes:
    """Processes on this machine, each with one thread, which on small models beats one process with
    all threads. A task whose process died, or found no memory, is begun again in a new one."""

    workers: int

    def run(self, work: Work, shared: Any, tasks: Sequence[Any], told: Heard, done: Heard) -> None:
        waiting = list(range(len(tasks)))[::-1]
        deaths = dict.fromkeys(waiting, 0)
        running: list[Worker] = []
        try:
            with ignoring_interrupts():  # workers inherit it; a training listens between its steps
                for _ in range(min(self.workers, len(tasks))):
                    running.append(started(work, shared))
            for worker in running:
                worker.take(waiting.pop(), tasks)
            while running:
                for pipe in wait([worker.pipe for worker in running]):
                    worker = next(w for w in running if w.pipe is pipe)
                    kind, what = worker.receive()
                    if kind == "told":
                        told(worker.number, what)
                        continue
                    number, worker.number = worker.number, None
                    if kind == "failed":
                        raise what
                    if kind == "done":
                        done(number, what)
                    else:
                        deaths[number] += 1
                        if deaths[number] == ATTEMPTS:
                            raise what if kind == "lost" else UsageError(died(what))
                        waiting.insert(0, number)  # last, when those that crowd it out have ended
                        running.remove(worker)
                        end(worker)
                        with ignoring_interrupts():
                            worker = started(work, shared)
                        running.append(worker)
                    if waiting:
                        worker.take(waiting.pop(), tasks)
                    else:
                        running.remove(worker)
                        end(worker)
        finally:
            stop(running)


@dataclass
class Worker:
    process: Any
    pipe: Connection
    number: Any = field(default=None)  # of the task it is at

    def take(self, number: int, tasks: Sequence[Any]) -> None:
        self.number = number
        with suppress(OSError):  # of a process that died: waiting for it will tell
            self.pipe.send(tasks[number])

    def receive(self) -> tuple[str, Any]:
        """What happened, one of told, done, failed, stopped, lost and died, and more of it."""
        try:
            said: tuple[str, Any] = self.pipe.recv()
            return said
        except (EOFError, OSError):
            self.process.join()
            return "died", self.process.exitcode


def started(work: Work, shared: Any) -> Worker:
    """A new worker process.

    Forked where that is safe: it then has at once what took the driver seconds to import. A GPU
    does not survive a fork, nor does macOS' linear algebra.
    """
    forks = sys.platform == "linux" and not torch.cuda.is_available()
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    ours, theirs = context.Pipe()
    arguments = (work, shared, theirs, ours if forks else None, os.getpid())
    process = context.Process(target=serve, args=arguments, daemon=True)
    with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return Worker(process, ours)


def serve(work: Work, shared: Any, pipe: Connection, parents: Any, driver: int) -> None:
    """A worker's life: do the tasks that come, until none comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parents is not None:
        parents.close()
    die_with(driver)
    settle()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            said = "done", work(shared, task, lambda what: pipe.send(("told", what)))
        except KeyboardInterrupt:
            said = "stopped", None
        except Exception as error:
            error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
            said = ("lost" if is_the_machines(error) else "failed"), error
        pipe.send(said)


def settle() -> None:
    """Make this process a worker: one thread, and the memory of one step serves for the next."""
    torch.set_num_threads(1)
    keep_freed()


def die_with(driver: int) -> None:
    """End this process when the driver ends, however it does: what it wrote would meet what the
    next driver's workers write."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    assert parent is not None
    if os.getppid() != driver:  # it was gone before this process could ask
        os._exit(1)

    def follow() -> None:
        parent.join()
        os._exit(1)

    if sys.platform != "linux":
        threading.Thread(target=follow, daemon=True).start()


def stop(workers: Sequence[Worker], patience_s: float = 60.0) -> None:
    """Interrupt what is under way, and wait until it is saved; a second Ctrl-C does not wait."""
    deadline = time.monotonic() + patience_s
    try:
        busy = [worker for worker in workers if worker.number is not None]
        while busy and time.monotonic() < deadline:
            for worker in busy:  # again and again: building a model, it does not listen yet
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGINT)
            for pipe in wait([worker.pipe for worker in busy], 0.2):
                worker = next(w for w in busy if w.pipe is pipe)
                if worker.receive()[0] != "told":
                    busy.remove(worker)
    finally:
        for worker in workers:
            end(worker)


def end(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def died(code: int | None) -> str:
    how = f"exit status {code}"
    if code is not None and code < 0:
        how = signal.Signals(-code).name + (
            ", which the system sends when memory runs out" if code == -signal.SIGKILL else ""
        )
    return (
        f"a task's worker died {ATTEMPTS} times ({how}): give it fewer --workers beside it, or a "
        f"smaller --preset; what was finished is kept"
    )


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ctrl-C goes unheard within the block, and in processes started there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
