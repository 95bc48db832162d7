import numpy as np
import pytest
import torch
from transformer_lens import patching as peer

from gpt import GPT, GPTConfig
from interp.errors import NonFiniteError, UsageError
from interp.metrics import logit_difference, loss
from interp.patching import COMPONENTS, activation_patching, induction_pairs, patch_each
from interp.site import Site, sites

METRIC = logit_difference(answer=3, wrong=5)


@pytest.fixture
def clean(text_tokens):
    return text_tokens[:4, :6]


@pytest.fixture
def corrupted(text_tokens):
    return text_tokens[4:8, :6]


def grid(table, component, columns):
    """The raw metric of one component's cells, [layer, column]."""
    rows = table[table["component"] == component]
    return torch.tensor(rows.pivot_table("value", "layer", columns).to_numpy(), dtype=torch.float32)


def test_every_grid_agrees_with_transformer_lens_on_our_model(model, clean, corrupted):
    components = ("resid_pre", "attn_out", "mlp_out", "z", "q", "k", "v")
    table = activation_patching(model, clean, corrupted, METRIC, components, progress=False)
    with torch.no_grad():
        _, kept = model.run_with_cache(clean)
        for component, function in {
            "resid_pre": peer.get_act_patch_resid_pre,
            "attn_out": peer.get_act_patch_attn_out,
            "mlp_out": peer.get_act_patch_mlp_out,
            "z": peer.get_act_patch_attn_head_out_all_pos,
            "q": peer.get_act_patch_attn_head_q_all_pos,
            "k": peer.get_act_patch_attn_head_k_all_pos,
            "v": peer.get_act_patch_attn_head_v_all_pos,
        }.items():
            theirs = function(model, corrupted, kept, lambda logits: METRIC(logits, clean).mean())
            ours = grid(table, component, "head" if component in "zqkv" else "pos")
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_residual_in_the_middle_agrees_with_the_model_written_out(model, clean, corrupted):
    def middles(tokens):
        """The residual stream in the middle of every block, and the logits if one is replaced."""
        x = model.wte(tokens) + model.wpe.weight[: tokens.shape[1]]
        found = []
        for block in model.blocks:
            x = x + block.attn(block.ln1(x))
            found.append(x)
            x = x + block.mlp(block.ln2(x))
        return found

    def answer(layer, x):
        block = model.blocks[layer]
        x = x + block.mlp(block.ln2(x))
        for block in model.blocks[layer + 1 :]:
            x = x + block.attn(block.ln1(x))
            x = x + block.mlp(block.ln2(x))
        return METRIC(model.lm_head(model.ln_final(x)), clean).mean()

    table = activation_patching(model, clean, corrupted, METRIC, ["resid_mid"], progress=False)
    ours = grid(table, "resid_mid", "pos")
    with torch.no_grad():
        of_clean, of_corrupted = middles(clean), middles(corrupted)
        for layer in range(3):
            for pos in range(6):
                x = of_corrupted[layer].clone()
                x[:, pos] = of_clean[layer][:, pos]
                torch.testing.assert_close(ours[layer, pos], answer(layer, x), atol=1e-5, rtol=0)


def test_patching_a_whole_residual_stream_recovers_one_and_a_cell_without_difference_zero(
    model, clean, corrupted
):
    corrupted = torch.cat([clean[:, :3], corrupted[:, 3:]], dim=1)
    table = patch_each(
        model,
        clean,
        corrupted,
        METRIC,
        [*sites(model, "blocks.*.hook_resid_pre"), Site("blocks.1.hook_resid_pre", pos=2)],
        progress=False,
    )
    assert table["recovered"].tolist()[:3] == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    assert table["recovered"].iloc[3] == 0.0
    assert table["p_adjusted"].iloc[3] == 1.0


