"""What does an experiment say of its effects, so that a page can rank them beside those of others?

A table with a row per effect:

| column      | holds                                                                       |
|-------------|-----------------------------------------------------------------------------|
| name        | what was cut: ``no_residual``, ``head 0.3``                                 |
| how         | ``cut before training``, ``set to zero in the trained model``               |
| way         | ``before training`` or ``in the trained model``: never merged               |
| line        | ``model.py:197 and 203``                                                    |
| code        | what stands there, or the edit                                              |
| delta       | nats                                                                        |
| verdict     | of ``interp.verdicts``                                                      |
| said        | the verdict in words                                                        |
| ci_low ci_high | its 95 % interval, NaN where there is none                               |
| n           | texts or seeds                                                              |
| interval    | in words, with what it is over: ``3 seeds: 95 % interval +0.118 to +0.170`` |
| also        | what the best loss says, where it is something else                         |
| also_delta  | nats, NaN where it says the same                                            |
| also_shown  | whether the best loss shows an effect                                       |
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.pages.summary import best_differs, counted, points_of, stopped
from experiments.support.variants import BASELINE
from interp.status import Status
from interp.verdicts import (
    FEWEST,
    Verdict,
    interval_words,
    verdict_of,
    verdict_words,
    verdicts_of,
)

COLUMNS = [
    *("name", "how", "way", "line", "code", "delta", "verdict", "said", "interval"),
    *("ci_low", "ci_high", "n", "also", "also_delta", "also_shown"),
]
BEFORE, AFTER = "before training", "in the trained model"
LEFT_OUT = f"left out of the pipeline {BEFORE}"
LARGEST = 3
NAMED = 6  # null results, before the rest is a count


def of_trainings(summary: pd.DataFrame, trainings: pd.DataFrame) -> pd.DataFrame:
    """The effects of cuts made before training, on the last loss, and on the best where that says
    something else; ``summarise``'s table and ``trainings_of``'s."""
    trained = summary[summary["status"].isin([Status.CHANGED, Status.UNCHECKED])]
    rows = trained[(trained["variant"] != BASELINE) & trained["delta"].notna()]
    return pd.DataFrame(
        [
            {
                "name": row["variant"],
                "how": "cut before training" + (f" ({stopped(row)})" if stopped(row) else ""),
                "way": BEFORE,
                "line": place_of_cut(row),
                "code": code_of_cut(row),
                "delta": row["delta"],
                "verdict": verdict_of(row),
                "said": verdict_words(row),
                "interval": interval_over_seeds(row, trainings, ""),
                **{name: row[name] for name in ("ci_low", "ci_high", "n")},
                **best_columns(row, trainings),
            }
            for row in rows.to_dict("records")
        ],
        columns=COLUMNS,
    )


def best_columns(row: Mapping[Any, Any], trainings: pd.DataFrame) -> dict[str, Any]:
    if not best_differs(row):
        return {"also": "", "also_delta": math.nan, "also_shown": False}
    return {
        "also": f"by the best loss of each training {row['best_delta']:+.3f} nats "
        f"({interval_over_seeds(row, trainings, 'best_')}): {verdict_words(row, 'best_')}",
        "also_delta": row["best_delta"],
        "also_shown": verdict_of(row, "best_").is_effect,
    }


def interval_over_seeds(row: Mapping[Any, Any], trainings: pd.DataFrame, kind: str) -> str:
    points = points_of(trainings, row["variant"], kind)
    return f"{counted(row)}: {interval_words(row, kind, points)}"


def of_trained_model(table: pd.DataFrame, names: pd.Series, how: pd.Series) -> pd.DataFrame:
    """The effects of ablations of the trained model; a table of ``interp.sweep``."""
    places = table["file"].map(lambda file: Path(file).name) + ":" + table["line"].astype(str)
    return shown_effects(table, names, how + f" {AFTER}", AFTER, places, table["code"], "text")


def of_surgeries(
    table: pd.DataFrame, way: str, counted: str, trainings: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The effects of surgeries, one row for each, as ``interp.surgery.study`` gives them.

    Args:
        counted: what ``n`` counts: text or seed.
        trainings: those of cuts made before training, columns surgery and delta.
    """
    places = table["file"] + ":" + table["line"].astype(str)
    code = table["code"] + " → " + table["after"]
    how = pd.Series(f"cut {way}", table.index)
    return shown_effects(table, places, how, way, places, code, counted, trainings)


