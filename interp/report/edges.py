"""Which line tells which line what?

The lines of the source between which edges lead, with an arc for each edge in their gutter, from
the line that writes to the line that reads, the more opaque the larger its effect; controls for
layers and for how many; and a table that says the same.

    EdgesView("The edges", edge_effects(model, clean, corrupted, metric), lines)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from interp.characters import visible
from interp.edge_looks import (
    edge_sentence,
    largest_effect,
    metric_of,
    opacity_of,
    signed_digits,
    strongest_edges,
)
from interp.errors import UsageError
from interp.report.arcs import Arc, draw_arcs
from interp.report.edge_ends import ends_of_edge
from interp.report.source import heads_of, highlighted, prefix_of
from interp.report.values import Row, empty, number_at, with_text_keys
from interp.verdicts import interval_words, verdict_of

WIDTH, HEIGHT = 160.0, 24.0  # of the gutter and of a line, sixteen to a rem
COUNTS = (10, 30, 100)
"""How many edges a reader can ask for, beside all."""
DRAWN = 30  # at first
ON_PAGE = 500
COLUMNS = (
    *("edge", "kind", "layer", "from_layer", "delta"),
    *("file", "line", "code", "reader_file", "reader_line", "reader_code"),
)


@dataclass(frozen=True)
class EdgesView:
    """Edges as arcs between lines of source.

    Attributes:
        title: the heading.
        table: what ``interp.circuits.edge_effects`` returns, of one meaning or, one below the
            other, of both. The edges of the largest effects are on the page, and it says of how
            many.
        lines: columns ``file line code``, what ``SourceView`` of the same page shows: lines link
            there, and the functions that they stand in are named.
        unit: of the metric.
        at_most: how many edges of each meaning are on the page.
    """

    template: ClassVar[str] = "edges.html.j2"
    wide: ClassVar[bool] = True

    title: str
    table: pd.DataFrame
    lines: pd.DataFrame | None = None
    unit: str = "nats"
    at_most: int = ON_PAGE

    def context(self) -> dict[str, Any]:
        missing = set(COLUMNS) - set(self.table)
        if missing:
            raise UsageError(f"the edges have no column {', '.join(sorted(missing))}")
        if self.table.empty:
            raise UsageError("the table has no edges to draw")
        meanings = self._meanings
        edges = self._edges(meanings)
        strip = self._strip(edges)
        places = {(row["file"], row["line"]): row["y"] for row in strip}
        placed = [edge for edge in edges if not edge["apart"]]
        directions = [*self.table["direction"].unique()] if "direction" in self.table else []
        return {
            "title": self.title,
            "edges": edges,
            "strip": strip,
            "drawing": lambda anchor: draw_arcs(
                [arc_of(edge, places, anchor) for edge in placed], WIDTH, 10 - WIDTH
            ),
            "width": WIDTH,
            "height": HEIGHT * len(strip),
            "meanings": meanings if len(meanings) > 1 else [],
            "from_layers": layers_named(self.table["from_layer"], "embed"),
            "into_layers": layers_named(self.table["layer"], "logits"),
            "counts": [count for count in COUNTS if count < len(edges)],
            "drawn": DRAWN,
            "shown": sum(not edge["hidden"] for edge in edges),
            "total": sum(edge["meaning"] == meanings[0] for edge in edges),
            "left_out": len(self.table) - len(edges),
            "apart": len(edges) - len(placed),
            "unit": self.unit,
            "metric": visible(metric_of(self.table)),
            "direction": ", ".join(map(str, directions)),
            "top": signed_digits(largest_effect(self.table)).lstrip("+"),
            "null": any(not edge["shows"] for edge in edges),
            "sure": any(edge["shows"] for edge in edges),
        }

    def drawn_first(self) -> pd.DataFrame:
        """The edges that are drawn at first, as the page's table tells them."""
        rows = [
            {
                "edge": edge["edge"],
                "patched": edge["meaning"],
                "written on": edge["from"]["where"],
                "read on": edge["to"]["where"],
                f"change ({self.unit})": edge["value"],
                "95 % interval": edge["interval"],
                "verdict": edge["verdict"],
            }
            for edge in self._edges(self._meanings)
            if not edge["hidden"]
        ]
        return pd.DataFrame(rows)

    @property
    def _meanings(self) -> list[str]:
        if "meaning" not in self.table:
            return [""]
        return [str(name) for name in self.table["meaning"].drop_duplicates()]

    def _edges(self, meanings: Sequence[str]) -> list[Row]:
        """The edges on the page, the strongest of each meaning first, as they are told."""
        top = largest_effect(self.table)
        told: list[Row] = []
        for meaning in meanings:
            of = self.table[self.table["meaning"] == meaning] if meaning else self.table
            strongest = strongest_edges(of, self.at_most).to_dict("records")
            for place, row in enumerate(map(with_text_keys, strongest)):
                ends = {
                    side: self._linked(end) for side, end in ends_of_edge(row, self._names).items()
                }
                seen = {"meaning": meaning, "hidden": meaning != meanings[0] or place >= DRAWN}
                apart = any(end["line"] is None for end in ends.values())
                told.append(
                    {
                        **told_edge(row, self.unit, top),
                        **ends,
                        **seen,
                        "number": len(told),
                        "apart": apart,
                    }
                )
        return told

    @cached_property
    def _names(self) -> list[str]:
        return [] if self.lines is None else [str(name) for name in self.lines["file"].unique()]

    @cached_property
    def _apart(self) -> bool:
        """Whether files are told apart by their names alone."""
        files = {*map(str, pd.concat([self.table["file"], self.table["reader_file"]]).unique())}
        return len({file.rpartition("/")[2] for file in files}) == len(files)

    def _linked(self, end: Row) -> Row:
        """A line at an edge's end: what it is called, and the link to it."""
        if end["line"] is None:
            return {**end, "where": "line not known", "link": ""}
        called = end["file"].rpartition("/")[2] if self._apart else end["file"]
        prefix = prefix_of(end["name"], len(self._names) > 1)
        link = f"{prefix}L{end['line']}" if end["name"] else ""
        return {**end, "where": f"{called}:{end['line']}", "link": link}

    def _strip(self, edges: Sequence[Row]) -> list[Row]:
        """The lines that edges lead from and to, with the heads of what they stand in, in order."""
        ends: dict[str, dict[int, Row]] = {}
        for edge in edges:
            for side, does in (("from", "writes"), ("to", "reads")):
                end = edge[side]
                if not edge["apart"]:
                    row = {**end, "kind": "line", "does": {does}}
                    found = ends.setdefault(end["file"], {}).setdefault(end["line"], row)
                    found["does"].add(does)
        strip: list[Row] = []
        for file, rows in ends.items():
            strip.append({"kind": "file", "file": file, "line": None, "code": file, "does": ()})
            rows |= self._around(file, rows)
            strip += [rows[line] for line in sorted(rows)]
        codes = highlighted([row["code"] for row in strip])
        for place, (row, html) in enumerate(zip(strip, codes, strict=True)):
            row["html"] = row["code"] if row["kind"] == "file" else html
            row["y"] = HEIGHT * (place + 0.5)
            row["does"] = " and ".join(sorted(row["does"], reverse=True))
        return strip

    def _around(self, file: str, ends: Mapping[int, Row]) -> dict[int, Row]:
        """Lines as their file has them, and the heads of the classes and functions around them."""
        if self.lines is None or file not in self._names:
            return {}
        of = self.lines[self.lines["file"] == file]
        codes, numbers = [str(code) for code in of["code"]], [int(line) for line in of["line"]]
        prefix = prefix_of(file, len(self._names) > 1)
        heads = heads_of(codes, [number in ends for number in numbers])
        found = {
            number: {**ends[number], "code": code}
            for number, code in zip(numbers, codes, strict=True)
            if number in ends
        }
        for place in heads:
            line = numbers[place]
            head = {"kind": "head", "file": file, "line": line, "code": codes[place], "does": ()}
            found.setdefault(line, {**head, "link": f"{prefix}L{line}"})
        return found