def test_intervals_hold_the_delta_and_shrink_to_units_of_the_gap(model, clean, corrupted):
    table = activation_patching(model, clean, corrupted, METRIC, ["z"], progress=False)
    assert list(table["site"][:2]) == [f"blocks.0.attn.hook_z[head={head}]" for head in (0, 1)]
    assert (table["ci_low"] <= table["delta"]).all()
    assert (table["delta"] <= table["ci_high"]).all()
    with torch.no_grad():
        gap = float((METRIC(model(clean), clean) - METRIC(model(corrupted), clean)).mean())
    np.testing.assert_allclose(table["recovered"] * gap, table["delta"], atol=1e-6)
    assert (table["recovered_low"] <= table["recovered_high"]).all()
    assert set(table["file"]) == {"gpt/model.py"}
    assert set(table["n"]) == {4}


def test_a_single_pair_has_no_interval(model, clean, corrupted):
    table = activation_patching(
        model, clean[:1], corrupted[:1], METRIC, ["mlp_out"], progress=False
    )
    assert len(table) == 18
    assert table[["ci_low", "ci_high", "p_adjusted", "recovered_low"]].isna().all().all()
    assert table["recovered"].notna().all()


def test_the_loss_is_of_the_clean_text_in_every_run(model, clean, corrupted):
    (whole,) = sites(model, "blocks.1.hook_resid_pre")
    table = patch_each(model, clean, corrupted, loss, [whole], progress=False)
    with torch.no_grad():
        expected = float(loss(model(clean), clean).mean())
    assert table["value"].item() == pytest.approx(expected)


def test_patching_works_on_a_bridge(bridge):
    clean, corrupted = torch.arange(12).view(2, 6), torch.arange(12, 24).view(2, 6)
    table = activation_patching(bridge, clean, corrupted, METRIC, progress=False)
    assert len(table) == 3 * 2 * 6 + 2 * 2
    last = table[(table["component"] == "resid_pre") & (table["layer"] == 0)]
    assert last["recovered"].notna().all()
    assert bridge.training is False


def test_patching_leaves_a_model_in_training_mode_and_is_not_disturbed_by_dropout(clean, corrupted):
    size = GPTConfig(block_size=8, vocab_size=100, n_layer=1, n_head=2, n_embd=8, dropout=0.5)
    model = GPT(size)
    tables = [
        activation_patching(model, clean, corrupted, METRIC, ["z"], progress=False)
        for _ in range(2)
    ]
    assert tables[0].equals(tables[1])
    assert model.training


def test_an_induction_pair_is_a_string_repeated_whose_answer_alone_is_corrupted():
    clean, corrupted = induction_pairs(vocab=20, length=6, batch=5)
    assert clean.shape == corrupted.shape == (5, 11)
    assert torch.equal(clean[:, :5], clean[:, 6:])
    assert all(len(set(row[:6].tolist())) == 6 for row in clean)
    assert (clean != corrupted).nonzero()[:, 1].tolist() == [5] * 5
    assert all(int(corrupted[i, 5]) not in clean[i] for i in range(5))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"corrupted": torch.zeros(4, 5, dtype=torch.long)}, UsageError, "pairs of equal length"),
        ({"components": ["resid"]}, UsageError, "nearest: resid_"),
        ({"components": []}, UsageError, "name at least one"),
        ({"metric": lambda logits, tokens: logits[:, 0, 0] * 0}, UsageError, "nothing to recover"),
        ({"metric": lambda logits, tokens: logits[:, 0, 0] / 0 * 0}, NonFiniteError, "not a numb"),
    ],
)
def test_what_cannot_be_patched_is_a_sentence(model, clean, corrupted, change, error, sentence):
    given = {"clean": clean, "corrupted": corrupted, "metric": METRIC, "progress": False} | change
    with pytest.raises(error, match=sentence):
        activation_patching(model, **given)


def test_no_sites_and_a_string_too_long_for_the_vocabulary_are_sentences(model, clean, corrupted):
    with pytest.raises(UsageError, match="no sites to patch"):
        patch_each(model, clean, corrupted, METRIC, [])
    with pytest.raises(UsageError, match="below the vocabulary's 5"):
        induction_pairs(vocab=5, length=5, batch=1)


def test_every_component_names_hook_points_of_our_model(model):
    tokens = torch.zeros(1, 5, dtype=torch.long)
    for pattern, part in COMPONENTS.values():
        found = sites(model, pattern, each=part, tokens=tokens)
        assert len(found) == 3 * (5 if part == "pos" else 4)
