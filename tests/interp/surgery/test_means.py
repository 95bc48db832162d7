"""Means and shuffles against plain torch: along the positions, apart for every turn of a line."""

import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.errors import SurgeryError
from interp.surgery.cutting.means import Means
from interp.surgery.operators.stand_ins import surgery_shuffle
from interp.surgery.running.observing import Axes

# models without a mask are fine here
pytestmark = pytest.mark.filterwarnings("ignore:The model as it is sees the future")

V, B, T = 11, 6, 12
TOKENS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(3))
OTHERS = torch.randint(V, (9, T), generator=torch.Generator().manual_seed(4))
TARGETS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(5))
HEAD = """
import torch
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, d=12):
        super().__init__()
        self.l = nn.Linear(d, d)
    def forward(self, x):
        y = torch.tanh(self.l(x))
        return y
"""


@torch.no_grad()
def judge(model):
    logits = model.eval()(TOKENS)
    return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)


@pytest.fixture
def studied(load):
    def study(code, reference=lambda model: model.eval()(OTHERS), **settings):
        module = load(HEAD + code)

        def build(seed):
            torch.manual_seed(seed)
            return module.M()

        settings = {"judge": judge, "reference": reference, "workers": 0, **settings}
        return surgery.study(build=build, files=[module], **settings)

    return study


CONVOLUTION = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 12)
        self.c = nn.Conv1d(12, 12, 3)
        self.h = nn.Linear(12, 11)
    def forward(self, idx):
        x = self.e(idx).transpose(1, 2)
        y = self.c(F.pad(x, (2, 0)))
        z = y.permute(2, 0, 1)
        z = z.relu()
        s = y.transpose(1, 2) @ y
        p = self.e.weight[:1].T.expand(12, idx.shape[1])
        x = x + z.permute(1, 2, 0) + s[:, :1] * 0.01 + p * 0.1
        x = x.transpose(1, 2)
        return self.h(x)
"""


def test_the_axis_of_the_positions_is_seen_and_not_guessed_from_sizes(studied):
    study = studied(CONVOLUTION)
    shuffles = {
        s.before.split(" =")[0]: s.after for s in study.surgeries if s.operator == "shuffle"
    }
    assert shuffles["y"].endswith(", 2)")
    assert shuffles["z"].endswith(", 0)")
    assert "p" not in shuffles, "what no text has of its own"
    means = [s.before.split(" =")[0] for s in study.surgeries if s.operator == "mean"]
    assert "s" not in means, "of [query key] a mean would see the future"
    table = study.posthoc([s for s in study.surgeries if s.operator in ("shuffle", "mean")])
    model = study.model
    with torch.no_grad():
        x, ours = (model.e(tokens).transpose(1, 2) for tokens in (OTHERS, TOKENS))
        mean = model.c(F.pad(x, (2, 0))).mean(dim=(0, 2), keepdim=True)
        y = model.c(F.pad(ours, (2, 0)))
        for operator, instead in (
            ("mean", mean.expand_as(y)),
            ("shuffle", surgery_shuffle(y, 2)),
        ):
            s = instead.transpose(1, 2) @ instead
            last = ours + instead.relu() + s[:, :1] * 0.01 + model.e.weight[:1].T * 0.1
            by_hand = F.cross_entropy(model.h(last.transpose(1, 2)).transpose(1, 2), TARGETS)
            row = table[(table["operator"] == operator) & table["code"].str.startswith("y =")].iloc[
                0
            ]
            assert row["status"] != "leak"
            assert row["value"] == pytest.approx(float(by_hand), abs=1e-6)


TURNS = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 12)
        self.k, self.v = Layer(), Layer()
        self.h = nn.Linear(12, 11)
    def project(self, part, x):
        kept = part(x)
        return kept
    def forward(self, idx):
        x = self.e(idx)
        a, b = self.project(self.k, x), self.project(self.v, x)
        for _ in range(3):
            x = x + 0.5 * a.roll(1, 1) * b
            b = b + x
            a = a * 0.5
        return self.h(x)
"""


def by_turn(model, tokens, means=None, cut=()):
    """The model of ``TURNS`` written out; values named in ``cut`` are replaced by their mean."""
    found = {}

    def note(name, value):
        found[name] = value.mean(dim=(0, 1), keepdim=True)
        return means[name].expand_as(value) if name[0] in cut else value

    x = model.e(tokens)
    a = note(("kept", 0), torch.tanh(model.k.l(x)))
    b = note(("kept", 1), torch.tanh(model.v.l(x)))
    for turn in range(3):
        x = note(("x", turn), x + 0.5 * a.roll(1, 1) * b)
        b = note(("b", turn), b + x)
        a = a * 0.5
    return model.h(x), found


