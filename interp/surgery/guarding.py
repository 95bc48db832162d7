"""How does code that may crash, hang or exit run without harm?

Each task runs in a fork of its own: it sees everything that stood in memory when it was forked, and
nothing that it does to it comes back or meets the next task. A task beyond its limit is ended by
SIGKILL, with every process that it started.

    for index, outcome in guarded(tasks, limit_s=20):
        ...

What the machine did is never an outcome of the task: a process that was killed from outside or
found no memory is begun again, and where that does not help the task is ``lost``.
"""

import gc
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from interp.errors import SurgeryError
from interp.status import Status
from interp.surgery.outcomes import Outcome, ending, one_sentence, outcome_of, unpickled
from interp.surgery.overseeing import oversee

ATTEMPTS = 3
"""Times that a task is begun which the machine stops: what stopped it thrice would do so again."""


@dataclass
class Worker:
    process: Any
    pipe: Connection
    index: int = -1


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
        limit_s: seconds a task may take; those in which the machine was suspended, or its process
            was stopped or waited for a processor, do not count.
        workers: how many children at a time; None is one for each core, 0 runs the tasks here,
            unguarded, as one must where a GPU is in use, which does not survive a fork.
        memory_gib: how much memory a child may take beyond what stands when it is forked.
    """
    if workers == 0 or not hasattr(os, "fork"):
        for index, task in enumerate(tasks):
            yield index, attempted(task)
        return
    waiting = list(range(len(tasks)))[::-1]
    attempts = dict.fromkeys(waiting, 0)
    running: list[Worker] = []
    try:
        for _ in range(min(workers or len(os.sched_getaffinity(0)), len(tasks))):
            running.append(hired(tasks, limit_s, memory_gib, running))
            give(running[-1], waiting.pop())
        while running:
            for pipe in wait([worker.pipe for worker in running]):
                worker = next(w for w in running if w.pipe is pipe)
                index, outcome, lives = worker.index, *hear(worker)
                attempts[index] += 1
                if outcome.status == Status.LOST and attempts[index] < ATTEMPTS:
                    waiting.insert(0, index)  # last, when those that crowded it out have ended
                else:
                    yield index, finally_lost(outcome)
                if not lives:
                    running.remove(worker)
                    end(worker)
                    if waiting:
                        worker = hired(tasks, limit_s, memory_gib, running)
                        running.append(worker)
                if waiting:
                    give(worker, waiting.pop())
                elif lives:
                    running.remove(worker)
                    end(worker)
    finally:
        for worker in running:
            end(worker)


def attempted(task: Callable[[], Any]) -> Outcome:
    """A task's outcome, in this process. Raises ``SurgeryError`` where no other could follow."""
    outcome = Outcome(Status.LOST)
    for _ in range(ATTEMPTS):
        try:
            return Outcome("done", task())
        except torch.AcceleratorError as error:
            raise SurgeryError(
                f"a surgery broke the GPU's state, and this process can compute nothing there any "
                f"more ({one_sentence(error)}): study the model on the CPU, with the GPU hidden by "
                f'CUDA_VISIBLE_DEVICES=""; there each surgery has a process of its own'
            ) from error
        except (Exception, SystemExit) as error:
            outcome = outcome_of(error)
        if outcome.status != Status.LOST:
            return outcome
        gc.collect()
        torch.cuda.empty_cache()
    return finally_lost(outcome)


def finally_lost(outcome: Outcome) -> Outcome:
    """The outcome; one that is lost says how often it was tried."""
    if outcome.status != Status.LOST:
        return outcome
    return replace(outcome, detail=f"{outcome.detail}; tried {ATTEMPTS} times")


def hired(
    tasks: Sequence[Callable[[], Any]],
    limit_s: float,
    memory_gib: float,
    others: Sequence[Worker],
) -> Worker:
    ours, theirs = multiprocessing.Pipe()
    not_its_own = [ours, *(worker.pipe for worker in others)]
    context = multiprocessing.get_context("fork")
    arguments = (tasks, theirs, not_its_own, os.getpid(), limit_s, memory_gib)
    process = context.Process(target=oversee, args=arguments, daemon=True)
    with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return Worker(process, ours)


def give(worker: Worker, index: int) -> None:
    worker.index = index
    with suppress(BrokenPipeError, ConnectionResetError):  # it is noticed when it is listened to
        worker.pipe.send(index)


def hear(worker: Worker) -> tuple[Outcome, bool]:
    """The outcome of a worker's task, and whether the worker lives."""
    try:
        said = worker.pipe.recv_bytes()
    except (EOFError, OSError):
        worker.process.join()
        return Outcome(Status.LOST, detail=f"its overseer {ending(worker.process.exitcode)}"), False
    try:
        outcome = unpickled(said)
    except Exception as error:
        outcome = Outcome(Status.ERROR, detail=f"its result cannot be read: {one_sentence(error)}")
    return outcome, True


def end(worker: Worker) -> None:
    """End a worker, which ends what it oversees."""
    worker.pipe.close()
    worker.process.join(5)
    worker.process.kill()
    worker.process.join()
