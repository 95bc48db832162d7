"""Every point of a curve is a circuit that run_circuits runs, and areas are trapezoids."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as peer

from interp.circuits.graph import graph_of_sizes
from interp.circuits.guarantees.curves import (
    MIB_SIZES,
    count_edges,
    curve_areas,
    faithfulness_curve,
)
from interp.circuits.guarantees.shares import share_intervals
from interp.circuits.running import run_circuits
from interp.errors import UsageError
from interp.runs import Run
from tests.interp.circuits.by_hand import (
    circuit_by_hand,
    gap,
    loss_of,
    random_gpt,
    random_pair,
    run_by_hand,
)

GRAPH = graph_of_sizes(layers=3, heads=2)
SIZES = (0.0, 0.05, 0.3, 0.8, 1.0)


def shuffled(seed):
    order = np.random.default_rng(seed).permutation(len(GRAPH.edges))
    return [str(GRAPH.edges[number]) for number in order]


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


@pytest.fixture(scope="module")
def ranked():
    return {"one": shuffled(0), "other": shuffled(1)}


@pytest.fixture(scope="module")
def curve(gpt, ranked):
    return faithfulness_curve(gpt, *random_pair(8), gap, ranked, sizes=SIZES, progress=False)


@pytest.mark.parametrize("replaced_by", ["mean", "resample"])
def test_every_point_is_a_circuit_that_runs_alone(gpt, ranked, replaced_by):
    asked = {"metric": loss_of, "replaced_by": replaced_by, "seed": 3, "progress": False}
    pair = random_pair(8)
    curve = faithfulness_curve(gpt, *pair, ranked=ranked, sizes=SIZES, **asked)
    assert curve["edges"].tolist() == [0, 5, 30, 80, 100] * 2
    kept = {str(row.Index): ranked[row.method][: row.edges] for row in curve.itertuples()}
    alone = run_circuits(gpt, *pair, kept, **asked)
    for column in ("value", "faithfulness", "baseline", "nothing", "changed", "n"):
        np.testing.assert_allclose(curve[column], alone[column], atol=2e-6)


def test_every_point_is_the_circuit_that_is_run_by_hand(gpt, ranked, curve):
    clean, corrupted = random_pair(8)
    rest = run_by_hand(gpt, corrupted)[1]
    for row in curve[curve["share"].between(0.01, 0.9)].itertuples():
        kept = set(ranked[row.method][: row.edges])
        expected = circuit_by_hand(gpt, clean, kept, rest, gap)
        assert row.value == pytest.approx(float(expected.mean()), abs=2e-6)
        gains = np.array(row.gain_by_text) + gap(run_by_hand(gpt, corrupted)[0], clean).numpy()
        np.testing.assert_allclose(gains, expected, atol=4e-6)


def test_all_edges_are_the_model_and_none_is_the_corrupted_run(gpt, curve):
    clean, corrupted = random_pair(8)
    with torch.no_grad():
        whole, nothing = (float(gap(gpt(tokens), clean).mean()) for tokens in (clean, corrupted))
    points = curve.set_index(["share", "method"])
    for method in ("one", "other"):
        assert points.loc[(1.0, method), "value"] == pytest.approx(whole, abs=1e-6)
        assert points.loc[(0.0, method), "value"] == pytest.approx(nothing, abs=1e-6)
        ends = points.loc[[(0.0, method), (1.0, method)]]
        for column in ("faithfulness", "ci_low", "ci_high"):
            assert ends[column].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert points.loc[(1.0, "one"), "changed"] == 0
    assert points.loc[(0.0, "one"), "changed"] > points.loc[(0.8, "one"), "changed"] > 0


def test_faithfulness_is_the_ratio_of_the_means_by_text(curve):
    for row in curve.itertuples():
        assert row.faithfulness == pytest.approx(
            np.mean(row.gain_by_text) / np.mean(row.gap_by_text), abs=1e-12
        )
        assert row.value == pytest.approx(row.nothing + np.mean(row.gain_by_text))


def test_the_interval_of_a_share_is_as_scipy_makes_it():
    rng = np.random.default_rng(0)
    gap_by_text = rng.gamma(9.0, size=12)
    gains = gap_by_text * np.array([[0.3], [0.9]]) + rng.normal(size=(2, 12))
    value, low, high = share_intervals(gains, gap_by_text)
    for row in range(2):
        found = peer.bootstrap(
            (gains[row], gap_by_text),
            lambda one, other, axis: one.mean(axis=axis) / other.mean(axis=axis),
            paired=True,
            vectorized=True,
            rng=np.random.default_rng(5),
        )
        ends = found.confidence_interval
        width = ends.high - ends.low
        assert value[row] == pytest.approx(gains[row].mean() / gap_by_text.mean())
        assert low[row] == pytest.approx(ends.low, abs=0.05 * width)  # other resamples
        assert high[row] == pytest.approx(ends.high, abs=0.05 * width)


def test_areas_are_trapezoids_of_the_means(curve):
    areas = curve_areas(curve).set_index("method")
    for method, points in curve.groupby("method"):
        f, shares = points["faithfulness"].to_numpy(), points["share"].to_numpy()
        assert areas.loc[method, "CPR"] == pytest.approx(np.trapezoid(f, shares), abs=1e-12)
        cmd = sum(
            (shares[i + 1] - shares[i]) * (abs(1 - f[i]) + abs(1 - f[i + 1])) / 2
            for i in range(len(f) - 1)
        )
        assert areas.loc[method, "CMD"] == pytest.approx(cmd, abs=1e-12)


def test_the_interval_of_an_area_under_the_curve_is_that_of_a_ratio_of_two_sums():
    """CPR is linear in the points, and so the ratio of one weighted sum of texts to another."""
    rng = np.random.default_rng(1)
    gap_by_text = rng.gamma(9.0, size=10)
    gains = gap_by_text * np.array([[0.1], [0.7], [1.2]]) + rng.normal(size=(3, 10))
    curve = pd.DataFrame({"method": "one", "share": [0.1, 0.5, 1.0], "n": 10})
    curve["gain_by_text"] = [tuple(row) for row in gains]
    curve["gap_by_text"] = [tuple(gap_by_text)] * 3
    areas = curve_areas(curve).iloc[0]
    weights = np.array([0.2, 0.45, 0.25])
    value, low, high = share_intervals((weights @ gains)[None], gap_by_text)
    assert areas["CPR"] == pytest.approx(value[0])
    assert areas["CPR_ci_low"] == pytest.approx(low[0])
    assert areas["CPR_ci_high"] == pytest.approx(high[0])
    assert 0 < areas["CMD_ci_low"] < areas["CMD"] < areas["CMD_ci_high"]


def test_sizes_are_counted_as_the_benchmark_counts_them():
    for edges in (110, 479, 1108, 2188, 32491, 179749):
        for share in MIB_SIZES:
            assert count_edges(share, edges) == int(share * edges)
    assert count_edges(0.29, 100) == 29


def test_no_interval_is_given_where_the_gap_may_be_none():
    gains, apart = np.array([[0.2, 0.1, 0.3, 0.2]]), np.array([1.0, -0.5, 0.8, 0.9])
    value, low, high = share_intervals(gains, apart)
    assert value[0] == pytest.approx(0.8 / 2.2)
    assert np.isnan([*low, *high]).all()
    assert np.isnan(share_intervals(gains[:, :2], np.array([1.0, 2.0]))[1]).all()
    with pytest.raises(UsageError, match="zero on average"):
        share_intervals(gains, np.array([1.0, -1.0, 1.0, -1.0]))


def test_a_curve_that_was_saved_has_the_same_areas(curve, tmp_path):
    with Run.open(tmp_path, "circuits", "one", {}) as run:
        run.save_table(curve, "curve")
        kept = run.table("curve")
    pd.testing.assert_frame_equal(curve_areas(kept), curve_areas(curve))


@pytest.mark.parametrize(
    ("ranked", "sizes", "said"),
    [
        ({}, MIB_SIZES, "no rankings: give at least one"),
        ({"one": shuffled(0)[:50]}, MIB_SIZES, "'one' has 50 edges and the largest size takes 100"),
        ({"one": [*shuffled(0)[:99], shuffled(0)[0]]}, [0.5], "more than once"),
        ({"one": ["a9.h0 -> logits"]}, [0.01], r"no writer 'a9\.h0'"),
        ({"one": shuffled(0)}, [0.5, 0.5], "rising order"),
        ({"one": shuffled(0)}, [0.5, 1.5], "from 0 to 1"),
        ({"one": shuffled(0)}, [], "rising order"),
    ],
)
def test_what_is_no_curve_is_refused(gpt, ranked, sizes, said):
    with pytest.raises(UsageError, match=said):
        faithfulness_curve(gpt, *random_pair(), gap, ranked, sizes=sizes, progress=False)


def test_areas_are_of_curves_with_one_point_at_each_size(curve):
    with pytest.raises(UsageError, match="no column gain_by_text"):
        curve_areas(curve.drop(columns="gain_by_text"))
    with pytest.raises(UsageError, match="each once; give one seed's curve"):
        curve_areas(pd.concat([curve, curve]))
    with pytest.raises(UsageError, match="two or more"):
        curve_areas(curve[curve["share"] == 1])
