"""What do the curves of several variants and seeds amount to?"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.cli import print_table
from experiments.support.variants import BASELINE
from gpt.errors import UsageError
from interp import stats
from interp.status import Status
from interp.verdicts import (
    FEWEST,
    Verdict,
    compare_seeds,
    correct,
    interval_words,
    spread_of,
    verdict_of,
    verdict_words,
)

ON_THE_LINE = 0.03
"""Nats within which a loss counts as that of an n-gram model."""
CUT = ("label", "file", "lines", "before", "after")  # what a table of curves says of a variant
KINDS = {"best_": "best", "": "last"}  # what stands before a column's name, and the loss it is of
WORST_FIRST = (
    Status.LOST,
    Status.ERROR,
    Status.NONFINITE,
    Status.LEAK,
    Status.UNCHECKED,
    Status.CHANGED,
)


def trainings_of(curves: pd.DataFrame, baseline: str = BASELINE) -> pd.DataFrame:
    """One row per variant and seed: what each training came to.

    Returns:
        ``variant surgery seed status``; ``step``, that of the last evaluation; ``best`` and
        ``last``, validation losses in nats per token, NaN where the training made a NaN; and
        ``best_delta`` and ``delta``, these less the mean of the model as it is. The order is that
        in which the variants stand in the curves, and of the seeds.

    Raises:
        UsageError: the model as it is is not among the variants; two losses of one step.
    """
    val = curves[curves["split"] == "val"]
    if baseline not in set(val["variant"]):
        raise UsageError(f"the curves are not of {baseline}: there is nothing to compare with")
    if val.duplicated(["variant", "seed", "step"]).any():
        raise UsageError("the curves have two validation losses of one training at one step")
    names = list(val["variant"].drop_duplicates())
    rows = []
    for (variant, seed), curve in val.groupby(["variant", "seed"]):
        ordered = curve.sort_values("step")
        losses = ordered["loss"].to_numpy(dtype=float)
        rows.append(
            {
                "variant": variant,
                "surgery": ordered.get("surgery", pd.Series("", ordered.index)).iloc[0],
                "seed": seed,
                "status": worst_status(ordered),
                "step": int(ordered["step"].iloc[-1]),
                "best": losses.min(),  # NaN if any is
                "last": losses[-1],
            }
        )
    table = pd.DataFrame(rows).sort_values(
        ["variant", "seed"],
        key=lambda column: column.map(names.index) if column.name == "variant" else column,
        ignore_index=True,
    )
    whole = table[table["variant"] == baseline]
    for kind, loss in KINDS.items():
        table[f"{kind}delta"] = table[loss] - whole[loss].to_numpy().mean()
    return table


def summarise(
    curves: pd.DataFrame, steps: int | None = None, baseline: str = BASELINE
) -> pd.DataFrame:
    """One row per variant: best and last val loss, and their differences to the unablated model.

    All losses in nats per token. ``sd`` is the spread over seeds. Intervals and p-values are those
    of ``interp.verdicts.compare_seeds``: Welch's, unpaired, from three seeds on; ``p_adjusted`` is
    Holm's over the variants, of best and of last loss each. ``detectable`` and ``best_detectable``
    are the smallest differences that as many seeds as the variant of fewest has would find in 80 %
    of repetitions, from the baseline's spread; fewer than three find none.

    ``steps_to_baseline`` is the second outcome: the mean step at which a variant's seeds came down
    to the loss that every baseline seed reached, by straight lines between evaluations;
    ``reached`` says how many of them did.

    ``status`` is the worst of a variant's trainings; one that failed or is not finite has no
    differences. ``step`` is that of the last evaluation, ``steps`` that of the whole schedule.

    Args:
        curves: ``variant seed step split loss status``, and of each variant the columns ``CUT``.
        steps: of the whole schedule, where the trainings may have been stopped before its end.
        baseline: the variant that the others are compared with.
    """
    trainings = trainings_of(curves, baseline)
    val = curves[curves["split"] == "val"].sort_values(["seed", "step"])
    whole = trainings[trainings["variant"] == baseline]
    target = whole["best"].to_numpy().max()
    rows = []
    for variant, trained in trainings.groupby("variant", sort=False):
        described = val[val["variant"] == variant]
        to_target = [steps_to(target, curve) for _, curve in described.groupby("seed")]
        there = [step for step in to_target if not math.isnan(step)]
        row: dict[str, Any] = {
            "variant": variant,
            **described[[*CUT]].iloc[0],
            "n": len(trained),
            "best": trained["best"].to_numpy().mean(),
            "last": trained["last"].to_numpy().mean(),
            "best_sd": spread_of(trained["best"]),
            "last_sd": spread_of(trained["last"]),
            "steps_to_baseline": float(np.mean(there)) if there else math.nan,
            "reached": len(there),
            "status": worst_status(trained),
            "step": int(trained["step"].max()),
            "steps": steps or int(trainings["step"].max()),
        }
        for kind, loss in KINDS.items():
            found = compare_seeds(trained[loss], whole[loss])
            if variant == baseline:
                found |= {"ci_low": math.nan, "ci_high": math.nan, "p": math.nan}
            row |= {f"{kind}{name}": value for name, value in found.items()}
        rows.append(row)
    table = pd.DataFrame(rows)
    for kind, loss in KINDS.items():
        table = correct(table, kind)
        spread = spread_of(whole[loss])
        table[f"{kind}detectable"] = detectable(spread, int(table["n"].min()))
    order = table["variant"] != baseline
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def detectable(spread: float, seeds: int) -> float:
    """The smallest difference that so many seeds find in 80 % of repetitions; NaN where they are
    too few to find any."""
    if seeds < FEWEST or math.isnan(spread):
        return math.nan
    return float(stats.minimum_detectable_effect(spread, seeds))


def steps_to(target: float, curve: pd.DataFrame) -> float:
    """The step at which a curve comes down to a loss, by straight lines; NaN where it never does.

    Args:
        curve: one training's evaluations on one split, in the order of their steps.
    """
    steps, losses = curve["step"].to_numpy(dtype=float), curve["loss"].to_numpy()
    below = np.flatnonzero(losses <= target)
    if len(below) == 0:
        return math.nan
    at = int(below[0])
    if at == 0 or not math.isfinite(losses[at - 1]):
        return float(steps[at])
    share = (losses[at - 1] - target) / (losses[at - 1] - losses[at])
    return float(steps[at - 1] + share * (steps[at] - steps[at - 1]))


def worst_status(rows: pd.DataFrame) -> str:
    if "status" not in rows:
        return Status.UNCHECKED
    return min(rows["status"], key=WORST_FIRST.index)


def improvements(summary: pd.DataFrame) -> list[str]:
    """The variants whose best or last loss is shown to be below the unablated model's, and that
    see no later tokens."""
    return [
        row["variant"]
        for row in summary.to_dict("records")
        if Verdict.LOWERS in (verdict_of(row), verdict_of(row, "best_"))
    ]


def best_differs(row: Mapping[Any, Any]) -> bool:
    """Whether the best loss of each training says something else than the last one: another
    verdict, an interval apart, or, where nothing is known, another number."""
    last, best = verdict_of(row), verdict_of(row, "best_")
    if last is best is Verdict.UNKNOWN:
        return bool(abs(row["best_delta"] - row["delta"]) >= 5e-4)  # as both are printed
    apart = row["best_ci_low"] > row["ci_high"] or row["ci_low"] > row["best_ci_high"]
    return last is not best or bool(apart)


def stopped(row: Mapping[Any, Any]) -> str:
    """Where a run was stopped before the end of its schedule, in words; empty for a whole one."""
    if row["step"] >= row["steps"] or row["status"] == Status.ERROR:
        return ""
    return f"stopped at step {row['step']} of {row['steps']}"


def points_of(trainings: pd.DataFrame, variant: str, kind: str = "") -> list[float]:
    """The difference of each seed of a variant."""
    return list(trainings.loc[trainings["variant"] == variant, f"{kind}delta"])


def shown(summary: pd.DataFrame, trainings: pd.DataFrame) -> pd.DataFrame:
    """The summary as people read it: losses with their spread, differences with their interval, or
    seed by seed where there is none."""

    def spread(row: Mapping[Any, Any], loss: str) -> str:
        several = row["n"] >= FEWEST and not math.isnan(row[f"{loss}_sd"])
        return f"{row[loss]:.3f}" + (f" ± {row[f'{loss}_sd']:.3f}" if several else "")

    def difference(row: Mapping[Any, Any], kind: str) -> str:
        if row["variant"] == BASELINE or math.isnan(row[f"{kind}delta"]):
            return ""
        low, high = row[f"{kind}ci_low"], row[f"{kind}ci_high"]
        within = f"{low:+.3f} to {high:+.3f}"
        if math.isnan(low):
            points = points_of(trainings, row["variant"], kind)
            within = ", ".join(f"{point:+.3f}" for point in points if len(points) > 1)
        return f"{row[f'{kind}delta']:+.3f}" + (f" ({within})" if within else "")

    def verdict(row: Mapping[Any, Any]) -> str:
        if row["variant"] == BASELINE or math.isnan(row["delta"]):
            return ""
        last, best = verdict_of(row), verdict_of(row, "best_")
        return str(last) if last is best else f"best: {best}; last: {last}"

    rows = [
        {
            "variant": row["variant"],
            "seeds": row["n"],
            "best val": spread(row, "best"),
            "last val": spread(row, "last"),
            "best, against none": difference(row, "best_"),
            "last, against none": difference(row, ""),
            "verdict": verdict(row),
            "p of best, last (Holm)": ", ".join(
                f"{row[p]:.2g}" for p in ("best_p_adjusted", "p_adjusted") if not math.isnan(row[p])
            ),
            "reaches none's loss at": (
                f"step {row['steps_to_baseline']:.0f} ({row['reached']} of {row['n']})"
                if row["reached"]
                else "never"
            ),
            "last step": f"{row['step']} of {row['steps']}",
            "status": row["status"],
        }
        for row in summary.to_dict("records")
    ]
    table = pd.DataFrame(rows)
    whole = not any(stopped(row) for row in summary.to_dict("records"))
    return table.drop(columns="last step") if whole else table


def print_summary(summary: pd.DataFrame, trainings: pd.DataFrame) -> None:
    """On the terminal, what most will want to know; the page has every column."""
    table = shown(summary, trainings)
    columns = ["variant", "seeds", "last val", "last, against none", "verdict"]
    if set(table["status"]) != {Status.CHANGED}:
        columns.append("status")
    print_table(table[columns])


def on_unigram_line(row: Mapping[Any, Any], entropies: pd.DataFrame) -> bool:
    """Whether a variant ended where a model would that only knows letter frequencies."""
    unigram = entropies.query("name == 'unigram' and split == 'val'")["nats"].iloc[0]
    return bool(row["last"] > unigram - ON_THE_LINE)


def reading(row: Mapping[Any, Any], entropies: pd.DataFrame, trainings: pd.DataFrame) -> str:
    """A row of the summary in plain sentences.

    Args:
        entropies: of the text, columns name, split, nats.
        trainings: what ``trainings_of`` gives, for seeds too few for an interval.
    """
    where = f" ({stopped(row)})" if stopped(row) else ""
    if row["variant"] == BASELINE:
        return (
            f"The model as it is ends at {row['last']:.3f} nats per character{where}"
            f"{its_best(row)}. {power(row)}"
        )
    if row["status"] in (Status.ERROR, Status.NONFINITE):
        what = {Status.ERROR: "cannot be trained", Status.NONFINITE: "has a loss that is no number"}
        return f"With this cut the model {what[row['status']]}."
    if row["status"] == Status.LOST:
        return "A training with this cut was lost by the machine: nothing is known of it."
    ends = f"Trained with this cut, the model ends at {row['last']:.3f} nats per character{where}"
    if row["status"] == Status.LEAK:
        return f"{ends}, but it sees the tokens it is to predict: its loss means nothing."
    interval = interval_words(row, points=points_of(trainings, row["variant"]))
    said = f"{ends}, {row['delta']:+.3f} against the model as it is ({counted(row)}: {interval})"
    said += f": {verdict_words(row)}."
    if row["status"] == Status.UNCHECKED and verdict_of(row) is Verdict.LOWERS:
        said += " Whether it sees later tokens was not checked."
    return said + against_counts(row, entropies) + by_the_best(row, trainings)


def against_counts(row: Mapping[Any, Any], entropies: pd.DataFrame) -> str:
    """A sentence where counting characters would do as well."""
    floor = entropies[entropies["split"] == "val"].set_index("name")["nats"]
    if on_unigram_line(row, entropies):
        return (
            f" It reaches only the unigram entropy ({floor['unigram']:.3f}): it learned character "
            "frequencies, not their order."
        )
    if row["last"] > floor["bigram"] + ON_THE_LINE:
        return (
            f" The bigram entropy is lower ({floor['bigram']:.3f}): counting pairs of characters "
            "does better."
        )
    return ""


def by_the_best(row: Mapping[Any, Any], trainings: pd.DataFrame) -> str:
    """A sentence where best and last loss say different things."""
    if not best_differs(row):
        return ""
    interval = interval_words(row, "best_", points_of(trainings, row["variant"], "best_"))
    return (
        f" By the best loss of each training the difference is {row['best_delta']:+.3f} "
        f"({interval}): {verdict_words(row, 'best_')}."
    )


def its_best(row: Mapping[Any, Any]) -> str:
    """The best loss of the model as it is, where it is not about the last."""
    apart = row["last"] - row["best"] >= ON_THE_LINE
    return f", after {row['best']:.3f} at its best" if apart else ""


def power(row: Mapping[Any, Any]) -> str:
    """What the seeds of the model as it is can show."""
    if math.isnan(row["detectable"]):
        return f"Fewer than {FEWEST} seeds: no difference here is known to be more than noise."
    return (
        f"Its seeds differ by {row['last_sd']:.3f} (standard deviation of {row['n']}), so a "
        f"difference in last loss of {row['detectable']:.3f} nats is found in 80 % of repetitions."
    )


def counted(row: Mapping[Any, Any]) -> str:
    return f"{row['n']} seed{'s' if row['n'] > 1 else ''}"


def noise_said(baseline: pd.DataFrame, seeds: int) -> str:
    """What the spread of the model as it is lets ``seeds`` trainings find."""
    trainings = trainings_of(baseline)
    said = []
    for kind in ("best", "last"):
        spread = spread_of(trainings[kind])
        found = detectable(spread, seeds)
        power = "" if math.isnan(found) else f" ({found:.3f} is found in 80 % of repetitions)"
        said.append(f"{kind} val loss {trainings[kind].mean():.3f} ± {spread:.3f}{power}")
    few = f" {seeds} for each cut are too few for intervals." if seeds < FEWEST else ""
    return f"The model as it is, {len(trainings)} seeds, in nats: {'; '.join(said)}.{few}"
