import dataclasses
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from gpt import GPT
from interp.attribution import attribution, audit_scores, site_scores
from interp.caching import cache
from interp.errors import SiteError, UsageError
from interp.interventions import Patch, intervene
from interp.metrics import accuracy, logit_difference, loss
from interp.site import Site, sites
from interp.stats import bootstrap_interval
from interp.sweeps.speed.reading import behind_blocks

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
        ("*attn.hook_attn_scores", ("head", "pos")),  # minus infinity at the keys it hides
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
        _, *ends = bootstrap_interval((after - before).double().numpy())
        assert [row.exact_ci_low, row.exact_ci_high] == pytest.approx(ends, abs=1e-5)
        assert row.exact_p_adjusted >= 1 / 2 ** (len(clean) - 1)
    assert found.audit.sites == 10
    expected = np.corrcoef(exact["approximate"], exact["exact"])[0, 1]
    assert found.audit.correlation == pytest.approx(expected)
    line = np.polyfit(exact["approximate"], exact["exact"], 1)
    assert found.audit.slope == pytest.approx(line[0])
    signs = np.sign(exact["approximate"]) != np.sign(exact["exact"])
    assert found.audit.wrong_signs == signs.sum()
    assert "10 sites patched exactly (5 largest, 5 random)" in str(found)


def test_the_audit_counts_signs_where_there_is_an_exact_effect_alone():
    audit = audit_scores(
        np.array([1.0, 0.5, -2.0, 0.25]), np.array([2.0, 0.0, 1.0, 0.0]), largest=2
    )
    assert (audit.sites, audit.with_effect, audit.wrong_signs) == (4, 2, 1)
    assert str(audit).endswith("the sign differs at 1 of 2")


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
        ({"sites": []}, UsageError, "needs sites"),
        ({"verify": 0}, UsageError, "verify of at least 1"),
        ({"metric": accuracy}, UsageError, "differentiable"),
        ({"sites": [Site("blocks.0.hook_mlp_out", head=1)]}, SiteError, "no head axis"),
        ({"sites": [Site("blocks.0.attn.hook_z", head=9)]}, SiteError, "lies outside"),
    ],
)
def test_what_cannot_be_attributed_is_a_sentence(model, clean, corrupted, change, error, sentence):
    given = {
        "clean": clean,
        "corrupted": corrupted,
        "metric": METRIC,
        "sites": sites(model, "*attn.hook_z", each="head"),
        "progress": False,
    }
    with pytest.raises(error, match=sentence):
        attribution(model, **(given | change))


