"""A path is what it changes when it alone is another."""

import numpy as np
import pytest
import torch

from interp.circuits.edges import measure_edges
from interp.circuits.pairs import take_pair
from interp.circuits.paths import choose_paths, path_effects
from interp.errors import UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import direct_by_hand, gap, random_gpt, random_pair, run_by_hand


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


def test_paths_of_any_length_are_as_runs_in_which_they_alone_differ(gpt):
    clean, corrupted = random_pair()
    asked = [
        "embed -> logits",
        "a0.h* -> a1.h*.k -> logits",
        "embed -> a0.h1.v -> m1 -> logits",
        "a0.h0 -> m0 -> a1.h1.q -> a2.h*.v -> m2 -> logits",
    ]
    table = path_effects(gpt, clean, corrupted, gap, asked, progress=False)
    assert len(table) == 1 + 4 + 1 + 2
    assert sorted(table["parts"].unique()) == [2, 3, 4, 6]
    expected = direct_by_hand(gpt, clean, corrupted, table["path"], gap, clean)
    np.testing.assert_allclose(table["value"], expected.mean(dim=1), atol=1e-6)
    assert (table["delta"].abs() > 1e-6).all()


def test_a_path_of_one_reader_is_a_direct_edge(gpt):
    clean, corrupted = random_pair()
    with evaluating(gpt):
        pair = take_pair(gpt, clean, corrupted)
        edges = [edge for edge in pair.graph.edges if edge.reader.kind in ("v", "mlp")][::4]
        found = measure_edges(pair, edges, gap, "direct")
    paths = [f"{edge} -> logits" for edge in edges]
    table = path_effects(gpt, clean, corrupted, gap, paths, progress=False)
    np.testing.assert_allclose(table["value"], found.values.mean(axis=1), atol=1e-6)


def test_a_step_at_one_position_hands_on_what_its_part_writes_there(gpt):
    clean, corrupted = random_pair()
    asked = "embed[pos=3] -> a1.h0.v[pos=5] -> m1 -> logits"
    table = path_effects(gpt, clean, corrupted, gap, asked, progress=False)
    wrote = run_by_hand(gpt, clean)[1]
    only = lambda delta, pos: delta * (torch.arange(delta.shape[1]) == pos)[:, None]  # noqa: E731
    delta = only(run_by_hand(gpt, corrupted)[1]["embed"] - wrote["embed"], 3)
    delta = only(run_by_hand(gpt, clean, {"a1.h0.v": delta})[1]["a1.h0"] - wrote["a1.h0"], 5)
    delta = run_by_hand(gpt, clean, {"m1": delta})[1]["m1"] - wrote["m1"]
    expected = gap(run_by_hand(gpt, clean, {"logits": delta})[0], clean).mean()
    # the MLP reads each position by itself, and the metric the last one
    assert table["delta"].item() == pytest.approx(0, abs=1e-6)
    assert table["skipped"].item()
    assert table["value"].item() == pytest.approx(float(expected), abs=1e-6)
    last = path_effects(
        *(gpt, clean, corrupted, gap, "embed[pos=3] -> a1.h0.v[pos=6] -> m1 -> logits"),
        progress=False,
    )
    whole = path_effects(
        *(gpt, clean, corrupted, gap, "embed[pos=3] -> a1.h0.v -> m1 -> logits"), progress=False
    )
    assert last["value"].item() == pytest.approx(whole["value"].item(), abs=1e-6)
    assert abs(last["delta"].item()) > 1e-6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("embed -> m0", "at last the logits"),
        ("embed -> m9 -> logits", "no reader 'm9'; nearest: m"),
        ("a0.h7 -> logits", r"no writer 'a0\.h7'; nearest: a0"),
        ("a2.h0 -> a1.h0.q -> logits", r"a1\.h0\.q reads nothing that a2\.h0 writes"),
        ("embed[pos=7] -> logits", "positions 0 to 6"),
        ("embed -> logits[pos=1] -> logits", "logits have no position"),
        ("embed -> logits -> logits", "logits reads nothing that logits writes"),
    ],
)
def test_what_is_no_path_is_refused(gpt, text, said):
    with evaluating(gpt):
        graph = take_pair(gpt, *random_pair()).graph
    with pytest.raises(UsageError, match=said):
        choose_paths(graph, text, 7)
