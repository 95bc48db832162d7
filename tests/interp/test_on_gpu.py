"""The instruments on a GPU: the same numbers as on the processor, to rounding."""

import copy
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

import gpt.model
from gpt import GPT
from interp import surgery
from interp.attribution import attribution
from interp.caching import cache
from interp.heads import attention_by_distance, head_scores
from interp.interventions import Mean, Patch, Zero, intervene
from interp.metrics import kl_from, logit_difference, loss
from interp.patching import activation_patching
from interp.site import sites
from interp.sweep import effects_of, sweep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

METRIC = logit_difference(answer=3, wrong=5)
KINDS = {
    "blocks.*.hook_resid_pre": "pos",
    "blocks.*.hook_resid_mid": None,
    "blocks.*.hook_attn_out": "pos",
    "blocks.*.hook_mlp_out": None,
    "blocks.*.attn.hook_z": ("head", "pos"),
    "blocks.*.attn.hook_q": "head",
    "blocks.*.attn.hook_pattern": "head",
    "blocks.*.attn.hook_result": "head",
    "blocks.*.mlp.hook_post": "neuron",
    "hook_embed": "pos",
}


@pytest.fixture
def there(model):
    """The same model, in double precision, on the GPU."""
    return copy.deepcopy(model).double().cuda()


@pytest.mark.parametrize("hook", KINDS)
@pytest.mark.parametrize("metric", [loss, METRIC], ids=["loss", "logit difference"])
def test_a_sweep_gives_what_a_plain_loop_gives(there, clean, corrupted, hook, metric):
    clean, corrupted = clean.cuda(), corrupted.cuda()
    kept = cache(there, clean, hook)
    found = sites(there, hook, each=KINDS[hook], tokens=clean)
    questions = [(site, Zero()) for site in found] + [(site, Patch(kept)) for site in found]
    swept = effects_of(there, corrupted, questions, metric, metric_tokens=clean, progress=False)
    assert swept.plan.routes.fast_path
    for number in range(0, len(questions), max(1, len(questions) // 12)):
        site, what = questions[number]
        with torch.no_grad(), intervene(there, {site: what}, allow_no_effect=True):
            expected = metric(there(corrupted), clean)
        np.testing.assert_allclose(swept.values[number], expected.cpu(), rtol=0, atol=1e-9)


def test_tables_are_those_of_the_processor(model, there, clean, corrupted):
    model.double()

    def tables(model, clean, corrupted) -> list[pd.DataFrame]:
        every = sites(model, "blocks.*.attn.hook_z", each="head", tokens=clean)
        reference = cache(model, corrupted, "blocks.*.attn.hook_z")
        return [
            head_scores(model, clean),
            attention_by_distance(model, clean),
            sweep(
                model,
                clean,
                [(site, Mean(reference)) for site in every],
                kl_from(model(clean).detach()),
                progress=False,
            ),
            activation_patching(model, clean, corrupted, METRIC, progress=False),
            attribution(model, clean, corrupted, METRIC, every, steps=2, progress=False).table,
        ]

    pairs = zip(
        tables(model, clean, corrupted),
        tables(there, clean.cuda(), corrupted.cuda()),
        strict=True,
    )
    for here, away in pairs:
        pd.testing.assert_frame_equal(here, away, rtol=1e-7, atol=1e-9)


def test_single_precision_stays_single_precision(model, clean):
    """Neither TF32 nor half precision: a cut by hook and one in the source agree to 1e-6."""
    tokens = clean.cuda()
    source = surgery.read_source(gpt.model)
    cut = surgery.combine(
        surgery.find_all(source, "cut-branch", qualname="Block.forward", code="attn_out")
    )
    module = surgery.edited_module(source, cut)
    edited = module.GPT(module.GPTConfig(**asdict(model.config))).eval()
    edited.load_state_dict(model.state_dict())
    there = model.cuda()
    with torch.no_grad(), intervene(there, {"blocks.*.hook_attn_out": Zero()}):
        by_hook = loss(there(tokens), tokens)
    with torch.no_grad():
        by_source = loss(edited.cuda()(tokens), tokens)
        exact = loss(copy.deepcopy(edited).double()(tokens), tokens)
    torch.testing.assert_close(by_hook, by_source, rtol=0, atol=1e-6)
    torch.testing.assert_close(by_hook.double(), exact, rtol=0, atol=1e-5)


def test_cuts_of_lines_do_what_they_do_on_the_processor(model, clean, corrupted):
    def studied(device: str) -> surgery.Study:
        tokens, others = clean.to(device), corrupted.to(device)
        return surgery.study(
            build=lambda seed: GPT(model.config, seed=seed).to(device),
            judge=lambda model: loss(model(tokens), tokens),
            files=[gpt.model],
            model=copy.deepcopy(model).to(device),
            reference=lambda model: model(others),
        )

    here, there = studied("cpu"), studied("cuda")
    cuts = [cut for cut in here.surgeries if cut.qualname.endswith(".forward")]
    table = here.posthoc(cuts)
    table = table[table["status"] == "changed"].reset_index(drop=True)
    assert len(table) > 20
    again = there.posthoc([there.find(id) for id in table["id"]])
    assert list(again["status"]) == list(table["status"])
    np.testing.assert_allclose(again["delta"], table["delta"], rtol=1e-4, atol=1e-5)
