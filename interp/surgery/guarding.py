"""How does code that may crash, hang or exit run without harm?

Each task runs in a forked child: it sees everything that stands in memory, and nothing that it does
to it comes back. A task beyond its wall-clock limit is ended by SIGKILL; the next child goes on
with the rest.

    for index, outcome in guarded(tasks, limit_s=20):
        ...
"""

import multiprocessing
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from interp.errors import SurgeryError, UsageError


@dataclass(frozen=True)
class Outcome:
    """What became of a task: ``done`` and its value, or ``error`` or ``timeout`` and a sentence."""

    status: str
    value: Any = None
    detail: str = ""


@dataclass
class Worker:
    process: Any
    pipe: Connection
    index: int
    deadline: float


def guarded(
    tasks: Sequence[Callable[[], Any]],
    *,
    limit_s: float,
    workers: int | None = None,
    memory_gib: float = 4.0,
) -> Iterator[tuple[int, Outcome]]:
    """Run tasks in children and yield their outcomes as they come, each with its task's number.

    Every child computes on one thread, so that the same task gives the same bits in each.

    Args:
        tasks: functions without arguments; what they return must pickle.
        limit_s: wall-clock seconds a task may take.
        workers: how many children at a time; None is one for each core, 0 runs the tasks here,
            unguarded, as one must where a GPU is in use, which does not survive a fork.
        memory_gib: how much memory a child may take beyond what stands when it is forked.
    """
    if workers == 0 or not hasattr(os, "fork"):
        for index, task in enumerate(tasks):
            yield index, attempted(task)
        return
    waiting = list(range(len(tasks)))[::-1]
    running: list[Worker] = []
    try:
        for _ in range(min(workers or len(os.sched_getaffinity(0)), len(tasks))):
            running.append(forked(tasks, waiting.pop(), limit_s, memory_gib))
        while running:
            patience = max(0.0, min(w.deadline for w in running) - time.monotonic())
            wait([worker.pipe for worker in running], patience)
            for worker in list(running):
                outcome = outcome_of(worker)
                if outcome is None:
                    continue
                yield worker.index, outcome
                alive = worker.process.is_alive() and outcome.status != "timeout"
                if waiting and alive:
                    worker.index, worker.deadline = waiting.pop(), time.monotonic() + limit_s
                    worker.pipe.send(worker.index)
                else:
                    end(worker)
                    running.remove(worker)
                    if waiting:
                        running.append(forked(tasks, waiting.pop(), limit_s, memory_gib))
    finally:
        for worker in running:
            end(worker)


def attempted(task: Callable[[], Any]) -> Outcome:
    """A task's outcome, in this process. Raises ``SurgeryError`` where no other could follow."""
    try:
        return Outcome("done", task())
    except torch.AcceleratorError as error:
        raise SurgeryError(
            f"a surgery broke the GPU's state, and this process can compute nothing there any "
            f"more ({one_sentence(error)}): study the model on the CPU, with the GPU hidden by "
            f'CUDA_VISIBLE_DEVICES=""; there each surgery has a process of its own'
        ) from error
    except Exception as error:
        return Outcome("error", detail=one_sentence(error))


def forked(
    tasks: Sequence[Callable[[], Any]], index: int, limit_s: float, memory_gib: float
) -> Worker:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=serve, args=(tasks, theirs, ours, memory_gib), daemon=True)
    with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    ours.send(index)
    return Worker(process, ours, index, time.monotonic() + limit_s)


def serve(
    tasks: Sequence[Callable[[], Any]], pipe: Connection, parents: Connection, memory_gib: float
) -> None:
    """A child's life: do the tasks whose numbers come, until none comes."""
    parents.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, no outcome of a task
    torch.set_num_threads(1)  # what other threads the parent had are not here
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = taken + int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            index = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            outcome = Outcome("done", tasks[index]())
        except BaseException as error:
            outcome = Outcome("error", detail=one_sentence(error))
        pipe.send(outcome)


def outcome_of(worker: Worker) -> Outcome | None:
    """What a worker's task came to; None while it is at it."""
    if worker.pipe.poll():
        try:
            outcome: Outcome = worker.pipe.recv()
            return outcome
        except (EOFError, ConnectionResetError):
            worker.process.join()
            return Outcome("error", detail=f"the process ended with code {worker.process.exitcode}")
    if time.monotonic() > worker.deadline:
        return Outcome("timeout", detail="ended at its wall-clock limit")
    return None


def end(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def one_sentence(error: BaseException) -> str:
    """An exception on one line, shortened; one of ours is a sentence by itself."""
    whole = (
        [str(error)] if isinstance(error, UsageError) else traceback.format_exception_only(error)
    )
    text = " ".join("".join(whole).split())
    return text if len(text) <= 300 else text[:297] + "..."
