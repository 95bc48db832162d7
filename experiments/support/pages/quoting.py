"""Which numbers of a run can prose quote, and by which names?

A number is named by its run (the experiment, where only one run of it is given, and always the
run's own name), a row and a column: ``course.no_residual.val_best``. What the run was made with is
in rows that begin with ``config``: ``course.config.model.n_layer``.
"""

from collections.abc import Sequence
from typing import Any

from experiments.support.listing import record_of
from gpt.errors import UsageError
from interp.report.page import facts
from interp.runs import SavedRun

RENAMED = {"best": "val_best", "last": "val_last"}


def quotable_numbers(runs: Sequence[SavedRun]) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything that can be quoted, by run, row and column.

    Raises:
        UsageError: two of the runs have the same name.
    """
    kinds = [record_of(run).name for run in runs]
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
    quoted = record_of(run).quoted
    rows: dict[str, dict[str, Any]] = {}
    for row in quoted.select(run.table(quoted.table)).to_dict("records"):
        key = ".".join(str(row[name]) for name in quoted.row)
        values = {RENAMED.get(str(k), str(k)): v for k, v in row.items() if scalar(v)}
        rows.setdefault(key, values)
    for fact, value in facts({"config": run.description["config"]}):
        row_name, _, column = fact.rpartition(".")
        rows.setdefault(row_name, {})[column] = value
    return rows


def scalar(value: Any) -> bool:
    """Whether a cell is a number, or text short enough to quote."""
    return not isinstance(value, str) or (len(value) < 80 and "\n" not in value)
