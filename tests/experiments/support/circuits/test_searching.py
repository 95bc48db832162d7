"""A search ends with a circuit of which no edge can be missed, and what it leaves out is idle."""

import random

import pytest
import torch

from experiments.support.circuits.searching import connected, first_enough, leave_out
from gpt import GPT, GPTConfig
from interp.circuits import graph_of_sizes, run_circuits
from interp.metrics import logit_difference

GRAPH = graph_of_sizes(layers=2, heads=2)
EDGES = [str(edge) for edge in GRAPH.edges]


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=11, n_layer=2, n_head=2, n_embd=16)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape)
    clean, corrupted = torch.randint(11, (2, 4, 6))
    return model, clean, corrupted, logit_difference(3, 5)


def values(given, circuits, replaced_by="corrupted"):
    model, clean, corrupted, metric = given
    named = {str(number): circuit for number, circuit in enumerate(circuits)}
    return run_circuits(
        *(model, clean, corrupted, named, metric), replaced_by=replaced_by, progress=False
    )


@pytest.mark.parametrize("replaced_by", ["corrupted", "resample", "mean"])
def test_what_is_not_connected_changes_nothing(given, replaced_by):
    drawn, fewer = random.Random(0), 0
    circuits = [drawn.sample(EDGES, count) for count in (3, 6, 9, 12, 18, 24, 30, 40) * 3]
    left = [connected(GRAPH, each, mean=replaced_by == "mean") for each in circuits]
    whole, without = (values(given, each, replaced_by)["value"] for each in (circuits, left))
    assert without.to_numpy() == pytest.approx(whole.to_numpy(), abs=1e-5)
    fewer = sum(len(one) < len(other) for one, other in zip(left, circuits, strict=True))
    assert fewer > 10
    assert {*connected(GRAPH, EDGES)} == {*EDGES}


def test_shared_keys_and_values_are_reached_from_every_head_that_shares_them():
    shared = graph_of_sizes(layers=2, heads=4, key_value_heads=2)
    for head, is_fed in ((0, True), (1, True), (2, False)):
        circuit = ["embed -> a0.h0.k", f"a0.h{head} -> logits"]
        assert connected(shared, circuit) == (circuit if is_fed else [])


def test_no_edge_of_what_is_left_can_be_missed():
    weights = {edge: (number % 7) / 100 for number, edge in enumerate(EDGES)}
    total = sum(weights.values())

    def faithful(circuits):
        return [sum(weights[edge] for edge in connected(GRAPH, each)) / total for each in circuits]

    ranked = sorted(EDGES, key=lambda edge: -weights[edge])
    first = first_enough(faithful, ranked, 0.6, [1, 2, 5, 10, 20])
    (kept,) = faithful([first])
    (less,) = faithful([first[:-1]])
    assert kept >= 0.6 > less
    left = leave_out(faithful, GRAPH, EDGES, 0.6)
    (value,) = faithful([left])
    assert value >= 0.6
    assert all(faithful([[each for each in left if each != out]])[0] < 0.6 for out in left)


def test_a_level_that_no_smaller_size_reaches_takes_all_edges():
    assert first_enough(lambda circuits: [0.0] * len(circuits), EDGES, 0.5, [1, 4]) == EDGES
