"""Do two circuits differ, text by text?"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.circuits.running import CircuitTask
from interp.verdicts import Verdict, intervals_over_texts, verdicts_of

ROUNDING = 1e-6
"""Of the metric's size: circuits whose answers are this close are the same but for rounding."""


def compare_circuits(
    task: CircuitTask,
    values: Float[np.ndarray, "row text"],
    others: Float[np.ndarray, "#row text"],
) -> dict[str, Any]:
    """``delta`` of many rows, paired by text, with its interval and ``p_adjusted`` (Holm over these
    rows), ``of_gap``, and ``n``. Rows that differ by rounding only have a delta of exactly 0.

    Args:
        others: one row for each, or one for all.
    """
    deltas = values - others
    size = max(np.abs(task.whole).max(), np.abs(task.nothing).max())
    deltas[(np.abs(deltas) <= ROUNDING * size).all(axis=1)] = 0
    means = deltas.mean(axis=1)
    return {
        "delta": means,
        **intervals_over_texts(deltas),
        "of_gap": means / task.gap,
        "n": deltas.shape[1],
    }


def tell_verdicts(table: pd.DataFrame, shown: str, not_shown: str, same: str) -> list[str]:
    """Each row's verdict, by the project's one rule, in the words of the question.

    Args:
        table: with ``delta ci_low ci_high p_adjusted n``.
        same: where the delta is exactly 0.
    """
    words = {Verdict.NOT_SHOWN: not_shown, Verdict.UNKNOWN: str(Verdict.UNKNOWN)}
    told = []
    for delta, verdict in zip(table["delta"], verdicts_of(table), strict=True):
        told.append(same if delta == 0 else words.get(verdict, shown))
    return told
