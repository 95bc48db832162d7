"""A circuit's run is one in which every other edge says what replaces it."""

import numpy as np
import pandas as pd
import pytest
import torch

import interp as ip
from interp.circuits.contributions import take_apart
from interp.circuits.edges import measure_edges
from interp.circuits.pairs import take_pair
from interp.circuits.running import measure_circuits, measure_rows, replacements, run_circuits
from interp.circuits.together import bytes_of_runs, edges_kept, without_idle
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.runs import Run
from tests.interp.circuits.by_hand import (
    circuit_by_hand,
    gap,
    loss_of,
    random_gpt,
    random_pair,
    run_by_hand,
)
from tests.interp.line_hooks.families import built


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


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


def memory_for(model, tokens, circuits):
    always, each = bytes_of_runs(take_apart(model, tokens))
    return always + circuits * each


class Counted:
    """A run's store that counts what it is given, and fails when told to."""

    def __init__(self, run, dies_after=None):
        self.run, self.recorded, self.dies_after = run, 0, dies_after

    def task(self, identity):
        return self.run.task(identity)

    def record(self, identity, rows):
        if self.recorded == self.dies_after:
            raise KeyboardInterrupt
        self.recorded += 1
        return self.run.record(identity, rows)


def test_circuits_that_were_interrupted_go_on_and_end_with_the_same_table(tmp_path):
    model, (clean, corrupted) = random_gpt(n_layer=1), random_pair()
    graph = take_apart(model, clean).graph
    circuits = {str(n): sorted(map(str, each)) for n, each in enumerate(random_circuits(graph, 5))}
    asked = (model, clean, corrupted, circuits, gap)
    options = {"memory": memory_for(model, clean, 2), "progress": False}
    fresh = run_circuits(*asked, **options)
    with Run.open(tmp_path, "circuits", "one", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            run_circuits(*asked, **options, run=Counted(run, dies_after=1))
        resumed = Counted(run)
        pd.testing.assert_frame_equal(run_circuits(*asked, **options, run=resumed), fresh)
        assert resumed.recorded == 2  # of three batches
        other = Counted(run)
        run_circuits(*asked, **options, run=other, replaced_by="mean")
        assert other.recorded == 3  # that is another question


def test_less_memory_gives_the_same_answers(gpt):
    clean, corrupted = random_pair()
    run = take_apart(gpt, clean)
    circuits = {str(n): list(each) for n, each in enumerate(random_circuits(run.graph, 5))}
    asked = (gpt, clean, corrupted, circuits, gap)
    little = run_circuits(*asked, memory=memory_for(gpt, clean, 1), progress=False)
    pd.testing.assert_frame_equal(little, run_circuits(*asked, progress=False), atol=1e-6)
    with pytest.raises(UsageError, match="one circuit needs"):
        run_circuits(*asked, memory="0.001MiB", progress=False)


def every_edge(model, tokens):
    return [str(edge) for edge in take_apart(model, tokens).graph.edges]


def test_a_replacement_that_changes_nothing_says_so(gpt):
    clean, corrupted = random_pair()
    corrupted[:, :-1] = clean[:, :-1]  # only the last position differs
    every = every_edge(gpt, clean)
    circuits = {"whole": every, "all but one": [e for e in every if e != "embed -> a1.h0.k"]}
    table = run_circuits(gpt, clean, corrupted, circuits, gap, progress=False)
    width = gpt.config.n_embd
    assert table["changed"].tolist() == [0, int((clean != corrupted).sum()) * width]
    silent = random_gpt()
    with torch.no_grad():
        silent.blocks[0].attn.proj.weight[:, : width // 2] = 0  # head 0.0 writes nothing
    rest = {"all but those": [e for e in every if not e.startswith("a0.h0")]}
    told = run_circuits(silent, *random_pair(), rest, gap, progress=False).iloc[0]
    assert told["edges"] < len(every)
    assert told["changed"] == 0
    assert told["delta"] == pytest.approx(0, abs=1e-6)


def test_a_metric_that_reads_where_its_logits_tell_it_to_is_answered(gpt):
    clean, corrupted = random_pair()

    def wanders(logits, tokens):
        at = 3 + int(logits[0, -1].argmax()) % 3
        return logits[:, at, 3] - logits[:, at, 5]

    circuits = {"some": ["embed -> *", "a0.h1 -> *", "m1 -> *"], "none": []}
    table = run_circuits(gpt, clean, corrupted, circuits, wanders, progress=False)
    with torch.no_grad():
        nothing = float(wanders(gpt(corrupted), clean).mean())
    assert table["value"][1] == pytest.approx(nothing, abs=1e-6)


def test_edges_that_lead_nowhere_or_come_from_nowhere_are_left_out_and_change_nothing(gpt):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        run = take_apart(gpt, clean)
        rest = replacements(take_apart(gpt, corrupted, like=run), "corrupted", 0)
        circuits = random_circuits(run.graph, 12, share=0.15)
        rows = edges_kept(run.graph, circuits)
        fewer = without_idle(run, rows, consistent=True)
        assert (fewer <= rows).all()
        assert fewer.sum() < 0.8 * rows.sum()
        values = [measure_rows(run, rest, each, gap) for each in (rows, fewer)]
        np.testing.assert_allclose(*values, atol=2e-6)
        still = without_idle(run, rows, consistent=False)
        assert (fewer <= still).all()
        assert fewer.sum() < still.sum() < rows.sum()
        mean = replacements(take_apart(gpt, corrupted, like=run), "mean", 0)
        values = [measure_rows(run, mean, each, gap) for each in (rows, still)]
    np.testing.assert_allclose(*values, atol=2e-6)


def test_what_is_left_of_a_circuit_is_on_a_way_from_an_embedding_to_the_logits(gpt):
    run = take_apart(gpt, random_pair()[0])
    named = {
        "a chain": ["embed -> a0.h0.v", "a0.h0 -> m1", "m1 -> logits"],
        "and its loose ends": ["embed -> a0.h1.q", "m0 -> m1", "m0 -> a2.h0.k", "a2.h1 -> m2"],
    }
    edges = {name: [run.graph.edge(each) for each in what] for name, what in named.items()}
    chain, ends = edges.values()
    rows = edges_kept(run.graph, [[*chain, *ends], ends])
    kept = without_idle(run, rows, consistent=True)
    assert kept.tolist() == edges_kept(run.graph, [chain, []]).tolist()
    kept = without_idle(run, rows, consistent=False)
    alone = run.graph.edge("m0 -> m1")  # m0 may say another thing than what replaces it
    assert kept.tolist() == edges_kept(run.graph, [[*chain, alone], []]).tolist()
