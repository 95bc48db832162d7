"""Between which boxes of the map do edges lead?

edges, apart = edges_between_boxes(table, trunk, "nats")   # the strongest, by the boxes' numbers
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd

from interp.edge_looks import largest_effect, strongest_edges
from interp.report.boxes import Box, BoxGroup
from interp.report.edge_ends import ends_of_edge
from interp.report.edges import told_edge
from interp.report.values import Row, empty, with_text_keys

SHOWN = 30
"""How many edges the map shows: more would hide each other."""
Place = tuple[str, int, int | None]  # a file's name, a line, a group of blocks


def edges_between_boxes(
    table: pd.DataFrame | None, trunk: Sequence[Box | BoxGroup], unit: str
) -> tuple[list[Row], int]:
    """The strongest edges whose lines call a box at both ends, as ``told_edge`` tells them, with
    the boxes' numbers as ``start`` and ``end``; and how many of the strongest have none. No table
    has no edges.

    Of a table of two meanings, those of the first are taken.
    """
    meaning = ""
    if table is None:
        return [], 0
    if "meaning" in table and len(table):
        meaning = str(table["meaning"].iloc[0])
        table = table[table["meaning"] == meaning]
    boxes = {place: box.number for place, box in reversed([*boxes_on_lines(trunk)])}
    groups = groups_of_layers(trunk)
    top, apart = largest_effect(table), 0
    found: list[Row] = []
    for row in map(with_text_keys, strongest_edges(table, SHOWN).to_dict("records")):
        ends = ends_of_edge(row, [])
        numbers = [
            box_at(boxes, ends[side], groups, row[layer])
            for side, layer in (("from", "from_layer"), ("to", "layer"))
        ]
        if None in numbers:
            apart += 1
            continue
        start, end = numbers
        told = told_edge(row, unit, top)
        where = {"start": start, "end": end, "meaning": meaning, "hidden": False}
        found.append({**told, **where, "number": len(found)})
    return found, apart


def boxes_on_lines(trunk: Sequence[Box | BoxGroup]) -> Iterator[tuple[Place, Box]]:
    """Each box by the line that calls it, in their order."""
    group = -1
    for item in trunk:
        group += isinstance(item, BoxGroup)
        outer = item.boxes if isinstance(item, BoxGroup) else [item]
        for box in (one for holder in outer for one in (holder, *holder.inner)):
            if not empty(box.facts["line"]):
                name = PurePath(str(box.facts["file"])).name
                inside = group if isinstance(item, BoxGroup) else None
                yield (name, int(box.facts["line"]), inside), box


def groups_of_layers(trunk: Sequence[Box | BoxGroup]) -> list[int]:
    """The group that each layer's block is in."""
    groups = [item for item in trunk if isinstance(item, BoxGroup)]
    blocks = [(name, place) for place, group in enumerate(groups) for name in group.blocks]
    return [place for _, place in sorted(blocks, key=lambda block: number_in(block[0]))]


def number_in(block: str) -> int:
    digits = "".join(filter(str.isdigit, block.rpartition(".")[2]))
    return int(digits or 0)


def box_at(boxes: dict[Place, int], end: Row, groups: Sequence[int], layer: Any) -> int | None:
    """The box that an edge's line calls, in the group that holds its layer."""
    if end["line"] is None:
        return None
    number = None if empty(layer) else int(layer)
    group = groups[number] if number is not None and number < len(groups) else None
    name = PurePath(end["file"]).name
    return boxes.get((name, end["line"], group), boxes.get((name, end["line"], None)))
