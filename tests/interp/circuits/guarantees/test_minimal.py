"""Each edge's part in a circuit is the difference of two circuits, and true where it is known."""

import numpy as np
import pytest
import torch

from interp import figures
from interp.circuits.guarantees.minimal import minimality
from interp.circuits.running import run_circuits
from interp.errors import UsageError
from interp.stats import sign_flip_p
from tests.interp.circuits.by_hand import (
    circuit_by_hand,
    gap,
    loss_of,
    random_gpt,
    random_pair,
    run_by_hand,
    two_copies,
)

CIRCUIT = [
    "embed -> a0.h0.v",
    "embed -> m0",
    "a0.h0 -> m1",
    "m0 -> a2.h1.k",
    "m0 -> m1",
    "m1 -> logits",
    "a2.h1 -> logits",
]


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


@pytest.fixture(scope="module")
def by_edge(gpt):
    """What each circuit without one edge says by hand, text by text; under "" the whole one."""
    clean, corrupted = random_pair(8)
    rest = run_by_hand(gpt, corrupted)[1]
    return {
        out: circuit_by_hand(gpt, clean, {*CIRCUIT} - {out}, rest, gap).numpy()
        for out in ["", *CIRCUIT]
    }


def test_deltas_are_those_of_circuits_run_by_hand(gpt, by_edge):
    table = minimality(gpt, *random_pair(8), CIRCUIT, gap, progress=False)
    assert sorted(table["edge"]) == sorted(CIRCUIT)
    for row in table.itertuples():
        assert row.value == pytest.approx(by_edge[row.edge].mean(), abs=2e-6)
        assert row.circuit == pytest.approx(by_edge[""].mean(), abs=2e-6)
        assert row.delta == pytest.approx((by_edge[row.edge] - by_edge[""]).mean(), abs=4e-6)
        assert row.ci_low <= row.delta <= row.ci_high
        assert row.n == 8
    assert figures.minimality(table).axes


def test_p_is_corrected_for_all_edges_as_holm_says(gpt, by_edge):
    table = minimality(gpt, *random_pair(8), CIRCUIT, gap, progress=False).set_index("edge")
    p = {edge: float(sign_flip_p(by_edge[edge] - by_edge[""])) for edge in CIRCUIT}
    running = 0.0
    for rank, edge in enumerate(sorted(CIRCUIT, key=p.__getitem__)):
        running = max(running, min(1.0, p[edge] * (len(CIRCUIT) - rank)))
        assert table.loc[edge, "p_adjusted"] == pytest.approx(running)


def test_deltas_are_two_circuits_differenced(gpt):
    asked = {"metric": loss_of, "replaced_by": "mean", "progress": False}
    table = minimality(gpt, *random_pair(8), ["a0.h0", "m1"], **asked)
    everything = [*table["edge"]]
    circuits = {"": everything}
    circuits |= {out: [edge for edge in everything if edge != out] for out in everything}
    one_by_one = run_circuits(gpt, *random_pair(8), circuits=circuits, **asked)
    values = one_by_one.set_index("circuit")["value"]
    assert len(table) == one_by_one["edges"][0]
    np.testing.assert_allclose(table["value"], values[everything], atol=2e-6)
    np.testing.assert_allclose(table["delta"], values[everything] - values[""], atol=4e-6)
    gap_of_all = one_by_one["baseline"][0] - one_by_one["nothing"][0]
    np.testing.assert_allclose(table["of_gap"], table["delta"] / gap_of_all)


def only_heads_of_the_first_layer():
    """A model in which all but the two heads of the first layer write nothing."""
    model = random_gpt(n_layer=2, n_head=2)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.proj.weight.zero_()
            block.mlp.proj.bias.zero_()
        model.blocks[1].attn.proj.weight.zero_()
    return model


def likeness(model, clean):
    """How close the last position's logits are to the model's own: nothing left out adds to it."""
    with torch.no_grad():
        own = model(clean)[:, -1]
    return lambda logits, tokens: -(logits[:, -1] - own).pow(2).sum(dim=1)


def test_of_a_circuit_that_is_known_it_says_what_is_true():
    model, (clean, corrupted) = only_heads_of_the_first_layer(), random_pair(12, begin=0)
    with torch.no_grad():
        model.blocks[0].attn.proj.weight[:, 4:] = 0  # head 0.1 is silent too
    true = {f"embed -> a0.h0.{kind}" for kind in "qkv"} | {"embed -> logits", "a0.h0 -> logits"}
    metric = likeness(model, clean)
    asked = (model, clean, corrupted, ["embed -> *", "a0.h* -> *", "m0 -> *"], metric)
    table = minimality(*asked, progress=False).set_index("edge")
    assert {*table.index[table["verdict"] == "needed"]} == true
    assert {*table.index[table["verdict"] == "changes nothing"]} == {*table.index} - true
    assert (table.loc[[*true], "delta"] < 0).all()
    assert (table["together"] == 0).all()


def test_edges_that_stand_in_for_each_other_are_found_out_by_leaving_out_both():
    model, clean, corrupted, as_it_was = two_copies()
    circuit = ["embed -> *", "a0.h0 -> logits", "a0.h1 -> logits"]
    asked = (model, clean, corrupted, circuit, as_it_was)
    table = minimality(*asked, progress=False).set_index("edge")
    copies = ["a0.h0 -> logits", "a0.h1 -> logits"]
    assert table["circuit"].iloc[0] == 1
    assert table.loc[copies, "verdict"].tolist() == ["changes nothing"] * 2
    assert table["together"].iloc[0] < -0.5
    assert table["together_ci_high"].iloc[0] < 0
    assert table["together_p_adjusted"].iloc[0] < 0.05


def test_few_texts_leave_it_open(gpt):
    table = minimality(gpt, *random_pair(2), CIRCUIT, gap, progress=False)
    assert set(table["verdict"]) == {"not known"}
    assert table[["ci_low", "together", "p_adjusted"]].isna().all(axis=None)


def test_a_circuit_without_edges_is_refused(gpt):
    with pytest.raises(UsageError, match="no edges"):
        minimality(gpt, *random_pair(), [], gap, progress=False)
    with pytest.raises(UsageError, match=r"no writer 'a7\.h0'"):
        minimality(gpt, *random_pair(), ["a7.h0"], gap, progress=False)
