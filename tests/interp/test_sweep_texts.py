"""Models that treat texts differently: whatever a sweep saves, it gives what the loop gives."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gpt import GPT, GPTConfig
from interp.attribution import attribution
from interp.caching import cache
from interp.errors import SiteError
from interp.interventions import Patch, Zero, intervene
from interp.metrics import logit_difference, loss
from interp.patching import patch_each
from interp.site import sites
from interp.sweep import effects_of, sweep

END = 0  # the token that is special to the models here


@pytest.fixture
def model():
    model = GPT(GPTConfig(vocab_size=13, block_size=12, n_layer=2, n_head=2, n_embd=8), seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.double().eval()


def before_each_run(model, note):
    """Tell the model's parts about the tokens of a run, and what to do where there are none."""
    run = model.forward

    def forward(tokens, *args, start_at_layer=None, **kwargs):
        note(None if start_at_layer is not None else tokens)
        return run(tokens, *args, start_at_layer=start_at_layer, **kwargs)

    model.forward = forward


def masking(model, mask_of):
    """Attention under a mask [batch query key] of a run's tokens; causal where it does not fit."""
    now = []
    before_each_run(model, lambda tokens: now.__setitem__(slice(None), [tokens]))
    for block in model.blocks:
        attn = block.attn

        def forward(x, attn=attn):
            heads = (*x.shape[:2], attn.n_head, attn.d_head)
            q, k, v = (
                hook(linear(x).view(heads)).transpose(1, 2)
                for hook, linear in (
                    (attn.hook_q, attn.query),
                    (attn.hook_k, attn.key),
                    (attn.hook_v, attn.value),
                )
            )
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
            if now and now[0] is not None and now[0].shape == x.shape[:2]:
                mask = (mask_of(now[0]) & mask)[:, None]
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
            return attn.proj(attn.hook_z(z).flatten(2))

        attn.forward = forward


def with_packed_documents(model):
    def same_document(tokens):
        document = (tokens == END).cumsum(dim=1)
        return document[:, :, None] == document[:, None, :]

    masking(model, same_document)


def with_padding_that_is_not_seen(model):
    def seen(tokens):
        itself = torch.eye(tokens.shape[1], dtype=torch.bool)
        return (tokens != END)[:, None, :] | itself

    masking(model, seen)


