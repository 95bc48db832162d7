"""How are many surgeries tried, each kept at once, and none hurt by another?"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from interp.errors import SurgeryError
from interp.runs import Run
from interp.status import Status
from interp.surgery.guarding import guarded
from interp.surgery.guarding.preserving import Snapshot
from interp.surgery.judging.examining import is_same_judgement
from interp.surgery.judging.rows import Row, row_of
from interp.surgery.studying.uncut import Uncut

Progress = Callable[[int, int], None]


def try_all(
    uncut: Uncut,
    trials: Sequence[Callable[[], Any]],
    identities: Sequence[str],
    store: Run | None,
    limit_s: float,
    progress: Progress | None,
) -> list[Row]:
    """The rows of all trials, in their order; those in the store are not tried again."""
    rows: dict[int, Row] = {}
    if store is not None:
        for index, identity in enumerate(identities):
            if kept := store.task(identity):
                rows[index] = kept[0]
    left = [index for index in range(len(trials)) if index not in rows]
    tasks = [trials[index] for index in left]
    snapshot = uncut.snapshot() if uncut.workers == 0 and left else None
    if snapshot is not None:
        tasks = [partial(snapshot.restored_after, task) for task in tasks]
    for number, outcome in guarded(tasks, limit_s=limit_s, workers=uncut.workers):
        index, row = left[number], row_of(outcome)
        if store is not None and row["status"] != Status.LOST:
            row = store.record(identities[index], [row])[0]
        rows[index] = row
        if snapshot is not None:
            check_undone(uncut, snapshot)
        if progress is not None:
            progress(len(rows), len(trials))
    return [rows[index] for index in range(len(trials))]


def check_undone(uncut: Uncut, snapshot: Snapshot) -> None:
    """Raise ``SurgeryError`` where what was made in this process cannot be put back."""
    again = snapshot.restored_after(lambda: uncut.judged_with(uncut.prepare))
    if not is_same_judgement(again, uncut.baseline):
        raise SurgeryError(
            "the last cut has left a change in this process that cannot be undone: the model "
            f"as it is now comes to {again.values.mean():.6g}, not to "
            f"{uncut.baseline.values.mean():.6g}; start Python afresh (rows in a store are "
            "kept), or study it on the CPU with workers=1, where each cut has its own process"
        )
