"""Order and company do not matter: a cut is what it is when it is made alone, whatever the cuts
before it have left behind; and what a reader must know of the model as it is, is said."""

import copy
import functools
import warnings

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.errors import SurgeryError, SurgeryWarning

VOCAB, LENGTH = 11, 12
TOKENS, TARGETS = torch.randint(
    0, VOCAB, (2, 6, LENGTH), generator=torch.Generator().manual_seed(3)
)

# Each line that lasts is one that a cut can make last, or that lasts by itself.
MODEL = """
import torch
from torch import nn
from torch.nn import functional as F

seen = []

class Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(d) + 0.5)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("var", torch.ones(d))
    def forward(self, x):
        if self.training:
            m, v = x.mean((0, 1)), x.var((0, 1))
            with torch.no_grad():
                self.mean.lerp_(m, 0.5)
                self.var.lerp_(v, 0.5)
        else:
            m, v = self.mean, self.var
        return self.weight * (x - m) / (v + 1e-5).sqrt()

class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.p = nn.Parameter(torch.randn(12, 8))
        self.norm = Norm(8)
        self.q = nn.Linear(8, 24)
        self.h = nn.Linear(8, 11)
        self.mask = None
    def forward(self, tokens):
        seen.append(len(tokens))
        n = tokens.shape[1]
        if self.mask is None or len(self.mask) < n:
            self.mask = torch.ones(n, n).tril()
        pos = self.p[:n].clone()
        pos *= 1.5
        x = self.norm(self.e(tokens) + pos)
        q, k, v = self.q(x).chunk(3, -1)
        s = (q @ k.mT).masked_fill(self.mask[:n, :n] == 0, float("-inf")).softmax(-1)
        s = F.dropout(s, 0.2, training=self.training)
        x = x + s @ v
        x += 0.01 * torch.randn(x.shape)
        return self.h(x)
"""


@torch.no_grad()
def judge(model):
    model.eval()
    logits = model(TOKENS).double()
    return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)


@pytest.fixture
def studied(load):
    load = functools.cache(load)  # a text studied twice is one file, whose cuts have the same ids

    def study(text, workers, judge=judge, model=None):
        module = load(text)

        def build(seed):
            torch.manual_seed(seed)
            return module.M()

        return surgery.study(
            build=build, judge=judge, files=[module], model=model or build(0), workers=workers
        )

    return study


def by_id(table):
    return table.set_index("id").drop(columns=["same_as"])


@pytest.mark.filterwarnings("ignore:Judging draws random numbers")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_cut_alone_is_the_cut_among_others_in_any_order(studied, workers):
    study = studied(MODEL, workers)
    model = study.model
    state = copy.deepcopy(model.state_dict())
    mode, mask, gradients = model.training, model.mask, [p.grad for p in model.parameters()]
    drawn = torch.get_rng_state()
    ids = [cut.id for cut in study.surgeries][:: 5 if workers else 1]
    whole = by_id(study.posthoc(ids))
    seen = {"changed", "train-only"} if workers else {"changed", "equivalent", "leak"}
    assert seen <= set(whole["status"])
    backwards = by_id(study.posthoc(ids[::-1]))
    pd.testing.assert_frame_equal(
        backwards.loc[ids], whole.loc[ids], check_exact=True, check_dtype=False
    )
    for id in ids[:: len(ids) // 8]:
        alone = by_id(study.posthoc([id]))
        pd.testing.assert_frame_equal(alone, whole.loc[[id]], check_exact=True, check_dtype=False)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert (model.training, model.mask) == (mode, mask)
    assert [p.grad for p in model.parameters()] == gradients
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.filterwarnings("ignore:Judging draws random numbers")
def test_forks_and_this_process_come_to_the_same(studied):
    studies = [studied(MODEL, workers) for workers in (0, 2)]
    ids = [cut.id for cut in studies[0].surgeries][2::7]
    tables = [by_id(study.posthoc(ids)) for study in studies]
    exact = ["status", "n", "layer"]
    assert tables[0][exact].equals(tables[1][exact])
    for name in ("value", "delta"):
        pd.testing.assert_series_equal(tables[0][name], tables[1][name], rtol=1e-6, atol=1e-9)


def said_of(studied, text, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SurgeryWarning)
        study = studied(text, 0, **settings)
        study.posthoc([study.surgeries[0].id])
    return [str(one.message) for one in caught if issubclass(one.category, SurgeryWarning)]


QUIET = MODEL.replace("        x += 0.01 * torch.randn(x.shape)\n", "")


def test_a_model_that_draws_random_numbers_is_said_to(studied):
    assert any("draws random numbers" in note for note in said_of(studied, MODEL))
    assert said_of(studied, QUIET) == []


def test_a_model_without_a_mask_is_said_to_see_the_future_and_nothing_is_called_a_leak(studied):
    text = QUIET.replace("torch.ones(n, n).tril()", "torch.ones(n, n)")
    assert any("sees the future" in note for note in said_of(studied, text))
    with pytest.warns(SurgeryWarning, match="sees the future"):
        study = studied(text, 0)
    assert "leak" not in set(study.posthoc()["status"])


def test_training_that_differs_each_time_is_said_to(studied):
    text = QUIET.replace(
        "        return self.h(x)\n",
        "        import os\n"
        "        if self.training:\n"
        "            x = x * (1 + os.urandom(1)[0] / 999 + os.urandom(1)[0] / 99)\n"
        "        return self.h(x)\n",
    )
    assert any("Training is not repeatable" in note for note in said_of(studied, text))


def test_a_judge_that_differs_each_time_is_refused(studied):
    calls = iter(range(1000))
    with pytest.raises(SurgeryError, match="with the same random numbers: nothing can be compared"):
        studied(QUIET, 0, judge=lambda model: judge(model) + next(calls))


def test_a_model_that_takes_positions_first_is_refused_with_what_to_do(studied):
    text = QUIET.replace("n = tokens.shape[1]", "tokens = tokens.T\n        n = tokens.shape[1]")
    text = text.replace("return self.h(x)", "return self.h(x).transpose(0, 1)")
    tokens = TOKENS.T.contiguous()

    @torch.no_grad()
    def judged(model):
        logits = model.eval()(tokens).double()
        return F.cross_entropy(logits.permute(1, 2, 0), TARGETS, reduction="none").mean(1)

    with pytest.raises(SurgeryError, match=r"\[pos batch\]"):
        studied(text, 0, judge=judged)


PARAMETRIZED = """
import torch
from torch import nn
from torch.nn.utils import parametrizations

class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.l = parametrizations.spectral_norm(nn.Linear(8, 8))
        self.w = parametrizations.weight_norm(nn.Linear(8, 8))
        self.h = nn.Linear(8, 11)
    def forward(self, tokens):
        x = self.e(tokens)
        x = x + torch.tanh(self.l(x))
        x = x + self.w(x)
        return self.h(x)
"""


def test_a_class_that_building_makes_is_no_hindrance(studied):
    tables = [studied(PARAMETRIZED, workers).posthoc() for workers in (0, 1)]
    pd.testing.assert_frame_equal(*tables)
    changed = tables[0][tables[0]["status"] == "changed"]
    assert {"self.l", "self.w"} <= set(changed["target"])
