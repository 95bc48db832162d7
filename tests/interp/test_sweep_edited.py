"""Models that were edited, hooked or wrapped: a sweep never answers them by a wrong short cut."""

import pytest
import torch
from torch import nn

from gpt.model import GPT, GPTConfig
from interp.interventions import Steer, Zero, intervene
from interp.metrics import loss
from interp.site import Site, sites
from interp.sweep import effects_of
from tests.interp.plain_loop import assert_as_the_loop, random_model, random_tokens


def with_other_block(model):
    block = model.blocks[1]
    plain = block.forward
    block.forward = lambda x: plain(x) - block.attn(block.ln1(x))


def with_clipped_stream(model):
    block = model.blocks[1]
    plain = block.forward
    block.forward = lambda x: plain(x.clamp(-6, 6))


def with_attention_to_everything(model):
    attn = model.blocks[1].attn

    def forward(x):
        heads = (*x.shape[:2], attn.n_head, attn.d_head)
        q, k, v = (
            hook(linear(x).view(heads)).transpose(1, 2)
            for hook, linear in (
                (attn.hook_q, attn.query),
                (attn.hook_k, attn.key),
                (attn.hook_v, attn.value),
            )
        )
        z = attn.hook_z(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2))
        return attn.proj(z.flatten(2))

    attn.forward = forward


def with_an_mlp_that_mixes_positions(model):
    mlp = model.blocks[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x + x.cumsum(dim=1))


def with_an_mlp_that_mixes_examples(model):
    mlp = model.blocks[1].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x - x.mean(dim=0, keepdim=True))


def with_a_hook_that_nothing_reads(model):
    block = model.blocks[1]

    def forward(x):
        x = block.hook_resid_pre(x)
        x = block.hook_resid_mid(x + block.hook_attn_out(block.attn(block.ln1(x))))
        mlp_out = block.mlp(block.ln2(block.hook_mlp_in(x)))
        block.hook_mlp_out(mlp_out)
        return block.hook_resid_post(x + mlp_out)

    block.forward = forward


def with_another_final_norm(model):
    model.lm_head.register_buffer("scale", torch.tensor(2.0))
    plain = model.lm_head.forward
    model.lm_head.forward = lambda x: plain(x) * model.lm_head.scale


EDITS = [
    with_other_block,
    with_clipped_stream,
    with_attention_to_everything,
    with_an_mlp_that_mixes_positions,
    with_an_mlp_that_mixes_examples,
    with_a_hook_that_nothing_reads,
    with_another_final_norm,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_model_never_gets_a_wrong_fast_path(edit):
    model, tokens = random_model(3, n_layer=3), random_tokens(2, 3, 10)
    edit(model)
    questions = [
        (site, Zero())
        for kind, each in (("blocks.*.attn.hook_z", "head"), ("blocks.*.hook_mlp_out", "pos"))
        for site in sites(model, kind, each=each, tokens=tokens)
    ]
    effects = assert_as_the_loop(model, tokens, questions, loss)
    assert effects.plan.routes.fast_path is None
    assert effects.plan.routes.notes


def test_a_hook_that_was_there_before_sends_the_sweep_through_the_plain_loop(model, text_tokens):
    questions = [(Site("blocks.1.attn.hook_z", head=head), Zero()) for head in range(4)]
    with intervene(model, {"blocks.0.hook_mlp_out": Zero()}):
        effects = assert_as_the_loop(model, text_tokens, questions, loss)
    assert effects.plan.routes.looped == [0, 1, 2, 3]
    assert "there are hooks on its blocks.0.hook_mlp_out" in effects.plan.explain()


def test_a_bridge_gets_the_same_answers_from_the_plain_loop(bridge):
    tokens = torch.arange(12).view(2, 6)
    questions = [
        (site, Zero()) for site in sites(bridge, "blocks.*.attn.hook_z", each="head", tokens=tokens)
    ]
    effects = assert_as_the_loop(bridge, tokens, questions, loss)
    assert len(effects.plan.routes.looped) == len(questions)


class ExitsEarly(GPT):
    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
            if x.abs().max() > 500:
                break
        return self.hook_logits(self.lm_head(self.ln_final(x)))


def test_a_gpt_that_decides_by_a_rare_activation_is_run_whole():
    model = ExitsEarly(GPTConfig(block_size=16, vocab_size=11, n_layer=4, n_head=2, n_embd=32))
    model.eval()
    tokens = torch.randint(11, (3, 16), generator=torch.Generator().manual_seed(0))
    direction = torch.eye(32)[3]
    trials = [
        (Site(f"blocks.{layer}.hook_resid_post", pos=5), Steer(direction, scale))
        for layer in range(4)
        for scale in (1.0, 5000.0)
    ]
    effects = effects_of(model, tokens, trials, loss)
    assert "takes from an activation, at test_sweep_edited.py" in effects.plan.explain()

    def by_hand(site, steer):
        def add(value, hook):
            value = value.clone()
            value[:, site.pos] += steer.scale * direction
            return value

        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[(site.hook, add)])
        return loss(logits, tokens)

    for (site, steer), values in zip(trials, effects.values, strict=True):
        assert torch.allclose(torch.tensor(values).float(), by_hand(site, steer), atol=1e-5)
