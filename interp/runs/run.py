"""One run's folder, written by one process: begun, recorded into, resumed."""

import io
import os
import re
from multiprocessing.util import register_after_fork
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.runs import description
from interp.runs.files import note, saving, write_atomically
from interp.runs.identity import to_json_value
from interp.runs.locking import hold, is_at, leave
from interp.runs.saved import FORMATS, SavedRun
from interp.runs.store import Store, encode_rows
from interp.runs.tables import as_parquet

LONGEST = 200
"""Bytes of a run's name; the system allows a little more for a file's."""
UNFINISHED = (".*.partial", "*.tmp")
"""Files that a process was writing when it was killed."""


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
            require_name(part)
        run = cls()
        run.folder = root / experiment / name
        begun = {"experiment": experiment, "name": name, "config": to_json_value(config)}
        made_now = description.environment() | {"provenance": to_json_value(provenance or {})}
        run._lock = hold(run.folder)
        fresh = not (run.folder / "run.json").exists()
        try:
            run.description = description.describe_run(run.folder, begun, made_now)
            run._tasks = Store(run.folder / "tasks.sqlite")
        except BaseException:
            if fresh:
                remove_new(run.folder)
            os.close(run._lock)
            raise
        run._opened = (run.folder / "tasks.sqlite").stat()
        for pattern in UNFINISHED:
            for leftover in run.folder.rglob(pattern):
                leftover.unlink(missing_ok=True)
        register_after_fork(run, Run._let_go)
        return run

    def task(self, identity: str) -> list[dict[str, Any]] | None:
        """The rows of a finished task, or None where it has not finished.

        Rows whose checksum fails are as good as none: a sentence says so on standard error, and the
        task is to be done again. Raises ``UsageError`` where the store cannot be read.
        """
        rows = self._tasks.rows(identity)
        if rows is None and self._tasks.damaged(identity):
            note(
                f"what {self._tasks.path} holds of task {identity[:12]} is damaged: it is done "
                f"again"
            )
        return rows

    def record(self, identity: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Keep a finished task's rows for good, and drop its scratch file.

        One transaction, on disk when this returns (WAL, ``synchronous=FULL``). Floats come back
        bit for bit, of numpy too; the rows are returned as ``task`` will give them from now on, so
        that a table does not depend on which of its tasks were resumed.

        Raises:
            UsageError: values that JSON cannot hold; other rows were recorded under this identity;
                the disk is full, or the folder was removed or replaced meanwhile. The store is then
                as it was.
        """
        self._require_there()
        text = encode_rows(rows)
        if not self._tasks.keep(identity, text):
            raise UsageError(
                f"task {identity} is already recorded in {self.folder} with other rows: "
                f"an identity must hold everything that decides the rows"
            )
        self.scratch(identity).unlink(missing_ok=True)
        kept = self._tasks.rows(identity)
        assert kept is not None
        return kept

    def forget(self, identity: str) -> None:
        """Let a task be unfinished again, as where the weights that came with it are lost."""
        self._require_there()
        self._tasks.forget(identity)

    def scratch(self, identity: str) -> Path:
        """Where the checkpoint of a task under way goes; gone once the task is recorded."""
        if not re.fullmatch(r"[\w-]+", identity):
            raise UsageError(f"{identity!r} is not an identity: take what identity_of returns")
        path = self.folder / "scratch" / identity
        with saving(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def save_table(self, table: pd.DataFrame, name: str = "results") -> Path:
        """Write a result table as Parquet with a checksum, all or nothing. Raises ``UsageError`` if
        it cannot."""
        self._require_there()
        content = as_parquet(table, self.belongs(name))
        return write_atomically(self.folder / f"{name}.parquet", content)

    def save_figure(self, figure: Figure, name: str) -> dict[str, Path]:
        """Write a figure as PNG (200 dpi), SVG and PDF, each all or nothing, and close it.

        The same figure of the same tables gives the same bytes: no dates, no random ids. In each
        stand the checksums of the run's tables, so that an older figure is known beside a newer
        table. Returns the paths by format.
        """
        import matplotlib.pyplot as plt  # late: most processes save no figure

        self._require_there()
        contents = {}
        tables = " ".join(["made of", *(f"{k}={v}" for k, v in self.digests().items())]) + "."
        with mpl.rc_context({"svg.hashsalt": name, "pdf.fonttype": 42}):
            for kind, (noted, dated) in FORMATS.items():
                content = io.BytesIO()
                metadata = {noted: tables} | ({dated: None} if dated else {})
                figure.savefig(content, format=kind, dpi=200, metadata=metadata)
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
        try:
            if kind is None and self._lock is not None:
                self._require_there()
        finally:
            self.close()

    def _require_there(self) -> None:
        """Raises ``UsageError`` where the folder is no longer the one that this process holds."""
        store = self.folder / "tasks.sqlite"
        there = self._lock is not None and is_at(self._lock, self.folder / "lock")
        try:
            there = there and os.path.samestat(self._opened, store.stat())
            there = there and (self.folder / "run.json").exists()
        except OSError:
            there = False
        if not there:
            raise UsageError(
                f"{self.folder} was removed or replaced while this run wrote to it, or the run is "
                f"closed: nothing can be kept there; start the same command again"
            )

    def _let_go(self) -> None:
        """Close the lock. A forked child does so at once: the run is its parent's, and must be free
        when that dies, though the child may live a moment longer."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    _lock: int | None
    _tasks: Store
    _opened: os.stat_result


def require_name(name: str) -> None:
    """Raises ``UsageError`` where a text cannot name a run's folder."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UsageError(f"{name!r} cannot name a run: use letters, digits, -, _ and .")
    if len(name.encode()) > LONGEST:
        raise UsageError(
            f"{name[:40]!r}… cannot name a run: it takes {len(name.encode())} bytes, and at most "
            f"{LONGEST} make a folder's name"
        )


def remove_new(folder: Path) -> None:
    """Leave nothing of a run that could not begin, whose folder this process holds."""
    ours = ("run.json", "tasks.sqlite", "tasks.sqlite-wal", "tasks.sqlite-shm", "lock")
    try:
        for path in [*(folder / name for name in ours), *folder.glob(".*.partial")]:
            path.unlink(missing_ok=True)
    except OSError:
        return
    leave(folder)
