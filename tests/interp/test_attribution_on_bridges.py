"""Scores on TransformerLens' bridge are derivatives: those of plain torch at the same place."""

import pytest
import torch

from interp.attribution import site_scores
from interp.caching import cache
from interp.metrics import logit_difference
from interp.site import sites
from tests.interp.test_bridges import TEXTS, bridge_of

METRIC = logit_difference(answer=3, wrong=5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "neox"])
@pytest.mark.parametrize(
    ("hook", "each"), [("attn.hook_z", "head"), ("attn.hook_v", "head"), ("hook_mlp_out", None)]
)
def test_a_score_on_a_bridge_is_the_derivative_at_the_hook_point(kind, hook, each):
    bridge = bridge_of(kind)
    corrupted = TEXTS.clone()
    corrupted[:, 3] = (corrupted[:, 3] + 5) % 29
    name = f"blocks.0.{hook}"
    where = sites(bridge, name, each=each)
    scores = site_scores(bridge, TEXTS, corrupted, METRIC, where)
    with torch.no_grad():
        step = cache(bridge, TEXTS, name)[name] - cache(bridge, corrupted, name)[name]
    share = torch.zeros(step.shape[2] if each else 1, requires_grad=True)  # one for each site

    def move(value, hook):
        return value + (share[:, None] if each else share) * step

    with bridge.hooks(fwd_hooks=[(name, move)]):
        measured = METRIC(bridge(corrupted), TEXTS)
    for example, value in enumerate(measured):
        (slope,) = torch.autograd.grad(value, share, retain_graph=True)
        found = torch.tensor(scores[:, example]).float()
        torch.testing.assert_close(found, slope, atol=1e-4, rtol=1e-3)