def with_experts_chosen_by_the_token(model):
    now = []
    before_each_run(model, lambda tokens: now.__setitem__(slice(None), [tokens]))
    mlp = model.blocks[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: (
        plain(x) * (1.0 if not now or now[0] is None else 1.0 + (now[0] == END).double()[..., None])
    )


def with_a_penalty_for_what_was_said(model):
    run = model.forward

    def forward(tokens, *args, start_at_layer=None, stop_at_layer=None, **kwargs):
        ends = {"start_at_layer": start_at_layer, "stop_at_layer": stop_at_layer}
        logits = run(tokens, *args, **ends, **kwargs)
        if start_at_layer is None and stop_at_layer is None:
            said = (tokens == END).cumsum(dim=1) > 0
            logits = torch.cat([logits[..., :3] - 2.0 * said[..., None], logits[..., 3:]], dim=-1)
        return logits

    model.forward = forward


def with_embeddings_scaled_by_the_token(model):
    embed = model.embed
    model.embed = lambda tokens: embed(tokens) * (1 + (tokens == END).double()[..., None])


def with_positions_that_begin_anew(model):
    def embed(tokens):
        start = torch.arange(tokens.shape[1]).where(tokens == END, 0).cummax(dim=1).values
        positions = torch.arange(tokens.shape[1]) - start
        return model.hook_embed(model.wte(tokens)) + model.hook_pos_embed(model.wpe(positions))

    model.embed = embed


def with_an_early_end(model):
    """Where an example has an end its last block is passed by."""
    now = []
    before_each_run(model, lambda tokens: now.__setitem__(slice(None), [tokens]))
    block = model.blocks[1]
    plain = block.forward

    def forward(x):
        if not now or now[0] is None or len(now[0]) != len(x):
            return plain(x)
        ended = (now[0] == END).any(dim=1)[:, None, None]
        return block.hook_resid_post(x.where(ended, plain(x)))

    block.forward = forward


def with_company_that_counts(model):
    """What a text becomes depends on the others of its batch."""
    embed = model.embed

    def mixed(tokens):
        return embed(tokens) + 0.3 * (tokens == END).double().mean(dim=0)[:, None]

    model.embed = mixed


def unchanged(model):
    pass


EDITS = [
    with_packed_documents,
    with_padding_that_is_not_seen,
    with_experts_chosen_by_the_token,
    with_a_penalty_for_what_was_said,
    with_embeddings_scaled_by_the_token,
    with_positions_that_begin_anew,
    with_an_early_end,
    with_company_that_counts,
    unchanged,
]
TAKEN_APART = {with_positions_that_begin_anew, with_company_that_counts, unchanged}


@pytest.fixture
def texts():
    plain = torch.randint(1, 13, (2, 12), generator=torch.Generator().manual_seed(2))
    ended = plain[1:].clone()
    ended[0, 5] = END
    return torch.cat([plain[:1], ended])


def questions_of(model, tokens):
    kinds = [("blocks.*.attn.hook_z", "head"), ("blocks.*.hook_mlp_out", "pos")]
    kinds += [
        ("hook_embed", "pos"),
        ("blocks.*.mlp.hook_pre", None),
        ("blocks.0.attn.hook_k", "pos"),
    ]
    found = [site for kind, each in kinds for site in sites(model, kind, each=each, tokens=tokens)]
    return [(site, Zero()) for site in found if site.pos in (None, 0, 5, 8)]


@pytest.mark.parametrize("metric", [loss, logit_difference(1, 2)], ids=["loss", "last"])
@pytest.mark.parametrize("edit", EDITS)
def test_a_sweep_is_the_loop_whatever_text_comes_first_or_stands_alone(model, texts, edit, metric):
    edit(model)
    questions = questions_of(model, texts)
    for tokens in (texts, texts.flip(0), texts[1:]):
        effects = effects_of(model, tokens, questions, metric, progress=False)
        with torch.no_grad():
            np.testing.assert_allclose(effects.baseline, metric(model(tokens), tokens), atol=1e-9)
            for (site, what), values in zip(questions, effects.values, strict=True):
                with intervene(model, {site: what}, allow_no_effect=True):
                    expected = metric(model(tokens), tokens)
                np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=str(site))
        if len(tokens) > 1:
            assert (effects.plan.routes.fast_path is not None) == (edit in TAKEN_APART)


@pytest.mark.parametrize("edit", EDITS)
def test_patching_and_the_audit_of_attribution_are_the_loop_too(model, texts, edit):
    edit(model)
    clean, metric = texts.roll(1, dims=1), logit_difference(1, 2)
    where = sites(model, "blocks.*.attn.hook_z", each="head")
    patched = patch_each(model, clean, texts, metric, where, progress=False)
    found = attribution(model, clean, texts, metric, where, verify=4, progress=False).table
    kept = cache(model, clean, "blocks.*.attn.hook_z")
    with torch.no_grad():
        before = metric(model(texts), clean).mean().item()
        for site, delta, exact in zip(where, patched["delta"], found["exact"], strict=True):
            with intervene(model, {site: Patch(kept)}):
                expected = metric(model(texts), clean).mean().item() - before
            assert delta == pytest.approx(expected, abs=1e-6)
            assert exact == pytest.approx(expected, abs=1e-6)


def test_texts_that_change_in_smaller_batches_are_run_together(model):
    with_company_that_counts(model)
    tokens = torch.randint(13, (200, 12), generator=torch.Generator().manual_seed(3))
    questions = [("blocks.1.attn.hook_z[head=1]", Zero())]
    effects = effects_of(model, tokens, questions, loss, progress=False)
    with torch.no_grad(), intervene(model, dict(questions)):
        np.testing.assert_allclose(effects.values[0], loss(model(tokens), tokens), atol=1e-9)
    assert "a run of fewer texts" in effects.plan.explain()


def test_a_position_beyond_the_texts_is_a_sentence(model, texts):
    for pos in (12, -13):
        for kind in ("hook_mlp_out", "mlp.hook_pre"):
            with pytest.raises(SiteError, match="pos 0 to 11"):
                sweep(model, texts, {f"blocks.0.{kind}[pos={pos}]": Zero()}, loss, progress=False)
