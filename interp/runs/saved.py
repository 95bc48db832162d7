"""What has a run left in its folder, to be read by anyone at any time?"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import UsageError, nearest
from interp.runs.description import read_description
from interp.runs.identity import identity_of
from interp.runs.tables import from_parquet, stored_checksum

FORMATS = {"png": ("Comment", None), "svg": ("Source", "Date"), "pdf": ("Subject", "CreationDate")}
"""A figure's: what each calls the note of its tables, and the date that it would hold."""
TABLES = re.compile(rb"made of((?: [\w-]+=[0-9a-f]{12})*)\.")
"""The note of its tables in a figure, in every format."""


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
        """A saved table.

        Raises:
            UsageError: it does not exist, naming the nearest; it is not what this run saved.
        """
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            saved = nearest(name, [path.stem for path in self.folder.glob("*.parquet")])
            raise UsageError(f"{self.folder} holds no table {name!r}; nearest: {saved}")
        try:
            return from_parquet(path, self.belongs(name))
        except UsageError as error:
            raise UsageError(
                f"{error}: start the run's command again, which writes it anew: {self.command}"
            ) from error

    @property
    def command(self) -> str:
        """The command with which the run was last begun or resumed."""
        changes = [change for change in self.description["resumed"] if "command" in change]
        return str([self.description, *changes][-1]["command"])

    def holds(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.folder / f"{name}.parquet").exists()

    def is_sound(self, *names: str) -> bool:
        """Whether these tables are there, and every table is the one that the run saved."""
        try:
            for path in self.folder.glob("*.parquet"):
                from_parquet(path, self.belongs(path.stem))
        except UsageError:
            return False
        return all(map(self.holds, names))

    def figure(self, name: str) -> dict[str, Path]:
        """A saved figure, its paths by format. Raises ``UsageError`` where it does not exist."""
        folder = self.folder / "figures"
        paths = {kind: folder / f"{name}.{kind}" for kind in FORMATS}
        if not all(path.exists() for path in paths.values()):
            saved = nearest(name, [path.stem for path in folder.glob("*.svg")])
            raise UsageError(f"{self.folder} holds no figure {name!r}; nearest: {saved}")
        return paths

    def belongs(self, name: str) -> str:
        """Which table that is, of which run: part of its checksum."""
        begun = {key: self.description[key] for key in ("experiment", "name", "config")}
        return identity_of(table=name, **begun)

    def digests(self) -> dict[str, str]:
        """The first twelve digits of every table's checksum, by the table's name."""
        found = {}
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                found[path.stem] = stored_checksum(path)[:12]
            except (ValueError, OSError):  # no table of ours, or a damaged one
                continue
        return found
