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
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from interp.errors import SurgeryError
from interp.runs.workers import ATTEMPTS, DIED, DONE, LOST, Worker, end, share, start_worker
from interp.status import Status
from interp.surgery.guarding.outcomes import (
    Outcome,
    ending,
    one_sentence,
    outcome_of,
    unpickle_outcome,
)
from interp.surgery.guarding.overseeing import oversee

PATIENCE_S = 5.0
"""How long an overseer may take to end what it oversees, before it is killed itself."""


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
            yield index, attempt(task)
        return
    amount = min(workers or len(os.sched_getaffinity(0)), len(tasks))

    def start(others: list[Worker]) -> Worker:
        return start_worker("fork", oversee, (tasks, limit_s, memory_gib), others)

    numbers = range(len(tasks))
    how: dict[str, Any] = {"patience_s": PATIENCE_S, "read": read_outcome}
    with closing(share(numbers, amount, start, end_all, **how)) as messages:
        for index, kind, what in messages:
            if kind == DIED:
                what = Outcome(Status.LOST, detail=f"its overseer {ending(what)}")
            yield index, finally_lost(what)


def end_all(workers: list[Worker]) -> None:
    """End workers, each of which ends what it oversees."""
    for worker in workers:
        end(worker, PATIENCE_S)


def read_outcome(sent: bytes) -> tuple[str, Outcome]:
    """An outcome as a message: whether the machine stopped the task, and what became of it."""
    try:
        outcome = unpickle_outcome(sent)
    except Exception as error:
        outcome = Outcome(Status.ERROR, detail=f"its result cannot be read: {one_sentence(error)}")
    return LOST if outcome.status == Status.LOST else DONE, outcome


def attempt(task: Callable[[], Any]) -> Outcome:
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
