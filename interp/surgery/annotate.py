"""What does every line of a file do, beside the line?

A coverage report for effects: the source, and on each line a bar for what its headline surgery does
to the loss, layer by layer, with what became of it. Post hoc and retrained effects stand side by
side and are never merged.

    lines = annotated(source, study.posthoc(layers="each"))
    console.print(terminal(lines, console.width))
    part = SourceView("The source", lines, posthoc)  # interp.report: the same for a page
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.code_text import lines_of
from interp.site import Site
from interp.surgery.judging.rows import headlines, most_telling
from interp.surgery.source.syntax import Source

EFFECT = ("delta", "ci_low", "ci_high", "p_adjusted", "n")


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
        detail delta ci_low ci_high p_adjusted n``; where an intervention is the
        same cut, ``intervention hook hook_delta``; of the retrained ones ``retrained_delta
        retrained_ci_low retrained_ci_high retrained_p_adjusted retrained_n retrained_status``;
        ``sites``, a tuple of names. NaN is what was not measured.
    """
    table = posthoc[posthoc["file"] == source.file]
    by_line = {row["line"]: row for row in headlines(table).to_dict("records")}
    trained = {} if retrained is None else retrained.set_index("surgery").to_dict("index")
    computed: dict[int, list[str]] = {}
    for name, line in (sites or {}).items():
        computed.setdefault(line, []).append(name)
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
        again = trained.get(row["surgery"], {})
        for name in EFFECT:
            row[f"retrained_{name}"] = again.get(name, np.nan)
        row["retrained_status"] = again.get("status", "")
        row["sites"] = tuple(computed.get(number, ()))
        rows.append(row)
    return pd.DataFrame(rows)


def by_layer(posthoc: pd.DataFrame) -> pd.DataFrame:
    """What each surgery does in one layer alone: ``surgery layer delta``, layers in order."""
    single = posthoc[posthoc["layer"].astype(str).str.isdigit()]
    single = single.assign(layer=single["layer"].astype(int))
    kept = single[["surgery", "layer", "delta"]].drop_duplicates(["surgery", "layer"])
    return kept.sort_values(["surgery", "layer"], kind="stable", ignore_index=True)


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
