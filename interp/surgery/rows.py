"""What became of a surgery: the rows of the result table.

A row has a status, a sentence of detail, and, where the mutant could be judged, its value beside
that of the uncut model.
"""

import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import SurgeryError
from interp.stats import t_interval
from interp.surgery.guarding import Outcome, one_sentence
from interp.surgery.judging import Judgement
from interp.surgery.operators import OPERATORS

STATUSES = (
    "changed",
    "leak",
    "nonfinite",
    "equivalent",
    "train-only",
    "retrain-only",
    "error",
    "timeout",
    "dead",
)
NO_TWIN = {"intervention": "", "hook": "", "hook_delta": np.nan}
SAME_CUT = 1e-6  # nats between a surgery and the intervention that is the same cut
Row = dict[str, Any]


def check_same_cut(row: Row) -> None:
    """Raise ``SurgeryError`` where a surgery and the intervention that is the same cut differ."""
    if not row["hook"]:
        return
    by_line, by_hook = row.get("delta", np.nan), row["hook_delta"]
    if not (np.isnan([by_line, by_hook]).all() or abs(by_line - by_hook) <= SAME_CUT):
        raise SurgeryError(
            f"{row['id']} changes the loss by {by_line:+.9f}, and {row['intervention']} at "
            f"{row['hook']} by {by_hook:+.9f}: the same cut, so one of them is not what it says"
        )


def largest_difference(one: Judgement, other: Judgement) -> float | None:
    """By how much two models' logits differ at most, in units of the logits' spread; None where
    they were called differently."""
    pairs = list(zip(one.calls, other.calls, strict=False))
    if len(one.calls) != len(other.calls) or any(
        ours.logits.shape != theirs.logits.shape for ours, theirs in pairs
    ):
        return None
    return max(
        float((ours.logits - theirs.logits).abs().max() / (theirs.logits.std() + 1e-12))
        for ours, theirs in pairs
    )


def row_of(outcome: Outcome) -> Row:
    if outcome.status == "done":
        row: Row = outcome.value
        return row
    return {"status": outcome.status, "detail": outcome.detail}


def failed(stage: str, error: BaseException, filenames: set[str]) -> Row:
    """The row of a surgery whose mutant raised: in which stage, on which line, what."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in filenames
    ]
    where = f"{stage}, line {lines[-1]}" if lines else stage
    return {"status": "error", "detail": f"{where}: {one_sentence(error)}"}


def compared(values: np.ndarray, baseline: np.ndarray) -> Row:
    """A mutant's value beside the uncut model's, example by example."""
    differences = values - baseline
    row = {
        "value": values.mean(),
        "baseline": baseline.mean(),
        "delta": differences.mean(),
        "ci_low": np.nan,
        "ci_high": np.nan,
        "n": len(values),
    }
    if len(values) > 1:
        interval = t_interval(differences)
        row |= {"ci_low": float(interval.low), "ci_high": float(interval.high)}
    return row


def over_seeds(uncut: np.ndarray, trained: Sequence[Row]) -> Row:
    """One surgery's trainings, reduced over their seeds."""
    noise = np.nan
    if len(uncut) > 1:  # the difference of two means over seeds, if nothing but the seed differs
        interval = t_interval(uncut)
        noise = np.sqrt(2) * (float(interval.high) - float(interval.mean))
    row: Row = {"baseline": uncut.mean(), "noise": noise, "n": len(uncut)}
    worst = max(trained, key=lambda outcome: STATUSES.index(outcome["status"]))
    row |= {"status": worst["status"], "detail": worst["detail"]}
    if any("value" not in outcome for outcome in trained):
        return row
    values = np.array([outcome["value"] for outcome in trained])
    return {**row, **compared(values, uncut), "values": ",".join(f"{v:.6f}" for v in values)}


def folded(table: pd.DataFrame) -> pd.DataFrame:
    """Surgeries that make the same function name the first of them in ``same_as``."""
    first: dict[str, str] = {}
    same_as = []
    for id, fingerprint in zip(table["id"], table["fingerprint"], strict=True):
        same_as.append(first.get(fingerprint, ""))
        if isinstance(fingerprint, str):
            first.setdefault(fingerprint, id)
    return table.assign(same_as=same_as)


def headlines(table: pd.DataFrame) -> pd.DataFrame:
    """One row per line: its most telling surgery that took effect, made in all layers.

    The order of ``OPERATORS`` decides, then that of the table, where the likelier cut stands first;
    a line of which none took effect shows the status of the first.
    """
    rank = {operator: number for number, operator in enumerate(OPERATORS)}
    table = table[table["layer"] == "all"]
    effect = ~table["status"].isin(["changed", "leak", "nonfinite"])
    operator = table["operator"].map(rank).fillna(len(rank))
    order = table.assign(_effect=effect, _operator=operator)
    order = order.sort_values(["file", "line", "_effect", "_operator"], kind="stable")
    return order.drop_duplicates(["file", "line"]).drop(columns=["_effect", "_operator"])
