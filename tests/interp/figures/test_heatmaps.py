"""Heatmaps show what the table says, mark what is not sure, and draw any character."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from interp.errors import UsageError
from interp.figures import (
    attention,
    by_distance,
    head_scores,
    heads,
    positions,
)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def crosses(figure: Figure) -> list[list[tuple[float, float]]]:
    """For each panel, the cells that are crossed."""
    return [
        [tuple(point) for line in axes.lines for point in np.round(line.get_xydata()).tolist()]
        for axes in figure.axes
        if axes.images
    ]


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


@pytest.fixture
def effects() -> pd.DataFrame:
    """Two layers of three heads, ablated in two ways; the last head of each is not sure."""
    rows = [
        {
            "layer": layer,
            "head": head,
            "intervention": way,
            "delta": (layer + 1) * (head - 1) * scale,
            "p_adjusted": 0.5 if head == 2 else 0.001,
        }
        for way, scale in (("zero", 0.3), ("mean", 0.1))
        for layer in range(2)
        for head in range(3)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def patterns() -> pd.DataFrame:
    """One layer of two heads on a text of a space, a newline and an escape."""
    characters = " \n\x1b$"
    rows = [
        {"layer": 0, "head": head, "query": query, "key": key, "value": 1 / (query + 1)}
        for head in range(2)
        for query in range(4)
        for key in range(query + 1)
    ]
    table = pd.DataFrame(rows)
    table["query_character"] = [characters[query] for query in table["query"]]
    return table.assign(key_character=[characters[key] for key in table["key"]])


def test_every_head_is_where_its_layer_and_number_say_on_a_scale_centred_on_zero(effects):
    figure = heads(effects)
    zero, mean = images(figure)
    assert zero == pytest.approx(np.array([[-0.3, 0, 0.3], [-0.6, 0, 0.6]]))
    assert mean == pytest.approx(zero / 3)
    limits = {image.get_clim() for axes in figure.axes for image in axes.images}
    assert limits == {(-0.6, 0.6)}
    assert texts(figure).count("0.600") == 1
    assert "-0.000" not in texts(figure)


def test_cells_that_cannot_be_told_from_zero_are_crossed_and_the_cross_explained(effects):
    figure = heads(effects)
    assert crosses(figure) == [[(2, 0), (2, 1)]] * 2
    assert "no effect shown" in figure._supxlabel.get_text()
    sure = heads(effects.assign(p_adjusted=0.01))
    assert crosses(sure) == [[], []]
    assert sure._supxlabel is None


def test_of_many_cells_only_the_largest_say_their_number(effects):
    cells = [(layer, head) for layer in range(9) for head in range(8)]
    many = pd.DataFrame(cells, columns=["layer", "head"]).assign(intervention="zero", p_adjusted=0)
    many["delta"] = np.arange(72.0)
    assert texts(heads(many)) == ["67.000", "68.000", "69.000", "70.000", "71.000"]


def test_where_the_texts_differ_the_tick_shows_both_characters():
    cells = [(layer, pos) for layer in range(2) for pos in range(3)]
    table = pd.DataFrame(cells, columns=["layer", "pos"])
    table = table.assign(component="resid_pre", recovered=[0, 1.0, 0, 0, 0.5, 0], p_adjusted=np.nan)
    tokens = pd.DataFrame({"pos": [0, 1, 2], "clean": [*"a \n"], "corrupted": [*"ab\n"]})
    figure = positions(table, tokens)
    own = positions(table.merge(tokens.add_suffix("_token"), left_on="pos", right_on="pos_token"))
    labels = [[t.get_text() for t in f.axes[0].get_xticklabels()] for f in (figure, own)]
    assert labels[0] == labels[1]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "␣\n↓\nb", "⏎"]
    weights = [label.get_fontweight() for label in axes.get_xticklabels()]
    assert weights == ["normal", "bold", "normal"]
    assert images(figure)[0].tolist() == [[0, 1, 0], [0, 0.5, 0]]
    assert axes.images[0].get_clim() == (-1, 1)
    assert crosses(figure) == [[]]  # one pair has no test: nothing is called unsure


def test_patched_heads_have_a_panel_for_each_part_of_a_head(effects):
    table = effects.assign(recovered=effects["delta"], component=effects["intervention"])
    table["component"] = table["component"].map({"zero": "z", "mean": "k"})
    titles = [axes.get_title("left") for axes in heads(table).axes if axes.images]
    assert titles == ["output (z)", "key (k)"]


def test_a_pattern_shows_any_character_and_leaves_the_future_blank(patterns):
    for figure, panels in ((attention(patterns), 2), (attention(patterns, 0, 1), 1)):
        shown = images(figure)
        assert len(shown) == panels
        for cells in shown:
            assert np.isnan(cells[np.triu_indices(4, 1)].astype(float)).all()
            assert cells[3, 0] == pytest.approx(0.25)
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert labels == ["␣", "⏎", "\\x1b", "$"]
    assert texts(attention(patterns, 0, 1)).count(".5") == 2


def patterns_of(layers: int, heads: int, length: int) -> pd.DataFrame:
    code = "attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)"
    return pd.DataFrame(
        [
            {"layer": layer, "head": head, "query": query, "key": key, "value": 1 / (query + 1)}
            | {"query_character": f" word{query}", "key_character": f" word{key}"}
            | {"file": "m.py", "line": 198, "code": code}
            for layer in range(layers)
            for head in range(heads)
            for query in range(length)
            for key in range(query + 1)
        ]
    )


def test_patterns_stand_in_the_middle_of_their_figure_with_all_their_names():
    for figure in (attention(patterns_of(30, 9, 4)), attention(patterns_of(1, 1, 5), 0, 0)):
        drawn, bar = figure.axes
        left, right = drawn.get_tightbbox().x0, bar.get_tightbbox().x1
        assert left >= 0
        assert right <= figure.bbox.width
        assert left == pytest.approx(figure.bbox.width - right, abs=0.05 * figure.bbox.width)


def test_scores_and_distances_have_a_row_for_each_head(effects):
    zeroed = effects[effects["intervention"] == "zero"]
    scores = zeroed.assign(metric="induction", value=zeroed["head"] / 2, text="a text")
    assert images(head_scores(scores))[0].tolist() == [[0], [0.5], [1]] * 2
    several = pd.concat([scores, scores.assign(text="another text")])
    figure = head_scores(several, by="text")
    titles = [axes.get_title("left") for axes in figure.axes if axes.images]
    assert titles == ["a text", "another text"]
    distances = pd.concat([zeroed.assign(distance=back, value=0.5 / (back + 1)) for back in (0, 1)])
    assert images(by_distance(distances))[0].tolist() == [[0.5, 0.25]] * 6


def test_a_table_of_some_layers_and_heads_says_which(effects, patterns):
    one = effects[(effects["layer"] == 1) & (effects["head"] > 0)]
    figure = heads(one)
    assert images(figure)[0].tolist() == [[0, 0.6]]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    grid = attention(patterns.assign(layer=3).query("head == 1"))
    assert [axes.get_title("left") for axes in grid.axes if axes.images] == ["3.1"]


def test_a_table_that_lacks_something_is_one_sentence(effects, patterns):
    with pytest.raises(UsageError, match="the table has no column delta"):
        heads(effects.drop(columns="delta"))
    with pytest.raises(UsageError, match="no rows of heads"):
        heads(effects.iloc[:0])
    with pytest.raises(UsageError, match="no rows of heads"):
        heads(effects.assign(head=np.nan))
    with pytest.raises(UsageError, match="no patterns of any head; heads: none"):
        attention(patterns.iloc[:0])
    with pytest.raises(UsageError, match=r"no patterns of layer 0 head 7; heads: 0\."):
        attention(patterns, 0, 7)


def below(figure: Figure) -> list[str]:
    return figure._supxlabel.get_text().splitlines()


def test_a_figure_names_the_line_that_computes_what_it_shows(effects, patterns):
    line = {"file": "gpt/model.py", "line": 123, "code": "z = z.transpose(1, 2)"}
    said = "model.py:123 z = z.transpose(1, 2)"
    assert below(heads(effects.assign(**line)))[1:] == [said]
    assert below(attention(patterns.assign(**line))) == [said]
    assert below(attention(patterns.assign(**line), 0, 1)) == [said]
    scores = effects.drop_duplicates(["layer", "head"]).assign(metric="induction", value=0.5)
    assert below(head_scores(scores.assign(**line))) == [said]
    assert below(by_distance(scores.assign(distance=0, **line))) == [said]


def test_parts_that_are_made_on_lines_of_their_own_stand_before_them(effects):
    parts = [
        effects.iloc[:6].assign(component=name, recovered=0.5, file="m.py", line=line, code=code)
        for name, line, code in (("q", 7, "q, k = both"), ("k", 7, "q, k = both"), ("z", 9, "$z$"))
    ]
    figure = heads(pd.concat(parts))
    assert below(figure)[1:] == ["q, k: m.py:7 q, k = both", "z: m.py:9 $z$"]
    assert figure.get_figheight() > heads(pd.concat(parts).drop(columns="line")).get_figheight()


def test_a_figure_of_many_lines_says_how_many_it_leaves_out(patterns):
    lines = pd.DataFrame({"line": range(len(patterns))}, index=patterns.index)
    said = below(attention(patterns.assign(file="m.py", code="x = y", **lines)))
    assert said == [*(f"m.py:{n} x = y" for n in range(5)), "… and 15 other lines"]


def test_an_unknown_line_is_not_named(patterns):
    assert attention(patterns.assign(file=None, line=None, code=None))._supxlabel is None
