"""Tokens of any kind as labels: none stands on another, and none is lost without a sign."""

import itertools

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from interp.characters import shorten_text, width_of
from interp.figures import attention, loss_change_by_token, loss_change_in_text, positions
from interp.figures.style import (
    CODE_LINE,
    MONO,
    SANS,
    cell_text,
    drawable,
    finish_layout,
    tick_label,
)
from interp.figures.tokens import wrapped_rows

WIDE = ["<|endoftext|>", "Ġthe", "🦊", "日", "本", "Ġinternationalization", "\n", "\u202e", "x"]


def spans(labels, across):
    boxes = [label.get_window_extent() for label in labels if label.get_text().strip()]
    return sorted((box.x0, box.x1) if across else (box.y0, box.y1) for box in boxes)


def overlapping(axes):
    """Pairs of tick labels that share more than a line's blank."""
    return [
        (one, other)
        for axis, across in ((axes.xaxis, True), (axes.yaxis, False))
        for one, other in itertools.pairwise(spans(axis.get_ticklabels(), across))
        if one[1] - other[0] > 0.25 * min(one[1] - one[0], other[1] - other[0])
    ]


def patterns(tokens):
    queries, keys = np.tril_indices(len(tokens))
    names = np.array(tokens, dtype=object)
    table = pd.DataFrame({"layer": 0, "head": 0, "query": queries, "key": keys, "value": 0.1})
    return table.assign(query_character=names[queries], key_character=names[keys])


def by_token(tokens):
    table = pd.DataFrame({"token": tokens, "delta": 0.5, "ci_low": 0.4, "ci_high": 0.6})
    return table.assign(n=1234)


def by_position(tokens):
    return pd.DataFrame(
        {
            "component": "resid_pre",
            "layer": layer,
            "pos": pos,
            "recovered": 0.5,
            "p_adjusted": 0.01,
            "clean_token": token,
            "corrupted_token": "🐶" if pos == 2 else token,
        }
        for layer in (0, 1)
        for pos, token in enumerate(tokens)
    )


@pytest.mark.parametrize("tokens", [WIDE, WIDE * 4, [*"def f(x):\n  y"] * 9], ids=len)
@pytest.mark.parametrize(
    "draw",
    [
        lambda tokens: attention(patterns(tokens), 0, 0),
        lambda tokens: loss_change_by_token(by_token(tokens[:40])),
        lambda tokens: positions(by_position(tokens)),
    ],
    ids=["attention", "characters", "positions"],
)
def test_no_label_stands_on_another(draw, tokens):
    figure = draw(tokens)
    assert [pair for axes in figure.axes if axes.axison for pair in overlapping(axes)] == []
    assert figure.axes[0].get_xaxis().get_label().get_window_extent().y0 >= -1


def test_labels_that_have_room_stay_as_they_are():
    figure = loss_change_by_token(by_token([*"etaoin"]))
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [f"{c}\n1234" for c in "etaoin"]
    assert {label.get_rotation() for label in labels} == {0.0}
    assert figure.get_figheight() == pytest.approx(2.8 + 1.2 * CODE_LINE)  # and a line of notes


def test_where_not_even_small_labels_fit_only_some_are_shown():
    figure = Figure(figsize=(2, 2), layout="constrained")
    axes = figure.subplots()
    axes.set_xticks(range(300), [str(number) for number in range(300)])
    axes.set_xlim(0, 300)
    finish_layout(figure)
    shown = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    step = int(shown[1])
    assert shown == [str(number) for number in range(0, 300, step)]  # each at its own place
    assert 1 < step < 30
    assert overlapping(axes) == []


def test_letters_in_a_text_stay_in_their_cells():
    characters = [*"def f(🦊, 日本): return 👩\n"] + ["a"] * 50
    for tokens in (characters, WIDE):
        table = pd.DataFrame({"example": 0, "pos": range(len(tokens)), "token": tokens})
        figure = loss_change_in_text(table.assign(delta=0.1))
        axes = figure.axes[0]
        unit = np.diff(axes.transData.transform([[0, 0], [1, 0]])[:, 0])[0]
        cells = [cell for row in wrapped_rows(table.assign(delta=0.1)) for cell in row["width"]]
        for text, width in zip(axes.texts, cells, strict=True):
            assert text.get_window_extent().width <= 1.05 * unit * width, text.get_text()


def test_an_escape_is_its_digits_in_two_rows_and_a_long_token_is_shortened():
    bare = ["DejaVu Sans"]
    assert cell_text("\U0001f98a", bare, 6.0) == ("1f9\n8a", 2.0)
    assert cell_text("a", bare, 6.0) == ("a", 6.0)
    assert cell_text("abc", bare, 6.0) == ("abc", 2.0)
    assert tick_label("Ġinternationalization") == "Ġinternat…"
    assert width_of(shorten_text("日本語日本語", 5)) <= 5


def test_a_font_of_this_machine_draws_what_ours_lacks(tmp_path, monkeypatch):
    """A font that has one character, U+65E5, as a square."""
    pen = TTGlyphPen(None)
    for act, point in (("moveTo", (0, 0)), ("lineTo", (0, 700)), ("lineTo", (700, 700))):
        getattr(pen, act)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "day"])
    builder.setupCharacterMap({0x65E5: "day"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "day": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "day": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Wider Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "wider.ttf")
    assert drawable("日", SANS[:1]) == "\\u65e5"
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "wider.ttf")
    assert drawable("日本", [*MONO[:1], "Wider Test"]) == "日\\u672c"
    figure = Figure()
    figure.text(0.1, 0.5, "a日", family=[SANS[0], "Wider Test"])
    figure.draw_without_rendering()  # a glyph that is missing is a warning, and that an error
