"""Scores by gradients are those of torch on streams that each reader has to itself."""

import jaxtyping
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import interp as ip
from gpt.foreign import from_huggingface
from interp.circuits import edge_effects
from interp.circuits.finding import estimating, texts
from interp.circuits.finding.estimating import EdgeEstimate
from interp.circuits.finding.gradients import GradientRun as Own
from interp.circuits.finding.ranking import audit_edges, rank_edges
from interp.circuits.finding.scoring import score_edges
from interp.errors import UsageError
from interp.hooking import evaluating
from tests.interp.circuits.by_hand import (
    gap,
    gradients_by_hand,
    loss_of,
    random_gpt,
    random_pair,
    run_by_hand,
)
from tests.interp.circuits.test_other_models import Llama, NeoX, hooks_on
from tests.interp.line_hooks.families import built


@pytest.fixture(scope="module")
def gpt():
    return random_gpt()


def assert_same(found, expected):
    """Equal to 1e-5 of the spread."""
    assert found.std() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.std())


def scores_of(model, clean, corrupted, metric, method="EAP", steps=5, **options):
    with evaluating(model):
        estimate = EdgeEstimate(model, clean, corrupted, metric, **options)
        return estimate.graph.edges, estimate.scores(estimate.graph.edges, method, steps)


@pytest.mark.parametrize("metric", [gap, loss_of])
@pytest.mark.parametrize("batch", [1, 4])
def test_eap_is_the_gradient_at_each_readers_own_stream(gpt, metric, batch):
    clean, corrupted = random_pair(batch)
    edges, found = scores_of(gpt, clean, corrupted, metric)
    expected = gradients_by_hand(gpt, clean, corrupted, edges, metric, clean)
    assert_same(found, expected.numpy())


def test_texts_in_parts_are_as_together(gpt, monkeypatch):
    clean, corrupted = random_pair(5)
    answers = torch.tensor([3, 5, 1, 2, 7])

    def answered(logits, tokens):
        """Holds an answer for each text, so that it needs them all."""
        return logits[torch.arange(5), -1, answers]

    whole = [scores_of(gpt, clean, corrupted, metric)[1] for metric in (gap, answered)]
    sizes = []
    monkeypatch.setattr(texts, "HELD", 1)
    monkeypatch.setattr(estimating, "GradientRun", lambda *a: sizes.append(len(a[-1])) or Own(*a))
    parts = [scores_of(gpt, clean, corrupted, metric)[1] for metric in (gap, answered)]
    assert sizes == [2, 2, 1, 5]
    for one, other in zip(whole, parts, strict=True):
        assert_same(other, one)


def test_eap_the_other_way_takes_gradients_at_the_corrupted_text(gpt):
    clean, corrupted = random_pair()
    edges, found = scores_of(gpt, clean, corrupted, gap, direction="clean into corrupted")
    assert_same(found, gradients_by_hand(gpt, corrupted, clean, edges, gap, clean).numpy())


def test_eap_of_a_bridge_is_that_of_its_weights(bridge_over):
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 4}
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, activation_function="gelu")).eval()
    ours = from_huggingface(theirs).eval()
    clean, corrupted = random_pair(batch=3, vocab=31)
    edges, found = scores_of(bridge_over(theirs), clean, corrupted, gap)
    expected = gradients_by_hand(ours, clean, corrupted, edges, gap, clean)
    assert_same(found, expected.numpy())


@pytest.mark.parametrize(("name", "kind"), [("llama", Llama), ("neox", NeoX)])
def test_eap_of_a_view_is_that_of_hooks_of_torch(name, kind):
    clean, corrupted = random_pair(batch=3, vocab=31)
    model = built(name)
    view, by_hand = ip.hook_lines(model, clean), kind(model)
    edges, found = scores_of(view, clean, corrupted, gap)
    wrote, theirs = by_hand.written(clean), by_hand.written(corrupted)
    seen = {str(edge.reader): torch.zeros_like(wrote["embed"]) for edge in edges}
    for reader, delta in seen.items():
        delta.requires_grad_()
        with hooks_on(by_hand.reading(reader, delta)):
            gap(model(clean).logits, clean).sum().backward()
    expected = [
        ((theirs[w] - wrote[w]) * seen[reader].grad).sum(dim=(1, 2))
        for w, reader in (str(edge).split(" -> ") for edge in edges)
    ]
    assert_same(found, torch.stack(expected).detach().numpy())


