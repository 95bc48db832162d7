"""Which boxes does the map of a model hold, and which are inside which?

A box is a module or an addition of the residual stream; blocks that are the same are one group.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from interp.characters import visible
from interp.verdicts import Verdict

LEVELS = (0.02, 0.1, 0.4)  # shares of the largest effect, from which the next shade is taken


@dataclass
class Box:
    """A module or an addition, in one block or in all that are the same."""

    kind: str
    part: str
    block: str
    title: str
    facts: dict[str, Any]
    inner: list["Box"] = field(default_factory=list)
    number: int = 0
    level: int = 0
    status: str = ""
    delta: float = float("nan")
    effect: str = ""
    interval: str = ""
    verdict: Verdict = Verdict.NONE
    said: str = ""
    layers: list[tuple[str, float, int]] = field(default_factory=list)
    hooks: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class BoxGroup:
    """Blocks that are the same, one after another."""

    blocks: list[str]
    boxes: list[Box]


def add(found: list[Any], row: dict[Any, Any], hooks: list[dict[str, Any]]) -> None:
    """Put a row's box where it belongs: after the others, or inside the box of its part."""
    if row["depth"] > 2:
        return
    inner = row["depth"] == 2
    name = row["name"].rpartition(".")[2] if inner else row["part"]
    title = "addition" if row["kind"] == "add" else f"{row['part']}.{name}" if inner else name
    box = Box(row["kind"], name, row["block"], visible(title), row, hooks=hooks)
    if not inner:
        found.append(box)
        return
    holder = next(
        (b for b in reversed(found) if isinstance(b, Box) and b.part == row["part"]), None
    )
    if holder is not None:
        holder.inner.append(box)


def grouped(shapes: dict[str, list[Any]]) -> Iterator[list[str]]:
    """Neighbouring blocks that call the same classes from the same lines."""
    group: list[str] = []
    last: Any = None
    for block, rows in shapes.items():
        this = [
            (row["kind"], row["part"], row["class"], row["file"], row["line"], row["shape"])
            for row in rows
        ]
        if group and this != last:
            yield group
            group = []
        group.append(block)
        last = this
    if group:
        yield group


def level_of(delta: float, top: float) -> int:
    """A shade from 0 to 4 for an effect, by its share of the largest."""
    if not np.isfinite(delta) or not top or delta == 0:
        return 0
    return 1 + sum(abs(delta) / top >= share for share in LEVELS)
