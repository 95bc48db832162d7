"""Which runs are of one source, and how are the lines of two told apart?

Two runs may be of two versions of one file: line 197 of one is another line in the other. A page of
both shows each source by itself, and calls every line after a run of its source.

    for runs in by_source(runs): ...     # halved/model.py:197
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from interp.runs import SavedRun

LABELS = ("label", "reading")  # texts that name lines


class RunOfSource(SavedRun):
    """A saved run whose tables call the files of its source ``named/model.py``."""

    def __init__(self, run: SavedRun, named: str, files: Sequence[str]) -> None:
        self.folder, self.description = run.folder, run.description
        self.named, self.files = named, files

    def table(self, name: str = "results") -> pd.DataFrame:
        table = super().table(name)
        if "file" in table:
            table = table.assign(file=table["file"].map(self._renamed))
        beginnings = "|".join(map(re.escape, self.files))
        for column in (column for column in LABELS if column in table):
            table[column] = table[column].str.replace(
                rf"(?m)^(?=(?:{beginnings}):\d)", lambda _: f"{self.named}/", regex=True
            )
        return table

    def _renamed(self, file: Any) -> Any:
        """A file, which may be given with its whole path, after the run; others as they are."""
        if not isinstance(file, str):
            return file
        known = next((known for known in self.files if f"/{file}".endswith(f"/{known}")), "")
        return f"{self.named}/{known}" if known else file


def by_source(runs: Sequence[SavedRun]) -> list[list[SavedRun]]:
    """The runs of each source, in their order; runs that keep no source are of one of their own.

    Where there are several sources, tables call their files after a run of each.
    """
    groups: list[tuple[dict[str, list[str]], list[SavedRun]]] = []
    for run in runs:
        files = files_of_source(run)
        for known, group in groups:
            shared = known.keys() & files.keys()
            if (shared or not (known or files)) and all(known[f] == files[f] for f in shared):
                known.update(files)
                group.append(run)
                break
        else:
            groups.append((files, [run]))
    if sum(bool(files) for files, _ in groups) < 2:
        return [group for _, group in groups]
    names = [str(group[0].description["name"]) for _, group in groups]
    return [
        [RunOfSource(run, unique_name(names, place), [*files]) if files else run for run in group]
        for place, (files, group) in enumerate(groups)
    ]


def files_of_source(run: SavedRun) -> dict[str, list[str]]:
    """The lines of each file that a run cut; none where it has kept no source."""
    for name in ("lines", "source"):
        if run.holds(name):
            table = run.table(name)
            return {str(file): list(rows["code"]) for file, rows in table.groupby("file")}
    return {}


def unique_name(names: Sequence[str], place: int) -> str:
    """One of some names, with its number where others are the same."""
    same = [other for other, name in enumerate(names) if name == names[place]]
    return names[place] + (f"-{same.index(place) + 1}" if len(same) > 1 else "")


def name_part(run: SavedRun, part: Any) -> Any:
    """A part of a page, its title after the run where the page tells of several sources."""
    return replace(part, title=title_of_part(run, part.title))


def title_of_part(run: SavedRun, title: str) -> str:
    """The title of a part on a page that may tell of several sources."""
    return f"{title}: {run.named}" if isinstance(run, RunOfSource) else title