def told_edge(row: Row, unit: str, top: float) -> Row:
    """An edge as a page tells it."""
    delta, low, high, p = (number_at(row, n) for n in ("delta", "ci_low", "ci_high", "p_adjusted"))
    known = np.isfinite(low) and np.isfinite(high)
    verdict = verdict_of(row)
    return {
        "edge": visible(str(row["edge"])),
        "from_layer": layer_name(row["from_layer"], "embed"),
        "into_layer": layer_name(row["layer"], "logits"),
        "delta": delta,
        "value": signed_digits(delta) if np.isfinite(delta) else "no number",
        "interval": f"{signed_digits(low)} to {signed_digits(high)}"
        if known
        else interval_words(row),
        "p": f"{p:.2g}" if np.isfinite(p) else "",
        "n": "" if empty(row.get("n")) else int(row["n"]),
        "said": edge_sentence(row, unit),
        "verdict": "an effect" if verdict.is_effect else str(verdict),
        "shows": verdict.is_effect,
        "opacity": opacity_of(delta, top),
    }


def arc_of(edge: Row, places: Mapping[tuple[str, int | None], float], anchor: str) -> Arc:
    """An edge as it is drawn: a reader's end a little above the middle of its line, a writer's
    below."""
    start, end = (places[edge[side]["file"], edge[side]["line"]] for side in ("from", "to"))
    href = f"#{anchor}-edge-{edge['number']}"
    return arc_between(
        edge, start + 3, end - 3, href, f"{edge['from']['where']} to {edge['to']['where']}"
    )


def arc_between(edge: Row, start: float, end: float, href: str, where: str) -> Arc:
    """An edge that ``told_edge`` told, between two heights of a drawing."""
    name = f"{edge['edge']} ({edge['meaning']})" if edge["meaning"] else edge["edge"]
    return Arc(
        edge["number"],
        f"{name}, {where}: {edge['said']}",
        start,
        end,
        edge["opacity"],
        bool(edge["delta"] > 0),
        edge["shows"],
        href,
        {"meaning": edge["meaning"]},
        edge["hidden"],
    )


def layers_named(layers: pd.Series, outside: str) -> list[tuple[str, str]]:
    """Each layer for a control, in order, with what it is called; first what is in none."""
    found = sorted(int(layer) for layer in layers.dropna().unique())
    first = [(outside, OUTSIDE[outside])] if layers.isna().any() else []
    named = [(str(layer), f"layer {layer}") for layer in found]
    return named + first if outside == "logits" else first + named


OUTSIDE = {"embed": "embeddings", "logits": "logits"}


def layer_name(layer: Any, outside: str) -> str:
    return outside if empty(layer) else str(int(layer))
