"""All circuits are what each of them is alone, and what follows from them is counted by hand."""

import itertools
import math

import numpy as np
import pytest
import torch

import interp as ip
from interp.circuits.exhaustive.lattice import CircuitLattice
from interp.circuits.exhaustive.tree import every_circuit
from interp.circuits.running import run_circuits
from interp.errors import UsageError
from tests.interp.circuits.by_hand import gap, loss_of, random_gpt, random_pair, run_by_hand
from tests.interp.line_hooks.families import built


def by_hand(model, clean, corrupted, parts, number, metric):
    """One circuit: what is out writes what it writes on the corrupted texts."""
    theirs = run_by_hand(model, corrupted)[1]
    put = {part: theirs[part] for bit, part in enumerate(parts) if not number >> bit & 1}
    return metric(run_by_hand(model, clean, writers=put)[0], clean)


@pytest.mark.parametrize("metric", [gap, loss_of])
def test_every_circuit_of_a_small_model_is_as_it_is_alone(metric):
    model = random_gpt(n_layer=2, n_head=2)
    clean, corrupted = random_pair()
    lattice = every_circuit(model, clean, corrupted, metric)
    assert lattice.parts == ("a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1")
    expected = [
        by_hand(model, clean, corrupted, lattice.parts, number, metric) for number in range(64)
    ]
    np.testing.assert_allclose(lattice.values, torch.stack(expected), atol=2e-6)


def test_a_sample_of_a_larger_tree_is_as_each_alone():
    model = random_gpt(n_layer=3, n_head=2)
    clean, corrupted = random_pair()
    lattice = every_circuit(model, clean, corrupted, gap)
    assert len(lattice.values) == 512
    for number in range(3, 512, 71):
        expected = by_hand(model, clean, corrupted, lattice.parts, number, gap)
        np.testing.assert_allclose(lattice.values[number], expected, atol=2e-6)


@pytest.mark.parametrize("name", ["llama", "neox", "gemma2"])
def test_every_circuit_of_a_view_is_as_run_circuits_says(name):
    clean, corrupted = random_pair(batch=3, vocab=31)
    view = ip.hook_lines(built(name), clean)
    parts = ["a0", "m0", "a1"] if name == "gemma2" else ["a0.h1", "m0", "a1.h3", "m1"]
    lattice = every_circuit(view, clean, corrupted, gap, parts=parts, replaced_by="mean")
    every = ["a0", "m0", "a1", "m1"]
    if name != "gemma2":
        every = [f"{layer}.h{h}" for layer in ("a0", "a1") for h in range(4)] + ["m0", "m1"]
    always = [part for part in every if part not in parts]
    chosen = {str(n): [*lattice.names(n), *always] for n in range(0, len(lattice.values), 3)}
    table = run_circuits(view, clean, corrupted, chosen, gap, replaced_by="mean")
    np.testing.assert_allclose(lattice.means[::3], table["value"], atol=1e-5)


@pytest.fixture(scope="module")
def lattice():
    model = random_gpt(n_layer=2, n_head=2)
    return every_circuit(model, *random_pair(), gap)


def test_shapley_values_sum_to_the_gap(lattice):
    table = lattice.shapley()
    assert table["value"].sum() == pytest.approx(lattice.gap, abs=1e-9)
    assert (table["ci_low"] <= table["value"]).all()


def test_a_shapley_value_is_the_mean_over_all_orders():
    values = np.random.default_rng(0).normal(size=(16, 3))
    small = CircuitLattice(("a", "b", "c", "d"), values)
    gains = np.zeros(4)
    for order in itertools.permutations(range(4)):
        seen = 0
        for part in order:
            gains[part] += (values[seen | 1 << part] - values[seen]).mean()
            seen |= 1 << part
    np.testing.assert_allclose(small.shapley()["value"], gains / math.factorial(4), atol=1e-12)


def test_copies_have_the_same_shapley_value_and_their_interaction_is_that_of_either():
    rng = np.random.default_rng(1)
    value_of = {(either, other): rng.normal() for either in (0, 1) for other in (0, 1)}
    means = [value_of[int(bool(n & 3)), n >> 2 & 1] for n in range(8)]
    copies = CircuitLattice(("one", "copy", "other"), np.array(means)[:, None])
    shares = copies.shapley().set_index("part")["value"]
    assert shares["one"] == pytest.approx(shares["copy"])
    together = copies.interactions().set_index(["part", "other"])["value"]
    # the second copy adds nothing to the first: together they lack what one alone adds
    alone = [value_of[1, other] - value_of[0, other] for other in (0, 1)]
    assert together["one", "copy"] == pytest.approx(-np.mean(alone))
    assert together["one", "other"] == pytest.approx(together["copy", "other"])


def test_interactions_are_as_summed_by_hand():
    values = np.random.default_rng(3).normal(size=(32, 2))
    found = CircuitLattice(tuple("abcde"), values).interactions().set_index(["part", "other"])
    v = values.mean(axis=1)
    for i, j in itertools.combinations(range(5), 2):
        total = 0.0
        for n in (n for n in range(32) if not n & (1 << i | 1 << j)):
            size = n.bit_count()
            weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
            total += weight * (v[n | 1 << i | 1 << j] - v[n | 1 << i] - v[n | 1 << j] + v[n])
        assert found["value"]["abcde"[i], "abcde"[j]] == pytest.approx(total)


@pytest.mark.parametrize("within", [0.0, 0.3, 0.8])
def test_smallest_and_minimal_circuits_are_those_that_a_search_finds(lattice, within):
    close = np.abs(lattice.means - lattice.means[-1]) <= within * abs(lattice.gap)
    sets = [frozenset(lattice.names(n)) for n in range(64) if close[n]]
    minimal = {each for each in sets if not any(other < each for other in sets)}
    assert {frozenset(parts) for parts in lattice.minimal(within)["parts"]} == minimal
    fewest = min(map(len, sets))
    smallest = {each for each in sets if len(each) == fewest}
    assert {frozenset(parts) for parts in lattice.smallest(within)["parts"]} == smallest


def test_completeness_tries_every_cut(lattice):
    table = lattice.completeness(["a0.h0", "m1"])
    assert {*table["cut"]} == {(), ("a0.h0",), ("m1",), ("a0.h0", "m1")}
    row = table.set_index("cut").loc[[("m1",)]].iloc[0]
    everything = [part for part in lattice.parts if part != "m1"]
    assert row["circuit"] == pytest.approx(lattice.value(["a0.h0"]).mean())
    assert row["model"] == pytest.approx(lattice.value(everything).mean())
    whole = lattice.completeness(lattice.parts)
    assert (whole["difference"] == 0).all()
    assert len(whole) == 64


def test_what_cannot_be_asked_is_refused(lattice):
    clean, corrupted = random_pair()
    large = random_gpt(n_layer=5, n_head=4, n_embd=8)
    with pytest.raises(UsageError, match="25 parts are 2 to the power of 25 circuits"):
        every_circuit(large, clean, corrupted, gap)
    with pytest.raises(UsageError, match="embed is always in"):
        every_circuit(large, clean, corrupted, gap, parts=["embed"])
    with pytest.raises(UsageError, match=r"none of the parts .*; nearest: m1"):
        lattice.value(["m7"])
    with pytest.raises(UsageError, match="at least 0"):
        lattice.smallest(within=-1.0)
    flat = CircuitLattice(("a",), np.ones((2, 3)))
    with pytest.raises(UsageError, match="with all parts and with none"):
        flat.minimal()
