import numpy as np
import pytest
from matplotlib.figure import Figure

from interp.figures.intervals import draw_intervals, reach_of


@pytest.mark.parametrize("along", ["x", "y"])
def test_error_bars_reach_from_end_to_end_and_are_left_out_where_there_is_none(along):
    low, high = np.array([-0.1, np.nan, 2.0, 0.3]), np.array([0.4, np.nan, 7.0, 0.3])
    axes = Figure().subplots()
    draw_intervals(axes, np.arange(4), low, high, along=along)
    (bars,) = axes.collections
    value = 0 if along == "x" else 1
    segments = bars.get_segments()
    assert [segment[0, 1 - value] for segment in segments] == [0, 2, 3]
    drawn = [segment[:, value].tolist() for segment in segments]
    assert drawn == [pytest.approx(ends) for ends in ([-0.1, 0.4], [2.0, 7.0], [0.3, 0.3])]


def test_nothing_is_drawn_of_no_intervals():
    axes = Figure().subplots()
    draw_intervals(axes, 0.0, np.nan, np.nan)
    assert not axes.collections


def test_an_axis_holds_zero_and_every_number():
    assert reach_of([1.0, np.nan], [-0.5], 2.0, room=0.0) == (-0.5, 2.0)
    assert reach_of([np.nan], np.inf, room=0.0) == (0.0, 1.0)
    low, high = reach_of([-4.0, -1.0])
    assert low < -4 and high > 0
