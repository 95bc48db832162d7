"""What became of a surgery: the rows of the result table.

A row has a status, a sentence of detail, and, where the mutant could be judged, its value beside
that of the uncut model.
"""

import ast
import traceback
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import SurgeryError
from interp.status import TOOK_EFFECT, WITH_EFFECT, Status
from interp.surgery.guarding.outcomes import Outcome, is_the_machines, one_sentence
from interp.surgery.judging import Judgement
from interp.surgery.judging.twins import Twin
from interp.surgery.operators import OPERATORS
from interp.verdicts import compare_seeds, compare_texts, spread_of

COLUMNS = (
    *("id", "surgery", "file", "qualname", "line", "lines", "operator", "target", "code", "after"),
    *("reading", "phases", "layer", "intervention", "hook", "hook_delta", "status", "detail"),
    *("value", "baseline", "n", "delta", "ci_low", "ci_high", "p", "fingerprint"),
)
NO_TWIN = {"intervention": "", "hook": "", "hook_delta": np.nan}
WITHOUT = ("bypass-call", "delete-statement")  # a line is left out, and what it takes passes on
SAME_CUT = 1e-6  # nats between a surgery and the intervention that is the same cut
FLOAT_NOISE = 1e-5  # of the logits' spread: the same sum in another order
Row = dict[str, Any]


def checked_by_hook(row: Row) -> Row:
    """A row, with the status ``mismatch`` where the intervention that is the same cut does another
    thing to the loss than the surgery."""
    if not row["hook"] or row["status"] == Status.MISMATCH:
        return row
    by_line, by_hook = row.get("delta", np.nan), row["hook_delta"]
    if np.isnan([by_line, by_hook]).all() or abs(by_line - by_hook) <= SAME_CUT:
        return row
    detail = (
        f"the line changes the loss by {by_line:+.9f}, and {row['intervention']} at {row['hook']} "
        f"by {by_hook:+.9f}: the same cut, so one of them is not what it says"
    )
    return {**row, "status": Status.MISMATCH, "detail": detail}


def with_twin(row: Row, twin: Twin, by_hook: Row) -> Row:
    """A surgery's row, and what the intervention that is the same cut has done: where that failed,
    the surgery is what it is."""
    if by_hook["status"] == Status.CHANGED:
        return {**row, **{name: by_hook[name] for name in NO_TWIN}}
    why = f"not compared with {twin.kind} at {twin.hook}: {by_hook['detail']}"
    return {**row, "detail": "; ".join(filter(None, [row["detail"], why]))}


def close(one: float, other: float) -> bool:
    """Whether two losses are the same, up to the order of sums."""
    return bool(abs(one - other) <= FLOAT_NOISE * max(1.0, abs(other)))


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


