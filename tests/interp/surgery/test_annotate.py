import io
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from interp import figures, surgery
from interp.errors import UsageError
from interp.figures.source import number_in_cell
from interp.report.bars import Scale
from interp.stats import linear_up_to
from interp.surgery import annotate
from interp.surgery.terminal import sparkline, terminal

CODE = """
    class Model:
        def forward(self, x):
            y = self.mix(x)
            x = x + y
            if x is None:
                x = "<b>&never</b>"
            return x
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(textwrap.dedent(CODE))
    return surgery.read_source(path)


@pytest.fixture
def table():
    def row(line, operator, status, delta, layer="all", **more):
        name = f"small.py:{line}:{operator or 'dead'}"
        return {
            "id": name if layer == "all" else f"{name}@{layer}",
            "surgery": name,
            "file": "small.py",
            "line": line,
            "operator": operator,
            "code": CODE.splitlines()[line - 1].strip(),
            "after": f"after {operator}",
            "reading": f"reading of {operator}",
            "layer": layer,
            "status": status,
            "detail": "",
            "delta": delta,
            "ci_low": delta - 0.1,
            "ci_high": delta + 0.1,
            **more,
        }

    return pd.DataFrame(
        [
            row(4, "zero", "changed", 9.0),
            row(4, "bypass-call", "leak", -0.5),
            row(4, "bypass-call", "leak", -0.25, "0"),
            row(4, "bypass-call", "leak", 0.125, "1"),
            row(5, "cut-skip", "changed", 2.0),
            row(5, "cut-skip", "changed", 1.0, "0"),
            row(5, "cut-skip", "changed", np.nan, "1", status_="nonfinite"),
            row(7, "", "dead", np.nan, reading=np.nan, after=np.nan),
            row(8, "zero", "equivalent", 0.0),
        ]
    )


@pytest.fixture
def retrained():
    return pd.DataFrame(
        [
            {
                "surgery": "small.py:5:cut-skip",
                "delta": 0.3,
                "ci_low": 0.2,
                "ci_high": 0.4,
                "p_adjusted": 0.01,
                "n": 3,
                "status": "changed",
            }
        ]
    )


@pytest.fixture
def lines(source, table, retrained):
    return annotate.annotated(source, table, retrained, {"hook_y": 4, "hook_x": 5})


def test_a_cut_in_each_layer_alone_is_a_row_each(table):
    alone = annotate.by_layer(table).set_index(["surgery", "layer"])["delta"]
    assert alone["small.py:4:bypass-call"].to_dict() == {0: -0.25, 1: 0.125}


def test_every_line_of_the_file_is_there_with_its_headline(source, lines):
    assert lines["code"].tolist() == source.text.splitlines()
    by_line = lines.set_index("line")
    assert by_line.loc[4, "operator"] == "bypass-call"
    assert by_line.loc[4, "status"] == "leak"
    assert by_line.loc[5, "retrained_delta"] == 0.3
    assert by_line.loc[5, "delta"] == 2.0
    assert by_line.loc[5, "sites"] == ("hook_x",)
    assert by_line.loc[7, "status"] == "dead"
    assert by_line.loc[3, "status"] == ""


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_terminal_shows_lines_with_an_effect_whole_and_counts_others(lines, table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal(lines, annotate.by_layer(table), width))
    text = console.export_text()
    shown = text.splitlines()
    assert all(len(line) <= width for line in shown)
    (at,) = [number for number, line in enumerate(shown) if line.startswith("   5 ")]
    assert shown[at].count("█") == 10 + 1  # the longest bar, and the largest of two layers
    assert "+2.000" in shown[at] and "+0.300" in shown[at]
    assert " ".join(shown[at : at + 3]).count("small.py:5:cut-skip") == 1
    assert "x = x + y → after cut-skip" in [line.strip() for line in shown[at : at + 3]]
    (leak,) = [line for line in shown if line.startswith("   4 ")]
    assert " L " in leak
    assert "L: later tokens reach earlier logits" in " ".join(text.split())


def test_sparklines_are_relative_to_the_largest_and_mark_what_is_no_number():
    assert sparkline([0.0, 0.5, -1.0, float("nan")]) == " ▄█x"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "  "


@pytest.fixture
def trainings():
    deltas = {"": (-0.01, 0.0, 0.01), "small.py:5:cut-skip": (0.25, 0.3, 0.35)}
    return pd.DataFrame(
        {"surgery": surgery, "seed": seed, "delta": delta}
        for surgery, of in deltas.items()
        for seed, delta in enumerate(of)
    )


def reached(axes, along=0):
    """The ends of every error bar that is drawn."""
    segments = [part for bars in axes.collections for part in bars.get_segments()]
    ends = [sorted(part[:, along]) for part in segments]
    return [pair for pair in ends if pair[0] != pair[1]]


def test_figures_draw_what_the_table_holds(lines, table, trainings):
    before = dict(plt.rcParams)
    drawn = figures.lines(lines, trainings)
    left, right, code = drawn.axes
    widths = [bar.get_width() for bar in left.patches]
    assert sorted(width for width in widths if width) == [-0.5, 2.0]
    assert [bar.get_width() for bar in right.patches if bar.get_width()] == [0.3]
    text = "\n".join(item.get_text() for item in code.texts)
    assert "x = x + y" in text and "class Model" in text and "return x" not in text
    scatter = figures.damage_and_lasting_cost(lines, trainings)
    heat = figures.lines_by_layer(lines, annotate.by_layer(table))
    grid = heat.axes[0].images[0].get_array()
    assert grid.shape == (2, 2) and grid[0, 1] == 0.125
    assert heat.axes[1].images[0].get_array()[:, 0].tolist() == [-0.5, 2.0]
    assert scatter.axes[0].get_xticklabels()[0].get_text().startswith("as it is")
    assert dict(plt.rcParams) == before
    plt.close("all")


def test_error_bars_end_where_the_tables_intervals_do_and_every_seed_is_a_point(lines, trainings):
    left, right, _ = figures.lines(lines, trainings).axes
    assert reached(left) == [pytest.approx(ends) for ends in ([-0.6, -0.4], [1.9, 2.1])]
    assert reached(right) == [pytest.approx([0.2, 0.4])]
    points = [list(line.get_xdata()) for line in right.lines if line.get_marker() == "o"]
    assert [0.25, 0.3, 0.35] in points
    aside, axes, _ = figures.damage_and_lasting_cost(lines, trainings).axes
    assert reached(axes, 0) == [pytest.approx([1.9, 2.1])]
    assert reached(axes, 1) == [pytest.approx([0.2, 0.4])]
    seeds = [list(line.get_ydata()) for line in axes.lines]
    assert [0.25, 0.3, 0.35] in seeds
    assert [-0.01, 0.0, 0.01] in [list(line.get_ydata()) for line in aside.lines]
    for each, along in ((left, "x"), (right, "x"), (axes, "x"), (axes, "y")):
        low, high = getattr(each, f"get_{along}lim")()
        for start, end in reached(each, 0 if along == "x" else 1):
            assert low <= start and end <= high


def test_an_interval_far_beyond_its_bar_is_drawn_whole(lines):
    wide = lines.assign(ci_low=lines["delta"] - 30, ci_high=lines["delta"] + 30)
    axes = figures.lines(wide).axes[0]
    low, high = axes.get_xlim()
    assert low <= -30.5 and high >= 32.0
    hollow = [bar.get_facecolor() == (1, 1, 1, 1) for bar in axes.patches if bar.get_width() > 0]
    assert hollow == [True]


def test_two_seeds_are_points_without_error_bars_and_hollow(source, table, trainings):
    two = pd.DataFrame({"surgery": ["small.py:5:cut-skip"], "delta": [1.31], "n": [2]})
    two = two.assign(status="changed", ci_low=np.nan, ci_high=np.nan, p_adjusted=np.nan)
    lines = annotate.annotated(source, table, two)
    _, axes, _ = figures.damage_and_lasting_cost(lines, trainings[trainings["seed"] < 2]).axes
    assert reached(axes, 1) == []
    assert [0.25, 0.3] in [list(line.get_ydata()) for line in axes.lines]
    (large,) = [line for line in axes.lines if line.get_markersize() == 5]
    assert large.get_markerfacecolor() == "white"
    shown = " ".join(terminal(lines, annotate.by_layer(table)).plain.split())
    assert "+1.310*" in shown and "+0.000*: no interval" in shown


def test_a_line_whose_damage_was_not_measured_stands_aside(source, table, retrained):
    unmeasured = table.assign(delta=table["delta"].where(table["line"] != 5))
    lines = annotate.annotated(source, unmeasured, retrained)
    assert np.isnan(lines.set_index("line").loc[5, "delta"])
    aside, axes, _ = figures.damage_and_lasting_cost(lines).axes
    assert [[1.0], [0.3]] in [[list(x) for x in line.get_data()] for line in aside.lines]
    assert not [line for line in axes.lines if line.get_markersize() == 5]


def test_the_terminal_brackets_what_shows_no_effect(source, table):
    table = table.assign(p_adjusted=np.where(table["line"] == 5, 0.3, 0.001))
    shown = terminal(annotate.annotated(source, table), annotate.by_layer(table)).plain
    assert "(+2.000)" not in shown and "1 no effect shown" in " ".join(shown.split())


def test_a_table_without_what_a_figure_shows_is_one_sentence(source, table):
    bare = annotate.annotated(source, table[table["layer"] == "all"])
    with pytest.raises(UsageError, match="no line of the table was retrained"):
        figures.damage_and_lasting_cost(bare)
    with pytest.raises(UsageError, match="cut layer by layer"):
        figures.lines_by_layer(bare, annotate.by_layer(table.iloc[:0]))
    with pytest.raises(UsageError, match="no line of the table has an effect"):
        figures.lines(bare[bare["status"] == ""])


@pytest.fixture
def two_files(lines, table, trainings):
    """The same lines in two files: the second's of half the effect, with comments."""

    def renamed(frame):
        return frame.map(rename)

    def rename(value):
        return value.replace("small.py", "more/small.py") if isinstance(value, str) else value

    other = renamed(lines).assign(delta=lines["delta"] / 2)
    other["code"] = other["code"].where(other["code"] == "", other["code"] + "   # why  it is so")
    both = pd.concat([lines.assign(file="one/small.py"), other], ignore_index=True)
    again = renamed(trainings)
    return both, pd.concat([table, renamed(table)]), pd.concat([trainings, again[9:]])


