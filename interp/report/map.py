"""Which box of the picture is which line of the code?

An architecture diagram drawn from what a run of the model came past: the residual stream from top
to bottom with its additions, the branches that are read from it and added to it, blocks that are
the same drawn once. Boxes are shaded by the effect of cutting the line that calls them, and open on
class, lines, hook points and shapes.

    MapView("The map", architecture(model), annotated(source, posthoc))
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from markupsafe import Markup

from interp.characters import visible
from interp.errors import UsageError
from interp.report.drawing import short, text
from interp.report.source import empty, number_at, prefix_of, signed, split_numbers
from interp.verdicts import Verdict, verdict_of, verdict_words

WIDTH, SPINE, INDENT, RIGHT = 420.0, 30.0, 76.0, 12.0
CHIP, CELL = 20.0, 16.0  # heights
LETTER = 6.4  # a letter's width
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
class Group:
    """Blocks that are the same, one after another."""

    blocks: list[str]
    boxes: list[Box]


@dataclass(frozen=True)
class MapView:
    """The model as boxes.

    Attributes:
        title: the heading.
        boxes: what ``interp.architecture.architecture`` found.
        lines: what ``annotated`` gives for the files that the boxes are in: their effects, and
            what they link to.
    """

    template: ClassVar[str] = "map.html.j2"

    title: str
    boxes: pd.DataFrame
    lines: pd.DataFrame | None = None
    unit: str = "nats"

    def context(self) -> dict[str, Any]:
        modules = self.boxes[self.boxes["kind"] != "hook"].to_dict("records")
        if not modules:
            raise UsageError("the table has no boxes: give what architecture() found")
        trunk = self._trunk(modules)
        boxes = [
            box for item in trunk for box in (item.boxes if isinstance(item, Group) else [item])
        ]
        every = [one for box in boxes for one in (box, *box.inner)]
        self._colour(every)
        for number, box in enumerate(every):
            box.number = number
        return {
            "drawing": lambda anchor: drawn(trunk, anchor),
            "boxes": [self._told(box) for box in every],
            "sentence": sentence(trunk),
            "top": signed(
                max((abs(b.delta) for b in every if np.isfinite(b.delta)), default=np.nan)
            ),
            "unit": self.unit,
        }

    def _trunk(self, rows: Sequence[dict[Any, Any]]) -> list[Box | Group]:
        """Boxes outside of blocks and groups of the same blocks, in the order of the run."""
        found: list[Box | Group] = []
        shapes: dict[str, list[Any]] = {}
        for row in rows:
            if row["block"] != "":
                shapes.setdefault(row["block"], []).append(row)
        blocks = iter(grouped(shapes))
        waiting = set(shapes)
        for row in rows:
            if row["block"] == "":
                add(found, row, self._hooks(row, [""]))
            elif row["block"] in waiting:
                names = next(blocks)
                waiting -= set(names)
                inside: list[Box] = []
                for one in shapes[names[0]]:
                    add(inside, one, self._hooks(one, names))
                found.append(Group(names, inside))
        return found

    def _hooks(self, row: dict[Any, Any], blocks: Sequence[str]) -> list[dict[str, Any]]:
        """The hook points of a box: those inside it, and those on the line that calls it."""
        hooks = self.boxes[(self.boxes["kind"] == "hook") & (self.boxes["block"] == blocks[0])]
        inside = hooks["part"] == row["part"]
        if row["depth"] > 1:
            inside &= False
        here = (hooks["part"] == "") & (hooks["line"] == row["line"])
        if row["depth"] > 1:
            here = (hooks["part"] == row["part"]) & (hooks["line"] == row["line"])
        return [
            {
                "name": re.sub(r"\.\d+\.", ".*.", one["site"]) if len(blocks) > 1 else one["site"],
                "shape": one["shape"],
                **self._place(one),
            }
            for one in hooks[inside | here].to_dict("records")
        ]

    def _place(self, row: dict[Any, Any]) -> dict[str, Any]:
        """Where a line is: how it is called, what it holds, and the link to it."""
        if empty(row["line"]):
            return {"where": "", "code": "", "link": ""}
        number, file = int(row["line"]), str(row["file"])
        return {
            "where": f"{PurePath(file).name}:{number}",
            "code": row["code"],
            "link": self._link(file, number),
        }

    def _link(self, file: str, number: int) -> str:
        if self.lines is None:
            return ""
        names = list(dict.fromkeys(self.lines["file"]))
        for name in names:
            if PurePath(str(name)).name == PurePath(file).name:
                return f"{prefix_of(str(name), len(names) > 1)}L{number}"
        return ""

    def _colour(self, boxes: Iterable[Box]) -> None:
        """Each box's effect: that of the line that calls it."""
        if self.lines is None or "delta" not in self.lines:
            return
        boxes = list(boxes)
        known = {
            (PurePath(str(row["file"])).name, row["line"]): row
            for row in self.lines.to_dict("records")
        }
        for box in boxes:
            where = PurePath(str(box.facts["file"])).name, box.facts["line"]
            row = known.get(where)
            if row is None:
                continue
            box.status = str(row.get("status") or "")
            if box.status not in ("changed", "leak"):
                continue
            low, high = number_at(row, "ci_low"), number_at(row, "ci_high")
            box.delta = number_at(row, "delta")
            box.effect = signed(box.delta)
            if np.isfinite([low, high]).all():
                box.interval = f"{signed(low)} to {signed(high)}"
            box.verdict, box.said = verdict_of(row), verdict_words(row)
            names = [name for name in str(row.get("layers") or "").split(",") if name]
            deltas = split_numbers(row.get("layer_deltas"))
            if box.block != "" and len(names) == len(deltas):
                box.layers = [(name, delta, 0) for name, delta in zip(names, deltas, strict=True)]
        finite = [abs(box.delta) for box in boxes if np.isfinite(box.delta)]
        finite += [abs(d) for box in boxes for _, d, _ in box.layers if np.isfinite(d)]
        top = max(finite, default=0.0)
        for box in boxes:
            null = box.verdict is Verdict.NOT_SHOWN
            box.level = 0 if null else level_of(box.delta, top)
            box.layers = [(name, d, level_of(d, top)) for name, d, _ in box.layers]

    def _told(self, box: Box) -> dict[str, Any]:
        facts = box.facts
        return {
            "number": box.number,
            "title": box.title,
            "class": facts["class"],
            "class_link": ""
            if empty(facts["class_line"])
            else self._link(str(facts["file"]), int(facts["class_line"])),
            "class_line": "" if empty(facts["class_line"]) else int(facts["class_line"]),
            **self._place(facts),
            "takes": facts["takes"],
            "shape": facts["shape"],
            "hooks": box.hooks,
            "effect": box.effect,
            "interval": box.interval,
            "null": box.verdict is Verdict.NOT_SHOWN,
            "unknown": box.verdict is Verdict.UNKNOWN and box.status == "changed",
            "said": box.said,
            "leak": box.status == "leak",
            "layers": [(name, signed(delta) or "no number") for name, delta, _ in box.layers],
            "kind": box.kind,
        }


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


