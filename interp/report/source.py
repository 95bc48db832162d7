"""What does each line do, beside the line?

The source, highlighted, with a bar on every line for what its cut does to the trained model, a
small profile over layers, and what became of the same cut made before training. A line opens on
everything that is known of it: the edit, each surgery tried there, layer by layer, the learning
curves, the hook points.

    SourceView("The source", annotated(source, posthoc, retrained, sites), posthoc, retrained)
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.python import PythonLexer

from interp.characters import visible
from interp.errors import UsageError
from interp.report.drawing import curves_svg, intervals_svg, profile_path
from interp.surgery.annotate import LEGEND, MARKS

TELLING = ("changed", "leak", "nonfinite", "error", "timeout")
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
            ci_high noise status``.
        curves: ``surgery seed step split loss``; the uncut model's surgery is empty.
        architecture: what ``interp.architecture.architecture`` found: hook points with shapes.
        unit: what a loss is counted in.
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
            "legend": [(MARKS[status], LEGEND[status]) for status in LEGEND if status in seen],
            "layers": any(row["profile"] for row in rows),
            "posthoc": any(row["nats"] for row in rows),
            "retrained": any(row["again"] for row in rows),
            "null": any(row["null"] or row["again_null"] for row in rows),
            "jointly": any(row["jointly"] for row in rows),
            "gain": any(row["bar"] and row["bar"].kind == "gain" for row in rows),
        }

    def places(self) -> dict[str, str]:
        """Where each line is in the page, by ``model.py:104``."""
        several = len(set(self.lines["file"])) > 1
        return {
            f"{PurePath(str(file)).name}:{line}": f"{prefix_of(file, several)}L{line}"
            for file, line in self.lines[["file", "line"]].itertuples(index=False)
        }

    def _file(self, name: str, alone: bool) -> Row:
        lines = self.lines[self.lines["file"] == name].to_dict("records")
        codes = highlighted([str(row["code"]) for row in lines])
        tried = self._tried(name)
        again = self._again(name)
        points = self._points(name)
        shown = [row for row in lines if row.get("status") in ("changed", "leak")]
        top = largest(row.get("delta") for row in shown)
        top_again = largest(row["delta"] for rows in again.values() for row in rows)
        prefix = prefix_of(name, several=not alone)
        return {
            "name": name,
            "rows": [
                self._row(
                    {**named(row), "anchor": f"{prefix}L{row['line']}", "html": code},
                    tried.get(row["line"], []),
                    again.get(row["line"], []),
                    points.get(row["line"], []) or split_names(row.get("sites")),
                    (top, top_again),
                )
                for row, code in zip(lines, codes, strict=True)
            ],
        }

    def _row(
        self, row: Row, tried: list[Row], again: list[Row], points: list[Row], tops: Sequence[float]
    ) -> Row:
        status = row.get("status") or ""
        delta, low, high = (number_at(row, name) for name in ("delta", "ci_low", "ci_high"))
        null = status == "changed" and bool(low <= 0 <= high)
        finite = [one for one in again if np.isfinite(one["delta"])]
        alone = [one for one in finite if one["alone"]]
        retrained = next((one for one in alone if one["surgery"] == row.get("surgery")), None)
        retrained = retrained or next(iter([*alone, *finite]), None)
        noticed = retrained is not None and not retrained["noise"] >= abs(retrained["delta"])
        return {
            "line": row["line"],
            "anchor": row["anchor"],
            "code": row["html"],
            "status": status,
            "mark": MARKS.get(status, ""),
            "meaning": LEGEND.get(status, ""),
            "null": null,
            "quiet": status in ("", "dead", "equivalent") and retrained is None,
            "effect": (status in ("changed", "leak", "nonfinite") and not null) or noticed,
            "nats": signed(delta) if status in TELLING else "",
            "bar": bar_of(delta, low, high, tops[0], status),
            "profile": profile_path(split_numbers(row.get("layer_deltas"))),
            "again": signed(retrained["delta"]) if retrained else "",
            "jointly": "" if retrained is None or retrained["alone"] else retrained["without"],
            "again_bar": retrained
            and bar_of(
                retrained["delta"], retrained["ci_low"], retrained["ci_high"], tops[1], "changed"
            ),
            "again_null": retrained is not None and not noticed,
            "panel": self._panel(row, tried, again, points) if tried or again or points else None,
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
            dots.append(("trained model", head["delta"], head["ci_low"], head["ci_high"]))
        for one in again:
            if np.isfinite(one["delta"]):
                dots.append((one["without"], one["delta"], one["ci_low"], one["ci_high"]))
        noise = max((one["noise"] for one in again if np.isfinite(one["noise"])), default=0.0)
        ids = {one["surgery"]: one["without"] for one in [*tried, *again]}
        return {
            "qualname": (head or (again[0] if again else {})).get("qualname", ""),
            "head": head,
            "others": others,
            "again": again,
            "intervals": intervals_svg(dots, noise, self.unit) if dots else None,
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
            one["layers"] = [self._tale(row, surgery=str(surgery)) for row in single]
            for line in lines_of(first):
                found.setdefault(line, []).append(one)
        return found

    def _again(self, file: str) -> dict[int, list[Row]]:
        """What was retrained, by line."""
        found: dict[int, list[Row]] = {}
        if self.retrained is None or self.retrained.empty:
            return found
        table = self.retrained[self.retrained["file"] == file]
        for row in table.to_dict("records"):
            for line in lines_of(row):
                found.setdefault(line, []).append(self._tale(row, surgery=str(row["surgery"])))
        return found

    def _tale(self, row: Mapping[Any, Any], surgery: str) -> Row:
        """One outcome as it is told."""
        delta, low, high, noise = (
            number_at(row, name) for name in ("delta", "ci_low", "ci_high", "noise")
        )
        told: Row = {
            name: "" if empty(row.get(name)) else str(row[name])
            for name in (
                *("qualname", "operator", "after", "code", "reading", "status", "detail", "layer"),
                *("same_as", "hook", "intervention"),
            )
        }
        diff = row.get("diff")
        return told | {
            "surgery": surgery,
            "without": without(lines_of(row)),
            "alone": len(lines_of(row)) == 1,
            "delta": delta,
            "ci_low": low,
            "ci_high": high,
            "noise": noise,
            "hook_nats": signed(number_at(row, "hook_delta")),
            "meaning": LEGEND.get(told["status"], ""),
            "nats": signed(delta) if told["status"] in (*TELLING, "") else "",
            "interval": f"{signed(low)} to {signed(high)}"
            if np.isfinite([low, high]).all()
            else "",
            "null": bool(low <= 0 <= high),
            "within_noise": bool(abs(delta) <= noise),
            "noise_nats": f"{noise:.3f}" if np.isfinite(noise) else "",
            "n": None if empty(row.get("n")) else int(row["n"]),
            "diff": diff_of(diff, told["code"], told["after"]),
        }

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


def prefix_of(file: str, several: bool) -> str:
    """What stands before ``L104`` in a line's id, where a page shows several files."""
    return re.sub(r"[^\w.-]", "-", file) + "-" if several else ""


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


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to 100, with the interval's ends."""

    width: float
    low: float
    high: float
    kind: str