def test_figures_of_several_files_say_of_which_each_line_is(two_files):
    lines, table, trainings = two_files
    drawn = figures.lines_by_layer(lines, annotate.by_layer(table))
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert [label.partition(": ")[0] for label in labels] == [
        *("one/small.py:4", "one/small.py:5", "more/small.py:4", "more/small.py:5")
    ]
    assert labels[3].endswith("x = x + y → after cut-skip")  # no comment
    assert drawn.get_suptitle().endswith("of one/small.py and more/small.py")
    texts = [text.get_text() for text in figures.lines(lines).axes[2].texts]
    assert sum(text.lstrip().startswith("more/small.py:") for text in texts) == len(texts) / 2
    scatter = figures.damage_and_lasting_cost(lines, trainings)
    key = next(
        text.get_text()
        for axes in scatter.axes
        for text in axes.texts
        if "line\n" in text.get_text()
    )
    assert "one/small.py:5  x = x + y →" in key and "more/small.py:5  x = x + y →" in key
    plt.close("all")


def test_the_terminal_counts_the_other_lines_of_each_file(two_files):
    lines, table, _ = two_files
    hidden = lines["file"].eq("more/small.py") & lines["line"].eq(5)
    quiet = lines.assign(
        status=lines["status"].mask(hidden, "error"), delta=lines["delta"].mask(hidden)
    )
    quiet["retrained_delta"] = quiet["retrained_delta"].mask(hidden)
    said = " ".join(terminal(quiet, annotate.by_layer(table)).plain.split())
    assert "1 the model does not run or train without it" in said
    assert "# why" not in said


def test_numbers_fit_their_cells_and_large_effects_do_not_hide_small_ones():
    cells = [number_in_cell(value) for value in (-0.001, 0.456, -9.99, 51.23, 487.2)]
    assert cells == ["0.00", "0.46", "-9.99", "51.2", "487"]
    even, uneven = [1.0, 2.0, 30.0], [0.0, 0.5, 2.0, 4.0, -490.0]
    assert linear_up_to(even) is None and linear_up_to(uneven) == 1.0
    scale = Scale.of([{"delta": value} for value in (0.5, 2.0, 4.0, 490.0)])
    assert 0 < scale.at(0.5) < scale.at(2.0) < scale.at(4.0) < scale.at(490.0) == 100
    assert scale.at(4.0) > 25
