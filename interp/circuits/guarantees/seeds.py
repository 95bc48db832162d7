"""How much of what is said of circuits holds for every training of a model?

curves = {seed: faithfulness_curve(model, clean, corrupted, metric, ranked) for ...}
band_over_seeds(curves)                                     # a band for each method
band_over_seeds({seed: curve_areas(curve) for seed, curve in curves.items()}, against="random")
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp import stats
from interp.errors import UsageError
from interp.verdicts import FEWEST, compare_seeds, correct

MEASURES = ("faithfulness", "CPR", "CMD")


def band_over_seeds(
    tables: Mapping[int, pd.DataFrame], *, against: str | None = None
) -> pd.DataFrame:
    """Means over seeds with bands, for each method and, of curves, each share.

    Two bands, since two things vary. Seeds: Student's t interval of the mean over trainings, as for
    everything that is trained several times. Texts: of one training, what the interval over texts
    is on average over the seeds. Neither holds the other.

    Args:
        tables: by seed, what ``faithfulness_curve`` or ``curve_areas`` returns for the model of
            that seed.
        against: a method with which the others are compared.

    Returns:
        One row per method, and share where there is one, in the first table's order. For each
        measure (``faithfulness``; or ``CPR`` and ``CMD``): its mean under its own name; the band
        over seeds, ``ci_low ci_high``, NaN for fewer than three seeds; the band over texts,
        ``texts_low texts_high``; and with ``against`` the difference from that method,
        ``against_delta against_ci_low against_ci_high against_p against_p_adjusted``, by Welch's t
        test as everywhere between seeds, Holm over the rows. The columns of CPR and CMD begin with
        their names, as in ``CPR_ci_low``. ``n`` is the number of seeds.

    Raises:
        UsageError: no tables, or ones with different methods or shares; a method that there is not.
    """
    if not tables:
        raise UsageError("there are no tables: give one for each seed")
    first = next(iter(tables.values()))
    keys = [name for name in ("method", "share") if name in first]
    measures = [name for name in MEASURES if name in first]
    if "method" not in keys or not measures:
        raise UsageError("give tables of faithfulness_curve, or of curve_areas, one for each seed")
    indexed = {seed: table.set_index(keys) for seed, table in tables.items()}
    rows = indexed[next(iter(tables))].index
    for seed, table in indexed.items():
        if not table.index.is_unique or {*table.index} != {*rows}:
            raise UsageError(
                f"the table of seed {seed} has other rows than the first one: give tables of the "
                f"same methods{' and shares' if 'share' in keys else ''}"
            )
    methods = rows.get_level_values("method")
    if against is not None and against not in methods:
        raise UsageError(f"no method is called {against!r}; there are {', '.join({*methods})}")
    result = rows.to_frame(index=False)
    for measure in measures:
        prefix = "" if measure == "faithfulness" else f"{measure}_"
        values = gather(indexed, rows, measure)
        result[measure] = values.mean(axis=1)
        low = high = np.full(len(rows), np.nan)
        if len(tables) >= FEWEST:
            _, low, high = stats.t_interval(values)  # type: ignore[assignment]
        result[f"{prefix}ci_low"], result[f"{prefix}ci_high"] = low, high
        for end in ("low", "high"):
            over_texts = gather(indexed, rows, f"{prefix}ci_{end}")
            result[f"{prefix}texts_{end}"] = over_texts.mean(axis=1)
        if against is not None:
            result = compare_with(result, values, against, prefix)
    result["n"] = len(tables)
    return result


def gather(indexed: Mapping[int, pd.DataFrame], rows: pd.Index, column: str) -> np.ndarray:
    """A column of every table, [row seed]."""
    return np.stack([table.loc[rows, column].to_numpy(float) for table in indexed.values()], axis=1)


def compare_with(
    result: pd.DataFrame, values: np.ndarray, against: str, prefix: str
) -> pd.DataFrame:
    """The table with each row's difference from the row of a method at the same share."""
    shares = result["share"] if "share" in result else pd.Series(0, result.index)
    other = {
        share: values[row]
        for row, (method, share) in enumerate(zip(result["method"], shares, strict=True))
        if method == against
    }
    found = []
    for row, (method, share) in enumerate(zip(result["method"], shares, strict=True)):
        same = method == against  # nothing to compare
        found.append({} if same else compare_seeds(values[row], other[share]))
    names = ["delta", "ci_low", "ci_high", "p"]
    kind = f"{prefix}against_"
    columns = pd.DataFrame(found, columns=names, dtype=float, index=result.index).add_prefix(kind)
    return correct(pd.concat([result, columns], axis=1), kind)
