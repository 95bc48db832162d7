"""Which tasks are finished, and what are their rows?

One SQLite file, each statement a transaction, on disk when it returns. Every task's rows carry a
checksum that also covers the task's identity: rows that changed, or that stand under another task's
identity, are not believed.
"""

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from interp.errors import UsageError
from interp.runs.files import refusal, saving, write_atomically
from interp.runs.identity import to_json_value

FORMAT = 1
"""Of the store; kept in SQLite's ``user_version``."""
TABLE = "CREATE TABLE tasks (identity TEXT PRIMARY KEY, rows TEXT NOT NULL, sha256 TEXT NOT NULL)"


class Store:
    """The finished tasks of a run. Raises ``UsageError`` where the file is damaged or was written
    by another version.

    Args:
        path: of the file; made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with sound(path):
            make(path)
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                self._begin()
            except BaseException:
                self._connection.close()
                raise

    def _begin(self) -> None:
        query = self._connection.execute
        self._connection.text_factory = bytes  # what is damaged may be no text
        query("PRAGMA journal_mode = WAL")
        query("PRAGMA synchronous = FULL")
        require_format(self._connection, self.path)
        (said,) = query("PRAGMA quick_check(1)").fetchone()  # 0.1 s for 60 MB, before hours of work
        if said != b"ok":
            raise sqlite3.DatabaseError(said.decode(errors="replace").replace("\n", " "))

    def rows(self, identity: str) -> list[dict[str, Any]] | None:
        """A task's rows; None where it has not finished, or what is kept of it is damaged."""
        text = self._text(identity)
        return None if text is None else json.loads(text)

    def damaged(self, identity: str) -> bool:
        """Whether a task was recorded and its rows are not what was recorded."""
        with sound(self.path):
            query = "SELECT count(*) FROM tasks WHERE identity = ?"
            kept = self._connection.execute(query, (identity,)).fetchone()[0]
        return bool(kept) and self._text(identity) is None

    def keep(self, identity: str, text: str) -> bool:
        """Keep a task's rows, as ``encode_rows`` gives them, in place of damaged ones if need be;
        whether they are those that are kept now."""
        row = identity, text, checksum_of_rows(identity, text)
        with sound(self.path):
            insertion = "INSERT INTO tasks VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            self._connection.execute(insertion, row)
            kept = self._text(identity)
            if kept is None:
                self._connection.execute("REPLACE INTO tasks VALUES (?, ?, ?)", row)
                kept = self._text(identity)
        return kept == text

    def forget(self, identity: str) -> None:
        """Let a task be unfinished again."""
        with sound(self.path):
            self._connection.execute("DELETE FROM tasks WHERE identity = ?", (identity,))

    def close(self) -> None:
        self._connection.close()

    def _text(self, identity: str) -> str | None:
        with sound(self.path):
            return kept_text(self._connection, identity)


def kept_text(connection: sqlite3.Connection, identity: str) -> str | None:
    """What a store keeps of a task, None where there is nothing or its checksum fails."""
    query = "SELECT rows, sha256 FROM tasks WHERE identity = ?"
    found = connection.execute(query, (identity,)).fetchone()
    return None if found is None else verify_rows(identity.encode(), *found)


def verify_rows(identity: Any, rows: Any, sha256: Any) -> str | None:
    """A task's rows as text, None where they are not what was recorded under the identity."""
    if not all(isinstance(part, bytes) for part in (identity, rows, sha256)):
        return None  # a damaged cell may come back as any type
    with suppress(UnicodeDecodeError):
        text: str = rows.decode()
        if sha256.decode() == checksum_of_rows(identity.decode(), text):
            return text
    return None


def checksum_of_rows(identity: str, text: str) -> str:
    return hashlib.sha256(f"{identity}\n{text}".encode()).hexdigest()