def bar_of(delta: float, low: float, high: float, top: float, status: str) -> Bar | None:
    if not np.isfinite(delta) or not top or status not in ("changed", "leak"):
        return None
    kind = "leak" if status == "leak" else "harm" if delta >= 0 else "gain"
    sign = -1 if delta < 0 else 1

    def share(value: float) -> float:
        if not np.isfinite(value):
            value = delta
        return round(float(min(max(100 * sign * value / top, 0), 100)), 1)

    ends = sorted((share(low), share(high)))
    return Bar(share(delta), ends[0], ends[1], kind)


def largest(values: Any) -> float:
    return max((abs(v) for v in values if v is not None and np.isfinite(v)), default=0.0)


def named(row: Mapping[Any, Any]) -> Row:
    return {str(name): value for name, value in row.items()}


def number_at(row: Mapping[Any, Any], name: str) -> float:
    value = row.get(name)
    return float("nan") if empty(value) else float(str(value))


def empty(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def signed(value: float) -> str:
    """A difference with its sign, to three decimals."""
    if not np.isfinite(value):
        return ""
    return "0" if value == 0 else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def split_numbers(text: Any) -> list[float]:
    return [float(part) for part in str(text or "").split(",") if part] if text == text else []


def split_names(text: Any) -> list[Row]:
    names = dict.fromkeys(any_block(name) for name in str(text or "").split(",") if name)
    return [{"name": name, "shape": ""} for name in names] if text == text else []


def lines_of(row: Mapping[Any, Any]) -> list[int]:
    """Every line that a surgery touches."""
    touched = "" if empty(row.get("lines")) else str(row["lines"])
    numbers = [int(number) for number in re.findall(r"\d+", touched)]
    return numbers or [int(row["line"])]


def without(lines: Sequence[int]) -> str:
    """What was trained, where these lines were cut."""
    return "trained without it" if len(lines) == 1 else f"trained without {listed(lines)}"


def listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"


def diff_of(diff: Any, before: str, after: str) -> list[tuple[str, str]]:
    """An edit's lines, each with what becomes of it: ``-``, ``+`` or blank."""
    if isinstance(diff, str) and diff:
        lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
        if not lines:
            return []
        codes = textwrap.dedent("\n".join(line[1:] for line in lines)).split("\n")
        return [(line[:1], code) for line, code in zip(lines, codes, strict=True)]
    if not before and not after:
        return []
    return [("-", before), ("+", after or "(nothing)")]
