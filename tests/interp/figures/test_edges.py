"""Edges are drawn as their table says: as many arcs, as opaque, as many cells, none computed."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch

from interp import edge_looks, verdicts
from interp.circuits import edge_effects, graph_of_sizes
from interp.errors import UsageError
from interp.figures import damage_and_lasting_cost, edge_graph, edge_heatmap
from interp.figures.circuit_graph import FALLS, RISES
from interp.status import Status
from tests.interp.circuits.by_hand import gap, random_gpt, random_pair
from tests.interp.circuits.edge_tables import made_table


@pytest.fixture(scope="module")
def table():
    return made_table(graph_of_sizes(3, 4))


def arcs(figure):
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    return {patch.get_gid(): patch for patch in patches if patch.get_gid()}


def sure_rows(table):
    return table[[verdict.is_effect for verdict in verdicts.verdicts_of(table)]]


def said(figure):
    return figure.texts + [text for axes in figure.axes for text in axes.texts]


def test_there_is_an_arc_for_each_edge_with_an_effect_as_opaque_as_its_row_says(table):
    figure = edge_graph(table, at_most=10_000)
    rows = sure_rows(table)
    found = arcs(figure)
    assert 20 < len(rows) < len(table) and set(found) == set(rows["edge"])
    top = rows["delta"].abs().max()
    for row in rows.to_dict("records"):
        arc = found[row["edge"]]
        assert arc.get_alpha() == pytest.approx(0.12 + 0.88 * abs(row["delta"]) / top, abs=1e-3)
        color = to_rgb(arc.get_edgecolor())
        assert color == pytest.approx((RISES if row["delta"] > 0 else FALLS)[:3])
        assert (arc.get_linestyle() == "-") == (row["delta"] <= 0)  # told apart in grey too
    order = sorted(rows["delta"].abs())
    drawn = [abs(rows.set_index("edge").loc[name, "delta"]) for name in found]
    assert drawn == order  # the strongest on top


def test_only_the_strongest_are_drawn_and_the_figure_says_of_how_many(table):
    figure = edge_graph(table, at_most=5)
    sure = sure_rows(table)
    strongest = sure.loc[sure["delta"].abs().nlargest(5).index]
    assert set(arcs(figure)) == set(strongest["edge"])
    text = figure._supxlabel.get_text()
    assert text.startswith(f"the 5 strongest of {len(sure)} edges with an effect that shows")
    first = strongest.iloc[0]
    assert edge_looks.edge_sentence(first.to_dict(), "nats") in text
    assert "model.py:10 x = x + attn_out" in text and "model.py:20 q = self.query(x)" in text


def test_a_circuit_is_drawn_whatever_its_edges_do_alone(table):
    edges = list(table.loc[table["p_adjusted"] > 0.05, "edge"][:3])
    assert set(arcs(edge_graph(table, edges=edges))) == set(edges)
    with pytest.raises(UsageError, match=r"no edge 'a0.h0 -> a9.h0.k'; nearest"):
        edge_graph(table, edges=["a0.h0 -> a9.h0.k"])


def test_where_no_edge_has_an_effect_none_is_drawn_and_where_none_can_be_known_all_are(table):
    figure = edge_graph(table.assign(p_adjusted=0.5))
    assert arcs(figure) == {}
    assert figure._supxlabel.get_text().startswith(f"none of {len(table)} edges has an effect")
    few = table.assign(n=2, ci_low=np.nan, ci_high=np.nan, p_adjusted=np.nan)
    figure = edge_graph(few, at_most=10_000)
    assert len(arcs(figure)) == len(table)
    assert "fewer than three texts" in figure._supxlabel.get_text()


def ends(arc):
    (x, y), *_, (to, above) = arc.get_path().vertices.tolist()
    return x, y, to, above


def test_every_arc_leads_upwards_and_those_of_a_part_end_at_its_inputs(table):
    found = {
        name: ends(arc)
        for name, arc in arcs(edge_graph(table, edges=table["edge"], at_most=9999)).items()
    }
    assert len(found) == len(table)
    assert all(y < above for _, y, _, above in found.values())
    query, key, value = (found[f"embed -> a1.h2.{kind}"][2:] for kind in "qkv")
    assert query[0] < key[0] < value[0] and query[1] == key[1] == value[1]
    starts = {(x, y) for name, (x, y, *_) in found.items() if name.startswith("a0.h1 ->")}
    assert len(starts) == 1


def test_heads_that_share_a_key_have_it_between_them():
    table = made_table(graph_of_sizes(2, 4, 2))
    found = arcs(edge_graph(table, edges=table["edge"], at_most=9999))
    heads = [ends(found[f"a1.h{head} -> logits"])[0] for head in range(4)]
    for shared, pair in ((0, heads[:2]), (1, heads[2:])):
        key, value = (ends(found[f"embed -> a1.h{shared}.{kind}"])[2] for kind in "kv")
        assert pair[0] < key < value < pair[1]


def test_a_model_of_parallel_layers_and_of_whole_attentions_can_be_drawn():
    graph = graph_of_sizes(2, 2, parallel=True, split_embed=True)
    table = made_table(graph)
    whole = table["writer"].str.match(r"a\d+\.h0")
    table = table[~table["writer"].str.match(r"a\d+\.h1")].copy()
    layer = table.loc[whole, "from_layer"].astype(str)
    table.loc[whole, "writer"] = "a" + layer
    table.loc[whole, "from_head"] = pd.NA
    table["edge"] = table["writer"] + " -> " + table["reader"]
    found = arcs(edge_graph(table, edges=table["edge"], at_most=9999))
    assert len(found) == len(table)
    assert ends(found["embed -> logits"])[0] < ends(found["pos_embed -> logits"])[0]
    assert len(edge_heatmap(table).axes) == 5


def test_edges_of_two_meanings_are_not_drawn_on_one_scale(table):
    both = pd.concat([table, table.assign(meaning="direct")])
    for draw in (edge_graph, edge_heatmap):
        with pytest.raises(UsageError, match="2 kinds of meaning, 'open' and 'direct'"):
            draw(both)
        with pytest.raises(UsageError, match="no edges"):
            draw(table[:0])


def cells(figure):
    """Each panel's numbers, and the names of its rows and columns where each is named."""
    return [
        np.asarray(axes.images[0].get_array(), dtype=float) for axes in figure.axes if axes.images
    ]


