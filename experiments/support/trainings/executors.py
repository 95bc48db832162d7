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

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch

from gpt.errors import UsageError
from interp.memory import keep_freed
from interp.runs.workers import (
    ATTEMPTS,
    DIED,
    DONE,
    LOST,
    TOLD,
    Worker,
    die_with,
    end,
    interrupt,
    share,
    start_worker,
)
from interp.surgery.guarding.outcomes import is_the_machines

Tell = Callable[[Any], None]
Work = Callable[[Any, Any, Tell], Any]
Heard = Callable[[int, Any], None]

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
        def start(others: list[Worker]) -> Worker:
            with ignoring_interrupts():  # workers inherit it; a training listens between its steps
                return start_worker(start_method(), serve, (work, shared), others)

        with closing(share(tasks, self.workers, start, stop)) as messages:
            for number, kind, what in messages:
                if kind == TOLD:
                    told(number, what)
                elif kind == DONE:
                    done(number, what)
                else:
                    raise UsageError(death_sentence(what)) if kind == DIED else what


def start_method() -> str:
    """How a worker begins.

    Forked where that is safe: it then has at once what took the driver seconds to import. A GPU
    does not survive a fork, nor does macOS' linear algebra.
    """
    return "fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"


def serve(pipe: Connection, driver: int, work: Work, shared: Any) -> None:
    """A worker's life: do the tasks that come, until none comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(driver)
    settle()
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            said = DONE, work(shared, task, lambda what: pipe.send((TOLD, what)))
        except KeyboardInterrupt as error:
            said = LOST, error
        except Exception as error:
            error.add_note("in a worker process:\n" + "".join(traceback.format_exception(error)))
            said = (LOST if is_the_machines(error) else "failed"), error
        pipe.send(said)


def settle() -> None:
    """Make this process a worker: one thread, and the memory of one step serves for the next."""
    torch.set_num_threads(1)
    keep_freed()


def stop(workers: list[Worker], patience_s: float = 60.0) -> None:
    """Interrupt what is under way, and wait until it is saved; a second Ctrl-C does not wait."""
    try:
        interrupt(workers, patience_s)
    finally:
        for worker in workers:
            end(worker)


def death_sentence(code: int | None) -> str:
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


def executor_of(workers: int, ray: str = "", gpus: float = 0.0) -> Executor:
    """Where trainings run: on a Ray cluster, if its address is given, else in so many processes.

    Raises:
        UsageError: no cluster answers.
    """
    if ray:
        from experiments.support.cluster import Cluster  # an extra, that not everyone has installed

        cluster = Cluster("" if ray == "local" else ray, workers, gpus)
        cluster.require()
        return cluster
    return Processes(workers) if workers else InProcess()


def stay_connected(executor: Executor) -> AbstractContextManager[Executor]:
    """The executor, connected once for all that it runs in the block."""
    connected = getattr(executor, "connected", None)  # of a cluster: here nothing is connected to
    return connected() if connected else nullcontext(executor)
