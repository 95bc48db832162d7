"""How does one worker run one task after another, each in a fork of its own?

A worker runs no task itself, so that each fork begins with the same memory. It ends a task that
takes too long, hears what becomes of one that crashes, and leaves no process behind.
"""

import ctypes
import gc
import multiprocessing
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from interp.runs.workers import die_with
from interp.status import Status
from interp.surgery.guarding.outcomes import (
    CRASHES,
    Outcome,
    ending,
    is_the_machines,
    one_sentence,
    outcome_of,
    pickle_outcome,
)

GLANCE_S = 0.2
"""How often a running task is looked at: time beyond it, in which nobody looked, is no time of the
task, for the machine was suspended."""

PR_SET_CHILD_SUBREAPER = 36  # of Linux' prctl.h
NO_ANSWER, NO_ROOM = 74, 75  # exit codes of a child that cannot say more


def oversee(
    pipe: Connection,
    driver: int,
    tasks: Sequence[Callable[[], Any]],
    limit_s: float,
    memory_gib: float,
) -> None:
    """A worker's life: a fork for each task whose number comes, until none comes. It runs no task
    itself, so that each fork begins with the same memory."""
    os.setsid()  # neither Ctrl-C nor Ctrl-Z is for it
    adopt_orphans()
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    gc.freeze()  # else a collection in a fork would copy whatever stands, page by page
    try:
        while True:
            while not pipe.poll(1.0):
                if os.getppid() != driver:
                    os._exit(0)
            index = pipe.recv()
            pipe.send_bytes(outcome_in_a_child(tasks[index], pipe, driver, limit_s, memory_gib))
    except (EOFError, OSError):  # the driver asks for no more
        os._exit(0)


def outcome_in_a_child(
    task: Callable[[], Any], caller: Connection, driver: int, limit_s: float, memory_gib: float
) -> bytes:
    """The pickled outcome of a task that runs in a child.

    Raises ``EOFError``, and ends the child, if the driver ends first.
    """
    reading, writing = os.pipe()
    overseer = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        return pickle_outcome(outcome_of(error))
    if child == 0:
        try:
            caller.close()
            os.close(reading)
            run_task(task, writing, overseer, memory_gib)
        except BaseException as error:
            os._exit(NO_ROOM if is_the_machines(error) else NO_ANSWER)
    os.close(writing)
    try:
        return pickled_answer(child, reading, caller, driver, limit_s)
    finally:
        os.close(reading)
        end_family(child)


def run_task(task: Callable[[], Any], writing: int, overseer: int, memory_gib: float) -> None:
    """A child's life: one task."""
    born = os.getpid()
    os.setpgid(0, 0)
    die_with(overseer)
    multiprocessing.current_process().daemon = False  # it may load its data in processes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, no outcome of a task
    torch.set_num_threads(1)  # what other threads the caller had are not here
    limit_memory(memory_gib)
    try:
        outcome = Outcome("done", task())
    except BaseException as error:
        outcome = outcome_of(error)
    if os.getpid() != born:  # the task forked, and this is the other process
        os._exit(0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        said = pickle_outcome(outcome)
    except Exception as error:
        detail = f"its result cannot be handed on: {one_sentence(error)}"
        said = pickle_outcome(Outcome(Status.ERROR, detail=detail))
    said = len(said).to_bytes(8, "little") + said
    while said:
        said = said[os.write(writing, said) :]
    os._exit(0)


def limit_memory(memory_gib: float) -> None:
    if memory_gib == float("inf"):
        return
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = taken + int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


def pickled_answer(
    child: int, reading: int, caller: Connection, driver: int, limit_s: float
) -> bytes:
    """What a child says, or what became of it."""
    said, took = bytearray(), 0.0
    waited, looked = waited_for_a_processor(child), time.monotonic()
    listening = [reading, caller.fileno()]
    while True:
        ready, _, _ = select.select(listening, [], [], min(GLANCE_S, max(0.0, limit_s)))
        if caller.fileno() in ready or os.getppid() != driver:
            raise EOFError
        if reading in ready:
            part = os.read(reading, 2**20)
            said += part
            if len(said) >= 8 and len(said) - 8 >= int.from_bytes(said[:8], "little"):
                return bytes(said[8:])
            if not part:  # it has ended, or will not be able to answer
                listening.remove(reading)
        elif has_ended(child):  # though what it started holds its pipe open
            return pickle_outcome(fate(child))
        before, looked = looked, time.monotonic()
        waits = waited_for_a_processor(child)
        idle, waited = max(0.0, waits - waited), max(waits, waited)
        if is_stopped(child):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)
        else:
            took += max(0.0, min(looked - before, 2 * GLANCE_S) - idle)
        if took > limit_s:
            return pickle_outcome(Outcome(Status.TIMEOUT, detail="ended at its time limit"))


def waited_for_a_processor(process: int) -> float:
    """Seconds for which a process was ready to run and did not; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def status_of(process: int) -> list[str]:
    """A process's state, parent and so on; nothing if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_stopped(process: int) -> bool:
    return status_of(process)[:1] == ["T"]


def has_ended(process: int) -> bool:
    return status_of(process)[:1] == ["Z"]


def fate(child: int) -> Outcome:
    """What became of a child that ended without an answer."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == NO_ROOM:
        return Outcome(Status.LOST, detail="the machine had no memory left for its process")
    if code >= 0 or -code in CRASHES:
        return Outcome(Status.ERROR, detail=f"the process {ending(code)}")
    return Outcome(Status.LOST, detail=f"its process {ending(code)}")


def adopt_orphans() -> None:
    """Let what a task leaves behind become this process's child, wherever it hides."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_family(child: int) -> None:
    """End a child, its group, and everything else that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:  # its children are this process's children now
                for process in children_of(os.getpid()):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(process, signal.SIGKILL)
                time.sleep(0.001)


def children_of(process: int) -> list[int]:
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [other for other in found if status_of(other)[1:2] == [str(process)]]
