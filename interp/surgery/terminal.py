"""What does every line do, for a terminal of any width?

console.print(terminal(lines, by_layer(posthoc), console.width))
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.text import Text

from interp.characters import visible
from interp.code_text import one_line
from interp.status import MARKS, MEANINGS, Status
from interp.verdicts import Verdict, verdict_of

BLOCKS = " ▁▂▃▄▅▆▇█"
BAR = 10  # characters of the longest bar
INDENT = " " * 6


def terminal(lines: pd.DataFrame, layers: pd.DataFrame, width: int = 80) -> Text:
    """The lines with an effect, two rows each: the numbers and the cut's id, then the code and what
    becomes of it. Of all others, how many there are and why. Nothing is cut off.

    A number in brackets is one for which no effect is shown, one with a star has no interval.

    Args:
        lines: what ``annotated`` gives.
        layers: what ``by_layer`` gives.
        width: of the terminal, in characters.
    """
    shown = [row for row in lines.to_dict("records") if is_shown(row)]
    top = max((abs(row["delta"]) for row in shown if np.isfinite(row["delta"])), default=0.0)
    alone = {cut: list(rows["delta"]) for cut, rows in layers.groupby("surgery")}
    wide = max([6, *map(len, alone.values())])
    lasting = any(np.isfinite(row["retrained_delta"]) for row in shown)
    text = Text()
    cost_head = f"{'lasting':>10} " if lasting else ""
    text.append(f"line {'damage':>10} {cost_head}{'layers':>{wide}} {'':{BAR}} cut\n", "bold")
    for row in shown:
        damage = f"{judged_number(row)} {MARKS.get(row['status'], '')}".strip()
        cost = f"{judged_number(row, 'retrained_'):>10} " if lasting else ""
        text.append(f"{row['line']:4d} {damage:>10} {cost}")
        text.append(f"{sparkline(alone.get(row['surgery'], [])):>{wide}} ")
        text.append(f"{bar(row['delta'], top):{BAR}}", "magenta" if leaks(row) else "yellow")
        cut = visible(row["surgery"])
        narrow = len(text.plain.rpartition("\n")[2]) + len(cut) >= width
        text.append(f"\n{INDENT}{cut}\n" if narrow else f" {cut}\n", "bold")
        code = f"{visible(one_line(row['code']))} → {visible(row['after'].strip())}"
        text.append(textwrap.fill(code, width, initial_indent=INDENT, subsequent_indent=INDENT))
        text.append("\n")
    text.append(textwrap.fill(legend(lines, shown), width), "dim")
    return text


def is_shown(row: Mapping[Any, Any]) -> bool:
    """Whether a line has an effect, or might."""
    damage, cost = verdict_of(row), verdict_of(row, "retrained_")
    measured = row["status"] != "" and Status(row["status"]).has_effect
    unknown = measured and damage is Verdict.UNKNOWN
    return damage.is_effect or cost.is_effect or unknown


def legend(lines: pd.DataFrame, shown: list[dict[Any, Any]]) -> str:
    """What the marks mean, and what became of the lines that are not shown."""
    seen_lines = {(row["file"], row["line"]) for row in shown}
    known = [place in seen_lines for place in zip(lines["file"], lines["line"], strict=True)]
    others = lines[~np.array(known, bool) & (lines["status"] != "")]
    counts = [
        f"{count} {MEANINGS.get(str(status), 'no effect shown')}"
        for status, count in others["status"].value_counts().items()
    ]
    seen = {row["status"] for row in shown}
    said = ["nats, with the cut less without", "(+0.000): no effect shown", "+0.000*: no interval"]
    said += [f"{MARKS[status]}: {MEANINGS[status]}" for status in MEANINGS if status in seen]
    return "; ".join(said) + "." + (f" Other lines: {', '.join(counts)}." if counts else "")


def sparkline(values: Sequence[float]) -> str:
    """Effects layer by layer as blocks, relative to the largest; ``x`` is no number."""
    top = max((abs(value) for value in values if np.isfinite(value)), default=0.0)
    return "".join(
        "x"
        if not np.isfinite(value)
        else BLOCKS[round(abs(value) / top * (len(BLOCKS) - 1))]
        if top
        else BLOCKS[0]
        for value in values
    )


def judged_number(row: Mapping[Any, Any], kind: str = "") -> str:
    """An effect with its verdict: in brackets where none is shown, with a star where there is no
    interval."""
    delta, verdict = number_cell(row[f"{kind}delta"]), verdict_of(row, kind)
    if verdict is Verdict.NOT_SHOWN and delta:
        return f"({delta})"
    return f"{delta}*" if verdict is Verdict.UNKNOWN and delta else delta


def leaks(row: Mapping[Any, Any]) -> bool:
    return bool(row["status"] == Status.LEAK)


def number_cell(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:+.3f}"


def bar(value: float, top: float) -> str:
    if not np.isfinite(value) or not top:
        return ""
    return "█" * round(abs(value) / top * BAR)
