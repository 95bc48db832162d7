"""Cuts in code that runs when a model is built, or whose result is kept: the number in the table is
that of the file with the cut in it, the model built from that, and the same weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from interp import surgery
from interp.verdicts import Verdict, verdict_of
from tests.interp.surgery.built_models import HEAD, MASKS, PARTS
from tests.interp.surgery.written_files import import_cut

VOCAB, WIDTH, LENGTH = 11, 8, 12
TOKENS, TARGETS = torch.randint(
    0, VOCAB, (2, 6, LENGTH), generator=torch.Generator().manual_seed(3)
)


@torch.no_grad()
def judge(model):
    model.eval()
    logits = model(TOKENS).double()
    return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)


def train(model, seed=0):
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(TOKENS).transpose(1, 2), TARGETS).backward()
        optimizer.step()
    model.eval()


def studied(load, text, **options):
    module = load(text)

    def build(seed):
        torch.manual_seed(seed)
        return module.Model()

    model = build(7)
    train(model)
    options = {"workers": 0, **options}
    return surgery.study(build=build, judge=judge, files=[module], model=model, **options)


def by_hand(cut, trained, moved=()):
    """The loss of the edited file's model with the trained weights; None where they do not fit."""
    torch.manual_seed(0)
    model = import_cut(cut.source.path.parent, cut.text).Model()
    state = {**dict(trained.named_parameters(remove_duplicate=False))}
    state |= {name: buffer for name, buffer in trained.named_buffers() if name in moved}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if tensor.requires_grad and getattr(state.get(name), "shape", None) != tensor.shape:
            return None
        tensor.data = state[name].data.clone() if tensor.requires_grad else tensor.data
    for name, tensor in model.named_buffers():
        tensor.data = state[name].data.clone() if name in moved else tensor.data
    return judge(model).mean().item()


def check(study, rows, moved=()):
    """Every row against the file edited by hand."""
    uncut = judge(study.model).mean().item()
    for row in rows.to_dict("records"):
        try:
            found = by_hand(study.find(row["id"]), study.model, moved)
        except Exception:
            assert row["status"] == "error", row
            continue
        if found is None:
            assert row["status"] in ("retrain-only", "error") and np.isnan(row["delta"]), row
        elif np.isfinite(found):
            assert row["delta"] == pytest.approx(found - uncut, abs=1e-6), row
        else:
            assert row["status"] == "nonfinite", row


@pytest.mark.parametrize("text", MASKS.values(), ids=MASKS)
def test_a_mask_that_is_kept_is_cut(load, text):
    study = studied(load, text)
    ids = [cut.id for cut in study.surgeries if "torch.tril" in cut.before]
    rows = study.posthoc(ids)
    check(study, rows)
    bypassed = rows[rows["target"] == "torch.tril"].iloc[0]
    assert bypassed["status"] == "leak"
    assert bypassed["delta"] != 0


def test_every_row_of_what_runs_in_building_is_the_edited_file(load):
    study = studied(load, PARTS)
    rows = study.posthoc([c.id for c in study.surgeries if "build" in study.phases(c)])
    moved = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "noise"}
    check(study, rows, moved)
    lines = set(study.enumerate()["line"])
    assert not lines - {cut.line for cut in study.surgeries}  # of none it is said that it never ran
    status = rows.set_index(["operator", "target"])["status"]
    assert status["identity-module", "nn.GELU"] == "changed"
    assert status["set-constant", "0.02"] == "retrain-only"
    unmeasured = rows[rows["delta"].isna() & (rows["status"] == "retrain-only")]
    assert unmeasured["detail"].str.contains("the trained weights do not fit").all()
    assert {verdict_of(row) for row in unmeasured.to_dict("records")} == {Verdict.UNKNOWN}


def test_a_module_that_weights_belong_to_is_left_out_with_a_word(load):
    study = studied(load, PARTS)
    cut = next(s for s in study.surgeries if s.after.startswith("self.norm = nn.Identity()"))
    inner = next(s for s in study.surgeries if s.target == "F.relu")
    check(study, study.posthoc([inner.id]), {"noise", "norm.running_mean", "norm.running_var"})
    row = study.posthoc([cut.id]).iloc[0]
    assert row["status"] == "changed"
    assert row["detail"] == "the cut model has no place for the trained norm.weight and 1 more"
    check(study, study.posthoc([cut.id]), {"noise"})


LAYERS = f"""{HEAD}
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)
        self.act = nn.Tanh()
        self.gain = 2.0 / 3.0
        def after(x):
            return torch.sigmoid(x) + 0.1
        self.after = after

    def forward(self, x):
        return x + self.after(self.act(self.l(x))) * self.gain

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.h = nn.Linear(8, 11)
        self.scale = 1.0 / 4.0

    def forward(self, tokens):
        x = self.e(tokens)
        for block in self.blocks:
            x = block(x)
        return self.h(x * self.scale)
"""


