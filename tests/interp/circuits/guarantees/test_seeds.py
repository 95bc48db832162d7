"""Bands over seeds are those of a mean of few, by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as peer

from interp.circuits.guarantees.seeds import band_over_seeds
from interp.errors import UsageError
from interp.verdicts import Verdict, verdicts_of

METHODS = ("EAP", "exact", "random")


def areas(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"method": METHODS})
    for name, means in {"CPR": [0.8, 0.9, 0.1], "CMD": [0.2, 0.1, 0.9]}.items():
        table[name] = rng.normal(means, 0.02)
        table[f"{name}_ci_low"] = table[name] - rng.uniform(0.01, 0.05, 3)
        table[f"{name}_ci_high"] = table[name] + rng.uniform(0.01, 0.05, 3)
    return table


def curve(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"method": np.repeat(["EAP", "random"], 3), "share": [0.1, 0.5, 1.0] * 2})
    table["faithfulness"] = [*rng.normal([0.5, 0.8, 1.0], 0.1), *rng.normal([0.1, 0.3, 1.0], 0.1)]
    table["ci_low"], table["ci_high"] = table["faithfulness"] - 0.1, table["faithfulness"] + 0.2
    return table


def test_bands_are_t_intervals_over_seeds_and_mean_ends_over_texts():
    tables = {seed: areas(seed) for seed in range(5)}
    found = band_over_seeds(tables)
    assert found["method"].tolist() == [*METHODS]
    for name in ("CPR", "CMD"):
        for row, method in enumerate(METHODS):
            values = [float(table[name][row]) for table in tables.values()]
            mean, spread = np.mean(values), np.std(values, ddof=1)
            reach = peer.t.ppf(0.975, 4) * spread / math.sqrt(5)
            got = found.set_index("method").loc[method]
            assert got[name] == pytest.approx(mean)
            assert got[f"{name}_ci_low"] == pytest.approx(mean - reach)
            assert got[f"{name}_ci_high"] == pytest.approx(mean + reach)
            lows = [float(table[f"{name}_ci_low"][row]) for table in tables.values()]
            assert got[f"{name}_texts_low"] == pytest.approx(np.mean(lows))
    assert (found["n"] == 5).all()


def test_methods_are_compared_by_welch_and_corrected_for_all():
    tables = {seed: areas(seed) for seed in range(4)}
    found = band_over_seeds(tables, against="random").set_index("method")
    p = {}
    for method in ("EAP", "exact"):
        one = [float(table["CPR"][METHODS.index(method)]) for table in tables.values()]
        other = [float(table["CPR"][2]) for table in tables.values()]
        welch = peer.ttest_ind(one, other, equal_var=False)
        ends = welch.confidence_interval()
        assert found.loc[method, "CPR_against_p"] == pytest.approx(welch.pvalue)
        assert found.loc[method, "CPR_against_ci_low"] == pytest.approx(ends.low)
        assert found.loc[method, "CPR_against_delta"] == pytest.approx(
            np.mean(one) - np.mean(other)
        )
        p[method] = welch.pvalue
    low, high = sorted(p, key=p.__getitem__)
    assert found.loc[low, "CPR_against_p_adjusted"] == pytest.approx(2 * p[low])
    assert found.loc[high, "CPR_against_p_adjusted"] == pytest.approx(max(2 * p[low], p[high]))
    assert found.loc["random", "CPR_against_delta"] is np.nan or np.isnan(
        found.loc["random", "CPR_against_delta"]
    )
    kinds = verdicts_of(found.reset_index(), "CPR_against_")
    assert kinds.tolist() == [Verdict.RAISES, Verdict.RAISES, Verdict.UNKNOWN]


def test_of_curves_every_share_has_its_band():
    tables = {seed: curve(seed) for seed in range(3)}
    found = band_over_seeds(tables, against="random")
    assert found[["method", "share"]].equals(curve(0)[["method", "share"]])
    at = found[(found["method"] == "EAP") & (found["share"] == 0.5)].iloc[0]
    values = [float(table["faithfulness"][1]) for table in tables.values()]
    others = [float(table["faithfulness"][4]) for table in tables.values()]
    assert at["faithfulness"] == pytest.approx(np.mean(values))
    assert at["against_delta"] == pytest.approx(np.mean(values) - np.mean(others))
    ends = peer.t.interval(0.95, 2, np.mean(values), peer.sem(values))
    assert (at["ci_low"], at["ci_high"]) == pytest.approx(ends)
    assert (at["texts_low"], at["texts_high"]) == pytest.approx(
        (np.mean(values) - 0.1, np.mean(values) + 0.2)
    )


def test_two_seeds_have_no_band():
    found = band_over_seeds({0: areas(0), 1: areas(1)}, against="random")
    assert found[["CPR_ci_low", "CMD_ci_high", "CPR_against_p"]].isna().all(axis=None)
    assert found["CPR"][0] == pytest.approx((areas(0)["CPR"][0] + areas(1)["CPR"][0]) / 2)


@pytest.mark.parametrize(
    ("tables", "against", "said"),
    [
        ({}, None, "no tables"),
        ({0: areas(0).drop(columns=["CPR", "CMD"])}, None, "give tables of faithfulness_curve"),
        ({0: areas(0), 1: areas(1)[:2]}, None, "the table of seed 1 has other rows"),
        ({0: curve(0), 1: curve(1)[:5]}, None, "of the same methods and shares"),
        ({0: areas(0)}, "EAP-IG", "no method is called 'EAP-IG'"),
    ],
)
def test_tables_that_are_not_alike_are_refused(tables, against, said):
    with pytest.raises(UsageError, match=said):
        band_over_seeds(tables, against=against)
