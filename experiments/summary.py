"""What do the curves of several variants and seeds amount to?"""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.variants import BASELINE
from interp import stats

ON_THE_LINE = 0.03
"""Nats within which a loss counts as that of an n-gram model."""


def summarise(curves: pd.DataFrame) -> pd.DataFrame:
    """One row per variant: best and last val loss, and their differences to the unablated model.

    All losses in nats per token. ``sd`` is the spread over seeds; intervals are Welch's at 95 %,
    p-values Holm's over the variants; with one seed they are NaN. ``detectable`` is the smallest
    difference that this many seeds would find four times in five, from the baseline's spread.
    """
    val = curves[curves["split"] == "val"].sort_values("step")
    grouped = val.groupby(["variant", "seed"], sort=False)["loss"]
    best, last = grouped.min(), grouped.last()
    rows = []
    for variant in val["variant"].drop_duplicates():
        described = val[val["variant"] == variant].iloc[0]
        row: dict[str, Any] = {
            "variant": variant,
            "label": described["label"],
            "n": len(best[variant]),
            "best": best[variant].mean(),
            "last": last[variant].mean(),
            "best_sd": best[variant].std(),
            "last_sd": last[variant].std(),
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
    spread, seeds = table["last_sd"].iloc[0], int(table["n"].iloc[0])
    enough = seeds > 1
    table["detectable"] = stats.minimum_detectable_effect(spread, seeds) if enough else math.nan
    order = table["variant"] != BASELINE
    return table.assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def compared(losses: pd.Series, baseline: pd.Series, kind: str) -> dict[str, float]:
    delta = {f"{kind}delta": losses.mean() - baseline.mean()}
    unknown = dict.fromkeys((f"{kind}ci_low", f"{kind}ci_high", f"{kind}p"), math.nan)
    if len(losses) < 2 or losses is baseline or np.array_equal(losses, baseline):
        return delta | unknown
    welch = stats.difference_of_means(losses.to_numpy(), baseline.to_numpy())
    return delta | {
        f"{kind}ci_low": float(welch.low),
        f"{kind}ci_high": float(welch.high),
        f"{kind}p": float(welch.p),
    }


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
            "p of last (Holm)": "" if math.isnan(row["p_adjusted"]) else f"{row['p_adjusted']:.2g}",
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
    cost = f"ends at {row['last']:.3f} nats, {row['delta']:+.3f} against the model as it stands"
    if row["n"] > 1:
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
    elif row["n"] > 1 and row["p_adjusted"] >= 0.05:
        verdict = "a difference that these seeds cannot tell from noise."
    else:
        verdict = f"so {'the line pays' if row['delta'] > 0 else 'it learns better without it'}."
    return f"Without it the model {cost}: {verdict}"
