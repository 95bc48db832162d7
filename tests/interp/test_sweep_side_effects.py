"""Metrics and models that do more than answer: a sweep gives the number of each run alone, or says
why there is none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import UsageError
from interp.interventions import Steer, Zero, intervene
from interp.metrics import loss
from interp.patching import patch_each
from interp.site import Site
from interp.sweep import sweep


def doubling(logits, tokens):
    return logits.mul_(2)[:, -1, 0]


def centring(logits, tokens):
    logits -= 3 + logits.mean(dim=-1, keepdim=True)
    return logits[:, 2].amax(dim=-1)


def hiding_a_token(logits, tokens):
    logits[:, :, 0] = -9.0
    return logits[:, -1].logsumexp(dim=-1)


def marking_the_prompt(logits, tokens):
    tokens[:, :4] = 0
    return F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:], reduction="none").mean(dim=1)


def alone(model, tokens, metric, interventions):
    """The metric of one run, which nobody else sees."""
    with torch.no_grad(), intervene(model, interventions):
        return metric(model(tokens).clone(), tokens.clone()).double().mean().item()


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("metric", [doubling, centring, hiding_a_token, marking_the_prompt])
@pytest.mark.parametrize("taken_apart", [True, False])
def test_a_metric_may_write_into_what_it_is_given(model, clean, metric, inference, taken_apart):
    given, before = clean.clone(), clean.clone()
    questions = {"blocks.0.attn.hook_z[head=1]": Zero(), "blocks.1.hook_mlp_out[pos=2]": Zero()}
    expected = [alone(model, given, metric, {site: what}) for site, what in questions.items()]
    untouched = alone(model, given, metric, {})
    handle = model.register_forward_hook(lambda *_: None) if not taken_apart else None
    with torch.inference_mode(inference):
        table = sweep(model, given, questions, metric, progress=False)
    if handle:
        handle.remove()
    assert table["value"].tolist() == pytest.approx(expected, abs=2e-6)
    assert table["baseline"][0] == pytest.approx(untouched, abs=2e-6)
    assert torch.equal(given, before)


class Unsteady(HookedRootModule):
    """A model that is not the same function in every run."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.state = kind, None
        self.embed, self.head = nn.Embedding(40, 8), nn.Linear(8, 40)
        self.hook_x = HookPoint()
        self.setup()

    def forward(self, tokens):
        x = self.embed(tokens).cumsum(dim=1)
        if self.kind == "dropout":
            x = F.dropout(x, 0.3)  # which drops in evaluation mode too, for it is not told of it
        if self.kind == "noise":
            x = x + 0.1 * torch.randn_like(x)
        if self.kind == "state":
            last, self.state = self.state, x.detach()
            x = x + last if last is not None and last.shape == x.shape else x
        return self.head(self.hook_x(x))


@pytest.mark.parametrize("kind", ["dropout", "noise", "state"])
def test_a_model_that_is_not_the_same_in_every_run_is_refused(kind, clean, corrupted):
    model = Unsteady(kind).eval()
    with pytest.raises(UsageError, match="other logits when it is run again"):
        sweep(model, clean, {"hook_x": Steer(torch.ones(8))}, loss, progress=False)
    with pytest.raises(UsageError, match="other logits when it is run again"):
        patch_each(model, clean, corrupted, loss, [Site("hook_x", pos=2)], progress=False)


def test_tokens_are_whole_numbers_of_any_size(model, clean):
    questions = {"blocks.0.hook_mlp_out": Zero()}
    expected = sweep(model, clean, questions, loss, progress=False)["delta"][0]
    assert sweep(model, clean.int(), questions, loss, progress=False)["delta"][0] == expected
    for wrong in (clean[0], clean[:0]):
        with pytest.raises(UsageError, match=r"must be whole numbers, \[batch pos\]"):
            sweep(model, wrong, questions, loss, progress=False)
