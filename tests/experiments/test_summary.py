"""What curves amount to, on curves whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from experiments.summary import improvements, reading, steps_to, summarise

STEPS = (0, 100, 200, 300)


def curves(variants):
    """A table of curves: per variant, the losses of each seed at the steps; and its status."""
    return pd.DataFrame(
        {
            "variant": name,
            "label": name,
            "seed": seed,
            "step": step,
            "split": "val",
            "loss": loss,
            "status": status,
        }
        for name, (status, seeds) in variants.items()
        for seed, losses in enumerate(seeds)
        for step, loss in zip(STEPS, losses, strict=True)
    )


def falling(*last):
    return [[4.0, 3.0, 2.5, end] for end in last]


BASE = ("changed", falling(2.00, 2.01, 2.02, 1.99, 1.98))
ENTROPIES = pd.DataFrame(
    {"name": ["unigram", "bigram"], "split": "val", "nats": [3.3, 2.45], "n": [1, 2]}
)


def rows(summary):
    return {row["variant"]: row for row in summary.to_dict("records")}


def test_differences_are_welchs_with_more_seeds_of_the_baseline_and_corrected_by_holm():
    one, two = [2.3, 2.35, 2.31], [2.01, 2.03, 2.0]
    summary = rows(
        summarise(
            curves(
                {
                    "none": BASE,
                    "a": ("changed", falling(*one)),
                    "b": ("changed", falling(*two)),
                }
            )
        )
    )
    base = [losses[-1] for losses in BASE[1]]
    p = [scipy_stats.ttest_ind(x, base, equal_var=False).pvalue for x in (one, two)]
    assert summary["a"]["n"] == 3 and summary["none"]["n"] == 5
    assert summary["a"]["delta"] == pytest.approx(np.mean(one) - np.mean(base))
    assert summary["a"]["p_adjusted"] == pytest.approx(2 * min(p))
    assert summary["b"]["p_adjusted"] == pytest.approx(max(p))
    assert summary["a"]["ci_low"] < summary["a"]["delta"] < summary["a"]["ci_high"]
    assert math.isnan(summary["none"]["p_adjusted"])


def test_what_can_be_found_is_said_for_the_variant_of_fewest_seeds():
    five = summarise(curves({"none": BASE, "a": BASE}))["detectable"].iloc[0]
    two = summarise(curves({"none": BASE, "a": ("changed", falling(2.3, 2.3))}))
    assert two["detectable"].iloc[0] > 2 * five


def test_best_and_last_are_told_apart():
    """A variant that overfits: better at its best, worse at its end."""
    losses = [[4.0, 1.50 + e, 1.90, 2.30 + e] for e in (0.0, 0.01, 0.02)]
    summary = summarise(curves({"none": BASE, "a": ("changed", losses)}))
    row = rows(summary)["a"]
    assert row["best_delta"] < -0.4 and row["delta"] > 0.2
    assert improvements(summary) == ["a"]
    said = reading(row, ENTROPIES)
    assert "so the line pays" in said
    assert "By the best loss of each training it is better" in said


def test_an_improvement_that_sees_the_future_is_none():
    leak = ("leak", falling(0.04, 0.05, 0.04))
    summary = summarise(curves({"none": BASE, "no mask": leak}))
    assert improvements(summary) == []
    said = reading(rows(summary)["no mask"], ENTROPIES)
    assert "sees the tokens it is to predict" in said
    assert "better" not in said


@pytest.mark.parametrize("status", ["error", "nonfinite"])
def test_a_variant_that_cannot_be_trained_is_a_row_without_a_difference(status):
    broken = (status, [[math.nan] * 4, [math.nan] * 4])
    summary = summarise(curves({"none": BASE, "a": broken, "b": ("changed", falling(2.3, 2.31))}))
    row = rows(summary)["a"]
    assert math.isnan(row["delta"]) and math.isnan(row["p_adjusted"])
    assert row["status"] == status
    assert rows(summary)["b"]["p_adjusted"] < 0.05
    assert "Without it the model" in reading(row, ENTROPIES)


def test_a_loss_that_ends_as_no_number_is_not_read_from_before():
    broken = ("nonfinite", [[4.0, 3.0, 2.0, math.nan]] * 2)
    row = rows(summarise(curves({"none": BASE, "a": broken})))["a"]
    assert math.isnan(row["last"])


def test_steps_to_the_baselines_loss_are_read_off_straight_lines():
    curve = pd.DataFrame({"step": STEPS, "loss": [4.0, 3.0, 2.0, 1.0]})
    assert steps_to(2.5, curve) == 150
    assert steps_to(4.0, curve) == 0
    assert math.isnan(steps_to(0.9, curve))
    slow = ("changed", [[4.0, 3.5, 3.0, 2.02], [4.0, 3.5, 3.0, 2.4]])
    summary = rows(summarise(curves({"none": BASE, "a": slow})))
    assert summary["none"]["reached"] == 5  # by its definition
    assert summary["a"]["reached"] == 1
    assert summary["a"]["steps_to_baseline"] == pytest.approx(300)


def test_one_seed_is_told_from_no_noise():
    summary = summarise(curves({"none": BASE, "a": ("changed", falling(1.5))}))
    assert improvements(summary) == []
    assert "nothing is known of what noise would do" in reading(rows(summary)["a"], ENTROPIES)
