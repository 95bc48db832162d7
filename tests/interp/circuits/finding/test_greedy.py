"""Greedy removal is what a slow loop does that runs every circuit from the beginning."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import interp as ip
from interp.circuits import run_circuits
from interp.circuits.contributions import take_apart
from interp.circuits.finding.greedy import remove_greedily
from interp.circuits.running import measure_circuits, replacements
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.runs import Run
from tests.interp.circuits.by_hand import gap, loss_of, random_gpt, random_pair
from tests.interp.circuits.test_running import Counted
from tests.interp.line_hooks.families import built

OPTIONS = {"progress": False}


@pytest.fixture(scope="module")
def gpt():
    return random_gpt(n_layer=2)


def slow_loop(model, clean, corrupted, metric, threshold, replaced_by="corrupted", order=None):
    """Each edge in turn, a whole run of one circuit for each: edge, value, kept."""
    with evaluating(model):
        run = take_apart(model, clean)
        rest = replacements(take_apart(model, corrupted, like=run), replaced_by, 0)
        left = set(run.graph.edges)
        if order is None:
            order = [
                edge
                for reader in reversed(run.graph.readers)
                for edge in reversed([each for each in run.graph.edges if each.reader == reader])
            ]

        def value_of(circuit):
            return float(measure_circuits(run, rest, [frozenset(circuit)], metric).mean())

        now, rows = value_of(left), []
        for edge in order:
            after = value_of(left - {edge})
            kept = abs(after - now) >= threshold
            rows.append((str(edge), after, kept))
            if not kept:
                left, now = left - {edge}, after
    return rows


def assert_as_slow(table, rows):
    assert table["edge"].tolist() == [edge for edge, _, _ in rows]
    assert table["kept"].tolist() == [kept for _, _, kept in rows]
    np.testing.assert_allclose(table["after"], [value for _, value, _ in rows], atol=1e-5)
    assert 0 < table["kept"].sum() < len(table)


@pytest.mark.parametrize(
    ("heads", "metric", "threshold", "replaced_by"),
    [(2, gap, 0.05, "corrupted"), (1, loss_of, 0.01, "mean")],
)
def test_it_is_the_slow_loop(heads, metric, threshold, replaced_by):
    gpt = random_gpt(n_layer=2, n_head=heads)
    clean, corrupted = random_pair()
    table = remove_greedily(
        *(gpt, clean, corrupted, metric),
        threshold=threshold,
        replaced_by=replaced_by,
        **OPTIONS,
    )
    assert_as_slow(table, slow_loop(gpt, clean, corrupted, metric, threshold, replaced_by))
    kept = table.loc[table["kept"], "edge"]
    again = run_circuits(
        gpt, clean, corrupted, {"left": list(kept)}, metric, replaced_by=replaced_by, **OPTIONS
    )
    last = table.loc[~table["kept"], "value"].iloc[-1]
    assert again["value"][0] == pytest.approx(last, abs=1e-5)
    assert table["edges"].iloc[-1] == len(kept)
    assert table["skipped"].any()


@pytest.mark.parametrize("name", ["llama", "neox"])
def test_it_is_the_slow_loop_on_views(name):
    clean, corrupted = random_pair(batch=2, vocab=31)
    view = ip.hook_lines(built(name), clean)
    with evaluating(view):
        order = take_apart(view, clean).graph.edges[::-6]
    table = remove_greedily(view, clean, corrupted, gap, threshold=0.02, order=order, **OPTIONS)
    assert_as_slow(table, slow_loop(view, clean, corrupted, gap, 0.02, order=order))


def test_any_order_can_be_given(gpt):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        edges = take_apart(gpt, clean).graph.edges
    order = [edges[i] for i in torch.randperm(46, generator=torch.Generator().manual_seed(3))[:16]]
    table = remove_greedily(gpt, clean, corrupted, gap, threshold=0.05, order=order, **OPTIONS)
    assert_as_slow(table, slow_loop(gpt, clean, corrupted, gap, 0.05, order=order))


def test_divergence_is_from_the_whole_models_probabilities(gpt):
    clean, corrupted = random_pair()
    table = remove_greedily(gpt, clean, corrupted, gap, threshold=0.01, measured_by="KL", **OPTIONS)
    assert (table["change"] < 0.01).equals(~table["kept"])
    with torch.no_grad():
        whole = F.log_softmax(gpt(clean)[:, -1], dim=-1)

    def divergence(logits, tokens):
        here = F.log_softmax(logits[:, -1], dim=-1)
        return (whole.exp() * (whole - here)).sum(dim=-1)

    kept = table.loc[table["kept"], "edge"].tolist()
    with evaluating(gpt):
        run = take_apart(gpt, clean)
        rest = replacements(take_apart(gpt, corrupted, like=run), "corrupted", 0)
        left = [frozenset(map(run.graph.edge, kept))]
        expected = measure_circuits(run, rest, left, divergence).mean()
        value = measure_circuits(run, rest, left, gap).mean()
    last = table[~table["kept"]].iloc[-1]
    assert last["after"] == pytest.approx(expected, abs=1e-6)
    assert last["value"] == pytest.approx(value, abs=1e-5)
    assert table["before"][0] == 0


def test_a_part_that_reads_nothing_says_what_it_says_on_the_corrupted_text(gpt):
    """All edges into a head are out and its own stay in: it is not left out, nor zero."""
    clean, corrupted = random_pair()
    table = remove_greedily(
        *(gpt, clean, corrupted, gap),
        threshold=1e9,
        order=["* -> a1.h0.*"],
        **OPTIONS,
    )
    assert not table["kept"].any()
    names = table["edge"].tolist()
    with evaluating(gpt):
        edges = take_apart(gpt, clean).graph.edges
    without = [str(edge) for edge in edges if str(edge).split(" -> ")[0] != "a1.h0"]
    circuits = {"cut": without, "dangling": sorted({str(e) for e in edges} - set(names))}
    both = run_circuits(gpt, clean, corrupted, circuits, gap, **OPTIONS)["value"]
    assert table["value"].iloc[-1] == pytest.approx(both[1], abs=1e-6)
    assert both[1] == pytest.approx(both[0], abs=1e-6)  # its corrupted value, along every edge
    assert abs(both[0] - table["before"][0]) > 1e-3


def test_a_position_embedding_that_is_the_same_needs_no_run(gpt):
    clean, corrupted = random_pair()
    table = remove_greedily(
        *(gpt, clean, corrupted, gap), threshold=0.2, split_embed=True, **OPTIONS
    )
    own = table[table["writer"] == "pos_embed"]
    assert own["skipped"].all() and not own["kept"].any() and (own["change"] == 0).all()


def test_it_goes_on_where_it_was(gpt, tmp_path):
    clean, corrupted = random_pair()
    asked, options = (gpt, clean, corrupted, gap), {"threshold": 0.05, **OPTIONS}
    options["order"] = ["* -> logits", "* -> m1"]
    fresh = remove_greedily(*asked, **options)
    with Run.open(tmp_path, "circuits", "one", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            remove_greedily(*asked, **options, run=Counted(run, dies_after=2))
        resumed = Counted(run)
        assert remove_greedily(*asked, **options, run=resumed).equals(fresh)
        again = Counted(run)
        assert remove_greedily(*asked, **options, run=again).equals(fresh)
    assert resumed.recorded > again.recorded == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.0}, "it must be above 0"),
        ({"threshold": 1.0, "order": []}, "no edges"),
        ({"threshold": 1.0, "order": ["a0.h9 -> logits"]}, "no writer"),
    ],
)
def test_what_cannot_be_removed_is_refused(gpt, options, said):
    with pytest.raises(UsageError, match=said):
        remove_greedily(gpt, *random_pair(), gap, **options, **OPTIONS)