def sentence(trunk: Sequence[Box | Group]) -> str:
    """What the picture cannot say: where the model is not a residual stream of blocks."""
    groups = [item for item in trunk if isinstance(item, Group)]
    if not groups:
        return (
            "This model has no blocks, one after another: its boxes stand in the order of the run."
        )
    if not any(box.kind == "add" for group in groups for box in group.boxes):
        return (
            "No block adds to a residual stream: what comes out of each box takes the place of "
            "what went in."
        )
    return ""


def level_of(delta: float, top: float) -> int:
    """A shade from 0 to 4 for an effect, by its share of the largest."""
    if not np.isfinite(delta) or not top or delta == 0:
        return 0
    return 1 + sum(abs(delta) / top >= share for share in LEVELS)


class Pen:
    """The drawing so far, and how far down it has come."""

    def __init__(self, anchor: str) -> None:
        self.anchor = anchor
        self.y = 14.0
        self.parts: list[Markup] = []
        self.stream_from: float | None = None

    def path(self, kind: str, d: str) -> None:
        self.parts.append(Markup('<path class="{}" d="{}"/>').format(kind, d))

    def stream(self, to: float) -> None:
        """The residual stream down to here."""
        if self.stream_from is not None and to > self.stream_from:
            self.path("stream", f"M{short(SPINE)} {short(self.stream_from)}V{short(to)}")
        self.stream_from = to

    def link(self, box: Box, kind: str) -> Markup:
        said = " ".join(part for part in (box.title, box.facts["class"], box.effect) if part)
        return Markup(
            '<a href="#{}-box-{}" data-box="{}" class="{} level-{}{}" aria-label="{}">'
        ).format(
            self.anchor,
            box.number,
            box.number,
            kind,
            box.level,
            " leak" if box.status == "leak" else "",
            visible(said),
        )

    def box(self, box: Box, x: float) -> None:
        """A box from ``x`` to the right edge, with what is inside it and its layers."""
        width = WIDTH - RIGHT - x
        rows = wrapped(box.inner, width - 16)
        cells = box.layers if len(box.layers) > 1 else []
        height = 28 + (CHIP + 6) * len(rows) + ((CELL + 6) if cells else 0)
        top = self.y
        parts = [
            self.link(box, "box"),
            Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="6"/>').format(
                short(x), short(top), short(width), short(height)
            ),
        ]
        end = x + width - 10
        if box.effect:
            parts.append(text(end, top + 18, box.effect, "effect", "end"))
        room = int((width - 20) / LETTER) - len(box.effect) - 1
        title = fitted(box.title, room)
        name = visible(str(box.facts["class"]))
        name = "" if name == box.title else fitted(name, room - len(title) - 2)
        parts.append(
            Markup(
                '<text x="{}" y="{}"><tspan class="title">{}</tspan>'
                '<tspan class="class" dx="6">{}</tspan></text>'
            ).format(
                short(x + 10),
                short(top + 18),
                title,
                name,
            )
        )
        parts.append(Markup("</a>"))
        y = top + 28
        for row in rows:
            at = x + 8
            for inner in row:
                wide = chip_width(inner)
                parts += [
                    self.link(inner, "chip"),
                    Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4"/>').format(
                        short(at), short(y), short(wide), short(CHIP)
                    ),
                    text(
                        at + wide / 2,
                        y + 14,
                        fitted(inner.part, int(wide / LETTER)),
                        "name",
                        "middle",
                    ),
                    Markup("</a>"),
                ]
                at += wide + 6
            y += CHIP + 6
        if cells:
            wide = min(26.0, (width - 16) / len(cells))
            parts.append(
                Markup('<g class="cells" role="img" aria-label="{}">').format(
                    "by layer: " + ", ".join(f"{n} {signed(d) or 'no number'}" for n, d, _ in cells)
                )
            )
            for place, (layer, _, level) in enumerate(cells):
                left = x + 8 + place * wide
                parts.append(
                    Markup('<rect class="level-{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        level, short(left), short(y), short(wide - 2), short(CELL)
                    )
                )
                if wide >= 14:
                    parts.append(text(left + wide / 2 - 1, y + 12, layer, "layer", "middle"))
            parts.append(Markup("</g>"))
        self.parts += parts
        self.y = top + height

    def addition(self, box: Box, below: float = 17.0) -> None:
        """The sign on the stream, at the present height, and its effect so far below."""
        self.stream(self.y - 10)
        self.parts += [
            self.link(box, "plus"),
            Markup('<circle cx="{}" cy="{}" r="10"/>').format(short(SPINE), short(self.y)),
            Markup('<path d="M{} {}h10m-5 -5v10"/>').format(short(SPINE - 5), short(self.y)),
            Markup("</a>"),
        ]
        if box.effect:
            self.parts.append(text(SPINE + 14, self.y + below, box.effect, "effect"))
        self.stream_from = self.y + 10