@pytest.mark.parametrize("split_embed", [False, True])
def test_integrated_gradients_are_the_mean_over_embeddings_between(gpt, split_embed):
    clean, corrupted = random_pair()
    edges, found = scores_of(
        *(gpt, clean, corrupted, loss_of, "EAP-IG inputs", 3), split_embed=split_embed
    )
    kept = [number for number, edge in enumerate(edges) if edge.writer.kind != "pos_embed"]
    assert np.abs(np.delete(found, kept, axis=0)).sum() == 0  # the same in both runs
    here, there = (run_by_hand(gpt, tokens)[1]["embed"] for tokens in (clean, corrupted))
    expected = torch.stack(
        [
            gradients_by_hand(
                *(gpt, clean, corrupted, [edges[number] for number in kept], loss_of, clean),
                embedded=here + share * (there - here),
            )
            for share in (1 / 6, 3 / 6, 5 / 6)
        ]
    ).mean(dim=0)
    assert_same(found[kept], expected.numpy())


@pytest.mark.parametrize("method", ["EAP-IG activations", "EAP-IG inputs"])
def test_steps_on_the_way_of_a_part_sum_to_its_exact_effect(method):
    """Integrated gradients are complete: what goes out of a part is all that it does."""
    gpt = random_gpt(n_layer=2)
    clean, corrupted = random_pair()
    edges, found = scores_of(gpt, clean, corrupted, gap, method, 16)
    theirs = run_by_hand(gpt, corrupted)[1]
    whole = gap(run_by_hand(gpt, clean)[0], clean)
    parts = [["embed"], ["a0.h0", "a0.h1"], ["m0"], ["a1.h0", "a1.h1"], ["m1"]]
    for part in parts if method == "EAP-IG activations" else parts[:1]:
        put = {name: theirs[name] for name in part}
        expected = gap(run_by_hand(gpt, clean, writers=put)[0], clean) - whole
        total = found[[str(edge.writer) in part for edge in edges]].sum(axis=0)
        np.testing.assert_allclose(total, expected.numpy(), atol=1e-2 * expected.abs().max())


def test_gradients_are_exact_where_the_model_is_a_straight_line():
    """Edges into the logits of a model whose last norm is gone, by every method."""
    model = random_gpt(seed=1, n_layer=2)
    model.ln_final = torch.nn.Identity()
    clean, corrupted = random_pair()
    wrote, theirs = (run_by_hand(random_gpt(seed=1, n_layer=2), x)[1] for x in (clean, corrupted))
    weight = (model.lm_head.weight[3] - model.lm_head.weight[5]).detach()
    expected = torch.stack([(theirs[name] - wrote[name])[:, -1] @ weight for name in wrote])
    for method in ("EAP", "EAP-IG inputs", "EAP-IG activations"):
        edges, found = scores_of(model, clean, corrupted, gap, method, 2)
        ends = [number for number, edge in enumerate(edges) if edge.reader.kind == "logits"]
        assert [str(edges[number].writer) for number in ends] == list(wrote)
        assert_same(found[ends], expected.numpy())


def test_exact_scores_are_the_open_effects(gpt):
    clean, corrupted = random_pair()
    options = {"edges": ["a0.h* -> a2.h1.q", "embed -> m1"], "progress": False}
    scores = score_edges(gpt, clean, corrupted, gap, method="exact", **options)
    table = edge_effects(gpt, clean, corrupted, gap, **options)
    np.testing.assert_array_equal(scores["score"], table["delta"])
    shared = ["edge", "ci_low", "ci_high", "n", "metric", "file", "line", "reader_code"]
    assert scores[shared].equals(table[shared])
    assert (scores["line"] > 0).all()
    assert audit_edges(scores, table).correlation == pytest.approx(1)


