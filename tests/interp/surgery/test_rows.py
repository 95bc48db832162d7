"""Trainings reduced over their seeds."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from interp import surgery
from interp.errors import SurgeryError
from interp.verdicts import Verdict, verdict_of

UNCUT = [2.0, 2.013, 1.991]
LOSSES = {"": UNCUT, "a": [2.3141592653589793, 2.35, 2.31], "b": [2.01, 2.0, 1.99]}


def trained(losses):
    """What ``Study.trainings`` gives: a row for each surgery and seed; None did not train."""
    return pd.DataFrame(
        {
            "id": id,
            "line": np.nan if id == "" else ord(id),
            "seed": seed,
            "status": "error" if value is None else "changed",
            "detail": "it fell over" if value is None else "",
            "value": math.nan if value is None else value,
        }
        for id, values in losses.items()
        for seed, value in enumerate(values)
    )


def test_trainings_reduce_to_welchs_difference_of_their_means():
    table = surgery.over_seeds(trained(LOSSES))
    assert list(table["id"]) == ["a", "b"] and list(table["line"]) == [97, 98]
    for row in table.to_dict("records"):
        peer = scipy_stats.ttest_ind(LOSSES[row["id"]], UNCUT, equal_var=False)
        ends = peer.confidence_interval(0.95)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((ends.low, ends.high), abs=1e-12)
        assert row["p"] == pytest.approx(peer.pvalue)
        assert row["delta"] == pytest.approx(row["value"] - row["baseline"])
        assert row["noise"] == pytest.approx(np.std(UNCUT, ddof=1))
        assert row["n"] == 3
    assert [verdict_of(row) for row in table.to_dict("records")] == [
        Verdict.RAISES,
        Verdict.NOT_SHOWN,
    ]


def test_the_order_of_rows_and_the_company_of_other_surgeries_do_not_matter():
    table = surgery.over_seeds(trained(LOSSES)).set_index("id")
    for seed in range(5):
        shuffled = surgery.over_seeds(trained(LOSSES).sample(frac=1, random_state=seed))
        pd.testing.assert_frame_equal(shuffled.set_index("id").loc[["a", "b"]], table)
    alone = surgery.over_seeds(trained({"": UNCUT, "b": LOSSES["b"]})).set_index("id")
    pd.testing.assert_frame_equal(alone, table.loc[["b"]], check_exact=True)


def test_two_seeds_that_agree_have_no_interval():
    row = surgery.over_seeds(trained({"": [2.0, 2.0001], "a": [3.310, 3.311]})).iloc[0]
    assert row["delta"] == pytest.approx(1.31045)
    assert np.isnan([row["ci_low"], row["ci_high"], row["p"]]).all()
    assert verdict_of(row.to_dict()) is Verdict.UNKNOWN


def test_a_training_that_failed_leaves_no_difference():
    table = surgery.over_seeds(trained(LOSSES | {"b": [2.01, None, 1.99]})).set_index("id")
    row = table.loc["b"]
    assert (row["status"], row["detail"], row["n"]) == ("error", "it fell over", 3)
    unknown = ["value", "delta", "ci_low", "ci_high", "p"]
    assert row[unknown].isna().all() and table.loc["a", unknown].notna().all()


@pytest.mark.parametrize("losses", [{"": [2.0, None, 2.0], "a": UNCUT}, {"a": UNCUT}])
def test_without_the_model_as_it_is_there_is_nothing_to_compare_with(losses):
    with pytest.raises(SurgeryError, match="cannot be trained and judged: it"):
        surgery.over_seeds(trained(losses))


def test_cuts_that_make_the_same_function_are_one_row_that_names_every_line():
    cuts = pd.DataFrame(
        [
            ("a", "m.py", 9, "b", 4.5),  # the same as a later one
            ("b", "m.py", 12, "", 4.5),
            ("c", "m.py", 20, "elsewhere", 2.0),  # the same as one that is not a headline
            ("d", "m.py", 21, "elsewhere", 2.0),
            ("e", "m.py", 22, "elsewhere", 2.0),
            ("f", "m.py", 30, "", 1.0),
        ],
        columns=["id", "file", "line", "same_as", "delta"],
    )
    found = surgery.one_per_function(cuts)
    assert list(found["id"]) == ["b", "c", "f"]
    assert list(found["where"]) == ["12 and 9", "20, 21 and 22", "30"]
    assert list(found["delta"]) == [4.5, 2.0, 1.0]
    two_files = surgery.one_per_function(cuts.head(2).assign(file=["m.py", "n.py"]))
    assert list(two_files["where"]) == ["n.py:12 and m.py:9"]
    assert surgery.one_per_function(cuts.head(0)).empty