def drawn(trunk: Sequence[Box | Group], anchor: str) -> Markup:
    """The whole picture as SVG."""
    pen = Pen(anchor)
    sequence(pen, trunk)
    pen.stream(pen.y)
    pen.path("stream arrow", f"M{short(SPINE - 5)} {short(pen.y - 6)}l5 6l5 -6")
    head = Markup(
        '<svg class="map" viewBox="0 0 {} {}" width="{}" role="group" '
        'aria-label="The model, from its input at the top to its output">'
    ).format(short(WIDTH), short(pen.y + 6), short(WIDTH))
    return Markup("").join([head, *pen.parts, Markup("</svg>")])


def sequence(pen: Pen, items: Sequence[Box | Group]) -> None:
    """Draw what follows one another: branches up to their addition, boxes on the stream, groups."""
    branch: list[Box] = []
    for item in items:
        if isinstance(item, Group):
            on_stream(pen, branch)
            branch = []
            group(pen, item)
        elif item.kind != "add":
            branch.append(item)
        elif branch and branch[0].facts["source"]:
            sources(pen, branch, item)
            branch = []
        else:
            branched(pen, branch, item)
            branch = []
    on_stream(pen, branch)


def group(pen: Pen, item: Group) -> None:
    pen.y += 14
    top = pen.y
    place = len(pen.parts)
    count = len(item.blocks)
    name = (
        f"block {item.blocks[0]}"
        if count == 1
        else f"{count} times: blocks {item.blocks[0]} to {item.blocks[-1]}"
    )
    pen.y += 20
    sequence(pen, item.boxes)
    pen.y += 6
    frame = Markup('<rect class="frame" x="2" y="{}" width="{}" height="{}" rx="10"/>').format(
        short(top), short(WIDTH - 4), short(pen.y - top)
    )
    pen.parts[place:place] = [frame, text(WIDTH - 12, top + 16, name, "class", "end")]


