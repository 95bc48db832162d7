import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats as scipy_stats

from interp import stats
from interp.errors import NonFiniteError, UsageError

SKEWED = np.random.default_rng(0).exponential(size=(3, 40))


def test_the_bootstrap_interval_is_scipys_bca_interval_up_to_the_resamples_drawn():
    mean, low, high = stats.bootstrap_interval(SKEWED, resamples=100_000)
    peer = scipy_stats.bootstrap(
        (SKEWED,), np.mean, axis=1, n_resamples=100_000, method="BCa", random_state=1, batch=1000
    ).confidence_interval
    np.testing.assert_allclose(mean, SKEWED.mean(axis=1))
    width = peer.high - peer.low
    np.testing.assert_allclose(low, peer.low, atol=0.01 * width.max())
    np.testing.assert_allclose(high, peer.high, atol=0.01 * width.max())


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(loc=0.3, size=(1000, 50))
    _, low, high = stats.bootstrap_interval(draws, confidence=0.9, resamples=1000)
    covered = ((low <= 0.3) & (high >= 0.3)).mean()
    assert 0.86 < covered < 0.93


def test_a_rows_interval_is_the_same_alone_and_within_a_sweep(monkeypatch):
    together = stats.bootstrap_interval(SKEWED, resamples=500)
    alone = stats.bootstrap_interval(SKEWED[1], resamples=500)
    monkeypatch.setattr(stats, "CELLS_AT_ONCE", 700)
    in_pieces = stats.bootstrap_interval(SKEWED, resamples=500)
    for one, all_rows, pieces in zip(alone, together, in_pieces, strict=True):
        assert isinstance(one, float)
        assert one == pytest.approx(all_rows[1], abs=1e-12)
        np.testing.assert_allclose(all_rows, pieces, atol=1e-12)


@pytest.mark.parametrize("examples", [3, 4, 6, 7])
def test_rounding_does_not_move_the_interval_of_few_examples(examples):
    """Many of their resamples have the very mean of all, and rounding would put them on a side."""
    values = np.random.default_rng(4).exponential(size=(50, examples))
    for other in (values * (1 + 1e-15), values[:, ::-1] - 1e-16, (values + 1e-15) / 3 * 3):
        again = stats.bootstrap_interval(np.sort(other, axis=1))
        for one, two in zip(stats.bootstrap_interval(np.sort(values, axis=1)), again, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-14)


def test_an_effect_that_never_varies_has_an_interval_without_width():
    values = np.stack([np.zeros(9), np.full(9, 0.1)])
    mean, low, high = stats.bootstrap_interval(values)
    np.testing.assert_allclose(low, mean, atol=1e-15)
    np.testing.assert_allclose(high, mean, atol=1e-15)


def test_the_t_interval_is_scipys():
    mean, low, high = stats.t_interval(SKEWED[:, :4], confidence=0.9)
    peer = scipy_stats.ttest_1samp(SKEWED[:, :4], 0.0, axis=1).confidence_interval(0.9)
    np.testing.assert_allclose(mean, SKEWED[:, :4].mean(axis=1))
    np.testing.assert_allclose(low, peer.low)
    np.testing.assert_allclose(high, peer.high)


def test_a_difference_of_unpaired_means_is_welchs_t_test():
    a, b = SKEWED[:, :3], SKEWED[:, 3:10] + 0.5
    difference, low, high, p = stats.difference_of_means(a, b)
    peer = scipy_stats.ttest_ind(a, b, axis=1, equal_var=False)
    ends = peer.confidence_interval(0.95)
    np.testing.assert_allclose(difference, a.mean(axis=1) - b.mean(axis=1))
    np.testing.assert_allclose(p, peer.pvalue)
    np.testing.assert_allclose(low, ends.low)
    np.testing.assert_allclose(high, ends.high)


def test_means_without_any_spread_differ_surely_or_not_at_all():
    same = stats.difference_of_means([1.0, 1.0], [1.0, 1.0, 1.0])
    other = stats.difference_of_means([1.0, 1.0], [3.0, 3.0, 3.0])
    assert same == (0.0, 0.0, 0.0, 1.0)
    assert other == (-2.0, -2.0, -2.0, 0.0)


@given(hnp.arrays(np.float64, st.integers(1, 7), elements=st.integers(-4, 4).map(float)))
def test_a_sign_flip_p_of_few_examples_counts_every_pattern_of_signs(values):
    seen = abs(values.sum())
    patterns = itertools.product((-1, 1), repeat=len(values))
    extreme = [abs(np.dot(signs, values)) >= seen for signs in patterns]
    assert stats.sign_flip_p(values) == pytest.approx(np.mean(extreme))


