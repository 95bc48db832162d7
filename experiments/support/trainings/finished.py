"""When are a run's tables those that its command would make again?

A finished run whose command is started again has all that its tables are made of: what was trained,
the weights, the settings, the code. Where these are the same to the last byte, and the tables are
those that were made of them, nothing is computed.

    made_of = identity_of_tables(weights=hash_file(path), rows=rows, settings=settings)
    if not are_made(run, made_of):
        run.save_table(...)
        note_made(run, made_of)
"""

from typing import Any

from experiments.support.keeping import hash_code
from interp.runs import Run, identity_of
from interp.runs.description import packages


def identity_of_tables(**decided: Any) -> str:
    """What a run's tables are made of, as one hash.

    Args:
        decided: all that decides a table, beside the code and the packages.
    """
    return identity_of(what="tables", code=hash_code(), packages=packages(), decided=decided)


def are_made(run: Run, made_of: str) -> bool:
    """Whether a run's tables are those that were made of this, each as it was saved."""
    return run.task(made_of) == [run.digests()] and run.is_sound()


def note_made(run: Run, made_of: str) -> None:
    """Keep that a run's tables, as they are now, were made of this."""
    run.forget(made_of)  # of tables that were lost, or that something else has replaced since
    run.record(made_of, [run.digests()])
