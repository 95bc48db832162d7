"""Is there an effect?

One rule, for damage over texts and for retraining over seeds; tables, figures, pages and sentences
all ask it, so that they cannot disagree:

- an effect has a 95 % interval that lies on one side of zero;
- where many cuts were tested, its p-value is below 0.05 after correction for all of them (Holm);
- fewer than three seeds or texts have no interval and no p-value: their points are shown instead,
  and whether there is an effect is not known.

    row = compare_seeds([2.05, 2.07, 2.06], [1.91, 1.92, 1.90])   # delta ci_low ci_high p n
    verdict_of(row)                                                # Verdict.RAISES
    verdict_of(row, "best_")                                       # of best_delta, best_ci_low, …
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp import stats
from interp.errors import UsageError
from interp.status import BY_NATURE, COMPARED, Status

FEWEST = 3
"""Seeds or texts from which an interval is given; two agree by accident too often."""
ALPHA = 0.05
ROUNDING = 1e-12
"""A spread below this share of the values is that of rounding, not of seeds or texts."""


class Verdict(StrEnum):
    """What is known of an effect on the loss."""

    RAISES = "raises the loss"
    LOWERS = "lowers the loss"
    NOT_SHOWN = "no effect shown"
    UNKNOWN = "not known"
    NONE = "no effect, by nature"

    @property
    def is_effect(self) -> bool:
        return self in (Verdict.RAISES, Verdict.LOWERS)


def verdict_of(row: Mapping[Any, Any], kind: str = "") -> Verdict:
    """What a row of a result table shows.

    Args:
        row: ``delta ci_low ci_high`` and, where there are such, ``p_adjusted n status``. An end
            that is missing is no interval.
        kind: what stands before the names of these columns: ``best_`` in a summary of trainings,
            ``retrained_`` beside annotated lines. ``status`` and ``n`` may be those of the row.

    Returns:
        ``NONE`` where the status says that nothing can change (the same function, a line that acts
        in training or building only, or never ran). ``UNKNOWN`` where the status says that the
        loss means nothing (a leak) or that there is none, as where the trained weights do not fit
        the cut model, and with neither interval nor p-value; where a table has one of the two
        alone, that decides.
    """
    status = row.get(f"{kind}status", row.get("status"))
    status = status if isinstance(status, str) else ""
    if status in BY_NATURE:
        unmeasured = status == Status.RETRAIN_ONLY and np.isnan(as_number(row.get(f"{kind}delta")))
        return Verdict.UNKNOWN if unmeasured else Verdict.NONE
    if status not in COMPARED:
        return Verdict.UNKNOWN
    delta, low, high, p = (
        as_number(row.get(f"{kind}{name}")) for name in ("delta", "ci_low", "ci_high", "p_adjusted")
    )
    bounded, tested = bool(np.isfinite([low, high]).all()), bool(np.isfinite(p))
    if too_few(row, kind) or not np.isfinite(delta) or not (bounded or tested):
        return Verdict.NOT_SHOWN if delta == 0 else Verdict.UNKNOWN
    if p >= ALPHA or low <= 0 <= high:
        return Verdict.NOT_SHOWN
    return Verdict.RAISES if delta > 0 else Verdict.LOWERS


def verdicts_of(table: pd.DataFrame, kind: str = "") -> pd.Series:
    """The verdict of each row."""
    found = [verdict_of(row, kind) for row in table.to_dict("records")]
    return pd.Series(found, index=table.index, dtype=object)


def compare_seeds(values: stats.Values, baseline: stats.Values) -> dict[str, float]:
    """The difference of two sets of trainings, by Welch's t test: unpaired.

    Seeds are not paired, for a pair of one seed was measured to be no closer than any other two.

    Args:
        values: one loss for each training with a cut.
        baseline: one for each training without.

    Returns:
        ``delta ci_low ci_high p``. All are NaN where a loss is not finite; the last three where
        either side has fewer than three trainings, or neither varies at all: seeds that change
        nothing say nothing of noise.
    """
    cut, whole = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    if not enough(cut, whole):
        return without_interval(cut, whole)
    delta, low, high, p = stats.difference_of_means(cut, whole)
    return {"delta": delta, "ci_low": low, "ci_high": high, "p": p}  # type: ignore[dict-item]


def compare_texts(values: stats.Values, baseline: stats.Values) -> dict[str, float]:
    """The mean difference between two models on the same texts, by Student's t test of pairs.

    Returns what ``compare_seeds`` does, on the same terms.

    Raises:
        UsageError: not as many values as the baseline has.
    """
    cut, whole = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    if cut.shape != whole.shape:
        raise UsageError(
            f"there are {cut.size} values and {whole.size} of the baseline; texts come in pairs"
        )
    if not enough(cut, whole) or constant(cut - whole, scale=np.abs(cut).max()):
        return without_interval(cut, whole)
    delta, low, high, p = stats.t_test(cut - whole)
    return {"delta": delta, "ci_low": low, "ci_high": high, "p": p}  # type: ignore[dict-item]


def correct(table: pd.DataFrame, kind: str = "") -> pd.DataFrame:
    """The table with ``p_adjusted``: its ``p``, corrected for all rows that have one (Holm)."""
    p = table.get(f"{kind}p", pd.Series(math.nan, table.index)).astype(float)
    adjusted = pd.Series(math.nan, table.index)
    if p.notna().any():
        adjusted[p.notna()] = stats.adjust(p[p.notna()].to_numpy())
    return table.assign(**{f"{kind}p_adjusted": adjusted})


def intervals_over_texts(differences: Float[np.ndarray, "row example"]) -> dict[str, np.ndarray]:
    """``ci_low ci_high p_adjusted`` of many rows of paired differences: bootstrap intervals, and
    sign flips corrected for all rows (Holm). NaN where there are fewer than three examples."""
    rows, examples = differences.shape
    if examples < FEWEST:
        return dict.fromkeys(("ci_low", "ci_high", "p_adjusted"), np.full(rows, math.nan))
    _, low, high = stats.bootstrap_interval(differences)
    resamples = max(10_000, 100 * rows)  # else Holm's factor alone passes 0.05
    p = stats.adjust(stats.sign_flip_p(differences, resamples))
    return {"ci_low": low, "ci_high": high, "p_adjusted": p}  # type: ignore[dict-item]


def texts_to_show(rows: int) -> int:
    """How many texts it takes to show an effect among so many rows of one table, however large it
    is: of n texts no sign flips have a p-value below 2^(1 - n), which Holm multiplies by the rows.

    Examples:
        >>> texts_to_show(1), texts_to_show(270)
        (6, 14)
    """
    return math.floor(math.log2(rows / ALPHA)) + 2


def power_words(table: pd.DataFrame) -> list[str]:
    """A sentence where a table of paired effects has too few texts to show any of them; else none.

    Args:
        table: ``p_adjusted n``, as ``intervals_over_texts`` makes the former.
    """
    rows = int(table["p_adjusted"].notna().sum())
    if not rows or int(table["n"].max()) >= texts_to_show(rows):
        return []
    return [
        f"{int(table['n'].max())} texts are too few to show any effect of {rows:,} that were "
        f"tested, however large: it takes {texts_to_show(rows)}."
    ]


def enough(cut: np.ndarray, whole: np.ndarray) -> bool:
    """Whether an interval can be given."""
    both = np.concatenate([cut, whole])
    few = min(cut.size, whole.size) < FEWEST
    if few or not np.isfinite(both).all():
        return False
    scale = float(np.abs(both).max())
    return not (constant(cut, scale) and constant(whole, scale))


def constant(values: np.ndarray, scale: float) -> bool:
    return bool(np.ptp(values) <= ROUNDING * scale)


def without_interval(cut: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    known = cut.size and whole.size and np.isfinite([*cut, *whole]).all()
    delta = float(cut.mean() - whole.mean()) if known else math.nan
    return {"delta": delta, "ci_low": math.nan, "ci_high": math.nan, "p": math.nan}


def spread_of(values: stats.Values) -> float:
    """The standard deviation over seeds: the noise. NaN for one seed, and where one failed."""
    array = np.asarray(values, dtype=float)
    return float(array.std(ddof=1)) if array.size > 1 and np.isfinite(array).all() else math.nan


def costliest(table: pd.DataFrame) -> pd.Series:
    """The row that raises the loss most, of those that are shown to; where none is, that with the
    largest ``delta``, whose ``verdict_of`` says so.

    Raises:
        UsageError: the table has no rows.
    """
    if table.empty:
        raise UsageError("the table has no rows to choose from")
    shown = table[verdicts_of(table) == Verdict.RAISES]
    return (shown if len(shown) else table).nlargest(1, "delta").iloc[0]


def interval_words(row: Mapping[Any, Any], kind: str = "", points: Iterable[float] = ()) -> str:
    """A row's interval in words, or why it has none: ``95 % interval +0.118 to +0.170``, ``+1.310,
    +1.311; no interval from fewer than three``.

    Args:
        points: the effect in each seed, said where there are too few for an interval.
    """
    low, high = (as_number(row.get(f"{kind}{name}")) for name in ("ci_low", "ci_high"))
    if np.isfinite([low, high]).all():
        return f"95 % interval {low:+.3f} to {high:+.3f}"
    shown = [f"{point:+.3f}" for point in points]
    few = "no interval from fewer than three" if too_few(row, kind) else "no interval"
    return f"{', '.join(shown)}; {few}" if len(shown) > 1 else few


def verdict_words(row: Mapping[Any, Any], kind: str = "") -> str:
    """A row's verdict in words, with the reason where its interval alone would say otherwise."""
    verdict = verdict_of(row, kind)
    low, high, p = (as_number(row.get(f"{kind}{n}")) for n in ("ci_low", "ci_high", "p_adjusted"))
    if verdict is Verdict.NOT_SHOWN and p >= ALPHA and (low > 0 or high < 0):
        return f"{verdict}: p is {p:.2g} once corrected for all that was tested"
    return str(verdict)


def too_few(row: Mapping[Any, Any], kind: str = "") -> bool:
    return as_number(row.get(f"{kind}n", row.get("n"))) < FEWEST


def as_number(value: Any) -> float:
    """A cell as a number; NaN where it is missing."""
    return math.nan if value is None or value is pd.NA else float(value)
