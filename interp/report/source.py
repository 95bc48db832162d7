"""What does each line do, beside the line?

The source, highlighted, with a bar on every line for what its cut does to the trained model, a
small profile over layers, and what became of the same cut made before training. A line opens on
everything that is known of it: the edit, each surgery tried there, layer by layer, the learning
curves, the hook points.

    SourceView("The source", annotated(source, posthoc, retrained, sites), posthoc, retrained)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from interp.characters import visible
from interp.computing import computing_lines
from interp.errors import UsageError
from interp.report.bars import Scale, bar_of
from interp.report.drawing import Dot, curves_svg, intervals_svg, profile_path
from interp.report.edge_ends import edges_at_lines
from interp.report.values import (
    diff_of,
    empty,
    number_at,
    signed,
    touched_lines,
    with_text_keys,
    without,
)
from interp.report.writing import Continued
from interp.status import COMPARED, MARKS, MEANINGS, QUIET, TELLING, TOOK_EFFECT, WITH_LOSS, Status
from interp.surgery.annotate import by_layer
from interp.verdicts import Verdict, interval_words, spread_of, verdict_of, verdict_words

Row = dict[str, Any]


@dataclass(frozen=True)
class SourceView:
    """The annotated source of one file or several.

    Attributes:
        title: the heading.
        lines: one row per line, ``file line code``; and all that ``annotated`` adds, where known.
        table: what ``Study.posthoc`` found: every surgery that was tried.
        retrained: one row per surgery made before training, as ``Study.retrain`` gives them:
            ``surgery file line`` and where known ``lines code after reading diff delta ci_low
            ci_high p_adjusted n status``. Where the page has a part that is called ``section``,
            the line links to it instead of its reading.
        curves: ``surgery seed step split loss``; the uncut model's surgery is empty.
        architecture: what ``interp.architecture.architecture`` found: hook points with shapes.
        unit: what a loss is counted in.
        command: what trains without a cut, with ``{surgery}`` where its id stands; shown beside
            each cut that can be made so.
        trainings: one row per training, ``surgery seed delta``, the last being what it differs by
            from the mean of the model as it is; those of that have an empty surgery.
        written: what the trained model writes with a surgery, by its id.
        written_after: what a model writes that was trained with it.
        edges: what ``interp.circuits.edge_effects`` returns: a line tells of the edges from and to
            it, in ``edge_unit``.
    """

    template: ClassVar[str] = "source.html.j2"
    wide: ClassVar[bool] = True

    title: str
    lines: pd.DataFrame
    table: pd.DataFrame | None = None
    retrained: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    architecture: pd.DataFrame | None = None
    unit: str = "nats"
    trainings: pd.DataFrame | None = None
    command: str = ""
    written: Mapping[str, Continued] = field(default_factory=dict)
    written_after: Mapping[str, Continued] = field(default_factory=dict)
    edges: pd.DataFrame | None = None
    edge_unit: str = "nats"

    def context(self) -> dict[str, Any]:
        missing = {"file", "line", "code"} - set(self.lines)
        if missing:
            raise UsageError(f"the lines have no column {', '.join(sorted(missing))}")
        names = list(dict.fromkeys(self.lines["file"]))
        files = [self._file(name, alone=len(names) == 1) for name in names]
        rows = [row for file in files for row in file["rows"]]
        seen = {row["status"] for row in rows}
        return {
            "files": files,
            "unit": self.unit,
            "legend": [(MARKS[status], MEANINGS[status]) for status in MEANINGS if status in seen],
            "layers": any(row["profile"] for row in rows),
            "posthoc": any(row["nats"] for row in rows),
            "linear": next((file["linear"] for file in files if file["linear"]), None),
            "retrained": any(row["again"] for row in rows),
            "null": any(row["null"] or row["again_null"] for row in rows),
            "unknown": any(row["unknown"] or row["again_unknown"] for row in rows),
            "noise": self._noise(),
            "jointly": any(row["jointly"] for row in rows),
            "kinds": {
                bar.kind
                for row in rows
                for bar in (row["bar"], row["again_bar"])
                if bar is not None
            },
        }

    @cached_property
    def _edges_at(self) -> dict[tuple[str, int], list[Row]]:
        names = [str(name) for name in self.lines["file"].unique()]
        return edges_at_lines(self.edges, names, self.edge_unit)

    def places(self) -> dict[str, str]:
        """Where each line is in the page, by ``model.py:104``, with the folders that tell files of
        one name apart."""
        several = len(set(self.lines["file"])) > 1
        return {
            f"{file}:{line}": f"{prefix_of(file, several)}L{line}"
            for file, line in self.lines[["file", "line"]].itertuples(index=False)
        }

    def _file(self, name: str, alone: bool) -> Row:
        lines = self.lines[self.lines["file"] == name].to_dict("records")
        codes = highlighted([str(row["code"]) for row in lines])
        text = "\n".join(str(row["code"]) for row in lines)
        tried = self._tried(name)
        again = self._again(name)
        points = self._points(name)
        edges = self._edges_at
        layers: dict[Any, list[float]] = {}
        if self.table is not None:
            found = by_layer(self.table)
            layers = {cut: list(rows["delta"]) for cut, rows in found.groupby("surgery")}
        shown = [row for row in lines if row.get("status") in WITH_LOSS]
        scale = Scale.of(shown)
        scale_again = Scale.of([row for rows in again.values() for row in rows])
        prefix = prefix_of(name, several=not alone)
        rows = [
            self._row(
                {**with_text_keys(row), "anchor": f"{prefix}L{row['line']}", "html": code},
                tried.get(row["line"], []),
                again.get(row["line"], []),
                points.get(row["line"], []) or points_named(row.get("sites", ())),
                edges.get((name, row["line"]), []),
                layers.get(row.get("surgery", ""), []),
                (scale, scale_again),
            )
            for row, code in zip(lines, codes, strict=True)
        ]
        effects = [row["effect"] for row in rows]
        heads = heads_of([str(row["code"]) for row in lines], effects)
        for place, row in enumerate(rows):
            row["head"] = place in heads
            has_points = row["panel"] and row["panel"]["points"]
            row["made_on"] = computing_lines(text, row["line"]) if has_points else []
        return {
            "name": name,
            "prefix": prefix,
            "linear": scale.linear,
            "rows": rows,
            "effects": any(effects),
            "count": sum(map(bool, effects)),
        }

    def _row(
        self,
        row: Row,
        tried: list[Row],
        again: list[Row],
        points: list[Row],
        edges: list[Row],
        layers: list[float],
        scales: "tuple[Scale, Scale]",
    ) -> Row:
        status = row.get("status") or ""
        verdict = verdict_of(row)
        finite = [one for one in again if np.isfinite(one["delta"])]
        alone = [one for one in finite if one["alone"]]
        retrained = next((one for one in alone if one["surgery"] == row.get("surgery")), None)
        retrained = retrained or next(iter([*alone, *finite]), None)
        lasting = retrained["verdict"] if retrained else Verdict.NONE
        return {
            "line": row["line"],
            "anchor": row["anchor"],
            "code": row["html"],
            "status": status,
            "mark": MARKS.get(status, ""),
            "meaning": MEANINGS.get(status, ""),
            "null": verdict is Verdict.NOT_SHOWN,
            "unknown": verdict is Verdict.UNKNOWN and status == Status.CHANGED,
            "quiet": status in QUIET and retrained is None,
            "effect": verdict.is_effect
            or (verdict is Verdict.UNKNOWN and status in TOOK_EFFECT)
            or lasting.is_effect
            or lasting is Verdict.UNKNOWN,
            "nats": signed(number_at(row, "delta")) if status in TELLING else "",
            "bar": bar_of(row, scales[0]) if status in WITH_LOSS else None,
            "profile": profile_path(layers),
            "again": signed(retrained["delta"]) if retrained else "",
            "jointly": "" if retrained is None or retrained["alone"] else retrained["without"],
            "again_bar": retrained and bar_of(retrained, scales[1], retrained["points"]),
            "again_null": lasting is Verdict.NOT_SHOWN,
            "again_unknown": lasting is Verdict.UNKNOWN,
            "panel": self._panel(row, tried, again, points) | {"edges": edges}
            if tried or again or points or edges or status in MEANINGS  # why nothing was tried
            else None,
        }

    def _panel(
        self, row: Row, tried: list[Row], again: list[Row], points: list[Row]
    ) -> dict[str, Any]:
        head = next((one for one in tried if one["surgery"] == row.get("surgery")), None)
        head = head or (tried[0] if tried else None)
        others = [one for one in tried if one is not head]
        again = sorted(again, key=lambda one: not one["alone"])
        dots = []
        if head and np.isfinite(head["delta"]):
            dots.append(Dot("trained model", head["delta"], head["ci_low"], head["ci_high"]))
        for one in again:
            if np.isfinite(one["delta"]):
                ends = one["ci_low"], one["ci_high"]
                dots.append(Dot(one["without"], one["delta"], *ends, one["points"]))
        told = [one for one in [*tried, *again] if one["lines"][0] == row["line"]]
        ids = {one["surgery"]: one["without"] for one in told}
        return {
            "qualname": (head or (again[0] if again else {})).get("qualname", ""),
            "head": head,
            "others": others,
            "again": again,
            "intervals": intervals_svg(dots, self.unit) if dots else None,
            "curves": [(way, drawn) for one, way in ids.items() if (drawn := self._curves(one))],
            "points": points,
        }

    def _tried(self, file: str) -> dict[int, list[Row]]:
        """Every surgery that was tried, by the lines that it touches, the layers within it."""
        if self.table is None:
            return {}
        table = self.table[(self.table["file"] == file) & (self.table["operator"] != "")]
        found: dict[int, list[Row]] = {}
        for surgery, rows in table.groupby("surgery", sort=False):
            together = rows[rows["layer"] == "all"]
            first = (together if len(together) else rows).iloc[0].to_dict()
            single = rows[rows["layer"] != first["layer"]].to_dict("records")
            one = self._tale(first, surgery=str(surgery))
            one["writes"] = self.written.get(str(surgery))
            one["layers"] = [self._tale(row, surgery=str(surgery)) for row in single]
            for line in touched_lines(first):
                found.setdefault(line, []).append(one)
        return found

    def _again(self, file: str) -> dict[int, list[Row]]:
        """What was retrained, by line."""
        found: dict[int, list[Row]] = {}
        if self.retrained is None or self.retrained.empty:
            return found
        table = self.retrained[self.retrained["file"] == file]
        for row in table.to_dict("records"):
            surgery = str(row["surgery"])
            one = self._tale(row, surgery, self._seeds(surgery))
            one["writes"] = self.written_after.get(surgery)
            for line in touched_lines(row):
                found.setdefault(line, []).append(one)
        return found

    def _tale(self, row: Mapping[Any, Any], surgery: str, points: Sequence[float] = ()) -> Row:
        """One outcome as it is told; ``points`` are its seeds."""
        delta, low, high = (number_at(row, name) for name in ("delta", "ci_low", "ci_high"))
        told: Row = {
            name: "" if empty(row.get(name)) else str(row[name])
            for name in (
                *("qualname", "operator", "after", "code", "reading", "status", "detail", "layer"),
                *("same_as", "hook", "intervention", "section"),
            )
        }
        diff = row.get("diff")
        single_cut = self.command and told["operator"] and told["status"] != Status.DEAD
        return told | {
            "surgery": surgery,
            "command": self.command.format(surgery=surgery) if single_cut else "",
            "lines": touched_lines(row),
            "without": without(touched_lines(row)),
            "alone": len(touched_lines(row)) == 1,
            "delta": delta,
            "ci_low": low,
            "ci_high": high,
            "p_adjusted": number_at(row, "p_adjusted"),
            "points": points,
            "hook_nats": signed(number_at(row, "hook_delta")),
            "meaning": MEANINGS.get(told["status"], ""),
            "nats": signed(delta) if told["status"] in (*TELLING, Status.UNCHECKED, "") else "",
            "interval": f"{signed(low)} to {signed(high)}"
            if np.isfinite([low, high]).all()
            else "",
            "verdict": verdict_of(row),
            "said": verdict_words(row) if told["status"] in COMPARED else "",
            "why": "" if np.isfinite(low) else interval_words(row, points=points),
            "n": None if empty(row.get("n")) else int(row["n"]),
            "diff": diff_of(diff, told["code"], told["after"]),
        }

    def _seeds(self, surgery: str) -> list[float]:
        """What each training of a surgery differs by; of the model as it is for an empty one."""
        if self.trainings is None:
            return []
        of = self.trainings[self.trainings["surgery"] == surgery]
        return [float(delta) for delta in of["delta"] if np.isfinite(delta)]

    def _noise(self) -> Row | None:
        whole = self._seeds("")
        return {"sd": f"{spread_of(whole):.3f}", "n": len(whole)} if len(whole) > 1 else None

    def _curves(self, surgery: str) -> Markup | None:
        if self.curves is None:
            return None
        curves = self.curves[self.curves["split"] == "val"]
        of = curves[curves["surgery"] == surgery]
        if of.empty:
            return None
        return curves_svg(of, curves[curves["surgery"] == ""], self.unit)

    def _points(self, file: str) -> dict[int, list[Row]]:
        """The hook points whose value a line computes, one row for those that differ in their block
        alone."""
        found: dict[int, list[Row]] = {}
        if self.architecture is None:
            return found
        hooks = self.architecture[self.architecture["kind"] == "hook"]
        here = hooks["file"].map(lambda name: PurePath(str(name)).name) == PurePath(file).name
        for line, rows in hooks[here].groupby("line"):
            names = pd.DataFrame(
                {"name": rows["site"].map(any_block), "shape": rows["shape"]}
            ).drop_duplicates()
            found[int(str(line))] = [
                {"name": name, "shape": shape} for name, shape in names.to_numpy()
            ]
        return found


def heads_of(codes: Sequence[str], effects: Sequence[bool]) -> set[int]:
    """The places of the classes and functions in which lines with an effect stand."""
    heads: set[int] = set()
    around: list[tuple[int, int]] = []  # indentation and place, from the outermost in
    for place, code in enumerate(codes):
        if not code.strip() or code.lstrip().startswith(")"):  # of a head over several lines
            continue
        depth = len(code) - len(code.lstrip())
        around = [head for head in around if head[0] < depth]
        if effects[place]:
            heads |= {head[1] for head in around}
        if re.match(r"\s*(class|def|async def)\b", code):
            around.append((depth, place))
    return heads


def prefix_of(file: str, several: bool) -> str:
    """What stands before ``L104`` in a line's id, where a page shows several files: of several, or
    of one that is told by its folder from those that other parts show."""
    return re.sub(r"[^\w.-]", "-", file) + "-" if several or "/" in file else ""


def any_block(site: str) -> str:
    """A hook point's name for all blocks: ``blocks.*.attn.hook_z``."""
    return re.sub(r"\.\d+\.", ".*.", str(site))


def highlighted(codes: Sequence[str]) -> list[Markup]:
    """Lines of Python as escaped markup, a string over several lines coloured on each of them."""
    text = "\n".join(visible(code).replace("\n", "\\n") for code in codes)
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    formatter = HtmlFormatter(nowrap=True, classprefix="py-")
    shown = str(highlight(text + "\n", lexer, formatter)).split("\n")  # Pygments escapes
    return [Markup(line) for line in shown[: len(codes)]]


def points_named(sites: Sequence[str]) -> list[Row]:
    names = dict.fromkeys(any_block(name) for name in sites)
    return [{"name": name, "shape": ""} for name in names]
