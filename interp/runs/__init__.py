"""What is a run on disk?

A folder ``root/experiment/name`` that says how it was made before it holds anything else, keeps
every finished task from the instant it is finished, and may be killed at any instant: opened again
with the same config it goes on where it was.

    with Run.open(Path("runs"), "course", "demo", config, provenance) as run:
        identity = identity_of(source=source, config=config, seed=seed)
        rows = run.task(identity) or run.record(identity, train(checkpoint=run.scratch(identity)))
        run.save_table(pd.DataFrame(rows))

| in the folder           | what it is                                                           |
|-------------------------|----------------------------------------------------------------------|
| ``run.json``            | config, command, versions, commit, hashes; what changed when resumed |
| ``tasks.sqlite``        | the rows of every finished task, each with its checksum              |
| ``scratch/``            | checkpoints of tasks under way                                       |
| ``NAME.parquet``        | result tables, each with its checksum                                |
| ``figures/NAME.png`` …  | figures as PNG, SVG and PDF, which name the tables they were made of |
| ``lock``                | who is writing to the folder                                         |

Nothing that is stored is believed without its checksum. A row that fails is as good as not
recorded: its task is done again, and a sentence says so. A table that fails is refused when it is
read, and written anew when the run's command runs again.

What is assumed of the disk: a file that was synced is there after a power cut, a rename within a
folder happens wholly or not at all, and lasts once the folder is synced; ``flock`` keeps two
processes of one machine apart (on a network's disk, as far as that supports it).
"""

from interp.errors import UsageError
from interp.runs.files import write_atomically
from interp.runs.identity import identity_of
from interp.runs.locking import holder
from interp.runs.run import Run
from interp.runs.saved import SavedRun
from interp.runs.store import recorded_elsewhere

__all__ = [
    "Run",
    "SavedRun",
    "UsageError",
    "holder",
    "identity_of",
    "recorded_elsewhere",
    "write_atomically",
]
