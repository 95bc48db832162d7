"""How does the same work run on many machines?

On a Ray cluster (``pip install .[cluster]``): Ray decides what runs where, and what dies there is
begun again elsewhere. Nothing is asked of the machines' disks: a task's files travel with it, its
training's state comes back at every evaluation, so that a task whose machine is lost goes on from
there, and results flow to the driver's store.

    Cluster("ray://head:10001").run(work, shared, tasks, told, done)

The project must be installed on every machine; ``pip install .[cluster]`` there does it.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from experiments.support.trainings.executors import Heard, Work, settle
from gpt.errors import UsageError
from interp.runs import write_atomically
from interp.runs.workers import ATTEMPTS

FILES = ("state", "weights")
"""The fields of a task that name files, where it has them."""
PATIENCE = 10.0
"""Seconds within which a cluster must answer."""
CLIENT_PORT = 10001
"""Of ``ray://head``, as Ray has it."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What opens an HTTP/2 connection: its preface, and settings of which none differs."""


@dataclass(frozen=True)
class Cluster:
    """Workers of a Ray cluster.

    Args:
        address: of the cluster; empty starts one on this machine, or joins what ``RAY_ADDRESS``
            names.
        workers: processors of the cluster that is started here.
        gpus: the share of a GPU that each task gets.
    """

    address: str
    workers: int
    gpus: float = 0.0

    def require(self) -> None:
        """Raises ``UsageError`` where Ray is not installed, or no cluster answers."""
        if self.address:
            with connect_ray(self.address, self.workers):
                pass
        else:
            import_ray()

    def run(self, work: Work, shared: Any, tasks: Sequence[Any], told: Heard, done: Heard) -> None:
        with self.connected() as cluster:
            cluster.run(work, shared, tasks, told, done)

    @contextmanager
    def connected(self) -> Iterator["ConnectedCluster"]:
        """The cluster, for as many runs as there are in the block: connecting takes seconds."""
        with connect_ray(self.address, self.workers) as ray:
            from ray.util.queue import Queue

            yield ConnectedCluster(ray, Queue(actor_options={"num_cpus": 0}), self.gpus)


@dataclass(frozen=True)
class ConnectedCluster:
    """A cluster that is connected to.

    Args:
        ray: the module.
        mail: what workers tell meanwhile.
        gpus: the share of a GPU that each task gets.
    """

    ray: Any
    mail: Any
    gpus: float

    def run(self, work: Work, shared: Any, tasks: Sequence[Any], told: Heard, done: Heard) -> None:
        from ray.exceptions import RayTaskError, TaskCancelledError, WorkerCrashedError

        ray, mail = self.ray, self.mail
        kept = ray.put(shared)
        remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=0)(perform_there)
        deaths = [0] * len(tasks)
        pending: dict[Any, int] = {}

        def submit(number: int) -> None:
            task = tasks[number]
            sent = remote.remote(work, kept, task, contents(task), number, mail)
            pending[sent] = number

        def read_mail() -> None:
            for number, kind, what in mail.get_nowait_batch(mail.qsize()):
                if kind == "told":
                    told(number, what)
                else:
                    write_files(tasks[number], what)

        try:
            for number in range(len(tasks)):
                submit(number)
            while pending:
                ended, _ = ray.wait(list(pending), timeout=0.5)
                read_mail()
                for reference in ended:
                    number = pending.pop(reference)
                    try:
                        result, files = ray.get(reference)
                    except RayTaskError as error:
                        raise error.cause from None
                    except (WorkerCrashedError, ray.exceptions.NodeDiedError):
                        deaths[number] += 1
                        if deaths[number] == ATTEMPTS:
                            raise UsageError(
                                f"a task's worker died {ATTEMPTS} times on the cluster: give "
                                f"it more memory; what was finished is kept"
                            ) from None
                        submit(number)
                    else:
                        write_files(tasks[number], files)
                        done(number, result)
        finally:
            for reference in pending:
                ray.cancel(reference)  # a training saves its state, and sends it
            for reference in pending:
                with suppress(RayTaskError, TaskCancelledError, WorkerCrashedError):
                    ray.get(reference, timeout=60)
            read_mail()


@contextmanager
def connect_ray(address: str, workers: int) -> Iterator[Any]:
    """Ray, connected within the block. Raises ``UsageError`` where it is not there."""
    ray = import_ray()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    joins = address or os.environ.get("RAY_ADDRESS")
    if joins and not answers(joins):
        raise UsageError(
            f"no Ray cluster answers at {joins!r} within {PATIENCE:.0f} seconds: give --ray an "
            "address such as ray://head:10001, or local"
        )
    try:
        if joins:
            ray.init(address=joins, **options)
        else:
            ray.init(num_cpus=max(workers, 1), include_dashboard=False, **options)
    except Exception as error:  # of many kinds, by what is wrong with the address
        told = " ".join(str(error).split())[:200]
        raise UsageError(
            f"no Ray cluster answers at {joins or 'this machine'!r} ({type(error).__name__}: "
            f"{told}): give --ray an address such as ray://head:10001, or local"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def answers(address: str) -> bool:
    """Whether a server that Ray could be is there; Ray itself would wait for minutes.

    An address without a host and a port is left to Ray, which says at once what is wrong with it.
    """
    if address == "auto":  # where Ray notes the cluster of this machine, also once that is gone
        noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
        address = noted.read_text().strip() if noted.exists() else address
    place = address.removeprefix("ray://")
    if place != address and ":" not in place:
        place = f"{place}:{CLIENT_PORT}"
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return True
    heard: list[bytes] = []

    def ask() -> None:
        with (
            suppress(OSError, OverflowError),
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as there,
        ):
            there.sendall(GREETING)
            heard.append(there.recv(4))

    asking = Thread(target=ask, daemon=True)  # looking a name up has no time limit of its own
    asking.start()
    asking.join(PATIENCE)
    return any(len(said) == 4 and said[3] == 4 for said in heard)  # it tells its settings first


def import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports on its use otherwise
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--ray needs Ray, which is not installed: pip install 'nanogpt-interp[cluster]'"
        ) from None
    return ray


def perform_there(
    work: Work, shared: Any, task: Any, files: dict[str, bytes], number: int, mail: Any
) -> tuple[Any, dict[str, bytes]]:
    """Do a task in a worker of the cluster, its files in a folder of its own."""
    settle()
    with TemporaryDirectory() as folder:
        moved = {name: Path(folder, name) for name in FILES if getattr(task, name, None)}
        here = replace(task, **moved) if moved else task
        write_files(here, files)
        sent = stamps(here)

        def tell(what: Any) -> None:
            nonlocal sent
            mail.put_nowait((number, "told", what))
            if (now := stamps(here)) != sent:
                sent = now
                mail.put_nowait((number, "files", contents(here)))

        try:
            result = work(shared, here, tell)
        except KeyboardInterrupt:
            mail.put_nowait((number, "files", contents(here)))
            raise
        return result, contents(here)


def contents(task: Any) -> dict[str, bytes]:
    """What the files of a task hold, as far as they exist."""
    paths = {name: getattr(task, name, None) for name in FILES}
    return {name: p.read_bytes() for name, p in paths.items() if p is not None and p.exists()}


def write_files(task: Any, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        write_atomically(getattr(task, name), content)


def stamps(task: Any) -> dict[str, int]:
    """When the files of a task were last written."""
    paths = {name: getattr(task, name, None) for name in FILES}
    return {n: p.stat().st_mtime_ns for n, p in paths.items() if p is not None and p.exists()}