def test_random_scores_are_a_permutation_by_seed(gpt):
    clean, corrupted = random_pair()
    one, same, other = (
        score_edges(gpt, clean, corrupted, gap, method="random", seed=seed) for seed in (0, 0, 1)
    )
    assert one["score"].equals(same["score"])
    assert sorted(one["score"]) == pytest.approx([(i + 1) / 100 for i in range(100)])
    orders = [rank_edges(each) for each in (one, other)]
    assert set(orders[0]) == set(orders[1]) == set(one["edge"])
    assert orders[0] != orders[1] != list(one["edge"])


def test_ends_are_the_runs_of_both_texts(gpt):
    clean, corrupted = random_pair()
    table = score_edges(gpt, clean, corrupted, gap, method="EAP")
    with torch.no_grad():
        whole, nothing = (float(gap(gpt(tokens), clean).mean()) for tokens in (clean, corrupted))
    assert table["baseline"][0] == pytest.approx(whole, abs=1e-6)
    assert table["nothing"][0] == pytest.approx(nothing, abs=1e-6)
    assert set(table["towards"]) == {int(np.sign(nothing - whole))}
    other = score_edges(gpt, clean, corrupted, gap, method="EAP", direction="clean into corrupted")
    assert set(other["towards"]) == {-table["towards"][0]}


def test_weights_take_their_gradients_as_before(gpt):
    gpt.wte.weight.requires_grad_(False)
    try:
        score_edges(gpt, *random_pair(), gap, method="EAP")
        asked = {name for name, weight in gpt.named_parameters() if not weight.requires_grad}
        assert asked == {"wte.weight"}
        assert all(weight.grad is None for weight in gpt.parameters())
    finally:
        gpt.wte.weight.requires_grad_(True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "ACDC"}, "method is 'ACDC'; it must be one of exact, EAP"),
        ({"method": "EAP-IG inputs", "steps": 0}, "steps is 0"),
        ({"method": "EAP", "edges": ["a9.h0 -> m2"]}, "no writer"),
    ],
)
def test_what_cannot_be_scored_is_refused(gpt, options, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(UsageError, match=said):
        score_edges(gpt, *random_pair(), gap, **options)


def test_inference_mode_around_changes_nothing(gpt):
    clean, corrupted = random_pair()
    with torch.inference_mode():
        inside = score_edges(gpt, clean.clone(), corrupted.clone(), gap, method="EAP")
    assert inside.equals(score_edges(gpt, clean, corrupted, gap, method="EAP"))


def test_a_metric_without_a_gradient_is_refused(gpt):
    def right(logits, tokens):
        return (logits[:, -1].argmax(dim=-1) == tokens[:, 0]).float()

    with pytest.raises(UsageError, match="the metric has no gradient"):
        score_edges(gpt, *random_pair(), right, method="EAP")


@pytest.mark.parametrize("name", ["gemma2", "gpt2"])
def test_what_the_embedding_does_along_all_edges_is_what_the_text_does(name):
    """Also where a norm follows the sum of the heads, so that they are one writer."""
    clean, corrupted = random_pair(batch=2, vocab=31)
    model = built(name)
    edges, found = scores_of(
        ip.hook_lines(model, clean), clean, corrupted, gap, "EAP-IG inputs", 36
    )
    with torch.no_grad():
        whole, nothing = (gap(model(tokens).logits, clean) for tokens in (clean, corrupted))
    total = found[[edge.writer.kind == "embed" for edge in edges]].sum(axis=0)
    expected = (nothing - whole).numpy()
    np.testing.assert_allclose(total, expected, atol=5e-3 * np.abs(expected).max())
