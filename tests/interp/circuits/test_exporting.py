"""What is written for other tools is read back as it was, by them and by us."""

import csv
import json
import math

import networkx
import numpy as np
import pandas as pd
import pytest

from interp.circuits import edge_effects, graph_of_sizes, take_apart
from interp.circuits.exporting import (
    from_eap_json,
    from_graphml,
    to_csv,
    to_eap_json,
    to_graphml,
    to_mib_json,
)
from interp.errors import UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import gap, random_gpt, random_pair


@pytest.fixture(scope="module")
def effects():
    return edge_effects(random_gpt(n_layer=2), *random_pair(batch=3), gap, progress=False)


def scored(graph, **columns):
    edges = [str(edge) for edge in graph.edges]
    scores = np.random.default_rng(0).normal(size=len(edges))
    return pd.DataFrame({"edge": edges, "score": scores} | columns)


READ = {"eap": (to_eap_json, from_eap_json), "graphml": (to_graphml, from_graphml)}


@pytest.mark.parametrize("kind", READ)
def test_what_is_read_back_has_the_same_edges_scores_and_flags(kind, effects, tmp_path):
    write, read = READ[kind]
    circuit = list(effects["edge"][::3])
    options = {"d_model": 8} if kind == "eap" else {}
    path = write(effects, tmp_path / "a folder" / "circuit", circuit=circuit, **options)
    back = read(path).set_index("edge").loc[effects["edge"]].reset_index()
    for name in ("edge", "writer", "reader", "kind", "layer", "head", "from_layer", "from_head"):
        assert list(back[name].astype(object)) == list(effects[name].astype(object))
    assert list(back["score"]) == list(effects["delta"])  # to the last digit
    assert list(back["edge"][back["in_circuit"]]) == circuit
    again = read(write(back, tmp_path / "again", **options))  # flags of the table's own
    pd.testing.assert_frame_equal(
        again.sort_values("edge", ignore_index=True), back.sort_values("edge", ignore_index=True)
    )


@pytest.mark.parametrize("parallel", [False, True])
def test_eap_igs_file_names_parts_as_eap_ig_does(parallel, tmp_path):
    graph = graph_of_sizes(2, 3, parallel=parallel)
    path = to_eap_json(scored(graph), tmp_path / "g.json", d_model=12, circuit=["a0.h2 -> a1.h0.k"])
    held = json.loads(path.read_text())
    assert held["cfg"] == {
        "n_layers": 2,
        "n_heads": 3,
        "parallel_attn_mlp": parallel,
        "d_model": 12,
    }
    parts = [f"a{layer}.h{head}" for layer in range(2) for head in range(3)]
    assert {*held["nodes"]} == {"input", "logits", "m0", "m1", *parts}
    kept = {name for name, facts in held["nodes"].items() if facts["in_graph"]}
    assert kept == {"input", "logits", "a0.h2"}
    expected = (
        {  # every sender before a receiver, by their rule
            f"{one}->{other}"
            for layer in range(2)
            for one in ["input", *parts[: 3 * layer], *(["m0"] if layer else [])]
            for other in [*(f"a{layer}.h{h}<{k}>" for h in range(3) for k in "qkv"), f"m{layer}"]
        }
        | {f"{one}->logits" for one in ["input", "m0", "m1", *parts]}
    )
    if not parallel:
        expected |= {f"a{layer}.h{h}->m{layer}" for layer in range(2) for h in range(3)}
    assert {*held["edges"]} == expected
    assert held["edges"]["a0.h2->a1.h0<k>"]["in_graph"]
    assert sum(facts["in_graph"] for facts in held["edges"].values()) == 1


def test_mibs_file_stands_where_its_evaluation_looks(effects, tmp_path):
    path = to_mib_json(
        *(effects, tmp_path), task="greater_than", model="gpt2", method="exact", d_model=8
    )
    assert path == tmp_path / "exact_patching_edge" / "greater-than_gpt2" / "importances.json"
    assert len(from_eap_json(path)) == len(effects)
    with pytest.raises(UsageError, match=r"'\.\./x' is to be part of a folder's name"):
        to_mib_json(effects, tmp_path, task="../x", model="gpt2", method="exact", d_model=8)


