"""How are small drawings made that take the page's own colours?

SVG as markup, drawn where the page is made. Every text in it is escaped; colours come from classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from interp.characters import visible

BAR, GAP, HEIGHT = 5, 1.5, 14  # of a profile over layers


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        short(x), short(y), kind, anchor, escape(visible(content))
    )


def short(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def profile_path(values: Sequence[float]) -> dict[str, object] | None:
    """Effects layer by layer as a path of bars, relative to the largest; crosses are no numbers."""
    finite = [abs(value) for value in values if np.isfinite(value)]
    top = max(finite, default=0.0)
    if not values or (not top and len(finite) == len(values)):
        return None
    parts = []
    for place, value in enumerate(values):
        x = place * (BAR + GAP) + BAR / 2
        if np.isfinite(value):
            height = max(1.0, HEIGHT * abs(value) / top) if top else 1.0
            parts.append(f"M{short(x)} {HEIGHT}v-{short(height)}")
        else:
            parts.append(f"M{short(x)} {HEIGHT}v-2m0-2v-2m0-2v-2")
    said = ", ".join("no number" if not np.isfinite(v) else f"{v:+.3f}" for v in values)
    return {
        "path": "".join(parts),
        "width": short(len(values) * (BAR + GAP)),
        "said": f"by layer: {said}",
    }


def ticks(low: float, high: float, number: int = 4) -> list[float]:
    found = MaxNLocator(number).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]


class Dot(NamedTuple):
    """An effect with its interval, NaN where there is none, and what each seed gave."""

    name: str
    value: float
    low: float
    high: float
    points: Sequence[float] = ()


def intervals_svg(dots: Sequence[Dot], unit: str) -> Markup:
    """Effects with their intervals on one axis; small dots are seeds."""
    width, left, right, row = 400.0, 150.0, 12.0, 24.0
    values = [0.0]
    for dot in dots:
        values += [v for v in (dot.value, dot.low, dot.high, *dot.points) if np.isfinite(v)]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low or 1.0)
    low, high = low - margin, high + margin
    bottom = row * len(dots) + 6

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    parts = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">'
        ).format(
            short(width),
            short(bottom + 34),
            short(width),
            "; ".join(f"{dot.name} {dot.value:+.3f} {unit}" for dot in dots),
        )
    ]
    for tick in ticks(low, high):
        kind = "zero" if tick == 0 else "grid"
        parts.append(
            Markup('<path class="{}" d="M{} 0V{}"/>').format(kind, short(x(tick)), short(bottom))
        )
        parts.append(text(x(tick), bottom + 14, f"{tick:g}", "tick", "middle"))
    parts.append(
        text((left + width - right) / 2, bottom + 30, f"change in loss ({unit})", "tick", "middle")
    )
    for place, (name, value, lower, upper, points) in enumerate(dots):
        y = row * (place + 0.5) + 3
        parts.append(text(0.0, y + 4, name, "name"))
        kind = "first" if place == 0 and name == "trained model" else "again"
        if np.isfinite(lower) and np.isfinite(upper):
            parts.append(
                Markup('<path class="reach {}" d="M{} {}H{}"/>').format(
                    kind, short(x(lower)), short(y), short(x(upper))
                )
            )
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="4.5"/>').format(
                kind, short(x(value)), short(y)
            )
        )
        parts += [
            Markup('<circle class="seed" cx="{}" cy="{}" r="1.8"/>').format(
                short(x(point)), short(y + 7)
            )
            for point in points
        ]
    return Markup("").join([*parts, Markup("</svg>")])


def curves_svg(curves: pd.DataFrame, baseline: pd.DataFrame, unit: str) -> Markup:
    """Loss while training with a cut, the uncut model beside it; bands from the lowest to the
    highest seed. A step that some seed lacks, or where it is no number, is a gap."""
    width, height, left, right, top, bottom = 400.0, 190.0, 40.0, 16.0, 8.0, 34.0
    both = pd.concat([curves, baseline])
    finite = both[np.isfinite(both["loss"])]
    if finite.empty:
        return Markup("<p>{}</p>").format("The loss is no number at any step.")
    steps, losses = finite["step"], finite["loss"]
    first, last = float(steps.min()), float(max(steps.max(), steps.min() + 1))
    low, high = float(losses.min()), float(losses.max())
    margin = 0.05 * (high - low or 1.0)
    low, high = low - margin, high + margin

    def x(step: float) -> float:
        return left + (width - left - right) * (step - first) / (last - first)

    def y(loss: float) -> float:
        return top + (height - top - bottom) * (high - loss) / (high - low)

    parts = [
        Markup(
            '<svg class="chart" viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">'
        ).format(short(width), short(height), short(width), "validation loss while training")
    ]
    for tick in ticks(low, high):
        parts.append(
            Markup('<path class="grid" d="M{} {}H{}"/>').format(
                short(left), short(y(tick)), short(width - right)
            )
        )
        parts.append(text(left - 5, y(tick) + 4, f"{tick:g}", "tick", "end"))
    for tick in ticks(first, last):
        parts.append(text(x(tick), height - bottom + 15, f"{tick:g}", "tick", "middle"))
    parts.append(
        text(
            (left + width - right) / 2,
            height - 3,
            f"training step; loss in {unit}",
            "tick",
            "middle",
        )
    )
    for kind, rows in (("whole", baseline), ("cut", curves)):
        if rows.empty:
            continue
        by_seed = rows.pivot_table(index="step", columns="seed", values="loss", dropna=False)
        steps_of = [float(step) for step in by_seed.index]
        middle, least, most = (
            [float(loss) for loss in getattr(by_seed, name)(axis=1, skipna=False)]
            for name in ("mean", "min", "max")
        )
        if by_seed.shape[1] > 1 and np.isfinite([*least, *most]).all():
            there = [f"{short(x(s))} {short(y(v))}" for s, v in zip(steps_of, most, strict=True)]
            back = [f"{short(x(s))} {short(y(v))}" for s, v in zip(steps_of, least, strict=True)]
            parts.append(
                Markup('<path class="band {}" d="M{}Z"/>').format(
                    kind, "L".join([*there, *back[::-1]])
                )
            )
        path, pen = "", "M"
        for step, loss in zip(steps_of, middle, strict=True):
            if np.isfinite(loss):
                path += f"{pen}{short(x(step))} {short(y(loss))}"
            pen = "L" if np.isfinite(loss) else "M"
        parts.append(Markup('<path class="curve {}" d="{}"/>').format(kind, path))
    return Markup("").join([*parts, Markup("</svg>")])
