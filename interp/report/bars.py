"""How long is a bar beside a line, and where does its interval end?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp.report.values import number_at
from interp.stats import linear_up_to
from interp.status import Status

ENDS = ("delta", "ci_low", "ci_high")


@dataclass(frozen=True)
class Scale:
    """What all bars of a file are drawn on, in nats away from zero: the longest bar and interval
    end within it, on either side of zero; logarithmic beyond ``linear``, if there is one."""

    low: float
    high: float
    linear: float | None = None

    @staticmethod
    def of(rows: Sequence[Mapping[Any, Any]]) -> "Scale":
        low, high = 0.0, 0.0
        for row in rows:
            sign = -1 if number_at(row, "delta") < 0 else 1
            values = [*(number_at(row, n) for n in ENDS), *row.get("points", ())]
            ends = [sign * value for value in values if np.isfinite(value)]
            low, high = min([low, *ends]), max([high, *ends])
        return Scale(low, high, linear_up_to([number_at(row, "delta") for row in rows]))

    def at(self, value: float) -> float:
        low, high, value = map(self._length, (self.low, self.high, value))
        return round(100 * (value - low) / (high - low), 1)

    def _length(self, value: float) -> float:
        return value if self.linear is None else float(np.arcsinh(value / self.linear))


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to 100, with the interval's ends; where there is none, the seeds."""

    start: float
    width: float
    low: float
    high: float
    points: list[float]
    kind: str


def bar_of(row: Mapping[Any, Any], scale: Scale, points: Sequence[float] = ()) -> Bar | None:
    delta, low, high = (number_at(row, name) for name in ENDS)
    if not np.isfinite(delta) or scale.low == scale.high:
        return None
    sign = -1 if delta < 0 else 1
    kind = "leak" if row.get("status") == Status.LEAK else "harm" if delta >= 0 else "gain"
    known = bool(np.isfinite([low, high]).all())
    ends = sorted((sign * low, sign * high)) if known else [abs(delta)] * 2
    start = scale.at(0.0)
    return Bar(
        start,
        round(scale.at(abs(delta)) - start, 1),
        scale.at(ends[0]),
        scale.at(ends[1]),
        [] if known else [scale.at(sign * point) for point in points],
        kind,
    )
