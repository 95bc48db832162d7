"""TransformerLens' own path patching and ``tools.analysis`` on the model, unchanged.

Each number is compared with one that is computed in another way: in plain torch, by our own
circuits, or from the definition.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformer_lens import patching
from transformer_lens.tools import analysis, training
from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig

from gpt import GPT
from interp.circuits.edges import edge_effects
from interp.circuits.running import run_circuits
from tests.interp.circuits.by_hand import (
    gap,
    open_by_hand,
    random_gpt,
    random_pair,
    run_by_hand,
)

CLEAN, CORRUPTED = random_pair()
RIGHT, WRONG = 3, 5  # what ``gap`` compares


@pytest.fixture
def model() -> GPT:
    return random_gpt(n_layer=2)


def mean_gap(logits):
    return gap(logits, CLEAN).mean()


def one_gap(logits):
    return gap(logits, CLEAN)[0]


def ours(node):
    """Our name of one of TransformerLens' nodes."""
    kinds = {"q_input": "q", "k_input": "k", "v_input": "v"}
    if node.kind in kinds:
        return f"a{node.layer}.h{node.head}.{kinds[node.kind]}"
    if node.kind == "attn_head_out":
        return f"a{node.layer}.h{node.head}"
    return f"m{node.layer}" if node.kind.startswith("mlp") else node.kind


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_direct_paths_are_open_edges(kind):
    model = random_gpt(n_layer=3)
    names = [*model.hook_dict]
    caches = [model.run_with_cache(tokens)[1] for tokens in (CLEAN, CORRUPTED)]
    given = (model, CORRUPTED, *caches, mean_gap)
    edges = [f"a0.h1 -> a{layer}.h{head}.{kind}" for layer in (1, 2) for head in (0, 1)]
    theirs = patching.get_act_patch_direct_path(*given, 0, 1, component=kind, verbose=False)
    hand = open_by_hand(model, CORRUPTED, CLEAN, edges, gap, CLEAN).mean(1)
    torch.testing.assert_close(theirs[1:].flatten(), hand)
    table = edge_effects(
        *(model, CLEAN, CORRUPTED, gap),
        edges=edges,
        direction="clean into corrupted",
        progress=False,
    )
    np.testing.assert_allclose(table["value"], theirs[1:].flatten(), atol=1e-6, rtol=1e-5)
    assert (table["delta"].abs() > 1e-5).all()
    assert [*model.hook_dict] == names  # the flag it turned on is off again


def test_direct_paths_from_all_sources_are_those_from_each(model):
    caches = [model.run_with_cache(tokens)[1] for tokens in (CLEAN, CORRUPTED)]
    given = (model, CORRUPTED, *caches, mean_gap)
    found = patching.get_act_patch_direct_path_all_sources(*given, component="k", verbose=False)
    edges = [f"a0.h{head} -> a1.h{later}.k" for head in (0, 1) for later in (0, 1)]
    hand = open_by_hand(model, CORRUPTED, CLEAN, edges, gap, CLEAN).mean(1)
    torch.testing.assert_close(found[0, :, 1].flatten(), hand)
    assert not found[1].any()


def test_edge_attribution_is_the_derivative_along_the_edge(model):
    model.double()
    config = EdgeAttributionConfig(granularity="edge")
    found = analysis.attribution_patch(model, CLEAN[:1], CORRUPTED[:1], one_gap, config)
    assert not model.cfg.use_split_qkv_input
    wrote, theirs = (run_by_hand(model, tokens[:1])[1] for tokens in (CORRUPTED, CLEAN))
    chosen = sorted(found.edge_scores, key=lambda edge: -abs(found.edge_scores[edge]))[::40]
    assert {reader.kind for _, reader in chosen} >= {"q_input", "v_input", "mlp_in", "logits"}
    for writer, reader in chosen:
        delta = torch.zeros_like(wrote["embed"])
        at = writer.position
        delta[:, at] = 1e-4 * (theirs[ours(writer)] - wrote[ours(writer)])[:, at]
        up, down = (
            one_gap(run_by_hand(model, CORRUPTED[:1], {ours(reader): sign * delta})[0])
            for sign in (1, -1)
        )
        slope = float(up - down) / 2e-4
        assert found.edge_scores[writer, reader] == pytest.approx(slope, abs=1e-6, rel=1e-5)


