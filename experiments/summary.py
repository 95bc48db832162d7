"""What do the curves of several variants and seeds amount to?"""

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as student

from experiments.variants import BASELINE
from interp import stats

ON_THE_LINE = 0.03
"""Nats within which a loss counts as that of an n-gram model."""


def summarise(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per variant: best and last val loss, and their differences to the unablated model.

    All losses in nats per token. ``sd`` is the spread over seeds; intervals are Welch's at 95 %,
    p-values Holm's over the variants, of best and of last loss each; with one seed they are NaN.
    ``detectable`` and ``best_detectable`` are the smallest differences that as many seeds as the
    variant of fewest has would find four times in five, from the baseline's spread.

    ``steps_to_baseline`` is the second outcome: the mean step at which a variant's seeds came down
    to the loss that every baseline seed reached, by straight lines between evaluations;
    ``reached`` says how many of them did.

    ``status`` is the worst of a variant's trainings; one that failed or is not finite has no
    differences.
    """
    val = curves[curves["split"] == "val"].sort_values("step")
    grouped = val.groupby(["variant", "seed"], sort=False)["loss"]
    best, last = grouped.min(), grouped.agg(lambda losses: losses.iloc[-1])  # NaN stays NaN
    target = best[BASELINE].max()
    rows = []
    for variant in val["variant"].drop_duplicates():
        described = val[val["variant"] == variant].iloc[0]
        steps = [steps_to(target, of_seed) for _, of_seed in seeds_of(val, variant)]
        there = [step for step in steps if not math.isnan(step)]
        row: dict[str, Any] = {
            "variant": variant,
            "label": described["label"],
            "n": len(best[variant]),
            "best": best[variant].mean(),
            "last": last[variant].mean(),
            "best_sd": best[variant].std(),
            "last_sd": last[variant].std(),
            "steps_to_baseline": float(np.mean(there)) if there else math.nan,
            "reached": len(there),
            "status": worst_status(val[val["variant"] == variant]),
        }
        for kind, losses in (("best_", best), ("", last)):
            row |= compared(losses[variant], losses[BASELINE], kind)
        rows.append(row)
    table = pd.DataFrame(rows)
    for kind in ("best_", ""):
        column, tested = f"{kind}p_adjusted", table[f"{kind}p"].notna()
        table[column] = math.nan
        if tested.any():
            table.loc[tested, column] = stats.adjust(table.loc[tested, f"{kind}p"].to_numpy())
    for kind, losses in (("best_", best), ("", last)):
        table[f"{kind}detectable"] = detectable(losses[BASELINE].std(), int(table["n"].min()))
    order = table["variant"] != BASELINE
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def detectable(spread: float, seeds: int) -> float:
    """The smallest difference that so many seeds find four times in five; NaN for one seed."""
    if seeds < 2 or math.isnan(spread):
        return math.nan
    return float(stats.minimum_detectable_effect(spread, seeds))


def noise_of(summary: pd.DataFrame) -> float:
    """What a difference in last loss must exceed to mean anything: Student's 95 % reach of the
    difference between the model as it is and as many other seeds of it as a cut has; NaN for one
    seed."""
    baseline = summary[summary["variant"] == BASELINE].iloc[0]
    fewest = summary.loc[summary["variant"] != BASELINE, "n"].min()
    reach = student.t.ppf(0.975, baseline["n"] - 1) * baseline["last_sd"]
    return float(reach * math.sqrt(1 / baseline["n"] + 1 / fewest))


def seeds_of(val: pd.DataFrame, variant: str) -> Iterator[tuple[Any, pd.DataFrame]]:
    yield from val[val["variant"] == variant].groupby("seed")


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
        return "unchecked"
    order = ("error", "nonfinite", "leak", "unchecked", "changed")
    return min(rows["status"], key=order.index)


def compared(losses: pd.Series, baseline: pd.Series, kind: str) -> dict[str, float]:
    delta = {f"{kind}delta": losses.mean(skipna=False) - baseline.mean()}
    unknown = dict.fromkeys((f"{kind}ci_low", f"{kind}ci_high", f"{kind}p"), math.nan)
    few = min(len(losses), len(baseline)) < 2
    if few or losses is baseline or np.array_equal(losses, baseline) or losses.isna().any():
        return delta | unknown
    welch = stats.difference_of_means(losses.to_numpy(), baseline.to_numpy())
    return delta | {
        f"{kind}ci_low": float(welch.low),
        f"{kind}ci_high": float(welch.high),
        f"{kind}p": float(welch.p),
    }


def improvements(summary: pd.DataFrame, alpha: float = 0.05) -> list[str]:
    """The variants whose best or last loss is below the unablated model's, beyond noise, and that
    see no later tokens."""
    better = pd.Series(False, index=summary.index)
    for kind in ("best_", ""):
        better |= (summary[f"{kind}delta"] < 0) & (summary[f"{kind}p_adjusted"] < alpha)
    return list(summary.loc[better & summary["status"].isin(["changed", "unchecked"]), "variant"])


def shown(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary as people read it: losses with their spread, differences with their interval."""

    def spread(value: float, sd: float) -> str:
        return f"{value:.3f}" + ("" if math.isnan(sd) else f" ± {sd:.3f}")

    def difference(delta: float, low: float, high: float) -> str:
        return f"{delta:+.3f}" + ("" if math.isnan(low) else f" ({low:+.3f} to {high:+.3f})")

    rows = [
        {
            "variant": row["variant"],
            "seeds": row["n"],
            "best val": spread(row["best"], row["best_sd"]),
            "last val": spread(row["last"], row["last_sd"]),
            "best, against none": difference(
                row["best_delta"], row["best_ci_low"], row["best_ci_high"]
            ),
            "last, against none": difference(row["delta"], row["ci_low"], row["ci_high"]),
            "p of best, last (Holm)": ", ".join(
                f"{row[p]:.2g}" for p in ("best_p_adjusted", "p_adjusted") if not math.isnan(row[p])
            ),
            "reaches none's loss at": (
                f"step {row['steps_to_baseline']:.0f} ({row['reached']} of {row['n']})"
                if row["reached"]
                else "never"
            ),
            "status": row["status"],
        }
        for row in summary.to_dict("records")
    ]
    return pd.DataFrame(rows)


def on_unigram_line(row: Mapping[Hashable, Any], entropies: pd.DataFrame) -> bool:
    """Whether a variant ended where a model would that only knows letter frequencies."""
    unigram = entropies.query("name == 'unigram' and split == 'val'")["nats"].iloc[0]
    return bool(row["last"] > unigram - ON_THE_LINE)


def reading(row: Mapping[Hashable, Any], entropies: pd.DataFrame) -> str:
    """One plain sentence on a row of the summary."""
    floor = entropies[entropies["split"] == "val"].set_index("name")["nats"]
    if row["variant"] == BASELINE:
        noise = (
            f"With {row['n']} seeds, a difference in last loss must exceed about "
            f"{row['detectable']:.3f} nats to be found four times in five."
            if row["n"] > 1
            else "One seed has no spread: no difference here is known to be more than noise."
        )
        return f"The model as it stands ends at {row['last']:.3f} nats per character. {noise}"
    if row["status"] in ("error", "nonfinite"):
        what = {"error": "cannot be trained", "nonfinite": "has a loss that is no number"}
        return f"Without it the model {what[row['status']]}."
    if row["status"] == "leak":
        return (
            f"Without it the model ends at {row['last']:.3f} nats, but sees the tokens it is to "
            "predict: its loss means nothing."
        )
    cost = f"ends at {row['last']:.3f} nats, {row['delta']:+.3f} against the model as it stands"
    if not math.isnan(row["ci_low"]):
        cost += f" (95 % interval {row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    if on_unigram_line(row, entropies):
        verdict = (
            f"no better than the unigram entropy ({floor['unigram']:.3f}): "
            "it learned how frequent each character is, and nothing of their order."
        )
    elif row["last"] > floor["bigram"] + ON_THE_LINE:
        verdict = (
            f"worse than the bigram entropy ({floor['bigram']:.3f}): "
            "a count of which character follows which would do better."
        )
    elif math.isnan(row["p_adjusted"]):
        verdict = "one seed, so nothing is known of what noise would do."
    elif row["p_adjusted"] >= 0.05:
        verdict = "a difference that these seeds cannot tell from noise."
    elif row["delta"] > 0:
        verdict = "so the line pays."
    else:
        verdict = "so it learns better without it" + (
            "; whether it sees later tokens was not checked."
            if row["status"] == "unchecked"
            else "."
        )
    return f"Without it the model {cost}: {verdict}{by_the_best(row)}"


def by_the_best(row: Mapping[Hashable, Any]) -> str:
    """A second sentence where best and last loss say different things."""
    if math.isnan(row["best_p_adjusted"]):
        return ""
    last, best = (
        int(math.copysign(1, row[f"{kind}delta"])) if row[f"{kind}p_adjusted"] < 0.05 else 0
        for kind in ("", "best_")
    )
    if last == best:
        return ""
    says = {1: "it is worse", -1: "it is better", 0: "there is no difference beyond noise"}[best]
    return f" By the best loss of each training {says} ({row['best_delta']:+.3f})."
