"""What a mask hides stays hidden, whatever the line that shows attention is called."""

import pytest
import torch

import interp as ip
from interp.interventions import Noise, Zero, intervene
from interp.metrics import loss
from interp.site import Site
from tests.interp.line_hooks.families import TOKENS, viewed
from tests.interp.line_hooks.test_sweeps_by_block import compared


def attention_values(view):
    axes = {name: point.axes for name, point in view.hook_dict.items()}
    return [name for name, each in axes.items() if each[-2:] == ("pos", "key")]


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_noise_on_attention_that_was_masked_leaves_zero_where_it_was_zero(name):
    _, view = viewed(name, "eager", torch.float64)
    clean = ip.cache(view, TOKENS, attention_values(view))
    patterns = [each for each, value in clean.items() if (value >= 0).all() and value.ndim == 4]
    assert len(patterns) > 4
    for each in patterns:
        with torch.no_grad(), intervene(view, {each: Noise(0.3, seed=1)}):
            changed = ip.cache(view, TOKENS, each)[each]
        assert not torch.equal(changed, clean[each])
        assert torch.equal(changed == 0, clean[each] == 0)


def test_every_value_of_attention_is_swept_as_in_runs_of_the_whole_model():
    _, view = viewed("gpt2", "eager", torch.float64)
    questions = [
        (site, what)
        for name in attention_values(view)
        for site, what in (
            (Site(name), Noise(0.3, seed=1)),
            (Site(name, pos=0), Noise(0.5, seed=2)),
            (Site(name), Zero()),
        )
    ]
    assert any("mask" in site.hook for site, _ in questions)
    effects = compared(view, TOKENS, questions, loss)
    assert len(effects.plan.routes.by_block.entries) > 10