def test_node_attribution_is_the_sum_over_a_writers_edges(model):
    nodes = analysis.attribution_patch(model, CLEAN[:2], CORRUPTED[:2], one_gap).node_scores
    config = EdgeAttributionConfig(granularity="edge")
    edges = analysis.attribution_patch(model, CLEAN[:2], CORRUPTED[:2], one_gap, config)
    assert nodes == pytest.approx(edges.node_scores, abs=1e-5)
    assert max(map(abs, nodes.values())) > 1e-2


def test_faithfulness_is_that_of_our_circuit(model):
    config = EdgeAttributionConfig(granularity="edge")
    pair = CLEAN[:1], CORRUPTED[:1]
    scores = analysis.attribution_patch(model, *pair, one_gap, config).edge_scores
    names = sorted({f"{ours(writer)} -> {ours(reader)}" for writer, reader in scores})
    kept = names[::2]
    circuit = [edge for edge in scores if " -> ".join(map(ours, edge)) in set(kept)]
    found = analysis.faithfulness(model, *pair, one_gap, circuit)
    table = run_circuits(model, *pair, {"half": kept, "all": names}, gap)
    expected = dict(zip(table["circuit"], table["faithfulness"], strict=True))
    assert found.recovered == pytest.approx(expected["half"], abs=1e-5)
    assert found.full_metric == pytest.approx(table["baseline"].iloc[0], abs=1e-6)
    assert found.corrupt_metric == pytest.approx(table["nothing"].iloc[0], abs=1e-6)
    assert abs(found.recovered - 1) > 1e-2
    whole = analysis.faithfulness(model, *pair, one_gap, list(scores))
    assert whole.recovered == pytest.approx(1, abs=1e-5)


def test_the_logit_lens_reads_each_layer_and_ends_in_the_logits(model):
    found = analysis.logit_lens(model, CLEAN, positions=None)
    norm, logits = model.ln_final, model(CLEAN)
    for layer, (label, values) in enumerate(zip(found.labels, found.values, strict=True)):
        residual = model(CLEAN, stop_at_layer=layer)
        normed = F.layer_norm(residual, (8,), norm.weight, norm.bias)
        expected = normed @ model.lm_head.weight.T
        torch.testing.assert_close(values, expected, msg=label)
    torch.testing.assert_close(found.values[-1], logits)


@pytest.mark.parametrize("unit", ["component", "head", "layer"])
def test_direct_logit_attributions_are_those_of_plain_torch_and_sum_to_the_logits(model, unit):
    found = analysis.direct_logit_attribution(model, CLEAN, RIGHT, WRONG, unit=unit)
    logits, wrote = run_by_hand(model, CLEAN)
    norm, U = model.ln_final, model.lm_head.weight
    scale = (sum(wrote.values()) + sum(block.attn.proj.bias for block in model.blocks))[:, -1]
    scale = (scale.var(-1, correction=0) + norm.eps).sqrt()
    direction = norm.weight * (U[RIGHT] - U[WRONG])

    def attributed(value):
        value = value.expand_as(wrote["embed"])[:, -1]
        return (value - value.mean(-1, keepdim=True)) @ direction / scale

    rows = dict(zip(found.labels, found.attribution, strict=True))
    whole = gap(logits, CLEAN) - norm.bias @ (U[RIGHT] - U[WRONG])
    if unit == "component":
        for layer in range(2):
            torch.testing.assert_close(rows[f"{layer}_mlp_out"], attributed(wrote[f"m{layer}"]))
    elif unit == "head":
        for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
            expected = attributed(wrote[f"a{layer}.h{head}"])
            torch.testing.assert_close(rows[f"L{layer}H{head}"], expected)
    else:
        torch.testing.assert_close(rows["0_pre"], attributed(wrote["embed"]))
        torch.testing.assert_close(rows["final_post"], whole)
        return
    torch.testing.assert_close(found.attribution.sum(0), whole)


