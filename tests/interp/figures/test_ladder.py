"""What is promised of the ladder's figures."""

import math

import pandas as pd
import pytest

from interp.errors import UsageError
from interp.figures import scaled_scores, staircase, steps

SUMMARY = pd.DataFrame(
    {
        "rung": ["bigram", "one $head$", "blocks"],
        "train": [2.4, 2.3, 2.35],
        "val": [2.5, 2.31234, 2.4],
        "gain": [math.nan, 0.18766, -0.08766],
        "published_low": [2.5, math.nan, 2.3],
        "published_high": [2.5, math.nan, 2.45],
        "diff": ["", "--- a\n+++ b\n ...\n-x = 1\n+x = 2\n same\n", "--- a\n+++ b\n+y\n" * 20],
    }
)


def said(figure) -> list[str]:
    return [
        text.get_text()
        for axes in figure.axes
        for text in [*axes.texts, axes.title, *axes.get_xticklabels()]
    ]


def test_the_staircase_steps_at_the_losses_and_says_them():
    figure = staircase(SUMMARY)
    (stairs,) = figure.axes[0].patches
    assert stairs.get_data().values.tolist() == SUMMARY["val"].tolist()
    assert {"2.5000", "2.3123", "2.4000"} <= set(said(figure))


def test_steps_stand_beside_the_lines_they_change():
    figure = steps(SUMMARY)
    texts = said(figure)
    assert [text for text in texts if text.strip() in ("+0.188", "-0.088")]
    assert "-x = 1" in texts
    assert "+x = 2" in texts
    assert " same" not in texts
    assert any("changed lines more" in text for text in texts)
    widths = [axes.patches[0].get_width() for axes in figure.axes[::2]]
    assert widths == SUMMARY["gain"].tolist()[1:]


def test_scores_are_drawn_as_given():
    rows = {"variance": 1.0, "variance_sd": 0.1, "entropy": 2.0, "entropy_sd": 0.1, "uniform": 3.0}
    table = pd.DataFrame(
        {"d_head": d, "scaled": scaled, **rows} for d in (1, 4) for scaled in (False, True)
    )
    left, right = scaled_scores(table).axes
    assert left.get_xlabel() == right.get_xlabel() == "width of the head, d_k"
    assert [list(line.get_xdata()) for line in left.get_lines()[:1]] == [[1, 4]]


@pytest.mark.parametrize("draw", [staircase, steps, scaled_scores])
def test_a_table_that_lacks_a_column_is_refused(draw):
    with pytest.raises(UsageError, match="no column"):
        draw(pd.DataFrame({"other": [1]}))


def test_a_ladder_without_steps_is_refused():
    with pytest.raises(UsageError, match="climb at least two"):
        steps(SUMMARY[:1])
    with pytest.raises(UsageError, match="no rungs"):
        staircase(SUMMARY[:0])
