"""A circuit's run is one in which every other edge says what replaces it."""

import numpy as np
import pytest
import torch

import interp as ip
from interp.circuits.contributions import take_apart
from interp.circuits.edges import measure_edges
from interp.circuits.pairs import take_pair
from interp.circuits.running import measure_circuits, replacements, run_circuits
from interp.errors import UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import gap, loss_of, random_gpt, random_pair, run_by_hand
from tests.interp.line_hooks.families import built


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


def circuit_by_hand(model, clean, kept, rest, metric):
    """The whole model again for every reader, each on a stream of its own, in their order.

    Args:
        kept: edges as they are written.
        rest: what replaces each writer, by its name.
    """
    heads, wrote = model.config.n_head, dict(run_by_hand(model, clean)[1])
    names = list(wrote)  # in the order in which they are written
    readers = {name: [name] if name.startswith("m") else [] for name in names}
    readers |= {name: [f"{name}.{kind}" for kind in "qkv"] for name in names if "." in name}
    assert len(names) == 1 + len(model.blocks) * (heads + 1)
    now = {}

    def delta(reader):
        """What is added to the stream of an unchanged run, so that the reader sees its own."""
        layer = int(reader[1]) if reader != "logits" else len(model.blocks)
        before = [
            name
            for name in names
            if name == "embed"
            or int(name[1]) < layer
            or (reader.startswith("m") and name.startswith("a") and int(name[1]) == layer)
        ]
        total = 0
        for name in before:
            seen = now[name] if f"{name} -> {reader}" in kept else rest[name]
            total = total + seen - wrote[name]
        return total

    for name in names:
        if name == "embed":
            now[name] = wrote[name]
            continue
        deltas = {reader: delta(reader) for reader in readers[name]}
        now[name] = run_by_hand(model, clean, deltas)[1][name]
    return metric(run_by_hand(model, clean, {"logits": delta("logits")})[0], clean)


def random_circuits(graph, count, share=0.6):
    generator = torch.Generator().manual_seed(2)
    drawn = torch.rand(count, len(graph.edges), generator=generator) < share
    return [
        frozenset(edge for edge, keep in zip(graph.edges, row, strict=True) if keep)
        for row in drawn
    ]


@pytest.mark.parametrize("replaced_by", ["corrupted", "mean", "resample"])
def test_any_circuit_is_as_one_that_is_run_reader_by_reader(gpt, replaced_by):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        run, source = take_apart(gpt, clean), take_apart(gpt, corrupted)
        rest = replacements(source, replaced_by, seed=1)
        circuits = random_circuits(run.graph, 3)
        found = measure_circuits(run, rest, circuits, loss_of)
    named = {str(writer): value for writer, value in rest.items()}
    for circuit, value in zip(circuits, found, strict=True):
        expected = circuit_by_hand(gpt, clean, set(map(str, circuit)), named, loss_of)
        np.testing.assert_allclose(value, expected, atol=1e-6, rtol=1e-6)


def test_all_edges_are_the_model_and_none_is_the_corrupted_run(gpt):
    clean, corrupted = random_pair()
    table = run_circuits(gpt, clean, corrupted, {"all": ["* -> *"], "none": []}, gap)
    with torch.no_grad():
        whole, nothing = (float(gap(gpt(tokens), clean).mean()) for tokens in (clean, corrupted))
    assert table["value"].tolist() == pytest.approx([whole, nothing], abs=1e-6)
    assert table["faithfulness"].tolist() == pytest.approx([1, 0], abs=1e-6)
    assert table["baseline"].tolist() == pytest.approx([whole] * 2, abs=1e-6)
    assert table["nothing"].tolist() == pytest.approx([nothing] * 2, abs=1e-6)
    assert table["edges"].tolist() == [100, 0]


def test_circuits_together_are_as_each_alone(gpt):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        run, source = take_apart(gpt, clean), take_apart(gpt, corrupted)
        rest = replacements(source, "corrupted", 0)
        circuits = random_circuits(run.graph, 5, share=0.9)
        together = measure_circuits(run, rest, circuits, gap)
        alone = [measure_circuits(run, rest, [circuit], gap)[0] for circuit in circuits]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_all_but_one_edge_is_that_edges_open_patch(gpt):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        pair = take_pair(gpt, clean, corrupted)
        edges = pair.graph.edges[::9]
        patched = measure_edges(pair, edges, gap)
        rest = replacements(take_apart(gpt, corrupted, like=pair.patched), "corrupted", 0)
        circuits = [frozenset(pair.graph.edges) - {edge} for edge in edges]
        found = measure_circuits(pair.patched, rest, circuits, gap)
    np.testing.assert_allclose(found, patched.values, atol=2e-6)


def test_parts_keep_all_their_edges(gpt):
    clean, corrupted = random_pair()
    table = run_circuits(
        gpt,
        clean,
        corrupted,
        {"parts": ["a1.h0", "m2"], "edges": ["embed -> *", "a1.h0 -> *", "m2 -> *"]},
        gap,
    )
    assert table["value"][0] == pytest.approx(table["value"][1], abs=1e-7)
    assert table["edges"][0] == table["edges"][1]
    kept = {"embed", "a1.h0", "m2"}
    theirs = run_by_hand(gpt, corrupted)[1]
    put = {name: value for name, value in theirs.items() if name not in kept}
    expected = gap(run_by_hand(gpt, clean, writers=put)[0], clean).mean()
    assert table["value"][0] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("name", ["llama", "neox", "gemma2"])
def test_circuits_of_views_begin_and_end_at_the_models_own_runs(name):
    clean, corrupted = random_pair(batch=3, vocab=31)
    model = built(name)
    view = ip.hook_lines(model, clean)
    with torch.no_grad():
        whole, nothing = (gap(model(tokens).logits, clean) for tokens in (clean, corrupted))
    with evaluating(view):
        pair = take_pair(view, clean, corrupted)
        graph = pair.graph
        rest = replacements(take_apart(view, corrupted, like=pair.patched), "corrupted", 0)
        edges = [edge for edge in graph.edges if edge.reader.kind in ("k", "mlp")][::4]
        ends = [frozenset(graph.edges), frozenset()]
        without = [frozenset(graph.edges) - {edge} for edge in edges]
        found = measure_circuits(pair.patched, rest, [*ends, *without], gap)
        patched = measure_edges(pair, edges, gap)
    np.testing.assert_allclose(found[0], whole, atol=1e-5)
    np.testing.assert_allclose(found[1], nothing, atol=1e-5)
    np.testing.assert_allclose(found[2:], patched.values, atol=1e-5)


@pytest.mark.parametrize(
    ("circuits", "said"),
    [
        ({}, "give at least one"),
        ({"mixed": ["a0.h1", "a0.h1 -> m2"]}, "circuit 'mixed' names edges and parts"),
        ({"far": ["a9.h1"]}, r"no writer 'a9\.h1'; nearest: a"),
        ({"far": ["a1.h1 -> a0.h0.q"]}, "reads nothing that is written after embed"),
    ],
)
def test_what_is_no_circuit_is_refused(gpt, circuits, said):
    with pytest.raises(UsageError, match=said):
        run_circuits(gpt, *random_pair(), circuits, gap)


def test_one_text_has_no_other_to_be_drawn(gpt):
    clean, corrupted = random_pair(batch=1)
    with pytest.raises(UsageError, match="no other to be drawn"):
        run_circuits(gpt, clean, corrupted, {"all": ["* -> *"]}, gap, replaced_by="resample")
