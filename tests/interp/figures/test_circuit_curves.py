"""Curves and points of circuits stand where their table says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from interp.errors import UsageError
from interp.figures import completeness, faithfulness_curves, minimality

SIZES = [0.001, 0.01, 0.1, 1.0]


@pytest.fixture
def curves():
    rows = [
        {
            "method": method,
            "share": share,
            "edges": max(1, round(2188 * share)),
            "faithfulness": share**power,
            "ci_low": share**power - 0.1,
            "ci_high": share**power + 0.2,
            "n": 24,
        }
        for method, power in (("exact", 0.2), ("random", 1.5))
        for share in SIZES
    ]
    return pd.DataFrame(rows)


def test_each_method_is_a_curve_within_its_interval(curves):
    figure = faithfulness_curves(curves)
    axes = figure.axes[0]
    drawn = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) == len(SIZES)}
    assert set(drawn) == {"exact", "random"}
    for method, rows in curves.groupby("method"):
        assert list(drawn[method].get_xdata()) == SIZES
        assert list(drawn[method].get_ydata()) == list(rows["faithfulness"])
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    reached = [band.get_paths()[0].vertices[:, 1] for band in bands]
    assert [(y.min(), y.max()) for y in reached] == [
        (rows["ci_low"].min(), rows["ci_high"].max()) for _, rows in curves.groupby("method")
    ]
    assert len({line.get_marker() for line in drawn.values()}) == 2
    assert len({line.get_linestyle() for line in drawn.values()}) == 2


def test_shares_are_percents_below_and_edges_above(curves):
    below, above = faithfulness_curves(curves).axes
    assert below.get_xscale() == "log" and below.get_xlim() == above.get_xlim()
    assert [label.get_text() for label in above.get_xticklabels()] == ["2", "22", "219", "2,188"]
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels[0] == "0.1 %" and labels[-1] == "100 %"


def test_what_is_over_texts_is_a_second_band_where_intervals_are_over_seeds(curves):
    seeds = curves.assign(texts_low=curves["ci_low"] - 1, texts_high=curves["ci_high"] + 1)
    axes = faithfulness_curves(seeds, over="seeds").axes[0]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    assert len(bands) == 4
    assert axes.get_ylim()[0] < seeds["texts_low"].min()
    assert axes.get_ylim()[1] > seeds["texts_high"].max()
    assert "over seeds; fainter band" in axes.get_title(loc="left")


def test_curves_without_intervals_say_so_and_what_cannot_be_drawn_is_refused(curves):
    bare = curves.assign(ci_low=np.nan, ci_high=np.nan)
    assert faithfulness_curves(bare).axes[0].get_title(loc="left") == "no intervals"
    with pytest.raises(UsageError, match="0 or less"):
        faithfulness_curves(curves.assign(share=0.0))
    with pytest.raises(UsageError, match="two rows"):
        faithfulness_curves(pd.concat([curves, curves]))
    with pytest.raises(UsageError, match="no curves"):
        faithfulness_curves(curves[:0])


def effect(delta, p=0.001):
    return {"delta": delta, "ci_low": delta - 0.1, "ci_high": delta + 0.1, "p_adjusted": p, "n": 24}


def points(axes):
    """Where each point is, and whether it is filled."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return [
        (line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor() != "white")
        for line in lines
    ]


def test_an_edge_that_may_not_be_needed_is_hollow():
    names = ["a0.h1 -> a1.h0.k", "embed -> m0", "m1 -> logits"]
    table = pd.DataFrame([effect(-0.5), effect(0.02, p=0.9), effect(-2.0)]).assign(edge=names)
    figure = minimality(table)
    axes = figure.axes[0]
    assert points(axes) == [(-2.0, 0, True), (-0.5, 1, True), (0.02, 2, False)]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["m1 -> logits", "a0.h1 -> a1.h0.k", "embed -> m0"]
    assert len(points(minimality(table, at_most=2).axes[0])) == 2
    assert "(2 of 3)" in minimality(table, at_most=2)._suptitle.get_text()
    with pytest.raises(UsageError, match="no edges"):
        minimality(table[:0])


def test_a_cut_that_the_circuit_feels_otherwise_is_filled_and_named():
    table = pd.DataFrame(
        [
            {"without": "a0.h1", "model": 1.0, "circuit": 2.5} | effect(1.5),
            {"without": "a1.h0, a1.h1", "model": 2.0, "circuit": 2.05} | effect(0.05, p=0.8),
        ]
    )
    figure = completeness(table)
    assert sorted(points(figure.axes[0])) == [(1.0, 2.5, True), (2.0, 2.05, False)]
    text = figure._supxlabel.get_text()
    assert "1  a0.h1  +1.500 nats [+1.400 to +1.600]" in text and "a1.h1" not in text
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == list(line.get_ydata())
    with pytest.raises(UsageError, match="no cuts"):
        completeness(table[:0])