def test_graphml_loads_in_networkx_whatever_columns_hold(tmp_path):
    graph = graph_of_sizes(1, 2, split_embed=True)
    hostile = '<a href="x">&\x00\x1b[31m\ufffe]]>\n\u202e=1+1'
    table = scored(graph, code=hostile, **{"a & <b>": 1.5, "none": None, "n": np.int64(3)})
    loaded = networkx.read_graphml(to_graphml(table, tmp_path / "g.graphml"))
    facts = loaded.edges["pos_embed", "a0.h1.k"]
    assert facts["a & <b>"] == 1.5 and facts["n"] == 3 and "none" not in facts
    assert facts["code"].startswith('<a href="x">&\\x00\\x1b[31m') and "]]>" in facts["code"]
    assert loaded.nodes["a0.h1.k"] == {"part": "k", "layer": 0, "head": 1}
    assert networkx.has_path(loaded, "embed", "logits")
    assert networkx.is_directed_acyclic_graph(loaded)
    order = networkx.shortest_path(loaded, "a0.h1.k", "logits")
    assert order == ["a0.h1.k", "a0.h1", "logits"]


def test_a_spreadsheet_computes_nothing(effects, tmp_path):
    table = effects.assign(code="=HYPERLINK(1)", reader_code="@sum")
    path = to_csv(table, tmp_path / "t.csv", circuit=effects["edge"][:2])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["edge"] for row in rows] == list(effects["edge"])
    assert [float(row["delta"]) for row in rows] == list(effects["delta"])
    assert [row["in_circuit"] for row in rows].count("True") == 2
    assert rows[0]["code"] == "'=HYPERLINK(1)" and rows[0]["reader_code"] == "'@sum"


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (graph_of_sizes(2, 4, 2), "4 heads share 2 keys and values"),
        (graph_of_sizes(2, 2, split_embed=True), "its embeddings are two writers"),
    ],
)
def test_what_eap_igs_format_cannot_hold_is_refused(graph, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        to_eap_json(scored(graph), tmp_path / "g.json", d_model=8)
    assert not (tmp_path / "g.json").exists()
    assert len(from_graphml(to_graphml(scored(graph), tmp_path / "g"))) == len(graph.edges)


def test_some_edges_alone_need_the_graph_that_they_are_of(effects, tmp_path):
    some = effects[:9]
    with pytest.raises(UsageError, match=r"not all of a model .* give graph="):
        to_eap_json(some, tmp_path / "g.json", d_model=8)
    model = random_gpt(n_layer=2)
    with evaluating(model):
        graph = take_apart(model, random_pair()[0]).graph
    back = from_eap_json(to_eap_json(some, tmp_path / "g.json", d_model=8, graph=graph))
    assert list(back["edge"]) == list(some["edge"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: pd.concat([t, t[:1]]), "has several rows"),
        (lambda t: t.assign(delta=math.nan), "is no number"),
        (lambda t: t.assign(edge=["a0 to b"] * len(t)), "is no edge: write it as"),
        (lambda t: t[["edge"]], "has columns edge and score"),
    ],
)
def test_a_table_that_is_no_graph_is_refused_before_anything_is_written(
    change, said, effects, tmp_path
):
    for write in (to_graphml, to_csv):
        with pytest.raises(UsageError, match=said):
            write(change(effects), tmp_path / "x")
    with pytest.raises(UsageError, match="the circuit holds m1 -> m9"):
        to_csv(effects, tmp_path / "x", circuit=["m1 -> m9"])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"cfg": {}, "edges": {}}', "\x00", "[]"])
def test_a_file_that_is_no_such_graph_is_refused(text, tmp_path):
    path = tmp_path / "g"
    path.write_text(text)
    for read in (from_eap_json, from_graphml):
        with pytest.raises(UsageError, match="is no graph"):
            read(path)
        with pytest.raises(UsageError, match="is no graph"):
            read(tmp_path / "missing")
