"""Orders of edges, and how they compare with exact effects."""

import jaxtyping
import numpy as np
import pandas as pd
import pytest

from interp.circuits.finding import audit_edges, rank_edges
from interp.errors import UsageError

SCORES = pd.DataFrame(
    {
        "edge": ["one", "two", "three", "four"],
        "method": "EAP",
        "score": [-3.0, 2.0, 0.5, -0.1],
        "towards": -1,
    }
)


def test_absolute_order_is_by_size():
    assert rank_edges(SCORES) == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    ("towards", "expected"),
    [(None, ["one", "four", "three", "two"]), (1, ["two", "three", "four", "one"])],
)
def test_signed_order_begins_where_the_cut_goes_towards_nothing(towards, expected):
    assert rank_edges(SCORES, by="signed", towards=towards) == expected


def test_equal_scores_stay_in_the_tables_order():
    assert rank_edges(SCORES.assign(score=1.0)) == list(SCORES["edge"])


def test_an_audit_counts_signs_and_shares():
    exact = pd.DataFrame({"edge": ["four", "two", "one"], "score": [0.2, 1.0, -2.0]})
    audit = audit_edges(SCORES, exact)
    assert (audit.edges, audit.with_effect, audit.wrong_signs) == (3, 3, 1)
    assert audit.correlation == pytest.approx(np.corrcoef([-0.1, 2, -3], [0.2, 1, -2])[0, 1])
    assert audit.rank_correlation == pytest.approx(1)
    assert audit.overlap == {1: 1.0}
    assert "the sign differs at 1 of 3; found 100% of the top 1" in str(audit)


def test_an_audit_finds_what_the_largest_scores_miss():
    edges = [f"edge {number}" for number in range(100)]
    scores = pd.DataFrame({"edge": edges, "method": "EAP", "score": np.arange(100.0)})
    exact = pd.DataFrame({"edge": edges, "delta": np.arange(100.0)[::-1]})
    exact.loc[99, "delta"] = 1000.0
    assert audit_edges(scores, exact).overlap == {1: 1.0, 5: 0.2, 10: 0.1}


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"method": ["EAP", "EAP", "EAP", "exact"]}, {}, "2 methods"),
        ({"score": [1, np.nan, 2, 3]}, {}, "1 edges of the table have no score"),
        ({"towards": 0}, {"by": "signed"}, "give towards=-1 or 1"),
        ({}, {"by": "size"}, "by is 'size'"),
    ],
)
def test_what_has_no_order_is_refused(change, options, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(UsageError, match=said):
        rank_edges(SCORES.assign(**change), **options)


@pytest.mark.parametrize(
    ("exact", "said"),
    [
        ({"edge": ["five"], "score": [1.0]}, "five and 0 other edges have no score"),
        ({"edge": [], "score": []}, "no exact effects"),
        ({"edge": ["one"], "delta": [1.0], "meaning": ["direct"]}, "take meaning='open'"),
    ],
)
def test_what_cannot_be_compared_is_refused(exact, said):
    with pytest.raises(UsageError, match=said):
        audit_edges(SCORES, pd.DataFrame(exact))