def with_columns(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table that has every column, though there be no row, or none that was judged."""
    table = pd.DataFrame(rows)
    more = [name for name in table if name not in COLUMNS]
    return table.reindex(columns=[*COLUMNS, *more])


def row_of(outcome: Outcome) -> Row:
    if outcome.status == "done":
        row: Row = outcome.value
        return row
    return {"status": outcome.status, "detail": outcome.detail}


def failure_row(stage: str, error: BaseException, filenames: set[str]) -> Row:
    """The row of a surgery whose mutant raised: in which stage, on which line, what.

    Raises ``error`` itself where it tells of the machine, not of the mutant.
    """
    if is_the_machines(error):
        raise error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in filenames
    ]
    where = f"{stage}, line {lines[-1]}" if lines else stage
    return {"status": Status.ERROR, "detail": f"{where}: {one_sentence(error)}"}


def compare_values(values: np.ndarray, baseline: np.ndarray) -> Row:
    """A mutant's value beside the uncut model's, example by example."""
    known = {"value": values.mean(), "baseline": baseline.mean(), "n": len(values)}
    return {**known, **compare_texts(values, baseline)}


def over_seeds(trainings: pd.DataFrame) -> pd.DataFrame:
    """The lasting cost of each surgery: its trainings against those of the model as it is.

    Args:
        trainings: what ``Study.trainings`` gives, one row per surgery and seed; those of the model
            as it is have no ``id``.

    Returns:
        One row per surgery, in the table's order: ``value`` and ``baseline`` are means over seeds,
        ``delta`` their difference with Welch's interval ``ci_low ci_high`` and ``p``; ``noise`` is
        the standard deviation over seeds of the model as it is; ``n`` trainings of the surgery.
        ``status`` is the worst of its trainings; where one of them has no value, there is no
        ``delta``. Fewer than three trainings on either side have no interval.

    Raises:
        SurgeryError: the model as it is does not train.
    """
    uncut = trainings[trainings["id"] == ""]
    wrong = uncut[(uncut["status"] != Status.CHANGED) | uncut["value"].isna()]
    if len(wrong) or uncut.empty:
        detail = wrong["detail"].iloc[0] if len(wrong) else "it was not trained"
        raise SurgeryError(f"the model as it is cannot be trained and judged: {detail}")
    baseline = uncut.sort_values("seed")["value"].to_numpy(dtype=float)
    rows = []
    for _, trained in trainings[trainings["id"] != ""].groupby("id", sort=False):
        values = trained.sort_values("seed")["value"].to_numpy(dtype=float)
        worst = max(trained.to_dict("records"), key=lambda row: [*Status].index(row["status"]))
        rows.append(
            {
                **{str(name): cell for name, cell in worst.items() if name != "seed"},
                "value": values.mean(),  # NaN where a training has none
                "baseline": baseline.mean(),
                **compare_seeds(values, baseline),
                "noise": spread_of(baseline),
                "n": len(values),
            }
        )
    known = [name for name in trainings if name != "seed"]
    new = ("baseline", "delta", "ci_low", "ci_high", "p", "noise", "n")
    return pd.DataFrame(rows, columns=[*known, *(name for name in new if name not in known)])


def mark_duplicates(table: pd.DataFrame) -> pd.DataFrame:
    """Surgeries that make the same function of the trained model name the first of them in
    ``same_as``, one of a line that runs whenever the model does before one that runs as it is
    built; those that leave the model as it is do not: what they do is seen when a model is built or
    trained, and need not be the same."""
    took_effect = table["status"].isin(TOOK_EFFECT)
    fingerprints = table["fingerprint"].where(took_effect)
    in_building = pd.Series(["judge" not in phases for phases in table["phases"]], table.index)
    first: dict[str, str] = {}
    same_as = dict.fromkeys(table.index, "")
    for index in in_building.sort_values(kind="stable").index:
        if isinstance(fingerprint := fingerprints[index], str):
            same_as[index] = first.get(fingerprint, "")
            first.setdefault(fingerprint, table.loc[index, "id"])
    return table.assign(same_as=pd.Series(same_as, dtype=object))


def headlines(table: pd.DataFrame) -> pd.DataFrame:
    """One row per line: the surgery, made in all layers, that says what the line itself does.

    Where the trained model is the same without the line, as it is without a hook point or dropout,
    that is what there is to say: a zero in its place would measure the value that passes through.
    """
    return first_of_lines(table, passes=WITHOUT)


@lru_cache(maxsize=4096)
def leaves_line_out(operator: str, code: str, after: str) -> bool:
    """Whether a cut leaves out all that a line does: the statement, or the one call that makes its
    value, so that what the call takes passes on."""
    if operator != "bypass-call":
        return operator in WITHOUT
    try:
        before, now = (ast.parse(text.strip()).body[0] for text in (code, after))
    except (SyntaxError, IndexError):
        return False
    call, left = getattr(before, "value", None), getattr(now, "value", None)
    if not isinstance(call, ast.Call) or not isinstance(left, ast.expr):
        return False
    taken = [*call.args, *(keyword.value for keyword in call.keywords)]
    taken += [call.func.value] if isinstance(call.func, ast.Attribute) else []
    return ast.dump(left) in map(ast.dump, taken)


def one_per_function(cuts: pd.DataFrame) -> pd.DataFrame:
    """Some surgeries, one row for those that make the same function: the one that the
    others are the same as, if it is among them, else the first.

    Args:
        cuts: rows of a study's table that took effect, such as ``headlines`` gives.

    Returns:
        The rows in their order; ``where`` names every line, such as ``230 and 216``, with its file
        where there are several.
    """
    several = len(set(cuts["file"])) > 1
    rows = []
    for _, alike in cuts.groupby(cuts["same_as"].where(cuts["same_as"] != "", cuts["id"])):
        alike = alike.loc[(alike["same_as"] != "").sort_values(kind="stable").index]
        places = [
            f"{file}:{line}" if several else str(line)
            for file, line in alike[["file", "line"]].drop_duplicates().itertuples(index=False)
        ]
        where = " and ".join(filter(None, [", ".join(places[:-1]), places[-1]]))
        rows.append(alike.head(1).assign(where=where))
    return pd.concat(rows).sort_index() if rows else cuts.assign(where="")


def most_telling(table: pd.DataFrame) -> pd.DataFrame:
    """One row per line: its most telling surgery that took effect, made in all layers."""
    return first_of_lines(table, passes=())


def first_of_lines(table: pd.DataFrame, passes: Sequence[str]) -> pd.DataFrame:
    """One row per line. The order of ``OPERATORS`` decides, then that of the table, where the
    likelier cut stands first; a line of which none took effect shows the status of the first.

    Args:
        passes: operators that come first of all where they leave the trained model as it is.
    """
    rank = {operator: number for number, operator in enumerate(OPERATORS)}
    table = table[table["layer"] == "all"]
    idle = table["operator"].isin(list(passes)) & table["status"].isin(
        [Status.EQUIVALENT, Status.TRAIN_ONLY]
    )
    if passes and {"code", "after"} <= {*table}:
        cuts = table[["operator", "code", "after"]].to_numpy(dtype=object)
        idle &= np.array([leaves_line_out(*map(str, cut)) for cut in cuts], dtype=bool)
    effect = (~table["status"].isin(WITH_EFFECT)).astype(int)
    operator = table["operator"].map(rank).fillna(len(rank))
    order = table.assign(_effect=effect.mask(idle, -1), _operator=operator)
    order = order.sort_values(["file", "line", "_effect", "_operator"], kind="stable")
    return order.drop_duplicates(["file", "line"]).drop(columns=["_effect", "_operator"])