def test_interchanged_subspaces_are_edits_of_the_stream(model):
    hook, at = "blocks.0.hook_resid_post", torch.tensor([2, 3, 4, 5])
    rows = torch.arange(4)
    run = lambda tokens: model(tokens)[:, -1]  # noqa: E731
    source = analysis.collect_activations(model, hook, CORRUPTED, run, positions=at)
    theirs, stream = (model(tokens, stop_at_layer=1) for tokens in (CORRUPTED, CLEAN))
    torch.testing.assert_close(source, theirs[rows, at])
    basis = analysis.random_basis(8, 3, seed=0)
    change = analysis.SubspaceInterchange(basis)
    found = analysis.intervened_logits(model, hook, change, CLEAN, source, run, positions=at)
    stream[rows, at] += (theirs - stream)[rows, at] @ basis @ basis.T
    torch.testing.assert_close(found, model(stream, start_at_layer=1)[:, -1])
    assert (found - run(CLEAN)).abs().max() > 1e-3


def test_a_subspace_is_learned_and_the_model_left_as_it_was(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    at = torch.full((4,), 6)
    run = lambda tokens: model(tokens)[:, -1]  # noqa: E731
    targets = model(CORRUPTED)[:, -1].argmax(-1)
    found = analysis.fit_das(
        *(model, "blocks.0.hook_resid_post", CLEAN, CORRUPTED, targets, run),
        rank=4,
        base_positions=at,
        source_positions=at,
        epochs=8,
        lr=0.05,
    )
    assert found.losses[-1] < found.losses[0]
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(4), atol=1e-5, rtol=0)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


def test_composition_scores_are_norms_of_products(model):
    def matrices(attn, head):
        q, k, v = (
            linear.weight.view(2, 4, 8)[head] for linear in (attn.query, attn.key, attn.value)
        )
        return q.T @ k, attn.proj.weight[:, 4 * head : 4 * head + 4] @ v  # on columns

    def score(first, second):
        return (first @ second).norm() / first.norm() / second.norm()

    for mode in ("Q", "K", "V"):
        found = model.all_composition_scores(mode)
        assert found.head_labels == ["L0H0", "L0H1", "L1H0", "L1H1"]
        assert not found.scores[1].any()
        assert not found.scores[0, :, 0].any()
        for early in (0, 1):
            for late in (0, 1):
                _, written = matrices(model.blocks[0].attn, early)
                QK, OV = matrices(model.blocks[1].attn, late)
                reading = {"Q": QK.T, "K": QK, "V": OV}[mode]
                expected = score(reading, written)
                torch.testing.assert_close(found.scores[0, early, 1, late], expected)


def test_head_affinities_are_overlaps_of_what_is_written_and_read(model):
    found = analysis.attention_head_subspace_affinity(model, target_role="K")
    written = torch.linalg.qr(model.blocks[0].attn.proj.weight[:, 4:8])[0]
    read = torch.linalg.qr(model.blocks[1].attn.key.weight[:4].T)[0]
    expected = (written.T @ read).square().sum()
    torch.testing.assert_close(found.scores[0, 1, 1, 0], expected)


def test_a_reinitialised_copy_has_learned_nothing(model):
    kept = {name: weight.clone() for name, weight in model.named_parameters()}
    fresh = analysis.reinitialized(model, seed=0)
    for name, weight in fresh.named_parameters():
        assert not torch.allclose(weight, kept[name]), name
        if ".ln" in name or name.startswith("ln"):
            assert torch.equal(weight, torch.full_like(weight, name.endswith("weight"))), name
    assert fresh.lm_head.weight is fresh.wte.weight
    assert all(torch.equal(weight, kept[name]) for name, weight in model.named_parameters())
    torch.testing.assert_close(analysis.reinitialized(model, seed=0)(CLEAN), fresh(CLEAN))


def test_their_training_loop_trains_it(model, capsys):
    class Rows(Dataset):
        def __len__(self):
            return len(CLEAN)

        def __getitem__(self, row):
            return {"tokens": CLEAN[row]}

    before = model(CLEAN, return_type="loss").item()
    config = training.TrainConfig(num_epochs=5, batch_size=4, lr=1e-2, device="cpu")
    trained = training.train(model, config, Rows())
    assert trained(CLEAN, return_type="loss").item() < before - 0.1
