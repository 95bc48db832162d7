"""Which numbers of a run can prose quote, and by which names?

A number is named by its run (the experiment, where only one run of it is given, and always the
run's own name), a row and a column: ``course.no_residual.val_best``. What the run was made with is
in rows that begin with ``config``: ``course.config.model.n_layer``.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.joining import experiment
from gpt.errors import UsageError
from interp.report.page import facts
from interp.runs import SavedRun
from interp.surgery import headlines

# The table that an experiment's numbers are taken from, and the columns that name its rows.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "course": ("summary", ("variant",)),
    "retrain": ("summary", ("variant",)),
    "lines": ("results", ("line",)),
    "components": ("results", ("site", "intervention")),
    "heads": ("results", ("site", "intervention")),
    "attention": ("results", ("site", "metric", "text")),
    "patching": ("results", ("component", "site")),
    "neurons": ("results", ("site", "kind", "character")),
    "ladder": ("summary", ("rung",)),
}
RENAMED = {"best": "val_best", "last": "val_last"}


def numbers_of(runs: Sequence[SavedRun]) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything that can be quoted, by run, row and column.

    Raises:
        UsageError: two of the runs bear the same name.
    """
    kinds = [experiment(run) for run in runs]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run, kind in zip(runs, kinds, strict=True):
        name = str(run.description["name"])
        own = f"{kind}/{name}"
        if own in found:
            raise UsageError(
                f"two of the runs are called {own}: their numbers cannot be told apart"
            )
        rows = rows_of(run)
        found[own] = rows
        if kinds.count(kind) == 1:
            found[kind] = rows
    return found


def rows_of(run: SavedRun) -> dict[str, dict[str, Any]]:
    """The numbers of a run, by row and column."""
    table, named = ROWS.get(experiment(run), ("results", ()))
    rows: dict[str, dict[str, Any]] = {}
    if named:
        for row in kept(run, table).to_dict("records"):
            key = ".".join(str(row[name]) for name in named)
            values = {RENAMED.get(str(k), str(k)): v for k, v in row.items() if scalar(v)}
            rows.setdefault(key, values)
    for fact, value in facts({"config": run.description["config"]}):
        row_name, _, column = fact.rpartition(".")
        rows.setdefault(row_name, {})[column] = value
    return rows


def kept(run: SavedRun, name: str) -> pd.DataFrame:
    table = run.table(name)
    return headlines(table) if experiment(run) == "lines" else table


def scalar(value: Any) -> bool:
    """Whether a cell is a number, or text short enough to quote."""
    return not isinstance(value, str) or (len(value) < 80 and "\n" not in value)