def test_every_edge_is_one_cell_and_what_is_no_edge_is_none(table):
    panels = cells(edge_heatmap(table))
    assert [panel.shape for panel in panels] == [(12, 16), (12, 16), (12, 16), (4, 16)]
    drawn = np.concatenate([panel[np.isfinite(panel)] for panel in panels])
    assert sorted(drawn) == sorted(table["delta"]) and len(drawn) == len(table)
    writers = [
        "embed",
        *(
            f"a{layer}.h{head}" if head < 4 else f"m{layer}"
            for layer, head in itertools.product(range(3), range(5))
        ),
    ]
    for kind, panel in zip("qkv", panels, strict=False):
        for row, (layer, head) in enumerate(itertools.product(range(3), range(4))):
            for column, writer in enumerate(writers):
                found = table.loc[table["edge"] == f"{writer} -> a{layer}.h{head}.{kind}", "delta"]
                assert panel[row, column] == (
                    found.item() if len(found) else pytest.approx(np.nan, nan_ok=True)
                )


def test_cells_bear_the_sign_of_an_effect_that_shows_and_no_other(table):
    figure = edge_heatmap(table)
    counted = {"+": 0, "_": 0}
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() in counted:
                counted[line.get_marker()] += len(line.get_xdata())
    sure = sure_rows(table)["delta"]
    assert counted == {"+": (sure > 0).sum(), "_": (sure < 0).sum()}
    assert f"{len(sure)} of {len(table)} edges have an effect" in figure._supxlabel.get_text()


def test_two_thousand_edges_are_named_by_their_layers():
    figure = edge_heatmap(made_table(graph_of_sizes(6, 6)))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"layer {layer}" for layer in range(6)]
    across = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert across == ["embed", *labels]
    assert sum(np.isfinite(panel).sum() for panel in cells(figure)) == 2188


def test_an_edge_that_a_table_has_twice_is_refused(table):
    with pytest.raises(UsageError, match=r"two rows of the edge 'embed -> a0\.h0\.q'"):
        edge_heatmap(pd.concat([table, table[:1]]))


def test_a_real_table_is_drawn_and_left_as_it_was():
    clean, corrupted = random_pair()
    table = edge_effects(random_gpt(n_layer=2), clean, corrupted, gap, progress=False)
    before = table.copy(deep=True)
    assert len(arcs(edge_graph(table, edges=table["edge"]))) == len(table)
    panels = cells(edge_heatmap(table))
    assert sum(np.isfinite(panel).sum() for panel in panels) == len(table)
    pd.testing.assert_frame_equal(table, before)


def test_edges_that_are_cut_on_one_line_are_numbered_and_named_in_the_key():
    names = ["a0.h1 -> a1.h0.k", "a0.h0 -> a1.h1.k", "m0 -> logits"]
    costs = {"retrained_delta": [0.2, 0.1, 0.0], "retrained_status": Status.CHANGED}
    costs |= {"retrained_ci_low": 0.0, "retrained_ci_high": 0.3, "retrained_p_adjusted": 0.01}
    table = pd.DataFrame(
        {"edge": names, "file": "model.py", "line": [113, 113, 232], "code": "k = f(x)"}
        | {"after": "k = f(x - y)", "surgery": names, "status": Status.CHANGED, "n": 24}
        | {"delta": [2.0, 1.0, 0.5], "ci_low": 0.4, "ci_high": 2.2, "p_adjusted": 0.01}
        | costs
    )
    trainings = pd.DataFrame({"surgery": names * 3, "seed": [0] * 3 + [1] * 3 + [2] * 3})
    trainings["delta"] = np.linspace(0.0, 0.3, 9)
    figure = damage_and_lasting_cost(table, trainings, metric="logit difference")
    left, axes, key = figure.axes
    points = {text.get_text(): text.xy for text in axes.texts}
    assert points == {"1": (2.0, 0.2), "2": (1.0, 0.1), "3": (0.5, 0.0)}
    heading, *lines = key.texts[0].get_text().split("\n")
    assert heading == "edge" and len(lines) == 3
    assert " ".join(lines[0].split()) == "1 a0.h1 -> a1.h0.k 113: k = f(x) → k = f(x - y)"
    assert "with the edge cut" in axes.get_xlabel() and "logit difference" in left.get_ylabel()


def test_names_that_no_font_has_are_drawn_as_escapes(table):
    hostile = table.assign(metric="\x1b[31m</svg>$x_{1}$\u202e")
    text = " ".join(text.get_text() for text in said(edge_graph(hostile)))
    assert "\x1b" not in text and "\u202e" not in text
    edge_heatmap(hostile)


@pytest.mark.parametrize(
    "delta, largest, opacity",
    [(0.0, 1.0, 0.12), (-2.0, 2.0, 1.0), (1.0, 2.0, 0.56), (np.nan, 2.0, 0.12), (0.0, 0.0, 0.12)],
)
def test_opacity_grows_with_the_size_of_the_effect(delta, largest, opacity):
    assert edge_looks.opacity_of(delta, largest) == pytest.approx(opacity)
