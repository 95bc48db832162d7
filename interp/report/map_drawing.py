"""How is the map of a model drawn: the residual stream, its branches, and blocks that repeat?"""

from collections.abc import Sequence

from markupsafe import Markup

from interp.characters import visible
from interp.report.arcs import draw_arcs
from interp.report.boxes import Box, BoxGroup
from interp.report.drawing import short, text
from interp.report.edges import arc_between
from interp.report.values import Row, signed
from interp.status import Status

WIDTH, SPINE, INDENT, RIGHT = 420.0, 30.0, 76.0, 12.0
GUTTER = 76.0  # beside the boxes, for edges
CHIP, CELL = 20.0, 16.0  # heights
LETTER = 6.4  # a letter's width


class Pen:
    """The drawing so far, and how far down it has come."""

    def __init__(self, anchor: str) -> None:
        self.anchor = anchor
        self.y = 14.0
        self.parts: list[Markup] = []
        self.stream_from: float | None = None
        self.heights: dict[int, float] = {}
        """Where each box is, by its number."""

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
            " leak" if box.status == Status.LEAK else "",
            visible(said),
        )

    def box(self, box: Box, x: float) -> None:
        """A box from ``x`` to the right edge, with what is inside it and its layers."""
        width = WIDTH - RIGHT - x
        rows = wrapped(box.inner, width - 16)
        cells = box.layers if len(box.layers) > 1 else []
        height = 28 + (CHIP + 6) * len(rows) + ((CELL + 6) if cells else 0)
        top = self.y
        self.heights[box.number] = top + 14
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
        title = shorten_name(box.title, room)
        name = visible(str(box.facts["class"]))
        name = "" if name == box.title else shorten_name(name, room - len(title) - 2)
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
            for place, inner in enumerate(row):
                wide = chip_width(inner)
                self.heights[inner.number] = y + CHIP * (place + 1) / (len(row) + 1)
                parts += [
                    self.link(inner, "chip"),
                    Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4"/>').format(
                        short(at), short(y), short(wide), short(CHIP)
                    ),
                    text(
                        at + wide / 2,
                        y + 14,
                        shorten_name(inner.part, int(wide / LETTER)),
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


def draw_map(trunk: Sequence[Box | BoxGroup], anchor: str, edges: Sequence[Row] = ()) -> Markup:
    """The whole picture as SVG; edges as arcs on its right, between the heights of their boxes."""
    pen = Pen(anchor)
    sequence(pen, trunk)
    pen.stream(pen.y)
    pen.path("stream arrow", f"M{short(SPINE - 5)} {short(pen.y - 6)}l5 6l5 -6")
    width = WIDTH + (GUTTER if edges else 0.0)
    head = Markup(
        '<svg class="map{}" viewBox="0 0 {} {}" width="{}" role="group" '
        'aria-label="The model, from its input at the top to its output">'
    ).format(" with-edges" if edges else "", short(width), short(pen.y + 6), short(width))
    parts = [head, *pen.parts, *([draw_edges(pen, edges)] if edges else []), Markup("</svg>")]
    return Markup("").join(parts)


def draw_edges(pen: Pen, edges: Sequence[Row]) -> Markup:
    """Arcs from the box that writes to the box that reads."""
    arcs = []
    for edge in edges:
        start, end = (pen.heights.get(edge[side]) for side in ("start", "end"))
        if start is None or end is None:
            continue
        href = f"#{pen.anchor}-box-{edge['end']}"
        arcs.append(arc_between(edge, start + 2, end - 2, href, "from box to box"))
    return Markup(
        '<g class="arcs" role="group" aria-label="Edges between boxes, the strongest first" '
        "data-arcs>{}</g>"
    ).format(draw_arcs(arcs, WIDTH - RIGHT, GUTTER + RIGHT - 8))


def sequence(pen: Pen, items: Sequence[Box | BoxGroup]) -> None:
    """Draw what follows one another: branches up to their addition, boxes on the stream, groups."""
    branch: list[Box] = []
    for item in items:
        if isinstance(item, BoxGroup):
            draw_on_stream(pen, branch)
            branch = []
            group(pen, item)
        elif item.kind != "add":
            branch.append(item)
        elif branch and branch[0].facts["source"]:
            sources(pen, branch, item)
            branch = []
        else:
            draw_branch(pen, branch, item)
            branch = []
    draw_on_stream(pen, branch)


def group(pen: Pen, item: BoxGroup) -> None:
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


def draw_branch(pen: Pen, boxes: Sequence[Box], addition: Box) -> None:
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


def draw_on_stream(pen: Pen, boxes: Sequence[Box]) -> None:
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


def shorten_name(name: str, letters: int) -> str:
    """A name cut to so many letters; empty where not even three would show."""
    if len(name) <= letters:
        return name
    return "" if letters < 3 else name[: letters - 1] + "…"


def chip_width(box: Box) -> float:
    return min(LETTER * len(box.part) + 16, WIDTH - RIGHT - INDENT - 16)
