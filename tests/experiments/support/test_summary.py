"""What curves amount to, on curves whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from experiments.support.pages.summary import (
    improvements,
    print_summary,
    reading,
    shown,
    steps_to,
    stopped,
    summarise,
    trainings_of,
)
from gpt.errors import UsageError

STEPS = (0, 100, 200, 300)


def curves(variants):
    """A table of curves: per variant, the losses of each seed at the steps; and its status."""
    return pd.DataFrame(
        {
            "variant": name,
            "label": name,
            "file": "model.py",
            "lines": (1,),
            "before": ("x = y",),
            "after": ("x = x",),
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


def said_of(table, variant, steps=None):
    return reading(rows(summarise(table, steps))[variant], ENTROPIES, trainings_of(table))


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
    three = summarise(curves({"none": BASE, "a": ("changed", falling(2.3, 2.3, 2.3))}))
    assert three["detectable"].iloc[0] > 1.4 * five
    two = summarise(curves({"none": BASE, "a": ("changed", falling(2.3, 2.3))}))
    assert two["detectable"].isna().all()  # no test is made of two


def test_best_and_last_are_told_apart():
    """A variant that overfits: better at its best, worse at its end."""
    losses = [[4.0, 1.50 + e, 1.90, 2.30 + e] for e in (0.0, 0.01, 0.02)]
    table = curves({"none": BASE, "a": ("changed", losses)})
    row = rows(summarise(table))["a"]
    assert row["best_delta"] < -0.4 and row["delta"] > 0.2
    assert improvements(summarise(table)) == ["a"]
    last, best = said_of(table, "a").split(" By the best loss of each training ")
    assert last.endswith("): raises the loss.")
    assert best.startswith("the difference is -0.4") and best.endswith("): lowers the loss.")
    assert shown(summarise(table), trainings_of(table))["verdict"].tolist() == [
        "",
        "best: lowers the loss; last: raises the loss",
    ]


def test_an_improvement_that_sees_the_future_is_none():
    leak = ("leak", falling(0.04, 0.05, 0.04))
    table = curves({"none": BASE, "no mask": leak})
    assert improvements(summarise(table)) == []
    said = said_of(table, "no mask")
    assert "sees the tokens it is to predict" in said
    assert "better" not in said


@pytest.mark.parametrize("status", ["error", "nonfinite"])
def test_a_variant_that_cannot_be_trained_is_a_row_without_a_difference(status):
    broken = (status, [[math.nan] * 4, [math.nan] * 4])
    whole = ("changed", falling(2.3, 2.31, 2.32))
    table = curves({"none": BASE, "a": broken, "b": whole})
    summary = summarise(table)
    row = rows(summary)["a"]
    assert math.isnan(row["delta"]) and math.isnan(row["p_adjusted"])
    assert row["status"] == status
    alone = rows(summarise(curves({"none": BASE, "b": whole})))["b"]
    assert rows(summary)["b"]["p_adjusted"] == alone["p_adjusted"] < 0.05
    assert said_of(table, "a").startswith("With this cut the model ")
    assert shown(summary, trainings_of(table))["last, against none"][1] == ""


def test_a_loss_that_ends_as_no_number_is_not_read_from_before():
    broken = ("nonfinite", [[4.0, 3.0, 2.0, math.nan]] * 2)
    row = rows(summarise(curves({"none": BASE, "a": broken})))["a"]
    assert math.isnan(row["last"])
    assert np.isnan([row["best"], row["best_delta"], row["best_p"]]).all()  # nor is the best


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_seed_of_the_model_as_it_is_that_failed_leaves_no_differences(wrong):
    base = ("nonfinite", [*falling(2.0, 2.01), [4.0, 3.0, 2.0, wrong]])
    row = rows(summarise(curves({"none": base, "a": ("changed", falling(2.3, 2.31, 2.32))})))["a"]
    assert np.isnan([row["delta"], row["ci_low"], row["p_adjusted"]]).all()


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
    table = curves({"none": BASE, "a": ("changed", falling(1.5))})
    assert improvements(summarise(table)) == []
    assert "(1 seed: no interval from fewer than three): not known." in said_of(table, "a")


def test_two_seeds_that_agree_are_two_points():
    table = curves({"none": BASE, "a": ("changed", falling(3.310, 3.311))})
    row = rows(summarise(table))["a"]
    assert row["delta"] == pytest.approx(1.3105)
    assert np.isnan([row["ci_low"], row["ci_high"], row["p"], row["p_adjusted"]]).all()
    assert "(2 seeds: +1.310, +1.311; no interval from fewer than three)" in said_of(table, "a")
    numbers = shown(summarise(table), trainings_of(table))
    assert "(+1.310, +1.311)" in numbers["last, against none"][1]
    assert "±" not in numbers["last val"][1] and "±" in numbers["last val"][0]


def test_the_summary_does_not_depend_on_the_order_of_rows():
    noise = np.random.default_rng(0).normal(scale=0.02, size=(5, 5))
    table = curves(
        {
            name: ("changed", falling(*(2.0 + shift + row)))
            for name, shift, row in zip(
                ("none", "a", "b", "c", "d"), (0, 0, 0.02, 0.2, 0.0), noise, strict=True
            )
        }
    )
    same = table[table["variant"] == "none"].assign(variant="e")  # the very same losses
    table = pd.concat([table, same], ignore_index=True)
    summary = summarise(table).set_index("variant")
    for seed in range(8):
        shuffled = table.sample(frac=1, random_state=seed)
        again = summarise(shuffled).set_index("variant")
        assert again.index[0] == "none"
        pd.testing.assert_frame_equal(again.loc[summary.index], summary, check_exact=True)
        for variant in summary.index:
            assert said_of(shuffled, variant) == said_of(table, variant)


def test_a_run_that_was_stopped_says_where():
    table = curves({"none": BASE, "a": ("changed", falling(2.3, 2.31, 2.32))})
    for variant in ("none", "a"):
        assert "(stopped at step 300 of 500)" in said_of(table, variant, steps=500)
        assert "stopped" not in said_of(table, variant, steps=300)
    numbers = shown(summarise(table, 500), trainings_of(table))
    assert list(numbers["last step"]) == ["300 of 500"] * 2
    assert "last step" not in shown(summarise(table, 300), trainings_of(table))
    assert stopped(rows(summarise(table))["none"]) == ""


def test_curves_that_cannot_be_compared_are_a_sentence():
    table = curves({"none": BASE})
    with pytest.raises(UsageError, match="nothing to compare with"):
        summarise(table.assign(variant="a"))
    with pytest.raises(UsageError, match="two validation losses"):
        summarise(pd.concat([table, table]))


def test_on_a_terminal_of_80_columns_no_number_is_lost(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    variant = "no_position_embedding"
    table = curves({"none": BASE, variant: ("changed", falling(3.310, 3.311, 3.3))})
    summary = summarise(table)
    print_summary(summary, trainings_of(table))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    said = shown(summary, trainings_of(table))
    for column in ("last val", "last, against none", "verdict"):
        for cell in said[column]:
            assert all(word in out for word in cell.split())
