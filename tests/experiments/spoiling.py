"""Runs changed after they were made, with checksums that fit what was changed."""

import json

from interp.runs import SavedRun
from interp.runs.description import seal
from interp.runs.tables import as_parquet


def change_table(folder, name, change):
    """Another table in place of one, saved as the run would."""
    run = SavedRun.at(folder)
    changed = as_parquet(change(run.table(name)), run.belongs(name))
    (folder / f"{name}.parquet").write_bytes(changed)


def change_description(folder, change):
    """Another description of a run, to which its tables belong."""
    run = SavedRun.at(folder)
    tables = {path: run.table(path.stem) for path in folder.glob("*.parquet")}
    (folder / "run.json").write_text(json.dumps(seal(change(run.description))))
    run = SavedRun.at(folder)
    for path, table in tables.items():
        path.write_bytes(as_parquet(table, run.belongs(path.stem)))
