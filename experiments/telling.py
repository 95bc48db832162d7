"""What does an experiment say of its effects, so that a page can rank them beside those of others?

A table with a row per effect:

| column                  | holds                                                            |
|-------------------------|------------------------------------------------------------------|
| name                    | what was cut: ``no_residual``, ``head 0.3``                      |
| how                     | ``cut before training``, ``set to zero in the trained model``    |
| way                     | ``before training`` or ``in the trained model``: never merged    |
| line                    | ``model.py:189 and 195``                                         |
| code                    | what stands there, or the edit                                   |
| delta ci_low ci_high    | nats; the ends are NaN where there is no interval                |
| sure                    | whether it can be told from noise                                |
| n                       | ``3 seeds``, ``128 texts``                                       |
"""

import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.variants import BASELINE

COLUMNS = ["name", "how", "way", "line", "code", "delta", "ci_low", "ci_high", "sure", "n"]
BEFORE, AFTER = "before training", "in the trained model"
LARGEST = 3
NAMED = 6  # null results, before the rest is a count
LABEL = re.compile(r"^(?P<file>[^\s:]+):(?P<line>\d+)  (?P<code>.*)$", re.MULTILINE)


def of_trainings(summary: pd.DataFrame) -> pd.DataFrame:
    """The effects of cuts made before training, on the last loss; ``summarise``'s table."""
    trained = summary[summary["status"].isin(["changed", "unchecked"])]
    rows = trained[(trained["variant"] != BASELINE) & trained["delta"].notna()]
    return pd.DataFrame(
        [
            {
                "name": row["variant"],
                "how": "cut before training",
                "way": BEFORE,
                "line": lines_named(row["label"]),
                "code": "; ".join(found["code"] for found in LABEL.finditer(row["label"])),
                "delta": row["delta"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "sure": row["p_adjusted"] < 0.05,
                "n": f"{row['n']} seed{'s' if row['n'] > 1 else ''}",
            }
            for row in rows.to_dict("records")
        ],
        columns=COLUMNS,
    )


def of_trained_model(table: pd.DataFrame, names: pd.Series, how: pd.Series) -> pd.DataFrame:
    """The effects of ablations of the trained model; a table of ``interp.sweep``."""
    return pd.DataFrame(
        {
            "name": names,
            "how": how + f" {AFTER}",
            "way": AFTER,
            "line": table["file"].map(lambda file: Path(file).name)
            + ":"
            + table["line"].astype(str),
            "code": table["code"],
            "delta": table["delta"],
            "ci_low": table["ci_low"],
            "ci_high": table["ci_high"],
            "sure": table["p_adjusted"] < 0.05,
            "n": table["n"].astype(str) + " texts",
        },
        columns=COLUMNS,
    )


def of_surgeries(table: pd.DataFrame, way: str, counted: str) -> pd.DataFrame:
    """The effects of surgeries, one row for each, as ``interp.surgery.study`` gives them."""
    places = table["file"] + ":" + table["line"].astype(str)
    return pd.DataFrame(
        {
            "name": places,
            "how": f"cut {way}",
            "way": way,
            "line": places,
            "code": table["code"] + " → " + table["after"],
            "delta": table["delta"],
            "ci_low": table["ci_low"],
            "ci_high": table["ci_high"],
            "sure": (table["ci_low"] > 0) | (table["ci_high"] < 0),
            "n": table["n"].astype(int).astype(str) + f" {counted}",
        },
        columns=COLUMNS,
    )


def lines_named(label: str) -> str:
    """``model.py:189 and 195``, of a label with a line for each place."""
    places: dict[str, list[str]] = {}
    for found in LABEL.finditer(label):
        places.setdefault(found["file"], []).append(found["line"])
    return ", ".join(f"{file}:{' and '.join(lines)}" for file, lines in places.items())


def lines_of(label: str) -> list[int]:
    return [int(found["line"]) for found in LABEL.finditer(label)]


def parted(label: str) -> tuple[str, str]:
    """The code before and after, of a label with a line for each place."""
    edits = [found["code"].partition(" → ") for found in LABEL.finditer(label)]
    return "\n".join(edit[0] for edit in edits), "\n".join(edit[2] for edit in edits)


def told(effects: pd.DataFrame) -> list[str]:
    """The largest effects in a sentence each, whatever lowers the loss, and what cannot be told
    from noise."""
    said = []
    for way, rows in effects.groupby("way", sort=False):
        sure = rows[rows["sure"] | rows["ci_low"].isna()]
        largest = sure.loc[sure["delta"].abs().sort_values(ascending=False).index]
        largest = largest.drop_duplicates(["name", "line"])
        better = largest[LARGEST:][lambda rest: rest["delta"] < 0].head(LARGEST)
        shown = pd.concat([largest.head(LARGEST), better])
        said += [sentence(row) for row in shown.to_dict("records")]
        null = rows[~rows["sure"] & rows["ci_low"].notna()]
        beyond = (null["ci_low"] > 0) | (null["ci_high"] < 0)
        for unclear, what in (
            (null[beyond], f"might be chance among {len(rows)} cuts, for all their intervals"),
            (null[~beyond], "cannot be told from no change"),
        ):
            if len(unclear):
                said.append(nothing_found(str(way), unclear, len(rows), what))
    return said


def sentence(row: Mapping[Hashable, Any]) -> str:
    """An effect in words."""
    verb = "costs" if row["delta"] >= 0 else "lowers the loss by"
    size = f"{row['delta']:+.3f}" if row["delta"] >= 0 else f"{-row['delta']:.3f}"
    interval = (
        f"{row['n']}, no interval"
        if math.isnan(row["ci_low"])
        else f"95 % interval {row['ci_low']:+.3f} to {row['ci_high']:+.3f}; {row['n']}"
    )
    name = row["name"]
    if not name.startswith(row["line"]):
        name += f" ({row['line']})"
    return f"{name}, {row['how']}, {verb} {size} nats ({interval}): {row['code']}."


def nothing_found(way: str, null: pd.DataFrame, count: int, what: str) -> str:
    """What was cut, and is not known to change anything; ``what`` says why."""
    if len(null) > NAMED:
        return f"Of {count} cuts {way}, {len(null)} {what}."
    names = [
        f"{row['name']} ({row['delta']:+.3f} nats, {row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
        for row in null.to_dict("records")
    ]
    return f"Cut {way}, these {what}: {'; '.join(names)}."


def limits_of_trainings(summary: pd.DataFrame) -> list[str]:
    """What some trainings leave open."""
    fewest, detectable = int(summary["n"].min()), summary["detectable"].iloc[0]
    said = [
        "One seed for each cut: no difference is known to be more than noise."
        if fewest < 2
        else f"{fewest} seeds for each cut: a difference in last loss below about "
        f"{detectable:.3f} nats would not be found four times in five."
    ]
    said.append(
        "Differences are of the last validation loss; p-values are corrected for the number of "
        "cuts (Holm), intervals are not."
    )
    cuts = summary[summary["variant"] != BASELINE]
    for status, meaning in (
        ("unchecked", "Not checked for leaks of later tokens"),
        ("leak", "Seeing the tokens that are to be predicted, so that the loss means nothing"),
        ("nonfinite", "With a loss that is no number"),
        ("error", "Not to be trained"),
    ):
        if names := list(cuts.loc[cuts["status"] == status, "variant"]):
            said.append(f"{meaning}: {', '.join(names)}.")
    return said
