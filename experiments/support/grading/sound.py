"""Where is a run, and are the files in its folder those that it left there?

run = SavedRun.at(folder_of_run("course/demo-python-docs", Path("runs")))
wrong = [verdict for verdict in of_tables(run) if verdict.fault]
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gpt import checkpoint
from gpt.errors import UsageError, nearest
from interp.errors import UsageError as InterpError
from interp.runs import SavedRun
from interp.runs.store import faults


def folder_of_run(name: str, root: Path) -> Path:
    """A run's folder, by its path or its name under the folder of runs.

    Raises:
        UsageError: there is none; the nearest are named.
    """
    for folder in (Path(name), root / name):
        with suppress(OSError, ValueError):  # no name that a file can have
            if (folder / "run.json").exists():
                return folder
    there = [f"{path.parent.parent.name}/{path.parent.name}" for path in root.glob("*/*/run.json")]
    if not there:
        raise UsageError(f"{name[:200]} is no run's folder, and there are no runs in {root}")
    raise UsageError(f"{name[:200]} is no run's folder; nearest in {root}: {nearest(name, there)}")


class FileVerdict(NamedTuple):
    """What was found of one file; nothing where it is sound."""

    file: str
    told: str = "sound"
    fault: str = ""


def of_store(run: SavedRun) -> FileVerdict:
    try:
        tasks, wrong = faults(run.folder / "tasks.sqlite")
    except InterpError as error:
        return FileVerdict("tasks.sqlite", fault=str(error))
    return FileVerdict("tasks.sqlite", f"sound, {tasks} tasks", fault="; ".join(wrong))


def of_tables(run: SavedRun) -> Iterator[FileVerdict]:
    if not run.holds("results"):
        yield FileVerdict("results.parquet", fault="it is missing")
    for path in sorted(run.folder.glob("*.parquet")):
        try:
            yield FileVerdict(path.name, f"sound, {len(run.table(path.stem))} rows")
        except InterpError as error:
            yield FileVerdict(path.name, fault=str(error).partition(": start")[0])


def of_weights(run: SavedRun) -> Iterator[FileVerdict]:
    for path in sorted((run.folder / "models").glob("*.safetensors")):
        name = f"models/{path.name}"
        try:
            checkpoint.verify(path)
            yield FileVerdict(name)
        except UsageError as error:
            yield FileVerdict(name, fault=str(error))