def test_a_sign_flip_p_of_many_examples_is_scipys_up_to_the_resamples_drawn():
    values = np.random.default_rng(2).normal(loc=[[0.0], [0.2], [1.0]], size=(3, 60))
    ours = stats.sign_flip_p(values, resamples=20_000)
    peer = [
        scipy_stats.permutation_test(
            (row,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0
        ).pvalue
        for row in values
    ]
    np.testing.assert_allclose(ours, peer, atol=0.02)
    assert ours[2] == 1 / 20_001


def test_under_no_effect_a_sign_flip_p_is_below_five_percent_five_percent_of_the_time():
    values = np.random.default_rng(3).normal(size=(2000, 20))
    p = stats.sign_flip_p(values, resamples=1000)
    assert 0.035 < (p <= 0.05).mean() < 0.065


def test_the_holm_adjustment_multiplies_the_smallest_by_all_the_next_by_one_less():
    p = np.array([[0.04, 0.01], [0.03, 0.5]])
    np.testing.assert_allclose(stats.adjust(p, "holm"), [[0.09, 0.04], [0.09, 0.5]])


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    rejected = np.zeros(len(p), dtype=bool)
    for tests_left, index in zip(range(len(p), 0, -1), p.argsort(), strict=True):
        if p[index] * tests_left > 0.05:
            break
        rejected[index] = True
    np.testing.assert_array_equal(stats.adjust(p, "holm") <= 0.05, rejected)


@given(hnp.arrays(np.float64, (3, 4), elements=st.floats(0, 1)))
def test_benjamini_hochberg_is_never_stricter_than_holm_nor_laxer_than_none(p):
    holm, bh = stats.adjust(p, "holm"), stats.adjust(p, "bh")
    assert (bh <= holm + 1e-12).all()
    assert (bh >= p - 1e-12).all()


def test_an_effect_of_the_detectable_size_is_found_as_often_as_asked():
    effect = stats.minimum_detectable_effect(0.02, n_seeds=4, power=0.8)
    generator = np.random.default_rng(4)
    a = generator.normal(scale=0.02, size=(4000, 4))
    b = generator.normal(loc=effect, scale=0.02, size=(4000, 4))
    found = (scipy_stats.ttest_ind(a, b, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.025)


def test_the_detectable_effect_shrinks_with_seeds_and_grows_with_spread():
    small, large = stats.minimum_detectable_effect([0.01, 0.03], n_seeds=5)
    assert large == pytest.approx(3 * small)
    assert stats.minimum_detectable_effect(0.01, n_seeds=20) < small
    assert stats.minimum_detectable_effect(0.01, n_seeds=2) > small


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: stats.bootstrap_interval([0.1]), "it takes 2"),
        (lambda: stats.bootstrap_interval([0.1, 0.2], confidence=95.0), "such as 0.95"),
        (lambda: stats.t_interval([[0.1], [0.2]]), "it takes 2"),
        (lambda: stats.difference_of_means(np.ones((2, 3)), np.ones((4, 3))), "must be equal"),
        (lambda: stats.sign_flip_p([]), "it takes 1"),
        (lambda: stats.adjust([0.1, np.nan]), "between 0 and 1"),
        (lambda: stats.minimum_detectable_effect(0.1, n_seeds=1), "at least 2"),
        (lambda: stats.minimum_detectable_effect(0.1, n_seeds=3, power=1.0), "power"),
    ],
)
def test_what_cannot_be_computed_is_a_sentence(call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call()


def test_a_nan_is_named_by_its_place():
    values = np.ones((2, 3))
    values[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"values\[1, 2\] is nan"):
        stats.bootstrap_interval(values)


def test_a_share_has_wilsons_interval_which_stays_within_0_and_1():
    from scipy.stats import binomtest

    for count, total in ((0, 20), (1, 7), (50, 100), (20, 20)):
        share, low, high = stats.share_interval(count, total)
        ends = binomtest(count, total).proportion_ci(method="wilson")
        assert share == count / total
        assert (low, high) == pytest.approx((ends.low, ends.high), abs=1e-12)
        assert 0 <= low <= share <= high <= 1
    for count, total in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(UsageError, match="is no share"):
            stats.share_interval(count, total)
