"""How is an interval drawn? From end to end: an axis that holds one is never shorter than it.

draw_intervals(axes, places, table["ci_low"], table["ci_high"])
axes.set_xlim(reach_of(table["delta"], table["ci_low"], table["ci_high"]))
"""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from interp.stats import Values


def draw_intervals(
    axes: Axes,
    places: Values,
    low: Values,
    high: Values,
    along: Literal["x", "y"] = "x",
    **looks: Any,
) -> None:
    """Error bars from ``low`` to ``high`` at some places of the other axis; a row without an
    interval has none. ``looks`` are those of ``Axes.errorbar``."""
    at, start, end = (np.atleast_1d(np.asarray(each, dtype=float)) for each in (places, low, high))
    known = np.isfinite(start) & np.isfinite(end)
    if not known.any():
        return
    middle, half = (start + end)[known] / 2, (end - start)[known] / 2
    every: dict[str, Any] = {"color": "black", "linewidth": 0.8, "capsize": 2} | looks
    if along == "x":
        axes.errorbar(middle, at[known], xerr=half, fmt="none", **every)
    else:
        axes.errorbar(at[known], middle, yerr=half, fmt="none", **every)


def reach_of(*values: Values, room: float = 0.05) -> tuple[float, float]:
    """The ends of an axis that holds zero and every number among the values, and some room beyond
    them, as a share of the whole."""
    every = np.concatenate([[0.0], *(np.ravel(np.asarray(each, dtype=float)) for each in values)])
    finite = every[np.isfinite(every)]
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        high = 1.0
    beyond = room * (high - low)
    return low - (beyond if low < 0 else 0.0), high + beyond
