"""Which edges of a table are drawn, how strong, and what is said of each?

Figures, the annotated source and the map all ask here, so that they cannot disagree.

    drawn = strongest_edges(table, 60)
    [opacity_of(delta, largest_effect(table)) for delta in drawn["delta"]]
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.verdicts import as_number, verdict_of

FAINTEST = 0.12
"""Opacity of an edge without an effect: less cannot be seen."""


def opacity_of(delta: float, largest: float) -> float:
    """How opaque an edge is, from ``FAINTEST`` to 1: the rest grows in proportion to its effect.

    Args:
        delta: its effect.
        largest: the largest effect, of either sign, among those that it is drawn with.
    """
    share = abs(delta) / largest if largest and np.isfinite(delta) else 0.0
    return round(FAINTEST + (1 - FAINTEST) * min(share, 1.0), 3)


def largest_effect(table: pd.DataFrame) -> float:
    """The largest effect of either sign; 0 where there is none."""
    sizes = table["delta"].abs()
    return float(sizes.max()) if sizes.notna().any() else 0.0


def strongest_edges(table: pd.DataFrame, at_most: int) -> pd.DataFrame:
    """The edges of the largest effects, the largest first; equal ones as they stand in the table.

    An edge whose effect is not a number comes last.
    """
    sizes = table["delta"].abs().astype(float).fillna(-1.0).to_numpy()
    return table.iloc[np.argsort(-sizes, kind="stable")[:at_most]]


def one_meaning(table: pd.DataFrame) -> str:
    """How the edges of a table were patched: ``open, corrupted into clean``.

    Raises:
        UsageError: not all alike: their effects are not to be compared.
    """
    said = []
    for column in ("meaning", "direction", "metric"):
        values = list(table[column].drop_duplicates()) if column in table else []
        if len(values) > 1:
            raise UsageError(
                f"the table has edges of {len(values)} kinds of {column}, "
                f"{' and '.join(map(repr, values))}: draw one kind at a time"
            )
        said += [str(value) for value in values if column != "metric"]
    return ", ".join(said)


def metric_of(table: pd.DataFrame) -> str:
    """What the effects are on, in words."""
    values = list(table["metric"].drop_duplicates()) if "metric" in table else []
    return str(next(iter(values), "metric")).replace("_", " ")


def edge_sentence(row: Mapping[Any, Any], unit: str) -> str:
    """An edge's effect with its interval, and its verdict where no effect shows:
    ``+0.300 nats [+0.200 to +0.400]``, ``+0.100 nats [0 to +0.200], no effect shown``."""
    delta, low, high = (as_number(row.get(name)) for name in ("delta", "ci_low", "ci_high"))
    if not np.isfinite(delta):
        return "no number"
    known = bool(np.isfinite([low, high]).all())
    interval = f" [{signed_digits(low)} to {signed_digits(high)}]" if known else ""
    verdict = verdict_of(row)
    said = "" if verdict.is_effect else f", {verdict}"
    return f"{signed_digits(delta)} {unit}{interval}{said}"


def signed_digits(value: float) -> str:
    """A number with its sign, to three decimals; a small one to three digits."""
    if value == 0:
        return "0"
    text = f"{value:+.3f}" if abs(value) >= 0.0995 else f"{value:+.3g}"
    return text.replace("-", "\N{MINUS SIGN}")
