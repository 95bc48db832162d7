"""What stands on the first screen of a page of some runs?

first, rest = first_screen(effects, parts)
page = Page(..., parts=rest, first=first)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from experiments.support.pages.telling import AFTER, BEFORE
from interp.report import Figure, Part, Section
from interp.report.first_screen import CutEffect, Finding, FirstScreen
from interp.verdicts import Verdict

EACH = 4  # findings in the trained model, and before training
LONGEST = 90  # characters of code


def first_screen(
    effects: pd.DataFrame | None, parts: Sequence[Part]
) -> tuple[FirstScreen, list[Part]]:
    """The first figure of the parts and the largest effects of all runs; and the parts without
    that figure: nothing is shown twice."""
    figure, rest = first_figure(parts)
    if effects is None:
        return FirstScreen(figure), rest
    return FirstScreen(figure, largest(effects), counted_over(effects)), rest


def first_figure(parts: Sequence[Part]) -> tuple[Figure | None, list[Part]]:
    """The first figure of some parts, and the parts without it."""
    for place, part in enumerate(parts):
        if isinstance(part, Section) and part.figures:
            rest = replace(part, figures=part.figures[1:])
            return part.figures[0], [*parts[:place], rest, *parts[place + 1 :]]
    return None, list(parts)


def largest(effects: pd.DataFrame) -> list[Finding]:
    """The cuts of the largest effects, each once; those for which none is shown are left out."""
    kept = effects[effects["verdict"] != Verdict.NOT_SHOWN]
    kept = kept.loc[kept["delta"].abs().sort_values(ascending=False, kind="stable").index]
    firsts = kept.drop_duplicates(["way", "line", "code"]).groupby("way", sort=False).head(EACH)
    chosen = set(zip(firsts["line"], firsts["code"], strict=True))
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in kept.to_dict("records"):
        key = row["line"], row["code"]
        if key not in chosen:
            continue
        named = not str(row["name"]).startswith(row["line"])
        about = {"line": row["line"], "code": shorten_code(row["code"])}
        one = found.setdefault(key, about | {"name": str(row["name"]) if named else ""})
        effect = CutEffect(row["delta"], row["ci_low"], row["ci_high"], Verdict(row["verdict"]))
        one.setdefault("damage" if row["way"] == AFTER else "cost", effect)
    return [Finding(**one) for one in found.values()]


def counted_over(effects: pd.DataFrame) -> str:
    """What the intervals are over."""
    said = []
    for way, what, counted in ((AFTER, "damage", "texts"), (BEFORE, "lasting cost", "seeds")):
        counts = effects.loc[effects["way"] == way, "n"]
        if len(counts):
            said.append(f"{what} over {int(counts.max())} {counted}")
    return f"95 % intervals: {', '.join(said)}" if said else ""


def shorten_code(code: str) -> str:
    return code if len(code) <= LONGEST else f"{code[: LONGEST - 1]}…"