def test_what_a_layer_builds_is_cut_in_that_layer_alone(load):
    study = studied(load, LAYERS)
    find = {(s.operator, s.before): s for s in study.surgeries}
    act = find["identity-module", "self.act = nn.Tanh()"]
    gain = find["drop-factor", "self.gain = 2.0 / 3.0"]
    inner = find["bypass-call", "return torch.sigmoid(x) + 0.1"]
    for layer in range(3):
        rows = study.posthoc([act.id, gain.id, inner.id], layers=[layer])
        for row, change in zip(
            rows.to_dict("records"),
            (
                lambda block: setattr(block, "act", nn.Identity()),
                lambda block: setattr(block, "gain", 2.0),
                lambda block: setattr(block, "after", lambda x: x + 0.1),
            ),
            strict=True,
        ):
            torch.manual_seed(0)
            model = study.build(0)
            model.load_state_dict(study.model.state_dict())
            change(model.blocks[layer])
            expected = (judge(model) - judge(study.model)).mean().item()
            assert (row["status"], row["layer"]) == ("changed", str(layer))
            assert row["delta"] == pytest.approx(expected, abs=1e-6)
    scale = find["drop-factor", "self.scale = 1.0 / 4.0"]
    row = study.posthoc([scale.id], layers=[1]).iloc[0]
    assert row["status"] == "error" and "lies outside the layers" in row["detail"]


def test_a_model_that_was_changed_after_building_is_not_taken_for_one_built_anew(load):
    module = load(LAYERS)

    def build(seed):
        torch.manual_seed(seed)
        return module.Model()

    model = build(7)
    model.blocks[1].act = nn.ReLU()
    study = surgery.study(build=build, judge=judge, files=[module], model=model, workers=0)
    cuts = [s.id for s in study.surgeries if s.before == "self.act = nn.Tanh()"]
    row = study.posthoc(cuts).iloc[0]
    assert row["status"] == "retrain-only" and np.isnan(row["delta"])
    assert "a model that is built anew is not the trained one: its loss is" in row["detail"]
    model = build(7)
    model.scale = 0.5  # a number is a setting, and goes with the weights
    study = surgery.study(build=build, judge=judge, files=[module], model=model, workers=0)
    rows = study.posthoc(cuts)
    assert set(rows["status"]) == {"changed"}
    with torch.no_grad():
        before = judge(model).mean().item()
        for block in model.blocks:
            block.act = nn.Identity()
        assert rows["delta"].iloc[0] == pytest.approx(judge(model).mean().item() - before, abs=1e-6)


def test_precision_and_mode_are_those_of_the_trained_model(load):
    module = load(LAYERS)
    model = module.Model().double()
    study = surgery.study(
        build=lambda seed: module.Model(), judge=judge, files=[module], model=model, workers=0
    )
    cut = next(s for s in study.surgeries if s.before == "self.act = nn.Tanh()")
    assert study.rebuilding.refusal == ""
    assert study.posthoc([cut.id])["status"].item() == "changed"
    assert model.e.weight.dtype == torch.float64


SCRIPTED = f"""{HEAD}
class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)

    def forward(self, x):
        y = torch.relu(self.l(x))
        return x + y

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.part = MADE
        self.h = nn.Linear(8, 11)

    def forward(self, tokens):
        return self.h(self.part(self.e(tokens)))
"""


DEPRECATED = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


@DEPRECATED
def test_a_line_that_torchscript_runs_is_not_said_to_be_dead(load):
    study = studied(load, SCRIPTED.replace("MADE", "torch.jit.script(Part())"))
    rows = study.enumerate()
    inside = rows[rows["qualname"] == "Part.forward"]
    assert len(inside) == 2 and set(inside["status"]) == {"scripted"}


@DEPRECATED
def test_a_part_that_is_traced_in_building_is_cut_by_tracing_it_anew(load):
    study = studied(
        load, SCRIPTED.replace("MADE", "torch.jit.trace(Part(), torch.zeros(1, 12, 8))")
    )
    cuts = [cut.id for cut in study.surgeries if cut.qualname == "Part.forward"]
    rows = study.posthoc(cuts)
    assert "changed" in set(rows["status"])
    check(study, rows)


OWN_LOSS = f"""{HEAD}
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.h = nn.Linear(8, 11)

    def forward(self, tokens, targets=None):
        x = self.e(tokens)
        self.balance = 0.5 * x.abs().mean()
        logits = self.h(x)
        if targets is None:
            return logits, None
        loss = F.cross_entropy(logits.transpose(1, 2), targets)
        loss = loss + 5.0 * x.pow(2).mean()
        return logits, loss
"""


def test_what_changes_a_loss_of_the_models_own_is_not_the_same_function(load):
    module = load(OWN_LOSS)

    def build(seed):
        torch.manual_seed(seed)
        return module.Model()

    @torch.no_grad()
    def by_logits(model):
        logits = model.eval()(TOKENS)[0]
        return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)

    @torch.no_grad()
    def by_own_loss(model):
        return model.eval()(TOKENS, TARGETS)[1]

    study = surgery.study(build=build, judge=by_logits, files=[module], model=build(0), workers=0)
    cuts = [c for c in study.surgeries if "5.0 *" in c.before or c.before.startswith("self.bal")]
    cuts = [c for c in cuts if c.operator in ("drop-factor", "drop-term", "bypass-call")]
    rows = study.posthoc([cut.id for cut in cuts])
    assert len(rows) > 5 and set(rows["status"]) <= {"train-only", "error"}
    assert (rows["status"] == "train-only").sum() > 3
    own = surgery.study(build=build, judge=by_own_loss, files=[module], model=build(0), workers=0)
    cut = next(
        c for c in own.surgeries if c.after.startswith("loss = loss") and "5.0" not in c.after
    )
    row = own.posthoc([cut.id]).iloc[0]
    with torch.no_grad():
        expected = -5.0 * study.model.e(TOKENS).pow(2).mean().item()
    assert row["status"] == "changed" and row["delta"] == pytest.approx(expected, abs=1e-5)