def encode_rows(rows: Any) -> str:
    return json.dumps(to_json_value(rows))


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """A store to read from, beside whoever writes to it.

    Raises:
        UsageError: it is damaged, missing, empty, or of another version.
    """
    with sound(path), opened_to_read(path) as connection:
        connection.text_factory = bytes
        connection.execute("PRAGMA trusted_schema = OFF")  # it may come from anybody
        require_format(connection, path)
        yield connection


@contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    where = path.absolute().as_uri()
    # SQLite makes a file beside a store that is read; where it cannot, nobody writes either
    way = "mode=ro" if os.access(path.parent, os.W_OK) else "immutable=1"
    with closing(sqlite3.connect(f"{where}?{way}", uri=True)) as connection:
        yield connection


def recorded_elsewhere(root: Path, identity: str) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Every run folder under ``root`` that has finished a task, and the rows it recorded.

    Runs that others hold are read too: what is recorded there is whole. Stores that cannot be read,
    and rows whose checksum fails, are passed over.
    """
    for path in sorted(root.glob("*/*/tasks.sqlite")):
        text = None
        with suppress(UsageError), open_to_read(path) as store, sound(path):
            text = kept_text(store, identity)
        if text is not None:
            yield path.parent, json.loads(text)


def recorded_in(path: Path, identity: str) -> list[dict[str, Any]] | None:
    """The rows of a finished task in a store; None where it has none, or they are damaged.

    Raises:
        UsageError: the store is damaged, missing, empty, or of another version.
    """
    with open_to_read(path) as store, sound(path):
        text = kept_text(store, identity)
    return None if text is None else json.loads(text)


def all_recorded(path: Path) -> Iterator[dict[str, Any]]:
    """Every row of every finished task in a store, but for damaged ones; errors as there."""
    with open_to_read(path) as store, sound(path):
        kept = store.execute("SELECT identity, rows, sha256 FROM tasks").fetchall()
    for row in kept:
        yield from json.loads(verify_rows(*row) or "[]")


def faults(path: Path) -> tuple[int, list[str]]:
    """How many tasks a store holds, and what is wrong with it, one phrase each."""
    with open_to_read(path) as store:
        wrong = [said.decode() for (said,) in store.execute("PRAGMA integrity_check(3)")]
        kept = store.execute("SELECT identity, rows, sha256 FROM tasks").fetchall()
    failed = sum(verify_rows(*row) is None for row in kept)
    said = [f"its pages are damaged ({'; '.join(wrong)})"] if wrong != ["ok"] else []
    said += [f"{failed} of {len(kept)} tasks fail their checksum"] if failed else []
    return len(kept), said


def make(path: Path) -> None:
    """Put a store without tasks at a path, all at once, where there is none or nothing in it: one
    that is half made, as by a process that died, could be neither read nor told from a damaged one.
    """
    if path.exists():
        with closing(sqlite3.connect(path)) as connection:
            if not is_empty(connection):
                return
    with saving(path), tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / path.name
        with closing(sqlite3.connect(new)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # lasts: it is kept in the file
            connection.execute(TABLE)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        write_atomically(path, new.read_bytes())


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether a file holds no table at all."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return not count


def require_format(connection: sqlite3.Connection, path: Path) -> None:
    """Raises ``UsageError`` where the store is not of this version, or nothing is in it yet."""
    if is_empty(connection):
        raise UsageError(f"{path} holds nothing: start the same command again, which makes it anew")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(tasks)")]
    if version != FORMAT or columns != [b"identity", b"rows", b"sha256"]:
        raise UsageError(
            f"{path} was written by another version, or is damaged: this one keeps a checksum with "
            f"every row, as format {FORMAT}; choose another --name, or delete the folder"
        )


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Say in a sentence that a store is damaged, or that the disk refuses."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in REFUSALS and code != sqlite3.SQLITE_IOERR_SHORT_READ:
            raise UsageError(refusal(path, str(error))) from error
        raise UsageError(
            f"{path} is damaged ({error}): choose another --name, or delete that file and start "
            f"the same command again, which computes anew what it held"
        ) from error


REFUSALS = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""SQLite's codes for what the system refuses, whatever the file holds."""
