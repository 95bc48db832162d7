"""What is a run on disk?

A folder ``root/experiment/name`` that says how it was made before it holds anything else, keeps
every finished task from the instant it is finished, and may be killed at any instant: opened again
with the same config it goes on where it was.

    with Run.open(Path("runs"), "course", "demo", config, provenance) as run:
        identity = identity_of(source=source, config=config, seed=seed)
        rows = run.task(identity) or run.record(identity, train(checkpoint=run.scratch(identity)))
        run.save_table(pd.DataFrame(rows))

| in the folder           | what it is                                                           |
|-------------------------|----------------------------------------------------------------------|
| ``run.json``            | config, command, versions, commit, hashes; what changed when resumed |
| ``tasks.sqlite``        | the rows of every finished task                                      |
| ``scratch/``            | checkpoints of tasks under way                                       |
| ``NAME.parquet``        | result tables                                                        |
| ``figures/NAME.png`` …  | figures as PNG, SVG and PDF                                          |
| ``lock``                | who is writing to the folder                                         |
"""

import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.util import register_after_fork
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from interp.errors import UsageError, nearest

FORMATS = {"png": None, "svg": "Date", "pdf": "CreationDate"}
"""A figure's, with what each calls the date that it would hold."""


class SavedRun:
    """What a run has left in its folder, to be read by anyone at any time.

        run = SavedRun.at(Path("runs/course/demo-python-docs"))
        run.table("summary")

    Attributes:
        folder: where everything lies.
        description: what ``run.json`` holds.
    """

    folder: Path
    description: dict[str, Any]

    @classmethod
    def at(cls, folder: Path) -> "SavedRun":
        """The run in a folder. Raises ``UsageError`` where there is none."""
        if not (folder / "run.json").exists():
            raise UsageError(f"{folder} is no run's folder: it holds no run.json")
        run = cls()
        run.folder, run.description = folder, read_description(folder / "run.json")
        return run

    def table(self, name: str = "results") -> pd.DataFrame:
        """A saved table. Raises ``UsageError`` naming the nearest ones where it does not exist."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            saved = nearest(name, [path.stem for path in self.folder.glob("*.parquet")])
            raise UsageError(f"{self.folder} holds no table {name!r}; nearest: {saved}")
        return pd.read_parquet(path)

    def holds(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.folder / f"{name}.parquet").exists()

    def figure(self, name: str) -> dict[str, Path]:
        """A saved figure, its paths by format. Raises ``UsageError`` where it does not exist."""
        folder = self.folder / "figures"
        paths = {kind: folder / f"{name}.{kind}" for kind in FORMATS}
        if not all(path.exists() for path in paths.values()):
            saved = nearest(name, [path.stem for path in folder.glob("*.svg")])
            raise UsageError(f"{self.folder} holds no figure {name!r}; nearest: {saved}")
        return paths


class Run(SavedRun):
    """One run's folder, held by this process alone until it is closed."""

    @classmethod
    def open(
        cls,
        root: Path,
        experiment: str,
        name: str,
        config: dict[str, Any],
        provenance: dict[str, Any] | None = None,
    ) -> "Run":
        """Begin the run ``root/experiment/name``, or resume it.

        Args:
            config: what decides the result, as JSON can hold it; seeds belong here. Leave out what
                may change between two sittings (the number of workers, where runs lie).
            provenance: what else a reader must know to trust the result, such as the hashes of
                text and source.

        Raises:
            UsageError: the run was begun with another config; another process holds it; the folder
                cannot be written. Nothing is left of a run that could not begin.
        """
        for part in (experiment, name):
            if not re.fullmatch(r"[\w-][\w.-]*", part):
                raise UsageError(f"{part!r} cannot name a run: use letters, digits, -, _ and .")
        run = cls()
        run.folder = root / experiment / name
        begun = {"experiment": experiment, "name": name, "config": plain(config)}
        made_now = environment() | {"provenance": plain(provenance or {})}
        with saving(run.folder):
            fresh = not run.folder.exists()
            run.folder.mkdir(parents=True, exist_ok=True)
        try:
            run._lock = hold(run.folder)
            try:
                run.description = describe(run.folder, begun, made_now)
                run._tasks = open_tasks(run.folder)
            except BaseException:
                os.close(run._lock)
                raise
        except BaseException:
            if fresh:
                remove_new(run.folder)
            raise
        for leftover in run.folder.rglob(".*.partial"):
            leftover.unlink()
        register_after_fork(run, Run._let_go)
        return run

    def task(self, identity: str) -> list[dict[str, Any]] | None:
        """The rows of a finished task, or None where it has not finished."""
        query = "SELECT rows FROM tasks WHERE identity = ?"
        found = self._tasks.execute(query, (identity,)).fetchone()
        return None if found is None else json.loads(found[0])

    def record(self, identity: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep a finished task's rows for good, and drop its scratch file.

        One transaction, on disk when this returns (WAL, ``synchronous=FULL``). Floats come back
        bit for bit, of numpy too; the rows are returned as ``task`` will give them from now on, so
        that a table does not depend on which of its tasks were resumed.

        Raises:
            UsageError: values that JSON cannot hold; other rows were recorded under this identity;
                the disk is full. The store is then as it was.
        """
        text = encoded(rows)
        with saving(self.folder / "tasks.sqlite"):
            insertion = "INSERT INTO tasks VALUES (?, ?) ON CONFLICT DO NOTHING"
            self._tasks.execute(insertion, (identity, text))
        kept = self.task(identity)
        if encoded(kept) != text:
            raise UsageError(
                f"task {identity} is already recorded in {self.folder} with other rows: "
                f"an identity must hold everything that decides the rows"
            )
        self.scratch(identity).unlink(missing_ok=True)
        return json.loads(text)

    def scratch(self, identity: str) -> Path:
        """Where the checkpoint of a task under way goes; gone once the task is recorded."""
        if not re.fullmatch(r"[\w-]+", identity):
            raise UsageError(f"{identity!r} is not an identity: take what identity_of returns")
        path = self.folder / "scratch" / identity
        with saving(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def save_table(self, table: pd.DataFrame, name: str = "results") -> Path:
        """Write a result table as Parquet, all or nothing. Raises ``UsageError`` if it cannot."""
        content = io.BytesIO()
        table.to_parquet(content)
        return write_atomically(self.folder / f"{name}.parquet", content.getvalue())

    def save_figure(self, figure: Figure, name: str) -> dict[str, Path]:
        """Write a figure as PNG (200 dpi), SVG and PDF, each all or nothing, and close it.

        The same figure gives the same bytes: no dates, no random ids. Returns the paths by format.
        """
        contents = {}
        with mpl.rc_context({"svg.hashsalt": name, "pdf.fonttype": 42}):
            for kind, dated in FORMATS.items():
                content = io.BytesIO()
                figure.savefig(content, format=kind, dpi=200, metadata=dated and {dated: None})
                contents[kind] = content.getvalue()
        plt.close(figure)
        folder = self.folder / "figures"
        return {k: write_atomically(folder / f"{name}.{k}", c) for k, c in contents.items()}

    def close(self) -> None:
        """Let others have the folder. What was recorded stays."""
        self._tasks.close()
        self._let_go()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _let_go(self) -> None:
        """Close the lock. A forked child does so at once: the run is its parent's, and must be free
        when that dies, though the child may live a moment longer."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    _lock: int | None
    _tasks: sqlite3.Connection


def recorded_elsewhere(root: Path, identity: str) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Every run folder under ``root`` that has finished a task, and the rows it recorded.

    Runs that others hold are read too: what is recorded there is whole. Stores that cannot be read
    are passed over.
    """
    for path in sorted(root.glob("*/*/tasks.sqlite")):
        with suppress(sqlite3.Error), closing(reading(path)) as store:
            query = "SELECT rows FROM tasks WHERE identity = ?"
            if found := store.execute(query, (identity,)).fetchone():
                yield path.parent, json.loads(found[0])


def reading(path: Path) -> sqlite3.Connection:
    """A store to read from, beside whoever writes to it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def holder(folder: Path) -> str | None:
    """Who writes to a run's folder now, as in ``process 4711 on laptop``; None if nobody does."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return (folder / "lock").read_text()
    except FileNotFoundError:
        pass
    return None


def identity_of(**parts: Any) -> str:
    """The hash of everything that decides a task's rows: equal parts, equal identity.

        identity_of(source=source, config=asdict(config), seed=3)

    The sha256 of canonical JSON: keys sorted, floats exact, 1 and 1.0 apart. Raises ``UsageError``
    where a part is nothing that JSON can hold.
    """
    canonical = json.dumps(plain(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_atomically(path: Path, content: bytes) -> Path:
    """Put ``content`` at ``path``, on disk when this returns; else leave ``path`` as it was.

    Raises:
        UsageError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)  # a rename lasts once its folder is on disk
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"cannot write {path} ({reason}): make room or choose another folder, "
            f"then start again; what was saved before is whole"
        ) from error


