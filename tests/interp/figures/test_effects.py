"""Bars and coloured text show what the table says, each with its line and its interval."""

import pandas as pd
import pytest

from interp.errors import UsageError
from interp.figures import loss_change_by_token, loss_change_in_text, ranked_effects


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [
        ("hook_a", "attention", "zero", 0.5, 0.01, "gpt/model.py", 12, "x = self.a(x)"),
        ("hook_a", "attention", "mean", 0.1, 0.90, "gpt/model.py", 12, "x = self.a(x)"),
        ("hook_b", "MLP", "zero", 2.0, 0.01, "gpt/model.py", 34, "y = self.b($x$)"),
        ("hook_b", "MLP", "mean", 1.5, 0.01, "gpt/model.py", 34, "y = self.b($x$)"),
    ]
    columns = ["site", "kind", "intervention", "delta", "p_adjusted", "file", "line", "code"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(ci_low=table["delta"] - 0.2, ci_high=table["delta"] + 0.2)


def test_bars_are_sorted_by_effect_and_named_by_file_line_and_code(table):
    axes = ranked_effects(table).axes[0]
    shown = [text.get_text() for text in axes.texts]
    names = [text for text in shown if "\n" in text]
    assert names == ["hook_b\nmodel.py:34 y = self.b($x$)", "hook_a\nmodel.py:12 x = self.a(x)"]
    assert [text for text in shown if "\n" not in text] == [
        *("zero +2.000", "mean +1.500"),
        *("zero +0.500", "mean +0.100"),
    ]
    bars = [patch for patch in axes.patches if patch.get_height() < 1]
    assert [bar.get_width() for bar in bars] == [2.0, 1.5, 0.5, 0.1]


def test_of_many_parts_the_largest_effects_are_shown_and_the_title_says_so(table):
    one = table.iloc[:1]
    many = pd.concat(
        [one.assign(site=f"hook_{n}", delta=(-1) ** n * n / 100, kind="MLP") for n in range(75)]
    )
    figure = ranked_effects(many.assign(ci_low=many["delta"], ci_high=many["delta"]))
    names = [text.get_text().split("\n")[0] for text in figure.axes[0].texts]
    assert {name for name in names if name.startswith("hook")} == {
        f"hook_{n}" for n in range(15, 75)
    }
    assert "the 60 of 75 with the largest effects" in figure.get_suptitle()


def test_a_bar_that_cannot_be_told_from_zero_is_hollow_and_kinds_differ_in_grey_too(table):
    figure = ranked_effects(table)
    axes, (legend,) = figure.axes[0], figure.legends
    *sure, unsure = [patch for patch in axes.patches if patch.get_height() < 1]
    assert unsure.get_facecolor() == (1, 1, 1, 1)
    assert all(bar.get_facecolor() != (1, 1, 1, 1) for bar in sure)
    assert sure[0].get_hatch() != sure[2].get_hatch()
    assert legend.get_title().get_text().startswith("hollow")


def test_no_number_lies_under_the_legend(table):
    shifted = table.assign(**{name: table[name] - 3 for name in ("delta", "ci_low", "ci_high")})
    for each in (table, shifted):
        figure = ranked_effects(each)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        under = legend.get_window_extent()
        assert not any(text.get_window_extent().overlaps(under) for text in figure.axes[0].texts)


def test_every_bar_has_its_interval(table):
    axes = ranked_effects(table).axes[0]
    reach = [segment[:, 0].tolist() for line in axes.collections for segment in line.get_segments()]
    assert reach == [pytest.approx([low, low + 0.4]) for low in (1.8, 1.3, 0.3, -0.1)]


def test_characters_are_in_the_tables_order_and_can_be_seen():
    table = pd.DataFrame({"token": [" ", "\n", "a"], "delta": [0.5, 0.2, -0.1], "n": [3, 4, 5]})
    table = table.assign(ci_low=table["delta"] - 0.1, ci_high=table["delta"] + 0.1)
    axes = loss_change_by_token(table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["␣\n3", "⏎\n4", "a\n5"]
    assert [bar.get_height() for bar in axes.patches] == [0.5, 0.2, -0.1]
    with pytest.raises(UsageError, match="no tokens to draw"):
        loss_change_by_token(table.iloc[:0])


def test_text_is_shown_character_by_token_in_order():
    table = pd.DataFrame(
        {"example": [1] * 3 + [0] * 3, "pos": [2, 1, 3] * 2, "token": [*"b a\nd\x00"]}
    ).assign(delta=[0.1, 0.2, 0.3] * 2)
    figure = loss_change_in_text(table)
    assert [text.get_text() for text in figure.axes[0].texts] == [*"␣ba", "d", "⏎", "0\n0"]


@pytest.mark.parametrize("shift", [0.0, -3.0, -50.0])
def test_no_interval_is_cut_off_by_the_axis(table, shift):
    moved = table.assign(**{name: table[name] + shift for name in ("delta", "ci_low", "ci_high")})
    moved.loc[0, ["ci_low", "ci_high"]] = moved.loc[0, "delta"] - 40, moved.loc[0, "delta"] + 40
    low, high = ranked_effects(moved).axes[0].get_xlim()
    assert low <= min(0.0, moved["ci_low"].min()) and high >= max(0.0, moved["ci_high"].max())


def test_too_few_texts_for_an_interval_are_drawn_hollow_without_one(table):
    blank = table.assign(ci_low=float("nan"), ci_high=float("nan"), p_adjusted=float("nan"))
    axes = ranked_effects(blank).axes[0]
    assert not axes.collections
    bars = [patch for patch in axes.patches if patch.get_height() < 1]
    assert all(bar.get_facecolor() == (1, 1, 1, 1) for bar in bars)
