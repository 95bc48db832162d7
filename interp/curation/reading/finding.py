"""Which files are in the folders that were given, and what is each called?

In the order of their names. Links are not followed inside a folder: what they lead to is either
there under its own name, or it is somewhere that nobody gave.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.curation.documents import Skipped
from interp.errors import UsageError


@dataclass(frozen=True)
class FoundFile:
    """A file, and what it is called in the pile: its path in the folder given, with ``/``."""

    source: str
    path: Path


def find_documents(
    paths: Sequence[Path], leave_out: Sequence[Path] = ()
) -> list[FoundFile | Skipped]:
    """All files of some folders and files, in the order of their names, each once.

    With one folder, a file's name is its path in there; with several, its path in the folder that
    all of them are in.

    Args:
        leave_out: folders whose files are none of the pile, such as those of results.

    Raises:
        UsageError: no path, one that does not exist, a folder without files.
    """
    if not paths:
        raise UsageError("no file and no folder was given; give one or more")
    given = []
    for path in paths:
        try:
            given.append(path.resolve(strict=True))
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a link to itself
            raise UsageError(
                f"{str(path)[:200]!r} is given to read, and there is no such file or folder: give "
                "the path of one"
            ) from error
    base = Path(os.path.commonpath(given))
    base = base if base.is_dir() else base.parent
    out = [path.resolve() for path in leave_out]
    found: dict[Path, FoundFile | Skipped] = {}
    for root in given:
        for path, reason in paths_under(root, given, out):
            source = readable_name(path.relative_to(base).as_posix())
            found[path] = Skipped(source, reason) if reason else FoundFile(source, path)
    if not found:
        folders = ", ".join(repr(str(path)) for path in paths)
        raise UsageError(f"there is no file in {folders}: give a folder with documents, or files")
    return sorted(found.values(), key=lambda one: one.source)


def paths_under(
    root: Path, given: Sequence[Path], out: Sequence[Path]
) -> Iterator[tuple[Path, str]]:
    """Each path in a folder, or the file itself, with the reason that it cannot be read."""
    if not root.is_dir():
        yield root, "" if root.is_file() else "is no file but a device, a pipe or a socket"
        return
    failed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=failed.append):
        inside = []
        for name in folders:
            path = Path(folder, name)
            if path in out:
                yield path, "is where results are written"
            elif path.is_symlink():
                yield path, link_sentence(path, given)
            elif name.startswith(".") and path not in given:
                yield path, "is a hidden folder: give its path as well to have it read"
            else:
                inside.append(name)
        folders[:] = inside
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                yield path, link_sentence(path, given)
            else:
                yield path, "" if path.is_file() else "is no file but a device, a pipe or a socket"
    for error in failed:
        yield Path(error.filename), f"cannot be read ({(error.strerror or 'unknown').lower()})"


def link_sentence(path: Path, given: Sequence[Path]) -> str:
    """Why a link is not followed."""
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        return "is a link to nothing"
    except (OSError, RuntimeError):
        return "is a link that leads round to itself"
    if target in path.parents:
        return "is a link to a folder that it lies in"
    for root in given:
        if target.is_relative_to(root):
            name = readable_name(target.relative_to(root).as_posix())
            return f"is a link to {name}, which is in the pile under its own name"
    return f"is a link out of the folder, to {readable_name(str(target))}: give that path as well"


def identify_pile(paths: Sequence[Path], leave_out: Sequence[Path] = ()) -> str:
    """sha256 of all files' names and bytes, as ``find_documents`` finds them.

    Raises:
        UsageError: as there.
    """
    whole = hashlib.sha256()
    for one in find_documents(paths, leave_out):
        if isinstance(one, Skipped):
            told = one.reason.encode()
        else:
            try:
                with one.path.open("rb") as file:
                    told = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                told = str(error.errno).encode()
        whole.update(one.source.encode() + b"\0" + told + b"\0")
    return whole.hexdigest()


def readable_name(name: str) -> str:
    """A path that can be written down: bytes of it that are no UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