def hold(folder: Path) -> int:
    """Lock the folder for as long as the returned descriptor is open; the system closes it when the
    process dies, however it dies. Raises ``UsageError`` saying who holds it already."""
    path = folder / "lock"
    with saving(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode() or "another process"
            os.close(descriptor)
            raise UsageError(
                f"{folder} is held by {holder}: wait until it ends, or choose another --name"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def describe(folder: Path, begun: dict[str, Any], made_now: dict[str, Any]) -> dict[str, Any]:
    """Write ``run.json``, or find the run there to be the same one and note what has changed."""
    path = folder / "run.json"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if not path.exists():
        description = begun | {"started": now} | made_now | {"resumed": []}
    else:
        description = read_description(path)
        if differing := differences(description["config"], begun["config"]):
            raise UsageError(
                f"{folder} was begun with {'; '.join(differing)}: "
                f"go on with its own config, or choose another --name"
            )
        latest = {key: description[key] for key in made_now}
        for change in description["resumed"]:
            latest |= {key: change[key] for key in made_now if key in change}
        changed = {key: value for key, value in made_now.items() if latest[key] != value}
        if not changed:
            return description
        description["resumed"].append({"at": now} | changed)
    write_atomically(path, json.dumps(description, indent=2, ensure_ascii=False).encode())
    return description


def read_description(path: Path) -> dict[str, Any]:
    """What ``run.json`` holds. Raises ``UsageError`` where it is not what a run wrote."""
    try:
        description = json.loads(path.read_bytes())
        description["config"], description["resumed"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} does not describe a run ({error}): choose another --name"
        ) from error
    return description


def differences(theirs: Any, ours: Any, field: str = "") -> list[str]:
    """Where two configs part, one phrase for each field: ``steps 200, not 300``."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        absent: Any = "nothing"
        return [
            phrase
            for key in theirs | ours
            for phrase in differences(
                theirs.get(key, absent), ours.get(key, absent), f"{field}.{key}".lstrip(".")
            )
        ]
    # NaN is not itself, but as text it is
    return [] if json.dumps(theirs) == json.dumps(ours) else [f"{field} {theirs}, not {ours}"]


def open_tasks(folder: Path) -> sqlite3.Connection:
    """The store of finished tasks: each statement a transaction, each on disk when it returns."""
    path = folder / "tasks.sqlite"
    with saving(path):
        tasks = sqlite3.connect(path, isolation_level=None)
        try:
            tasks.execute("PRAGMA journal_mode = WAL")
            tasks.execute("PRAGMA synchronous = FULL")
            tasks.execute(
                "CREATE TABLE IF NOT EXISTS tasks (identity TEXT PRIMARY KEY, rows TEXT NOT NULL)"
            )
        except sqlite3.OperationalError:
            tasks.close()
            raise
        except sqlite3.DatabaseError as error:
            tasks.close()
            raise UsageError(
                f"{path} is damaged ({error}): choose another --name, or delete the folder"
            ) from error
    return tasks


def remove_new(folder: Path) -> None:
    """Leave nothing of a folder that was made a moment ago and could not be filled."""
    with suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def encoded(rows: Any) -> str:
    return json.dumps(plain(rows))


def plain(value: Any) -> Any:
    """The value as JSON gives it back: numpy numbers exact, tuples as lists, paths as text."""

    def convert(part: Any) -> Any:
        if isinstance(part, np.generic):
            return part.item()
        if isinstance(part, Path):
            return str(part)
        raise UsageError(f"{part!r} ({type(part).__name__}) cannot be kept as JSON: convert it")

    return json.loads(json.dumps(value, default=convert))


def environment() -> dict[str, Any]:
    """With what this process computes: the command, the code's commit, the versions."""
    return {
        "command": command(),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(),
    }


def command() -> str:
    """The command that started this process, as one would type it."""
    program, *arguments = sys.orig_argv or [sys.executable]
    return shlex.join([Path(program).name, *arguments])


def commit() -> str | None:
    """The git commit of this code, marked where files were changed since; None outside a checkout.

    Asked of this very file, so that a package installed beneath someone's own repository does not
    report theirs.
    """

    def git(*arguments: str) -> str:
        here = Path(__file__)
        done = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(done, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def packages() -> dict[str, str]:
    """The versions of this project and of what it requires."""
    project = "nanogpt-interp"
    try:
        required = importlib.metadata.requires(project) or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return {}
    names = [re.split(r"[^\w.-]", line)[0] for line in required if "extra ==" not in line]
    return {name: importlib.metadata.version(name) for name in [project, *names]}
