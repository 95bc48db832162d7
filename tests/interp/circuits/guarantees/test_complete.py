"""The same is cut from a circuit and from the model; what is left of either is run by hand."""

import itertools

import numpy as np
import pytest

from interp import figures
from interp.circuits.exhaustive.tree import every_circuit
from interp.circuits.graph import graph_of_sizes
from interp.circuits.guarantees.complete import completeness
from interp.errors import UsageError
from tests.interp.circuits.by_hand import (
    circuit_by_hand,
    gap,
    random_gpt,
    random_pair,
    run_by_hand,
    two_copies,
)


@pytest.fixture(scope="module")
def gpt():
    return random_gpt(n_layer=2, n_head=2)


def test_cuts_of_parts_are_those_of_the_tree_of_all_circuits(gpt):
    pair, circuit = random_pair(6), ["a0.h1", "m0", "a1.h0"]
    table = completeness(gpt, *pair, circuit, gap, progress=False)
    lattice = every_circuit(gpt, *pair, gap)
    theirs = lattice.completeness(circuit).set_index("cut")
    assert {*table["cut"]} == {cut for cut in theirs.index if len(cut) < 3}
    expected = theirs.loc[table["cut"].tolist()]
    for column in ("circuit", "model"):
        np.testing.assert_allclose(table[column], expected[column], atol=4e-6)
    np.testing.assert_allclose(table["delta"], expected["difference"] * lattice.gap, atol=4e-6)
    assert table["difference"].abs().is_monotonic_decreasing
    assert {"nothing cut", "m0", "a0.h1 and m0"} <= {*table["without"]}
    assert figures.completeness(table).axes


def test_cuts_of_edges_are_circuits_run_by_hand(gpt):
    clean, corrupted = random_pair(6)
    circuit = ["embed -> a0.h1.v", "a0.h1 -> logits", "embed -> m1", "m1 -> logits"]
    table = completeness(gpt, clean, corrupted, circuit, gap, cut="edges", progress=False)
    assert len(table) == 1 + 4 + 6
    rest = run_by_hand(gpt, corrupted)[1]
    every = {str(edge) for edge in graph_of_sizes(2, 2).edges}
    rows = table.set_index("cut")
    for cut in itertools.chain([()], [(circuit[1],)], [(circuit[0], circuit[3])]):
        row = rows.loc[[cut]].iloc[0]
        left = circuit_by_hand(gpt, clean, {*circuit} - {*cut}, rest, gap).numpy()
        whole = circuit_by_hand(gpt, clean, every - {*cut}, rest, gap).numpy()
        assert row["circuit"] == pytest.approx(left.mean(), abs=4e-6)
        assert row["model"] == pytest.approx(whole.mean(), abs=4e-6)
        assert row["delta"] == pytest.approx((left - whole).mean(), abs=4e-6)
        assert row["ci_low"] <= row["delta"] <= row["ci_high"]


def test_a_circuit_that_lacks_what_stands_in_is_faithful_and_not_complete():
    model, clean, corrupted, as_it_was = two_copies()
    asked = {"metric": as_it_was, "pairs": False, "progress": False}
    one = completeness(model, clean, corrupted, ["a0.h0"], **asked).set_index("cut")
    assert one.loc[[()], "verdict"].tolist() == ["the same"]
    assert one.loc[[("a0.h0",)], "verdict"].tolist() == ["differ"]
    assert one.loc[[("a0.h0",)], "difference"].iloc[0] < -0.5
    both = completeness(model, clean, corrupted, ["a0.h0", "a0.h1"], **asked)
    assert {*both["verdict"]} == {"the same"}
    assert (both["delta"] == 0).all()


def test_what_cannot_be_cut_is_refused(gpt):
    asked = (gpt, *random_pair())
    with pytest.raises(UsageError, match="no parts that could be cut"):
        completeness(*asked, ["embed -> logits"], gap, progress=False)
    many = random_gpt(n_layer=3, n_head=4)
    with pytest.raises(UsageError, match=r"give pairs=False, or cut='parts'"):
        completeness(many, *random_pair(), ["* -> *"], gap, cut="edges", progress=False)
