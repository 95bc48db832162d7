"""Which box of the picture is which line of the code?

An architecture diagram drawn from what a run of the model reached: the residual stream from top
to bottom with its additions, the branches that are read from it and added to it, blocks that are
the same drawn once. Boxes are shaded by the effect of cutting the line that calls them, and open on
class, lines, hook points and shapes.

    MapView("The map", architecture(model), annotated(source, posthoc))
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from interp.characters import visible
from interp.computing import computing_lines
from interp.edge_looks import metric_of
from interp.errors import UsageError
from interp.report.boxes import Box, BoxGroup, add, grouped, level_of
from interp.report.map_drawing import draw_map
from interp.report.map_edges import edges_between_boxes
from interp.report.source import prefix_of
from interp.report.values import empty, number_at, shown_name, signed, with_text_keys
from interp.report.vocabulary import SOFTMAX, VISUALISATION, vocabulary
from interp.status import WITH_LOSS, Status
from interp.verdicts import Verdict, verdict_of, verdict_words


@dataclass(frozen=True)
class MapView:
    """The model as boxes.

    Attributes:
        title: the heading.
        boxes: what ``interp.architecture.architecture`` found.
        lines: what ``annotated`` gives for the files that the boxes are in: their effects, and
            what they link to.
        layers: columns surgery, layer, delta: what each cut does in one layer alone.
        edges: what ``interp.circuits.edge_effects`` returns; the strongest are arcs between boxes.
        edge_unit: of their metric.
    """

    template: ClassVar[str] = "map.html.j2"

    title: str
    boxes: pd.DataFrame
    lines: pd.DataFrame | None = None
    layers: pd.DataFrame | None = None
    unit: str = "nats"
    edges: pd.DataFrame | None = None
    edge_unit: str = "nats"

    def context(self) -> dict[str, Any]:
        modules = self.boxes[self.boxes["kind"] != "hook"].to_dict("records")
        if not modules:
            raise UsageError("the table has no boxes: give what architecture() found")
        trunk = self._trunk(modules)
        boxes = [
            box for item in trunk for box in (item.boxes if isinstance(item, BoxGroup) else [item])
        ]
        every = [one for box in boxes for one in (box, *box.inner)]
        self._colour(every)
        for number, box in enumerate(every):
            box.number = number
        edges, apart = edges_between_boxes(self.edges, trunk, self.edge_unit)
        return {
            "drawing": lambda anchor: draw_map(trunk, anchor, edges),
            "edges": edges,
            "apart": apart,
            "metric": "" if self.edges is None else visible(metric_of(self.edges)),
            "boxes": [self._told(box) for box in every],
            "sentence": map_sentence(trunk),
            "top": signed(
                max((abs(b.delta) for b in every if np.isfinite(b.delta)), default=np.nan)
            ),
            "unit": self.unit,
            "words": self._words(),
            "visualisation": VISUALISATION,
            "softmax": SOFTMAX,
        }

    def _words(self) -> list[dict[str, Any]]:
        """The visualisation's boxes, each with the line of the source that it is."""
        sources: dict[str, str] = {}
        if self.lines is not None:
            for file, rows in self.lines.groupby("file"):
                sources[PurePath(str(file)).name] = "\n".join(map(str, rows["code"]))
        found = vocabulary(self.boxes, sources).to_dict("records")
        return [{**with_text_keys(row), **self._place(row)} for row in found]

    def _trunk(self, rows: Sequence[dict[Any, Any]]) -> list[Box | BoxGroup]:
        """Boxes outside of blocks and groups of the same blocks, in the order of the run."""
        found: list[Box | BoxGroup] = []
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
                found.append(BoxGroup(names, inside))
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
        codes = self._codes(file)
        # a line that only gives a value another shape says nothing of it
        makers = (
            computing_lines("\n".join(codes), number) if row.get("kind", "hook") == "hook" else []
        )
        numbers = " or ".join(map(str, makers or [number]))
        return {
            "where": f"{self._shown(file) or PurePath(file).name}:{numbers}",
            "code": " or ".join(codes[made - 1].strip() for made in makers) or row["code"],
            "link": self._link(file, makers[0] if makers else number),
        }

    def _codes(self, file: str) -> list[str]:
        """The lines of a file; none where the page does not show it."""
        name = self._shown(file)
        if self.lines is None or not name:
            return []
        return [str(code) for code in self.lines.loc[self.lines["file"] == name, "code"]]

    def _shown(self, file: str) -> str:
        """What the lines call a file, which may be given with its whole path; empty where they are
        not of it."""
        names = [] if self.lines is None else [str(name) for name in self.lines["file"].unique()]
        return shown_name(file, names)

    def _link(self, file: str, number: int) -> str:
        name = self._shown(file)
        if self.lines is None or not name:
            return ""
        return f"{prefix_of(name, len(set(self.lines['file'])) > 1)}L{number}"

    def _colour(self, boxes: Iterable[Box]) -> None:
        """Each box's effect: that of the line that calls it."""
        if self.lines is None or "delta" not in self.lines:
            return
        boxes = list(boxes)
        known = {
            (PurePath(str(row["file"])).name, row["line"]): row
            for row in self.lines.to_dict("records")
        }
        alone: dict[Any, list[tuple[int, float]]] = {}
        if self.layers is not None:
            for cut, rows in self.layers.groupby("surgery"):
                alone[cut] = list(rows[["layer", "delta"]].itertuples(index=False, name=None))
        for box in boxes:
            where = PurePath(str(box.facts["file"])).name, box.facts["line"]
            row = known.get(where)
            if row is None:
                continue
            box.status = str(row.get("status") or "")
            if box.status not in WITH_LOSS:
                continue
            low, high = number_at(row, "ci_low"), number_at(row, "ci_high")
            box.delta = number_at(row, "delta")
            box.effect = signed(box.delta)
            if np.isfinite([low, high]).all():
                box.interval = f"{signed(low)} to {signed(high)}"
            box.verdict, box.said = verdict_of(row), verdict_words(row)
            if box.block != "":
                box.layers = [(str(n), delta, 0) for n, delta in alone.get(row.get("surgery"), [])]
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
            "unknown": box.verdict is Verdict.UNKNOWN and box.status == Status.CHANGED,
            "said": box.said,
            "leak": box.status == Status.LEAK,
            "layers": [(name, signed(delta) or "no number") for name, delta, _ in box.layers],
            "kind": box.kind,
        }


def map_sentence(trunk: Sequence[Box | BoxGroup]) -> str:
    """What the picture cannot say: where the model is not a residual stream of blocks."""
    groups = [item for item in trunk if isinstance(item, BoxGroup)]
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
