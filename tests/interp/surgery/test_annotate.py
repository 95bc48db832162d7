import io
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from interp import surgery
from interp.errors import UsageError
from interp.surgery import annotate, figures

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
                "status": "changed",
                "noise": 0.05,
            }
        ]
    )


@pytest.fixture
def lines(source, table, retrained):
    return annotate.annotated(source, table, retrained, {"hook_y": 4, "hook_x": 5})


def test_every_line_of_the_file_is_there_with_its_headline(source, lines):
    assert lines["code"].tolist() == source.text.splitlines()
    by_line = lines.set_index("line")
    assert by_line.loc[4, "operator"] == "bypass-call"
    assert by_line.loc[4, "status"] == "leak"
    assert by_line.loc[4, "layer_deltas"] == "-0.25,0.125"
    assert by_line.loc[5, "retrained"] == 0.3
    assert by_line.loc[5, "delta"] == 2.0
    assert by_line.loc[5, "sites"] == "hook_x"
    assert by_line.loc[7, "status"] == "dead"
    assert by_line.loc[3, "status"] == ""


def test_the_terminal_shows_one_line_for_each_and_bars_in_proportion(source, lines):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(annotate.terminal(lines), no_wrap=True, overflow="crop")
    shown = console.export_text().splitlines()
    assert len(shown) == 1 + len(source.text.splitlines()) + 1
    assert shown[5].count("█") == 10 + 1  # the longest bar, and the largest of two layers
    assert "+2.000" in shown[5] and "+0.300" in shown[5] and "x = x + y" in shown[5]
    assert shown[4].split()[1] == "L"


def test_sparklines_are_relative_to_the_largest_and_mark_what_is_no_number():
    assert annotate.sparkline("0,0.5,-1,nan") == " ▄█x"
    assert annotate.sparkline("") == ""
    assert annotate.sparkline("0,0") == "  "


def test_figures_draw_what_the_table_holds(lines):
    before = dict(plt.rcParams)
    drawn = figures.annotated_source(lines)
    left, right, code = drawn.axes
    widths = [bar.get_width() for bar in left.containers[0]]
    assert sorted(width for width in widths if width) == [-0.5, 2.0]
    assert [bar.get_width() for bar in right.containers[0] if bar.get_width()] == [0.3]
    text = "\n".join(item.get_text() for item in code.texts)
    assert "x = x + y" in text and "class Model" in text and "return x" not in text
    scatter = figures.damage_and_relearnability(lines)
    assert any("noise: ±0.050" in item.get_text() for item in scatter.axes[0].texts)
    heat = figures.line_by_layer(lines)
    grid = heat.axes[0].images[0].get_array()
    assert grid.shape == (2, 2) and grid[0, 1] == 0.125
    assert heat.axes[1].images[0].get_array()[:, 0].tolist() == [-0.5, 2.0]
    assert dict(plt.rcParams) == before
    plt.close("all")


def test_a_table_without_what_a_figure_shows_is_one_sentence(source, table):
    bare = annotate.annotated(source, table[table["layer"] == "all"])
    with pytest.raises(UsageError, match="both cut post hoc and retrained"):
        figures.damage_and_relearnability(bare)
    with pytest.raises(UsageError, match="cut layer by layer"):
        figures.line_by_layer(bare)
    with pytest.raises(UsageError, match="no line of the table has an effect"):
        figures.annotated_source(bare[bare["status"] == ""])