def of_damage_of_variants(damage: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """What the cuts of variants do to the trained model, named as the variants are.

    Args:
        damage: of a study of the trained model, with a column variant.
        summary: ``summarise``'s table of the variants.
    """
    measured = damage[(damage["status"] == Status.CHANGED) & damage["delta"].notna()]
    if measured.empty:
        return pd.DataFrame(columns=COLUMNS)
    rows = summary.set_index("variant").loc[measured["variant"]].to_dict("records")
    places = pd.Series([place_of_cut(row) for row in rows], measured.index)
    code = pd.Series([code_of_cut(row) for row in rows], measured.index)
    how = pd.Series(f"cut {AFTER}", measured.index)
    return shown_effects(measured, measured["variant"], how, AFTER, places, code, "text")


def place_of_cut(row: Mapping[Any, Any]) -> str:
    """File and lines of a variant's cut."""
    return f"{row['file']}:{' and '.join(map(str, row['lines']))}"


def code_of_cut(row: Mapping[Any, Any]) -> str:
    """What a variant's cut makes of each of its lines."""
    return "; ".join(map(" → ".join, zip(row["before"], row["after"], strict=True)))


def of_failures(retrained: pd.DataFrame) -> list[str]:
    """A sentence for each surgery that did not train to a loss with every seed."""
    return [
        f"Trained with the cut {row['surgery']} ({row['code'].strip()} → {row['after'].strip()}), "
        f"the model did not come to a loss with every seed ({row['detail'] or row['status']}): the "
        "lasting cost of that cut is not known."
        for row in retrained[retrained["delta"].isna()].to_dict("records")
    ]


def shown_effects(
    table: pd.DataFrame,
    names: pd.Series,
    how: pd.Series,
    way: str,
    places: pd.Series,
    code: pd.Series,
    counted: str,
    trainings: pd.DataFrame | None = None,
) -> pd.DataFrame:
    rows = table.to_dict("records")
    points: dict[Any, list[float]] = {}
    if trainings is not None:
        points = {cut: list(one["delta"]) for cut, one in trainings.groupby("surgery")}
    return pd.DataFrame(
        {
            "name": names,
            "how": how,
            "way": way,
            "line": places,
            "code": code,
            "delta": table["delta"],
            "ci_low": table["ci_low"],
            "ci_high": table["ci_high"],
            "n": table["n"],
            "verdict": verdicts_of(table),
            "said": [verdict_words(row) for row in rows],
            "interval": [
                f"{int(row['n'])} {counted}{'s' if row['n'] > 1 else ''}: "
                + interval_words(row, points=points.get(row.get("surgery"), ()))
                for row in rows
            ],
            "also": "",
            "also_delta": math.nan,
            "also_shown": False,
        },
        columns=COLUMNS,
    )


def tell(effects: pd.DataFrame) -> list[str]:
    """The largest effect of each way first; then the next ones in a sentence each, whatever lowers
    the loss, what is not known to be more than noise, and for which cuts no effect is shown."""
    first, rest_said = [], []
    for way, rows in effects.groupby("way", sort=False):
        by_last = rows["verdict"].isin([Verdict.RAISES, Verdict.LOWERS])
        best_only = ~by_last & rows["also_shown"]
        size = rows["delta"].abs().where(~best_only, rows["also_delta"].abs())
        order = size.sort_values(ascending=False, kind="stable").index
        ranked = rows.loc[order]
        found = ranked[(by_last | best_only).loc[order]]
        found = found.drop_duplicates(["name", "line"])
        rest = found.iloc[LARGEST:]
        better = rest[rest["delta"] < 0].head(LARGEST)
        said = [effect_sentence(row) for row in [*records(found.head(LARGEST)), *records(better)]]
        unknown = ranked[ranked["verdict"] == Verdict.UNKNOWN]
        unknown = unknown.drop_duplicates(["name", "line"]).head(LARGEST)
        said += [effect_sentence(row) for row in records(unknown)]
        null = rows[(rows["verdict"] == Verdict.NOT_SHOWN) & ~best_only]
        if len(null):
            left_out = (rows["how"] == LEFT_OUT).all()
            what = ("steps", LEFT_OUT) if left_out else ("cuts", str(way))
            said.append(no_effect_shown(*what, null, len(rows)))
        first += said[:1]
        rest_said += said[1:]
    return first + rest_said


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def effect_sentence(row: Mapping[Any, Any]) -> str:
    """An effect in words."""
    size = f"changes the loss by {row['delta']:+.3f} nats"
    if Verdict(row["verdict"]).is_effect:
        size = f"{row['verdict']} by {abs(row['delta']):.3f} nats"
    elif row["verdict"] == Verdict.NOT_SHOWN:
        size += f", {row['said']}"
    name = row["name"]
    if not name.startswith(row["line"]):
        name += f" ({row['line']})"
    also = f"; {row['also']}" if row["also"] else ""
    return f"{name}, {row['how']}, {size} ({row['interval']}){also}: {row['code']}."


def no_effect_shown(what: str, way: str, null: pd.DataFrame, count: int) -> str:
    """What was cut or left out, and is not known to change anything."""
    if len(null) > NAMED:
        return f"Of {count} {what} {way}, {len(null)} show no effect."
    names = []
    for row in records(null):
        why = str(row["said"]).removeprefix(Verdict.NOT_SHOWN).removeprefix(": ")
        about = [f"{row['delta']:+.3f} nats", row["interval"], why, row["also"]]
        names.append(f"{row['name']} ({'; '.join(part for part in about if part)})")
    done = way if way == LEFT_OUT else f"cut {way}"
    return f"No effect shown, {done}: {'; '.join(names)}."


def limits_of_trainings(summary: pd.DataFrame) -> list[str]:
    """What some trainings leave open."""
    fewest, detectable = int(summary["n"].min()), summary["detectable"].iloc[0]
    said = [
        f"Fewer than {FEWEST} seeds for a cut have no interval: no difference is known to be more "
        "than noise."
        if math.isnan(detectable)
        else f"{fewest} seeds for each cut: a difference in last loss of {detectable:.3f} nats is "
        "found in 80 % of repetitions, a smaller one less often."
    ]
    said.append(
        "Differences are of the last validation loss, and of the best where that says something "
        "else; p-values are corrected for the number of cuts (Holm), intervals are not."
    )
    whole = summary.iloc[0].to_dict()
    if stopped(whole):
        said.append(
            f"Trainings were {stopped(whole)}: the last loss is that of this step, on the way of "
            "the whole schedule."
        )
    cuts = summary[summary["variant"] != BASELINE]
    for status, meaning in (
        (Status.UNCHECKED, "Not checked for leaks of later tokens"),
        (Status.LEAK, "Seeing the tokens that are to be predicted, so that the loss means nothing"),
        (Status.NONFINITE, "With a loss that is no number"),
        (Status.ERROR, "Not to be trained"),
        (Status.LOST, "Lost by the machine, so that nothing is known"),
    ):
        if names := list(cuts.loc[cuts["status"] == status, "variant"]):
            said.append(f"{meaning}: {', '.join(names)}.")
    return said
