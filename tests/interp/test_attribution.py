import dataclasses

import numpy as np
import pytest
import torch

from gpt import GPT
from interp.attribution import attribution, site_scores
from interp.errors import SiteError, UsageError
from interp.interventions import Patch, cache, intervene
from interp.metrics import accuracy, logit_difference, loss
from interp.sites import Site, sites
from interp.sweeps.reading import behind_blocks

METRIC = logit_difference(answer=3, wrong=5)


@pytest.fixture
def clean(text_tokens):
    return text_tokens[:4, :6]


@pytest.fixture
def corrupted(text_tokens):
    return text_tokens[4:8, :6]


def a_little_of(model, clean, corrupted, site, share):
    """What a small part of the patch changes, in units of the whole, by example."""
    kept = cache(model, clean, site.hook)
    with torch.no_grad():
        before = METRIC(model(corrupted), clean)
        value = cache(model, corrupted, site.hook)[site.hook]
        mixed = {site.hook: value + share * (kept[site.hook] - value)}
        with intervene(model, {site: Patch(mixed)}, allow_no_effect=True):
            return (METRIC(model(corrupted), clean) - before) / share


@pytest.mark.parametrize(
    ("pattern", "each"),
    [
        ("*hook_resid_pre", "pos"),
        ("*attn.hook_z", "head"),
        ("*attn.hook_q", ("head", "pos")),
        ("*attn.hook_pattern", ("head", "pos")),
        ("*mlp.hook_post", ("pos", "neuron")),
        ("*hook_mlp_out", None),
    ],
)
def test_a_score_is_the_effect_of_a_very_small_part_of_the_patch(
    model, clean, corrupted, pattern, each
):
    model = model.double()
    found = sites(model, pattern, each=each, tokens=clean)
    chosen = found[:: max(1, len(found) // 6)]
    scores = site_scores(model, clean, corrupted, METRIC, found)
    for site in chosen:
        expected = a_little_of(model, clean, corrupted, site, 1e-5)
        ours = scores[found.index(site)]
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_integrated_gradients_of_the_embeddings_add_up_to_the_whole_change(model, clean, corrupted):
    (embedding,) = sites(model, "hook_embed")
    with torch.no_grad():
        whole = METRIC(model(clean), clean) - METRIC(model(corrupted), clean)
    scores = site_scores(model.double(), clean, corrupted, METRIC, [embedding], steps=200)
    np.testing.assert_allclose(scores[0], whole.numpy(), rtol=0.02, atol=0.02)


def test_the_audit_holds_the_largest_and_as_many_random_ones_patched_exactly(
    model, clean, corrupted
):
    neurons = sites(model, "*mlp.hook_post", each="neuron")
    found = attribution(model, clean, corrupted, METRIC, neurons, verify=5, progress=False)
    table = found.table
    assert len(table) == len(neurons)
    assert (table["why"] == "largest").sum() == (table["why"] == "random").sum() == 5
    least = table.loc[table["why"] == "largest", "approximate"].abs().min()
    assert (table.loc[table["why"] != "largest", "approximate"].abs() <= least).all()
    exact = table.dropna(subset="exact")
    kept = cache(model, clean, "*mlp.hook_post")
    for row in exact.itertuples():
        with torch.no_grad():
            before = METRIC(model(corrupted), clean)
            with intervene(model, {row.site: Patch(kept)}, allow_no_effect=True):
                after = METRIC(model(corrupted), clean)
        assert row.exact == pytest.approx(float((after - before).mean()), abs=1e-5)
    assert found.audit.sites == 10
    expected = np.corrcoef(exact["approximate"], exact["exact"])[0, 1]
    assert found.audit.correlation == pytest.approx(expected)
    line = np.polyfit(exact["approximate"], exact["exact"], 1)
    assert found.audit.slope == pytest.approx(line[0])
    signs = np.sign(exact["approximate"]) != np.sign(exact["exact"])
    assert found.audit.wrong_signs == signs.sum()
    assert "10 sites patched exactly (5 largest, 5 random)" in str(found)


def test_attribution_leaves_the_model_as_it_was(model, clean, corrupted):
    model.train()
    model.lm_head.weight.requires_grad_(False)
    before = [weight.requires_grad for weight in model.parameters()]
    heads = sites(model, "*attn.hook_z", each="head")
    attribution(model, clean, corrupted, loss, heads, verify=2, progress=False)
    assert [weight.requires_grad for weight in model.parameters()] == before
    assert all(weight.grad is None for weight in model.parameters())
    assert model.training


def test_attribution_works_on_a_bridge(bridge):
    clean, corrupted = torch.arange(12).view(2, 6), torch.arange(12, 24).view(2, 6)
    heads = sites(bridge, "blocks.*.attn.hook_z", each="head", tokens=clean)
    found = attribution(bridge, clean, corrupted, METRIC, heads, verify=4, progress=False)
    assert found.table["exact"].notna().all()


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"corrupted": torch.zeros(4, 5, dtype=torch.long)}, UsageError, "pairs of equal length"),
        ({"where": []}, UsageError, "needs sites"),
        ({"verify": 0}, UsageError, "verify of at least 1"),
        ({"metric": accuracy}, UsageError, "differentiable"),
        ({"where": [Site("blocks.0.hook_mlp_out", head=1)]}, SiteError, "no head axis"),
        ({"where": [Site("blocks.0.attn.hook_z", head=9)]}, SiteError, "lies outside"),
    ],
)
def test_what_cannot_be_attributed_is_a_sentence(model, clean, corrupted, change, error, sentence):
    given = {
        "clean": clean,
        "corrupted": corrupted,
        "metric": METRIC,
        "where": sites(model, "*attn.hook_z", each="head"),
        "progress": False,
    }
    with pytest.raises(error, match=sentence):
        attribution(model, **(given | change))


