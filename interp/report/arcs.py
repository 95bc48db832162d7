"""How are edges drawn as arcs: from where a value is written to where it is read?

All ends are below each other, and arcs swing aside between them. Edges that share both ends are a
bundle: they fan out, and it says how many they are.

    arc = Arc(0, "a0.h2 -> a1.h0.k: +5.6 nats", 84.0, 36.0, 1.0, rises=True, shows=True, href="#a")
    draw_arcs([arc], x=152, reach=-144)
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from markupsafe import Markup

from interp.characters import visible
from interp.report.drawing import short

NEAREST = 14.0  # how far from the ends the shortest arcs swing
ARROW = 4.0


class Arc(NamedTuple):
    """One edge.

    Args:
        number: its rank by effect, from 0.
        said: all that is known of it, in one line.
        start: how far down its writer is, as the drawing counts.
        end: how far down its reader is.
        opacity: by the size of its effect.
        rises: whether the effect is above zero.
        shows: whether it is an effect, by its row's verdict.
        href: where it leads.
        facts: what the page's controls ask of it.
        hidden: whether it is drawn only when a control asks for it.
    """

    number: int
    said: str
    start: float
    end: float
    opacity: float
    rises: bool
    shows: bool
    href: str
    facts: Mapping[str, str] = {}
    hidden: bool = False


def draw_arcs(arcs: Iterable[Arc], x: float, reach: float) -> Markup:
    """Arcs as links within SVG, the strongest first, with the counts of bundles after them.

    Args:
        arcs: the strongest first.
        x: where the ends are, from the left.
        reach: how far to the right of the ends arcs may swing, below zero to the left; each bundle
            has a lane of its own.
    """
    bundles: dict[tuple[float, float, str], list[Arc]] = {}
    for arc in arcs:
        key = arc.start, arc.end, arc.facts.get("meaning", "")
        bundles.setdefault(key, []).append(arc)
    spans = sorted({(abs(start - end), start, end) for start, end, _ in bundles})
    turn = -1.0 if reach < 0 else 1.0
    apart = (abs(reach) - NEAREST) / len(spans) if spans else 0.0
    drawn: dict[int, Markup] = {}
    counts = []
    for name, ((start, end, _), bundle) in enumerate(bundles.items()):
        lane = NEAREST + apart * (spans.index((abs(start - end), start, end)) + 0.5)
        for place, arc in enumerate(bundle):
            aside = 0.8 * apart * (place / (len(bundle) - 1) - 0.5) if len(bundle) > 1 else 0.0
            drawn[arc.number] = draw_arc(arc, x, turn * (lane + aside), name)
        counts.append(draw_count(bundle, name, x + turn * lane))
    return Markup("\n").join([*(drawn[number] for number in sorted(drawn)), *counts])


def draw_arc(arc: Arc, at: float, swing: float, bundle: int) -> Markup:
    """One arc with an arrow at its reader, and a wide invisible one that a pointer finds."""
    x, far = short(at), short(at + swing / 0.75)  # a curve goes so far to its points
    start, end = (arc.start, arc.end) if arc.start != arc.end else (arc.start + 3, arc.end - 3)
    near = (short(start), short(end))
    if arc.start == arc.end:  # a loop
        near = (short(start + 9), short(end - 9))
    curve = f"M{x} {short(start)}C{far} {near[0]} {far} {near[1]} {x} {short(end)}"
    back = short(at + math.copysign(1.3 * ARROW, swing))
    arrow = f"M{back} {short(end - ARROW / 1.6)}L{x} {short(end)}L{back} {short(end + ARROW / 1.6)}"
    facts = Markup("").join(
        Markup(' data-{}="{}"').format(name, visible(value)) for name, value in arc.facts.items()
    )
    return Markup(
        '<a href="{}" class="arc {}{}" data-edge="{}" data-bundle="{}"{}{} aria-label="{}" '
        'stroke-opacity="{}"><title>{}</title><path class="hit" d="{}"/>'
        '<path class="seen" d="{}"/><path class="tip" d="{}"/></a>'
    ).format(
        arc.href,
        "rises" if arc.rises else "falls",
        "" if arc.shows else " null",
        arc.number,
        bundle,
        facts,
        Markup(" hidden") if arc.hidden else "",
        visible(arc.said),
        f"{arc.opacity:.3f}",
        visible(arc.said),
        curve,
        curve,
        arrow,
    )


def draw_count(bundle: list[Arc], name: int, x: float) -> Markup:
    """How many edges of a bundle are drawn, at its middle; not shown for one."""
    seen = sum(not arc.hidden for arc in bundle)
    return Markup(
        '<text class="count" data-count="{}" x="{}" y="{}" text-anchor="middle" aria-hidden="true"'
        "{}>\N{MULTIPLICATION SIGN}{}</text>"
    ).format(
        name,
        short(x),
        short((bundle[0].start + bundle[0].end) / 2 + 3.5),
        Markup(" hidden") if seen < 2 else "",
        seen,
    )