class InPlace(HookedRootModule):
    """A model that goes on with its values in place, or does the same without."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.embed, self.fc, self.head = nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30)
        generator = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            nn.init.normal_(weight, generator=generator)
        self.hook_embed, self.hook_pre, self.hook_mid = HookPoint(), HookPoint(), HookPoint()
        self.setup()

    def forward(self, tokens):
        x = self.hook_embed(self.embed(tokens))
        if self.in_place:
            x *= 2
            h = self.hook_pre(self.fc(x)).relu_()
            x = self.hook_mid(x + h.cumsum(dim=1))
            x[:, 1:] += x[:, :-1].clone()
            x.tanh_()
        else:
            x = x * 2
            h = self.hook_pre(self.fc(x)).relu()
            x = self.hook_mid(x + h.cumsum(dim=1))
            x = torch.cat([x[:, :1], x[:, 1:] + x[:, :-1]], dim=1).tanh()
        return self.head(x)


@pytest.mark.parametrize("asked", ["*", "hook_mid", "hook_pre", "hook_embed"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_model_that_writes_in_place_has_the_scores_of_one_that_does_not(
    clean, corrupted, asked, steps
):
    clean, corrupted = clean % 30, corrupted % 30
    tables = []
    for in_place in (True, False):
        model = InPlace(in_place)
        where = sites(model, asked, each="pos", tokens=clean)
        found = attribution(
            model, clean, corrupted, METRIC, where, steps=steps, verify=9, progress=False
        )
        tables.append(found.table)
    ours, expected = tables
    np.testing.assert_allclose(ours["approximate"], expected["approximate"], atol=1e-5)
    np.testing.assert_allclose(ours["exact"], expected["exact"], atol=1e-5)
    assert (expected["approximate"] != 0).any()


def test_a_value_that_is_written_into_past_its_hook_point_is_a_sentence(clean, corrupted):
    model = InPlace(in_place=False)

    def forward(tokens):
        x = model.fc(model.embed(tokens)) + 0
        y = model.hook_mid(x)
        x += 1
        return model.head(x + y)

    model.forward = forward
    with pytest.raises(UsageError, match="writes into the value of hook_mid"):
        attribution(model, clean % 30, corrupted % 30, METRIC, [Site("hook_mid")], progress=False)


def test_a_model_without_a_hook_on_its_embedding_is_attributed_by_its_gradient(clean, corrupted):
    model = InPlace(in_place=False)
    where = [Site("hook_mid")]
    asked = (model, clean % 30, corrupted % 30, METRIC, where)
    expected = attribution(*asked, progress=False).table
    del model.hook_embed
    model.hook_embed = nn.Identity()
    model.setup()
    found = attribution(*asked, progress=False).table
    np.testing.assert_array_equal(found["approximate"], expected["approximate"])
    with pytest.raises(UsageError, match="no hook point hook_embed"):
        attribution(*asked, steps=2, progress=False)


def test_attribution_works_in_inference_mode_and_says_where_it_cannot(model, clean, corrupted):
    heads = sites(model, "*attn.hook_z", each="head")
    asked = (clean, corrupted, METRIC, heads)
    expected = attribution(model, *asked, verify=2, progress=False).table
    with torch.inference_mode():
        here = (clean.clone(), corrupted.clone(), METRIC, heads)
        found = attribution(model, *here, verify=2, progress=False).table
        made = GPT(model.config)
        weights = torch.ones(4)
        with pytest.raises(UsageError, match="made under torch"):
            attribution(made, *asked, verify=2, progress=False)
        with pytest.raises(UsageError, match="made under torch"):
            attribution(
                *(model, clean, corrupted, lambda x, _: x[:, -1, 3] * weights, heads),
                progress=False,
            )
    np.testing.assert_allclose(found["approximate"], expected["approximate"], atol=1e-6)


def test_the_exact_ones_are_exact_of_a_model_that_is_in_training(model, clean, corrupted):
    config = dataclasses.replace(model.config, dropout=0.5)
    trained = GPT(config)
    trained.load_state_dict(model.state_dict())
    heads = sites(model, "*attn.hook_z", each="head")
    expected = attribution(model, clean, corrupted, METRIC, heads, progress=False).table
    found = attribution(trained.train(), clean, corrupted, METRIC, heads, progress=False).table
    np.testing.assert_allclose(found["exact"], expected["exact"], atol=1e-5)
    np.testing.assert_allclose(found["approximate"], expected["approximate"], atol=1e-5)


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
    assert counts == [batch * length, *[batch] * (1 + steps)]  # the first shows that it may be so
    monkeypatch.setattr(sys.modules["interp.attribution"], "behind_blocks", lambda _: None)
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
    monkeypatch.setattr(sys.modules["interp.attribution"], "behind_blocks", lambda _: None)
    plain = site_scores(model, clean, corrupted, metric, where)
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(scores, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())


def mixes_positions(model):
    norm = model.ln_final.forward
    model.ln_final.forward = lambda x: norm(x + x.mean(dim=1, keepdim=True))


def forbids_what_a_text_has_said(model):
    """Only the second text has said 3, so that the first one shows nothing."""
    run = model.forward

    def forward(tokens, *args, start_at_layer=None, stop_at_layer=None, **kwargs):
        out = run(
            tokens, *args, start_at_layer=start_at_layer, stop_at_layer=stop_at_layer, **kwargs
        )
        if start_at_layer is None and stop_at_layer is None:
            said = (tokens == 3).cumsum(dim=1) > 0
            out = torch.cat([out[..., :3], out[..., 3:4] / (1 + said[..., None]), out[..., 4:]], -1)
        return out

    model.forward = forward


@pytest.mark.parametrize("edit", [mixes_positions, forbids_what_a_text_has_said])
def test_a_model_that_does_more_behind_its_blocks_gets_all_logits(
    wide, clean, corrupted, edit, monkeypatch
):
    model, _ = wide
    assert behind_blocks(model) == model.config.n_layer
    edit(model)
    corrupted = corrupted.clone()
    corrupted[:, :] = corrupted.clamp(min=4)
    corrupted[1, 2] = 3
    where = sites(model, "*hook_mlp_out", each="pos", tokens=clean)
    scores = site_scores(model, clean, corrupted, METRIC, where)
    monkeypatch.setattr(sys.modules["interp.attribution"], "behind_blocks", lambda _: None)
    plain = site_scores(model, clean, corrupted, METRIC, where)
    np.testing.assert_allclose(scores, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max())
