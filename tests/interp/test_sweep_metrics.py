"""Where a sweep finds the logits, and what a metric may read of them and give."""

import types

import numpy as np
import pytest
import torch
from torch import nn

from gpt import GPT
from interp.attribution import attribution
from interp.errors import (
    NonFiniteError,
    UsageError,
)
from interp.interventions import Zero, intervene
from interp.metrics import logit_difference, loss
from interp.patching import patch_each
from interp.site import sites
from interp.sweep import effects_of, plan, sweep
from tests.interp.plain_loop import assert_as_the_loop, looped


def test_a_metric_that_reads_where_the_logits_tell_it_to_gets_what_it_reads(model, text_tokens):
    def wandering(logits, tokens):
        at = 3 if float(logits[:, 5].mean()) > threshold else 9
        return logits[:, at, 0]

    with torch.no_grad():
        threshold = float(model(text_tokens)[:, 5].mean())
    questions = [(site, Zero()) for site in sites(model, "blocks.*.attn.hook_z", each="head")]
    effects = assert_as_the_loop(model, text_tokens, questions, wandering)
    assert len(np.unique(np.sign(effects.values.mean(1) - effects.baseline.mean()))) > 1
    explained = plan(model, text_tokens, questions, wandering).explain()
    assert explained == effects.plan.explain()
    assert "the metric reads" not in explained


class Wrapped(GPT):
    """A GPT that returns its logits as others' models do."""

    how = "alone"

    def forward(self, tokens, *args, **kwargs):
        logits = super().forward(tokens, *args, **kwargs)
        if "last" in self.how:
            logits = logits[:, -1:]
        outputs = {"tuple": (logits, None), "mapping": {"loss": None, "logits": logits}}
        outputs["object"] = types.SimpleNamespace(logits=logits, loss=None)
        return outputs.get(self.how.split()[-1], logits)


@pytest.fixture
def wrapped(model):
    model.__class__ = Wrapped
    return model


LAST = logit_difference(1, 2)


@pytest.mark.parametrize("how", ["tuple", "mapping", "object", "last tuple", "last alone"])
def test_logits_are_found_in_whatever_a_model_returns(wrapped, text_tokens, how):
    heads = sites(wrapped, "blocks.*.attn.hook_z", each="head")
    questions = {site: Zero() for site in heads[:3]} | {"blocks.0.mlp.hook_pre": Zero()}
    expected = sweep(wrapped, text_tokens, questions, LAST, progress=False)
    wrapped.how = how
    found = sweep(wrapped, text_tokens, questions, LAST, progress=False)
    np.testing.assert_allclose(found["delta"], expected["delta"], atol=1e-6)
    patched = patch_each(wrapped, text_tokens[:6], text_tokens[6:], LAST, heads[:2], progress=False)
    scored = attribution(wrapped, text_tokens[:6], text_tokens[6:], LAST, heads[:2], progress=False)
    np.testing.assert_allclose(scored.table["exact"], patched["delta"], atol=1e-6)
    if "last" in how:
        for metric in (loss, logit_difference(1, 2, pos=3)):
            with pytest.raises(UsageError, match="logits of the last of 16 positions only"):
                sweep(wrapped, text_tokens, questions, metric, progress=False)


def test_a_model_without_logits_is_a_sentence(model, text_tokens):
    model.forward = lambda tokens: GPT.forward(model, tokens, return_type="loss")
    with pytest.raises(UsageError, match="there are no logits"):
        sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, loss, progress=False)


METRICS = {
    "bool": lambda logits, _: logits[:, -1].argmax(dim=-1) == 1,
    "int": lambda logits, _: logits[:, -1].argmax(dim=-1),
    "half": lambda logits, _: logits[:, -1, 0].half(),
    "numpy": lambda logits, _: logits.numpy()[:, 3, 1],
    "floats": lambda logits, _: [float(each) for each in logits[:, 2, 1]],
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_may_give_numbers_of_any_kind(model, text_tokens, metric):
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.lm_head.weight[0] = model.lm_head.weight[1]  # argmax is not always the same
    questions = {site: Zero() for site in sites(model, "blocks.*.attn.hook_z", each="head")}
    effects = effects_of(model, text_tokens, questions, metric, progress=False)
    for site, values in zip(questions, effects.values, strict=True):
        with torch.no_grad(), intervene(model, {site: Zero()}):
            expected = np.asarray(metric(model(text_tokens), text_tokens), dtype=float)
        np.testing.assert_allclose(values, expected, atol=2e-3)


def test_positions_that_are_not_there_are_not_read(model, text_tokens):
    for metric in (lambda x, _: x[:, 16, 0], lambda x, _: x[:, [-17], 0][:, 0]):
        with pytest.raises(IndexError):
            sweep(model, text_tokens, {"blocks.0.hook_mlp_out": Zero()}, metric, progress=False)


def test_a_half_precision_model_is_measured_in_single_precision(bridge):
    tokens = torch.randint(31, (4, 12), generator=torch.Generator().manual_seed(0))
    questions = {site: Zero() for site in sites(bridge, "blocks.*.attn.hook_z", each="head")}
    half = bridge.to(torch.bfloat16)
    table = sweep(half, tokens, questions, loss, progress=False)
    with torch.no_grad():
        before = loss(half(tokens).double(), tokens).mean()
        for site, delta in zip(questions, table["delta"], strict=True):
            with intervene(half, {site: Zero()}):
                after = loss(half(tokens).double(), tokens).mean()
            assert delta == pytest.approx(float(after - before), abs=1e-6)


def test_under_autocast_a_sweep_is_the_loop(model, text_tokens):
    questions = {site: Zero() for site in sites(model, "blocks.*.attn.hook_z", each="head")}
    with torch.autocast("cpu", torch.bfloat16):
        effects = effects_of(model, text_tokens, questions, loss, progress=False)
        np.testing.assert_allclose(
            effects.values, looped(model, text_tokens, questions.items(), loss), atol=1e-6
        )
        heads = list(questions)
        attribution(model, text_tokens[:6], text_tokens[6:], LAST, heads, verify=2, progress=False)
    assert "autocast" in effects.plan.explain()


def test_a_metric_must_give_a_finite_number_per_example(model, text_tokens):
    question = {"blocks.0.hook_mlp_out": Zero()}
    with pytest.raises(UsageError, match="one number for each example"):
        sweep(model, text_tokens, question, lambda logits, _: logits.mean(), progress=False)
    with pytest.raises(NonFiniteError, match="not a finite number"):
        sweep(model, text_tokens, question, lambda logits, _: logits[:, 0, 0] / 0, progress=False)
    with pytest.raises(UsageError, match="gives str; it must give one number"):
        sweep(model, text_tokens, question, lambda logits, _: "good", progress=False)
    with pytest.raises(UsageError, match="gives complex64"):
        sweep(model, text_tokens, question, lambda logits, _: logits[:, 0, 0] * 1j, progress=False)
    with pytest.raises(UsageError, match="they must be pairs"):
        sweep(model, text_tokens, question, loss, metric_tokens=text_tokens[:2], progress=False)
