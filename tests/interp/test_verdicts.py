"""One rule for an effect: against scipy, against simulation, and where nothing can be known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from interp import stats
from interp.errors import UsageError
from interp.verdicts import (
    Verdict,
    compare_seeds,
    compare_texts,
    correct,
    costliest,
    interval_words,
    intervals_over_texts,
    power_words,
    spread_of,
    texts_to_show,
    verdict_of,
    verdict_words,
    verdicts_of,
)

NAN = math.nan
WHOLE, CUT = [1.905, 1.924, 1.921], [2.019, 2.072, 2.066, 2.054]
NOTHING = {"ci_low": NAN, "ci_high": NAN, "p": NAN}


def is_unknown(row):
    return bool(np.isnan([row[name] for name in NOTHING]).all())


def test_seeds_are_compared_by_welchs_test_as_scipy_makes_it():
    row = compare_seeds(CUT, WHOLE)
    peer = scipy_stats.ttest_ind(CUT, WHOLE, equal_var=False)
    ends = peer.confidence_interval(0.95)
    assert row["delta"] == pytest.approx(np.mean(CUT) - np.mean(WHOLE))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((ends.low, ends.high), rel=1e-12)
    assert row["p"] == pytest.approx(peer.pvalue)


def test_texts_are_compared_in_pairs_as_scipy_does():
    row = compare_texts(CUT[:3], WHOLE)
    peer = scipy_stats.ttest_rel(CUT[:3], WHOLE)
    ends = peer.confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((ends.low, ends.high), rel=1e-12)
    assert row["p"] == pytest.approx(peer.pvalue)
    with pytest.raises(UsageError, match="4 values and 3 of the baseline"):
        compare_texts(CUT, WHOLE)


@pytest.mark.parametrize("compare", [compare_seeds, compare_texts])
@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_have_no_interval_however_well_they_agree(compare, n):
    row = compare([3.310, 3.311][:n], [2.0, 2.0001][:n])
    assert is_unknown(row) and row["delta"] == pytest.approx(1.31, abs=1e-3)
    assert verdict_of(row | {"n": n}) is Verdict.UNKNOWN


def test_the_side_with_fewer_seeds_decides():
    assert is_unknown(compare_seeds(CUT, WHOLE[:2])) and is_unknown(compare_seeds(CUT[:2], WHOLE))


@pytest.mark.parametrize("compare", [compare_seeds, compare_texts])
@pytest.mark.parametrize("wrong", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_no_number_on_either_side_leaves_no_difference(compare, wrong):
    for values, baseline in (([*CUT[:2], wrong], WHOLE), (CUT[:3], [*WHOLE[:2], wrong])):
        row = compare(values, baseline)
        assert is_unknown(row) and math.isnan(row["delta"])
        assert verdict_of(row) is Verdict.UNKNOWN


def test_no_trainings_at_all_is_no_difference():
    assert math.isnan(compare_seeds([], WHOLE)["delta"])


def test_seeds_that_change_nothing_say_nothing_of_noise():
    """Three trainings to the same bit are one training."""
    for third in (2.5, 2.5 + 2e-16):
        row = compare_seeds([2.5, 2.5, third], [2.0, 2.0, 2.0])
        assert is_unknown(row) and verdict_of(row) is Verdict.UNKNOWN
    row = compare_texts([2.5, 3.5, 4.5], [2.0, 3.0, 4.0])
    assert is_unknown(row) and row["delta"] == 0.5


def test_one_side_that_does_not_vary_borrows_the_spread_of_the_other():
    row = compare_seeds([2.5, 2.5, 2.5], WHOLE)
    assert row["p"] == pytest.approx(scipy_stats.ttest_1samp(WHOLE, 2.5).pvalue)
    assert verdict_of(row) is Verdict.RAISES


def test_the_same_losses_on_both_sides_show_nothing():
    assert verdict_of(compare_seeds(WHOLE, WHOLE)) is Verdict.NOT_SHOWN
    assert verdict_of(compare_texts(WHOLE, WHOLE)) is Verdict.NOT_SHOWN


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5}, Verdict.RAISES),
        ({"delta": -1.0, "ci_low": -1.5, "ci_high": -0.5, "p_adjusted": 0.049}, Verdict.LOWERS),
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5, "p_adjusted": 0.05}, Verdict.NOT_SHOWN),
        ({"delta": 1.0, "ci_low": -0.1, "ci_high": 2.1, "p_adjusted": 0.01}, Verdict.NOT_SHOWN),
        ({"delta": 1.0, "ci_low": 0.0, "ci_high": 2.0}, Verdict.NOT_SHOWN),
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5, "n": 2}, Verdict.UNKNOWN),
        ({"delta": 1.0}, Verdict.UNKNOWN),
        ({"delta": None, "ci_low": pd.NA, "ci_high": NAN}, Verdict.UNKNOWN),
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5, "status": "leak"}, Verdict.UNKNOWN),
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5, "status": "unchecked"}, Verdict.RAISES),
        ({"delta": 1.0, "ci_low": 0.5, "ci_high": 1.5, "status": NAN}, Verdict.RAISES),
        ({"delta": 0.0, "status": "equivalent"}, Verdict.NONE),
        ({"delta": 0.0, "status": "retrain-only"}, Verdict.NONE),
        ({"delta": NAN, "status": "retrain-only"}, Verdict.UNKNOWN),  # the weights do not fit
        ({"delta": NAN, "status": "error"}, Verdict.UNKNOWN),
        ({}, Verdict.UNKNOWN),
    ],
)
def test_the_rule(row, verdict):
    assert verdict_of(row) is verdict
    assert list(verdicts_of(pd.DataFrame([row, row]))) == [verdict, verdict]


def test_another_outcome_of_the_same_row_has_its_own_numbers_and_may_have_its_own_status():
    row = {
        "status": "leak",
        "delta": 1.0,
        "ci_low": 0.5,
        "ci_high": 1.5,
        "retrained_delta": -1.0,
        "retrained_ci_low": -1.2,
        "retrained_ci_high": -0.8,
    }
    assert verdict_of(row) is verdict_of(row, "retrained_") is Verdict.UNKNOWN
    assert verdict_of(row | {"retrained_status": "changed"}, "retrained_") is Verdict.LOWERS


def test_correction_is_holms_over_the_rows_that_were_tested():
    p = [0.04, NAN, 0.001, 0.03, 1.0]
    found = correct(pd.DataFrame({"p": p}))["p_adjusted"]
    by_hand = [0.09, NAN, 0.004, 0.09, 1.0]  # four times 0.001, three times 0.03
    np.testing.assert_allclose(found, by_hand)
    assert correct(pd.DataFrame({"p": [NAN]}))["p_adjusted"].isna().all()
    assert correct(pd.DataFrame({"delta": [1.0]}))["p_adjusted"].isna().all()
    for order in itertools.permutations(range(5)):
        shuffled = correct(pd.DataFrame({"p": p}).iloc[list(order)])["p_adjusted"]
        np.testing.assert_allclose(shuffled.sort_index(), by_hand)


@pytest.mark.parametrize(("seeds", "whole"), [(3, 3), (3, 5), (5, 5)])
def test_without_a_difference_one_in_twenty_is_said_to_be_an_effect(seeds, whole):
    draw = np.random.default_rng(seeds * whole).normal
    found = stats.difference_of_means(draw(size=(4000, seeds)), draw(size=(4000, whole)))
    table = pd.DataFrame(dict(zip(("delta", "ci_low", "ci_high", "p"), found, strict=True)))
    share = verdicts_of(table).map(lambda verdict: verdict.is_effect).mean()
    assert 0.02 < share < 0.062  # Welch's test is a little too careful with three seeds
    assert verdict_of(compare_seeds(*draw(size=(2, 3)))) in Verdict


def test_among_many_cuts_without_a_difference_one_family_in_twenty_has_a_finding():
    draw = np.random.default_rng(7).normal
    found = 0
    for _ in range(300):
        ten = stats.difference_of_means(draw(size=(10, 5)), draw(size=(10, 5)))
        names = ("delta", "ci_low", "ci_high", "p")
        table = correct(pd.DataFrame(dict(zip(names, ten, strict=True))))
        found += any(verdict.is_effect for verdict in verdicts_of(table))
    assert found / 300 < 0.08


def test_an_interval_in_words_or_why_there_is_none():
    row = compare_seeds(CUT, WHOLE) | {"n": 4}
    assert interval_words(row).startswith("95 % interval +0.1")
    few = compare_seeds([3.310, 3.311], [2.0, 2.0]) | {"n": 2}
    said = interval_words(few, points=[1.310, 1.311])
    assert said == "+1.310, +1.311; no interval from fewer than three"
    assert interval_words({"n": 1, "delta": 1.0}) == "no interval from fewer than three"
    assert interval_words({"n": 3, "delta": 1.0}) == "no interval"


def test_a_verdict_that_correction_decides_says_so():
    row = {"delta": 0.3, "ci_low": 0.1, "ci_high": 0.5, "p_adjusted": 0.0812}
    said = verdict_words(row)
    assert said == "no effect shown: p is 0.081 once corrected for all that was tested"
    assert verdict_words(row | {"ci_low": -0.1}) == "no effect shown"
    assert verdict_words(row | {"p_adjusted": 0.01}) == "raises the loss"


def test_the_spread_over_seeds_is_that_of_a_sample():
    assert spread_of(WHOLE) == pytest.approx(np.std(WHOLE, ddof=1))
    assert math.isnan(spread_of([1.0])) and math.isnan(spread_of([1.0, NAN]))


def test_the_costliest_is_one_that_is_shown_to_cost():
    table = pd.DataFrame(
        {
            "delta": [0.9, 0.2, 0.3, -2.0],
            "ci_low": [-0.1, 0.1, 0.2, -2.1],
            "ci_high": [1.9, 0.3, 0.4, -1.9],
            "p_adjusted": [0.3, 0.01, 0.01, 0.01],
            "n": 8,
        }
    )
    assert costliest(table)["delta"] == 0.3
    unsure = costliest(table.drop(index=[1, 2]))
    assert unsure["delta"] == 0.9
    assert verdict_of(unsure.to_dict()) is Verdict.NOT_SHOWN
    with pytest.raises(UsageError, match="no rows"):
        costliest(table.head(0))


@pytest.mark.parametrize("rows", [1, 7, 270])
def test_too_few_texts_to_show_anything_are_said_to_be(rows):
    need = texts_to_show(rows)
    for texts in (need - 1, need):
        effects = np.full((rows, texts), 1e3) + np.arange(texts)  # as plain as can be
        table = pd.DataFrame(intervals_over_texts(effects)).assign(delta=1e3, n=texts)
        shown = bool((verdicts_of(table) == Verdict.RAISES).any())
        assert shown == (texts == need)
        said = (
            f"{texts} texts are too few to show any effect of {rows} that were tested, "
            f"however large: it takes {need}."
        )
        assert power_words(table) == ([] if shown else [said])