def sources(pen: Pen, boxes: Sequence[Box], addition: Box) -> None:
    """Boxes that take tokens or positions: the stream begins with their sum."""
    for place, box in enumerate(boxes):
        top = pen.y
        pen.box(box, INDENT)
        middle = top + 14
        last = place == len(boxes) - 1
        end = SPINE + 10 if last else SPINE
        pen.path("wire", f"M{short(INDENT)} {short(middle)}H{short(end)}")
        if last:
            after, pen.y = pen.y, middle
            pen.addition(addition, below=25.0)
            pen.y = after
        elif pen.stream_from is None:
            pen.stream_from = middle
        pen.y += 10
    pen.y -= 4


def branched(pen: Pen, boxes: Sequence[Box], addition: Box) -> None:
    """Boxes one after another, read from the stream and added to it."""
    x = INDENT + 26
    if boxes:
        pen.y += 10
        pen.path("wire", f"M{short(SPINE)} {short(pen.y)}H{short(x - 6)}q6 0 6 6v10")
        pen.y += 12
        for place, box in enumerate(boxes):
            if place:
                pen.path("wire", f"M{short(x)} {short(pen.y)}v10")
                pen.y += 10
            pen.path("wire arrow", f"M{short(x - 4)} {short(pen.y - 1)}l4 5l4 -5")
            pen.y += 5
            pen.box(box, INDENT)
        pen.path("wire", f"M{short(x)} {short(pen.y)}v8q0 6 -6 6H{short(SPINE + 12)}")
        pen.y += 14
        pen.path("wire arrow", f"M{short(SPINE + 17)} {short(pen.y - 4)}l-5 4l5 4")
    else:
        pen.y += 20
    pen.addition(addition)
    pen.y += 18


def on_stream(pen: Pen, boxes: Sequence[Box]) -> None:
    """Boxes that take the place of what goes into them."""
    for box in boxes:
        pen.y += 14
        pen.stream(pen.y)
        pen.box(box, 8.0)
        pen.stream_from = pen.y
    if boxes:
        pen.y += 14


def wrapped(boxes: Sequence[Box], width: float) -> list[list[Box]]:
    """Inner boxes in rows that fit."""
    rows: list[list[Box]] = []
    used = width
    for box in boxes:
        wide = chip_width(box) + 6
        if used + wide > width + 6:
            rows.append([])
            used = 0.0
        rows[-1].append(box)
        used += wide
    return rows


def fitted(name: str, letters: int) -> str:
    """A name cut to so many letters; empty where not even three would show."""
    if len(name) <= letters:
        return name
    return "" if letters < 3 else name[: letters - 1] + "…"


def chip_width(box: Box) -> float:
    return min(LETTER * len(box.part) + 16, WIDTH - RIGHT - INDENT - 16)
