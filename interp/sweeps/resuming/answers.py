"""How does a sweep that was interrupted go on where it was?

Every batch of trials is recorded as soon as it is answered, under a digest of all that decides the
answer: the model, the texts, the metric and what it makes of the clean texts, the trials and their
interventions, and which trials shared a batch (so that the last bit is the same too). A batch is
taken from the record where everything agrees, and computed where anything differs.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from interp.errors import UsageError
from interp.sweeps.resuming.identity import Digests
from interp.sweeps.resuming.libraries import version_of_library
from interp.sweeps.speed.verifying import watched_by
from interp.sweeps.trials import Trial


@runtime_checkable
class RowStore(Protocol):
    """What keeps rows for good, as ``interp.runs.Run`` does."""

    def task(self, identity: str) -> list[dict[str, Any]] | None: ...

    def record(self, identity: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]: ...


Answers = tuple[np.ndarray, list[int]]
"""The metric [trial batch], and how many numbers each trial changed."""


class Recorder:
    """The answers of one sweep, in a store.

    Args:
        store: where they are kept.
        decisive: what decides all of them: model, tokens, metric.

    Raises:
        UsageError: something decisive cannot be known again, or the model has hooks.
    """

    def __init__(self, store: RowStore, model: Any, decisive: Sequence[Any]) -> None:
        if hooked := watched_by(model):
            raise UsageError(
                f"there are hooks on the model's {hooked}, and a sweep that can be resumed must "
                "know all that decides its answers: sweep without a run"
            )
        self.store = store
        self._digests = Digests()
        self._sweep = self._digests.of([*settings_of_process(), model, *decisive])

    def identity(self, how: Sequence[Any], trials: Sequence[Trial]) -> str:
        """Under what a batch of trials is recorded."""
        asked = [[trial.key, trial.names, trial.intervention] for trial in trials]
        return self.digest([*how, asked])

    def digest(self, asked: Sequence[Any]) -> str:
        """Under what anything is recorded that is decided by what is asked, beside what decides
        all.

        Raises:
            UsageError: something of it cannot be known again.
        """
        return self._digests.of([self._sweep, *asked])

    def answer(
        self, how: Sequence[Any], trials: Sequence[Trial], compute: Callable[[], Answers]
    ) -> Answers:
        """What these trials gave, from the record or else computed and recorded.

        Args:
            how: what else decides the last bit of the answer.
        """
        identity = self.identity(how, trials)
        rows = self.store.task(identity)
        if rows is None:
            pairs = zip(*compute(), strict=True)
            rows = self.store.record(
                identity,
                [{"values": value.tolist(), "changed": count} for value, count in pairs],
            )
        return np.array([row["values"] for row in rows]), [row["changed"] for row in rows]


def settings_of_process() -> list[Any]:
    """What else decides an answer, of torch and of this package."""
    return [
        *(str(torch.__version__), np.__version__, version_of_library("interp")),
        *(torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        *(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        *(torch.get_autocast_dtype(device) for device in ("cpu", "cuda")),
    ]
