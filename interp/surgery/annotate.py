"""What does every line of a file do, beside the line?

A coverage report for effects: the source, and on each line a bar for what its headline surgery does
to the loss, layer by layer, with what became of it. Post hoc and retrained effects stand side by
side and are never merged.

    lines = annotated(source, study.posthoc(layers="each"))
    console.print(terminal(lines), no_wrap=True, overflow="crop")
    part = SourceView("The source", lines, posthoc)  # interp.report: the same for a page
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.text import Text

from interp.characters import visible
from interp.site import Site
from interp.surgery.rows import headlines, most_telling
from interp.surgery.syntax import Source, lines_of
from interp.verdicts import Verdict, verdict_of

BLOCKS = " ▁▂▃▄▅▆▇█"
# What stands in the place of a number where the loss alone does not tell.
MARKS = {
    "changed": "",
    "leak": "L",
    "nonfinite": "N",
    "mismatch": "≠",
    "equivalent": "=",
    "train-only": "T",
    "retrain-only": "R",
    "error": "E",
    "timeout": "…",
    "lost": "?",
    "scripted": "S",
    "imported": "I",
    "dead": "·",
}
EFFECT = ("delta", "ci_low", "ci_high", "p_adjusted", "n")
LEGEND = {
    "leak": "later tokens reach earlier logits",
    "nonfinite": "the loss is no number",
    "mismatch": "the line and its hook point disagree",
    "equivalent": "the same function",
    "train-only": "acts in training only",
    "retrain-only": "acts when a model is built",
    "error": "the model does not run without it",
    "timeout": "ended at its time limit",
    "lost": "the machine stopped it: not known",
    "scripted": "TorchScript runs it: not cut",
    "imported": "runs when the file is imported: not cut",
    "dead": "never ran",
}


def annotated(
    source: Source,
    posthoc: pd.DataFrame,
    retrained: pd.DataFrame | None = None,
    sites: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """One row per line of a file, with its headline surgery where it has one.

    Args:
        source: the file.
        posthoc: what ``Study.posthoc`` found.
        retrained: what ``Study.retrain`` found.
        sites: the hook points whose value a line of this file computes, by name.

    Returns:
        Columns ``line code`` and, where a surgery was made, ``surgery operator after reading status
        detail delta ci_low ci_high p_adjusted n layers layer_deltas``; where an intervention is the
        same cut, ``intervention hook hook_delta``; of the retrained ones ``retrained_delta
        retrained_ci_low retrained_ci_high retrained_p_adjusted retrained_n retrained_status``;
        ``sites``, comma-separated. NaN is what was not measured.
    """
    table = posthoc[posthoc["file"] == source.file]
    by_line = {row["line"]: row for row in headlines(table).to_dict("records")}
    trained = {} if retrained is None else retrained.set_index("surgery").to_dict("index")
    where: dict[int, list[str]] = {}
    for name, line in (sites or {}).items():
        where.setdefault(line, []).append(name)
    rows = []
    for number, code in enumerate(lines_of(source.text), 1):
        row = {"file": source.file, "line": number, "code": code.rstrip("\r\n")}
        found = by_line.get(number, {})
        texts = ("surgery", "operator", "after", "reading", "status", "detail")
        for name in (*texts, "intervention", "hook"):
            value = found.get(name)
            row[name] = value if isinstance(value, str) else ""
        for name in (*EFFECT, "hook_delta"):
            row[name] = found.get(name, np.nan)
        single = table[(table["surgery"] == row["surgery"]) & table["layer"].str.isdigit()]
        single = single.assign(number=single["layer"].astype(int)).sort_values("number")
        row["layers"] = ",".join(single["layer"])
        row["layer_deltas"] = ",".join(repr(float(delta)) for delta in single["delta"])
        again = trained.get(row["surgery"], {})
        for name in EFFECT:
            row[f"retrained_{name}"] = again.get(name, np.nan)
        row["retrained_status"] = again.get("status", "")
        row["sites"] = ",".join(where.get(number, []))
        rows.append(row)
    return pd.DataFrame(rows)


def by_site(posthoc: pd.DataFrame, sites: Mapping[str, int]) -> pd.DataFrame:
    """From a hook point to its line: one row per hook point, with what the line does.

    Args:
        posthoc: what ``Study.posthoc`` found for the file.
        sites: the lines of the file that compute the hook points' values, by name.

    Returns:
        Columns ``site layer line surgery status``; ``delta`` of the line's most telling surgery, in
        all layers, ``layer_delta`` in the hook point's alone; ``hook_delta``, what ``Zero()`` at
        the hook point does, where a surgery was the same cut. NaN is what was not measured.
    """
    by_line = most_telling(posthoc).set_index("line")
    of_layer = posthoc.drop_duplicates(["surgery", "layer"]).set_index(["surgery", "layer"])
    zeros = posthoc[(posthoc["intervention"] == "Zero") & ~posthoc["hook"].duplicated()]
    by_hook = zeros.set_index("hook")["hook_delta"]
    rows = []
    for name, line in sites.items():
        found: Any = by_line.loc[line] if line in by_line.index else {}
        layer = Site(name).layer
        alone = found.get("surgery", ""), str(layer)
        rows.append(
            {
                "site": name,
                "layer": "" if layer is None else str(layer),
                "line": line,
                "surgery": found.get("surgery", ""),
                "status": found.get("status", ""),
                "delta": found.get("delta", np.nan),
                "layer_delta": of_layer["delta"].get(alone, np.nan),
                "hook_delta": by_hook.get(name, np.nan),
            }
        )
    return pd.DataFrame(rows)


def sparkline(deltas: str) -> str:
    """Effects layer by layer as blocks, relative to the largest; ``x`` is no number."""
    values = [float(value) for value in deltas.split(",") if value]
    top = max((abs(value) for value in values if np.isfinite(value)), default=0.0)
    return "".join(
        "x"
        if not np.isfinite(value)
        else BLOCKS[round(abs(value) / top * (len(BLOCKS) - 1))]
        if top
        else BLOCKS[0]
        for value in values
    )


def terminal(lines: pd.DataFrame, width: int = 10) -> Text:
    """The annotated source for a terminal; lines without effect are left dim, a number in brackets
    is one for which no effect is shown, and one with a star has no interval.

    Columns that would be empty are left out. Print it with ``no_wrap=True, overflow="crop"``: one
    line of source is one line.
    """
    top = largest(lines)
    layers = max([6, *lines["layer_deltas"].map(lambda deltas: len(deltas.split(",")))])
    widths = {"by hook": 7, "layers": layers, "retrained": 9}
    filled = {
        "by hook": lines["hook_delta"].notna().any(),
        "layers": (lines["layer_deltas"] != "").any(),
        "retrained": lines["retrained_delta"].notna().any(),
    }
    kept = [name for name in widths if filled[name]]
    head = "".join(f"{name:>{widths[name]}} " for name in kept)
    text = Text(f"line     nats  {'':{width}} {head} source\n", style="bold")
    for row in lines.to_dict("records"):
        status, verdict = row["status"], verdict_of(row)
        quiet = status in ("", "dead", "equivalent") or verdict is Verdict.NOT_SHOWN
        shown = {
            "by hook": number(row["hook_delta"]),
            "layers": f"{sparkline(row['layer_deltas']):{layers}}",
            "retrained": judged_number(row, "retrained_"),
        }
        text.append(f"{row['line']:4d} {MARKS.get(status) or judged_number(row):>9} ", "not bold")
        color = "magenta" if status == "leak" else "yellow"
        text.append(f"{bar(row['delta'], top, width):{width}} ", f"not bold {color}")
        text.append("".join(f"{shown[name]:>{widths[name]}} " for name in kept), "not bold")
        text.append(f" {visible(row['code'])}\n", "not bold dim" if quiet else "not bold")
    marks = [f"{MARKS[status]} {meaning}" for status, meaning in LEGEND.items()]
    text.append("  ".join(["(+0.000) no effect shown", "+0.000* no interval", *marks]), "dim")
    return text


def judged_number(row: Mapping[Any, Any], kind: str = "") -> str:
    """An effect with its verdict: in brackets where none is shown, with a star where there is no
    interval."""
    delta, verdict = number(row[f"{kind}delta"]), verdict_of(row, kind)
    if verdict is Verdict.NOT_SHOWN and delta:
        return f"({delta})"
    return f"{delta}*" if verdict is Verdict.UNKNOWN and delta else delta


def largest(lines: pd.DataFrame) -> float:
    values = lines.loc[lines["status"].isin(["changed", "leak"]), "delta"].abs()
    return float(values.max()) if len(values) else 0.0


def number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:+.3f}"


def bar(value: float, top: float, width: int) -> str:
    if not np.isfinite(value) or not top:
        return ""
    return "█" * round(abs(value) / top * width)
