"""Each edge's effect is that of a run in which this edge alone is another."""

import inspect
import textwrap
from copy import deepcopy

import numpy as np
import pytest
import torch

from gpt import model as gpt_model
from interp.circuits.edges import edge_effects, measure_edges
from interp.circuits.pairs import take_pair
from interp.errors import UsageError
from tests.interp.circuits.by_hand import (
    direct_by_hand,
    gap,
    loss_of,
    open_by_hand,
    random_gpt,
    random_pair,
    run_by_hand,
)


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def measured(model, clean, corrupted, metric, meaning, direction="corrupted into clean"):
    pair = take_pair(model, clean, corrupted, direction)
    return pair.graph.edges, measure_edges(pair, pair.graph.edges, metric, meaning)


@pytest.mark.parametrize(
    ("meaning", "direction", "metric"),
    [
        ("open", "corrupted into clean", gap),
        ("open", "clean into corrupted", loss_of),
        ("direct", "corrupted into clean", loss_of),
        ("direct", "clean into corrupted", gap),
    ],
)
def test_every_edge_is_as_in_a_run_of_its_own(gpt, meaning, direction, metric):
    clean, corrupted = random_pair()
    edges, found = measured(gpt, clean, corrupted, metric, meaning, direction)
    into, other = (clean, corrupted) if direction.startswith("corr") else (corrupted, clean)
    alone = open_by_hand if meaning == "open" else direct_by_hand
    expected = alone(gpt, into, other, edges, metric, clean)
    np.testing.assert_allclose(found.values, expected, atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(
        found.baseline, metric(run_by_hand(gpt, into)[0], clean), atol=1e-6, rtol=1e-6
    )
    assert (np.abs(found.values - found.baseline) > 1e-5).mean() > 0.9  # not all zero


def edited(model, layer, edge, delta):
    """A copy of a model, one of whose lines reads another value."""
    twin = deepcopy(model)
    block = twin.blocks[layer]
    block.other = delta
    reader = edge.split(" -> ")[1]
    if reader.startswith("m"):
        rewrite(block, "mlp_in = self.hook_mlp_in(x)", "mlp_in = self.hook_mlp_in(x + self.other)")
        return twin
    head, kind = int(reader[4:].split(".")[0]), {"q": "query", "k": "key", "v": "value"}[reader[-1]]
    rewrite(
        block,
        "attn_in = self.ln1(attn_in)",
        "self.attn.other = self.ln1(attn_in + self.other); attn_in = self.ln1(attn_in)",
    )
    line = f"{kind[0]} = self.{kind}(x).view(heads)"
    new = f"{line}; {kind[0]}[:, :, {head}] = self.{kind}(self.other).view(heads)[:, :, {head}]"
    rewrite(block.attn, line, new)
    return twin


def rewrite(module, line, new):
    source = textwrap.dedent(inspect.getsource(type(module).forward))
    assert source.count(line) == 1
    space = dict(vars(gpt_model))
    exec(source.replace(line, new), space)
    module.forward = space["forward"].__get__(module)


@pytest.mark.parametrize("kind", ["q", "k", "v", "mlp"])
def test_an_open_edge_is_its_readers_line_rewritten_to_read_the_other_value(gpt, kind):
    clean, corrupted = random_pair()
    pair = take_pair(gpt, clean, corrupted)
    edges = [edge for edge in pair.graph.edges if edge.reader.kind == kind][::3]
    found = measure_edges(pair, edges, gap)
    for edge, value in zip(edges, found.values, strict=True):
        name = str(edge.writer)
        delta = run_by_hand(gpt, corrupted)[1][name] - run_by_hand(gpt, clean)[1][name]
        with torch.no_grad():
            logits = edited(gpt, edge.reader.layer, str(edge), delta)(clean)
        np.testing.assert_allclose(value, gap(logits, clean), atol=1e-6, rtol=1e-6)


def test_an_edge_into_the_logits_means_the_same_open_and_direct(gpt):
    clean, corrupted = random_pair()
    pair = take_pair(gpt, clean, corrupted)
    edges = [edge for edge in pair.graph.edges if edge.reader.kind == "logits"]
    values = [measure_edges(pair, edges, gap, meaning).values for meaning in ("open", "direct")]
    np.testing.assert_allclose(*values, atol=1e-6)


def test_direct_effects_of_all_writers_sum_to_the_change_where_the_read_out_is_linear():
    model = random_gpt()
    model.ln_final = torch.nn.Identity()
    clean, corrupted = random_pair()
    pair = take_pair(model, clean, corrupted)
    edges = [edge for edge in pair.graph.edges if edge.reader.kind == "logits"]
    found = measure_edges(pair, edges, gap, "direct")
    with torch.no_grad():
        total = gap(model(corrupted), clean) - gap(model(clean), clean)
    np.testing.assert_allclose((found.values - found.baseline).sum(axis=0), total, atol=1e-5)


def test_an_edge_into_the_logits_is_its_writers_share_of_them_but_for_the_norms_scale(gpt):
    clean, corrupted = random_pair()
    pair = take_pair(gpt, clean, corrupted)
    edges = [edge for edge in pair.graph.edges if edge.reader.kind == "logits"]
    live = measure_edges(pair, edges, gap, "direct")
    scale = gpt.run_with_cache(clean)[1]["ln_final.hook_scale"]
    way = (gpt.W_U[:, 3] - gpt.W_U[:, 5]) * gpt.ln_final.weight
    frozen = []
    for edge in edges:
        delta = pair.deltas[edge.writer]
        frozen.append(((delta - delta.mean(-1, keepdim=True)) / scale)[:, -1] @ way)
    model = deepcopy(gpt)
    model.ln_final = FrozenNorm(gpt.ln_final, scale)
    with torch.no_grad():
        alone = measure_edges(take_pair(model, clean, corrupted), edges, gap, "direct")
    np.testing.assert_allclose(
        alone.values - alone.baseline, torch.stack(frozen).detach(), atol=1e-5
    )
    assert np.abs(live.values - alone.values).max() > 1e-2  # a live norm is another number


class FrozenNorm(torch.nn.Module):
    """The last norm with the scale of one batch of texts."""

    def __init__(self, norm, scale):
        super().__init__()
        self.norm, self.scale = norm, scale

    def forward(self, x):
        scale = self.scale[:, -x.shape[1] :].repeat(-(-len(x) // len(self.scale)), 1, 1)[: len(x)]
        return (x - x.mean(-1, keepdim=True)) / scale * self.norm.weight + self.norm.bias


def test_a_position_before_the_first_difference_is_proved_to_be_unchanged(gpt):
    clean, corrupted = random_pair(begin=4)
    first = lambda logits, tokens: logits[:, 3, 0]  # noqa: E731
    _, found = measured(gpt, clean, corrupted, first, "open")
    assert found.skipped.all()
    np.testing.assert_array_equal(found.values, np.broadcast_to(found.baseline, found.values.shape))


def test_the_table_says_what_was_patched_into_what_and_on_which_lines(gpt):
    clean, corrupted = random_pair()
    names = ["a0.h1 -> a2.h0.k", "m1 -> logits"]
    table = edge_effects(gpt, clean, corrupted, gap, edges=names, progress=False)
    assert list(table["edge"]) == names
    assert set(table["meaning"]) == {"open"}
    assert set(table["direction"]) == {"corrupted into clean"}
    row = table.iloc[0]
    assert (row["kind"], row["layer"], row["head"], row["from_layer"], row["from_head"]) == (
        *("k", 2, 0, 0, 1),
    )
    assert "attn_out" in row["code"]
    assert row["reader_code"].startswith("k = ")
    assert row["file"] == row["reader_file"] == "gpt/model.py"
    assert (table["ci_low"] <= table["delta"]).all()
    assert (table["delta"] <= table["ci_high"]).all()
    assert (table["n"] == 4).all()
    expected = open_by_hand(gpt, clean, corrupted, names[:1], gap, clean).mean()
    assert row["value"] == pytest.approx(float(expected), abs=1e-6)


def test_globs_choose_edges(gpt):
    pair = random_pair()
    table = edge_effects(gpt, *pair, gap, edges=["a0.h*->a2.h1.v"], progress=False)
    assert list(table["edge"]) == ["a0.h0 -> a2.h1.v", "a0.h1 -> a2.h1.v"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"edges": ["a7.h0 -> logits"]}, "no writer 'a7.h0'; nearest"),
        ({"edges": ["a7.* -> logits"]}, "no edge of this model is like"),
        ({"edges": []}, "name at least one"),
    ],
)
def test_what_cannot_be_asked_is_refused(gpt, asked, said):
    with pytest.raises(UsageError, match=said):
        edge_effects(gpt, *random_pair(), gap, progress=False, **asked)


def test_texts_that_are_no_pairs_are_refused(gpt):
    clean, corrupted = random_pair()
    with pytest.raises(UsageError, match="pairs of equal length"):
        edge_effects(gpt, clean, corrupted[:, 1:], gap, progress=False)
    with pytest.raises(UsageError, match="are the same texts"):
        edge_effects(gpt, clean, clean, gap, progress=False)