@pytest.fixture
def wide(model):
    """A model with a larger vocabulary than its residual stream is wide, and how many logits its
    runs have unembedded."""
    torch.manual_seed(0)
    config = dataclasses.replace(model.config, vocab_size=8 * model.config.n_embd)
    wide = GPT(config).eval()
    counts = []
    unembed = wide.lm_head.forward
    wide.lm_head.forward = lambda x: (counts.append(x.shape[:2].numel()), unembed(x))[1]
    return wide, counts


@pytest.mark.parametrize("steps", [0, 3])
def test_only_the_logits_that_the_metric_reads_are_computed(
    wide, clean, corrupted, steps, monkeypatch
):
    model, counts = wide
    where = sites(model, "*attn.hook_z", each=("head", "pos"), tokens=clean)
    counts.clear()
    scores = site_scores(model, clean, corrupted, METRIC, where, steps)
    batch, length = clean.shape
    assert max(counts) == max(length, batch)
    monkeypatch.setattr("interp.attribution.behind_blocks", lambda *_: None)
    counts.clear()
    plain = site_scores(model, clean, corrupted, METRIC, where, steps)
    assert max(counts) == batch * length
    np.testing.assert_allclose(scores, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())


def last_or_first(logits, tokens):
    """Reads another position once it sees numbers that may become NaN."""
    last = logits[:, -1].float()
    return logits[:, 0, 3] if last.requires_grad else last[:, 3]


@pytest.mark.parametrize("metric", [loss, last_or_first], ids=["reads all", "reads unforeseen"])
def test_a_metric_that_reads_more_gets_all_logits(wide, clean, corrupted, metric, monkeypatch):
    model, _ = wide
    where = sites(model, "*hook_mlp_out", each="pos", tokens=clean)
    scores = site_scores(model, clean, corrupted, metric, where)
    monkeypatch.setattr("interp.attribution.behind_blocks", lambda *_: None)
    plain = site_scores(model, clean, corrupted, metric, where)
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(scores, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())


def test_a_model_that_mixes_positions_behind_its_blocks_is_not_cut_short(wide, clean):
    model, _ = wide
    assert behind_blocks(model, clean) == model.config.n_layer
    norm = model.ln_final.forward
    model.ln_final.forward = lambda x: norm(x + x.mean(dim=1, keepdim=True))
    assert behind_blocks(model, clean) is None