def test_a_mean_is_apart_for_each_turn_of_a_line(studied):
    study = studied(TURNS)
    cuts = [s for s in study.surgeries if s.operator == "mean"]
    table = study.posthoc(cuts)
    with torch.no_grad():
        means = by_turn(study.model, OTHERS)[1]
        for name, code in (("kept", "kept ="), ("x", "x = x"), ("b", "b = b")):
            logits = by_turn(study.model, TOKENS, means, {name})[0]
            by_hand = float(F.cross_entropy(logits.transpose(1, 2), TARGETS))
            row = table[table["code"].str.startswith(code)].iloc[0]
            assert row["value"] == pytest.approx(by_hand, abs=1e-6), name


def test_reference_texts_may_come_in_batches_and_be_of_another_length(studied):
    def in_batches(model):
        model.eval()
        for batch in OTHERS[:, :7].split(4):
            model(batch)

    whole = studied(TURNS, lambda model: model.eval()(OTHERS[:, :7]))
    parts = studied(TURNS, in_batches)
    one, two = (
        study.posthoc([s for s in study.surgeries if s.operator == "mean"])["value"].to_numpy()
        for study in (whole, parts)
    )
    assert len(one) > 4
    assert one == pytest.approx(two, abs=1e-6)


LONGER = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 12)
        self.h = nn.Linear(12, 11)
        self.noise = nn.Parameter(torch.zeros(12))
    def forward(self, idx):
        x = self.e(idx)
        for _ in range(2 if len(idx) == 9 else 3):
            x = torch.tanh(x * 1.5)
        if self.training:
            x = x + self.noise
        unused = x * 1.0
        return self.h(x)
"""


def test_a_turn_that_the_reference_texts_never_took_is_refused_in_a_sentence(studied):
    study = studied(LONGER)
    cuts = {s.before: s for s in study.surgeries if s.operator == "mean"}
    row = study.posthoc([cuts["x = torch.tanh(x * 1.5)"]]).iloc[0]
    assert row["status"] == "error"
    assert (
        "has no mean to stand in: on the reference texts it did not run for the 3. time"
        in (row["detail"])
    )
    assert "surgery_" not in row["detail"]


def test_a_mean_without_effect_is_equivalent_and_one_of_training_is_not_proposed(studied):
    study = studied(LONGER)
    cuts = {s.before: s for s in study.surgeries if s.operator == "mean"}
    assert study.posthoc([cuts["unused = x * 1.0"]])["status"].tolist() == ["equivalent"]
    assert "x = x + self.noise" not in cuts


def test_a_mean_cannot_be_trained_with(studied):
    study = studied(LONGER, train=lambda model, seed: None)
    cut = next(s for s in study.surgeries if s.operator == "mean")
    with pytest.raises(SurgeryError, match="puts in the mean of a trained model"):
        study.retrain([cut.id])
    model = surgery.edited_module(study.sources[0], cut).M()
    with pytest.raises(SurgeryError, match="only a study that has taken it can put it there"):
        model(TOKENS)


FIXED = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 12)
        self.p = nn.Parameter(torch.zeros(12, 12))
        self.h = nn.Linear(12, 11)
    def forward(self, idx, positions=None, mask=None):
        if positions is not None:
            assert positions.shape == idx.shape[1:]
            assert mask.shape == (len(idx), 1, idx.shape[1], idx.shape[1])
        x = self.e(idx)
        x = x + self.p CUT
        return self.h(x)
"""


def test_other_inputs_are_cut_with_the_tokens(studied):
    @torch.no_grad()
    def with_more(model):
        mask = torch.ones(B, 1, T, T)
        logits = model.eval()(TOKENS, positions=torch.arange(T), mask=mask)
        return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)

    study = studied(FIXED.replace("CUT", "[: idx.shape[1]]"), judge=with_more)
    assert any(s.after == "x = surgery_shuffle(self.e(idx), 1)" for s in study.surgeries)


def test_where_a_model_takes_one_length_only_nothing_is_guessed(studied):
    operators = {s.operator for s in studied(FIXED.replace("CUT", "")).surgeries}
    assert "zero" in operators
    assert operators.isdisjoint({"shuffle", "mean"})


def test_a_value_of_no_width_has_no_mean():
    means = Means()
    means.add(("m.py:3:4", None, 0), torch.ones(2, 5, 0), Axes(0, (1,)))
    assert not means
    means.add(("m.py:4:4", None, 0), torch.ones(2, 5, 3), Axes(0, (1,)))
    assert means.counts == {("m.py:4:4", None, 0): 10}
