"""Cuts that a person makes: four ways to say one are one cut, and what it does is what the file
does when it was edited by hand."""

import difflib
import re
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import gpt.model
from interp import surgery
from interp.errors import SurgeryError
from interp.surgery.source.own import to_text

TEXT = """
import math
import torch
from torch import nn
from torch.nn import functional as F

GAIN = 2.0
DOUBLE = 2 * GAIN


def table(n):
    return torch.ones(n, n).tril()


MASK = table(12)


def squash(x, power=2.0):
    return x * torch.sigmoid(power * x)


class Base(nn.Module):
    slope = 0.5
    steep = 2 * slope

    def __init__(self, width, bias=True):
        super().__init__()
        self.map = nn.Linear(width, width, bias=bias)

    def scaled(self, x, factor=2.0, *, shift=0.25):
        return x * factor * self.slope + shift

    @property
    def height(self):
        return 1.5

    @torch.no_grad()
    def norm(self, x):
        return x.square().mean(-1, keepdim=True).sqrt()


class Part(Base):
    def forward(self, x):
        x = x + squash(self.map(x)) * self.height
        return self.scaled(x) / self.norm(x) * DOUBLE + self.steep


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(11, 8)
        self.layers = nn.ModuleList([Part(8), Part(8)])
        self.h = nn.Linear(8, 11)

    def forward(self, tokens):
        x = self.e(tokens) * GAIN
        x = MASK[: x.shape[1], : x.shape[1]] @ x / 3
        for layer in self.layers:
            x = layer(x)
        return self.h(x)

    def never(self, x):
        y = x + 1
        return y
"""
TOKENS, TARGETS = torch.randint(0, 11, (2, 4, 12), generator=torch.Generator().manual_seed(3))

# what is edited: the text that goes, and the text that comes
EDITS = {
    "a line": ("x = layer(x)", "x = x + layer(x)"),
    "two lines become one": (
        "        for layer in self.layers:\n            x = layer(x)\n",
        "        x = self.layers[1](x)\n",
    ),
    "a line more": (
        "        return self.h(x)\n",
        "        x = x.tanh()\n        return self.h(x)\n",
    ),
    "a line less": ("        x = MASK[: x.shape[1], : x.shape[1]] @ x / 3\n", ""),
    "a default value": ("factor=2.0", "factor=5.0"),
    "a default value of a keyword": ("shift=0.25", "shift=-1.0"),
    "a default value of a function": ("power=2.0", "power=0.1"),
    "a default value that is read in building": ("bias=True", "bias=False"),
    "a parameter more": (
        "def scaled(self, x, factor=2.0,",
        "def scaled(self, x, a=3.0, factor=2.0,",
    ),
    "a constant of a class": ("slope = 0.5", "slope = 1.5"),
    "a constant of the module": ("GAIN = 2.0", "GAIN = 3.0"),
    "an import": (
        "import torch\nfrom torch",
        "import torch\nfrom torch import tanh as sin\nfrom torch",
    ),
    "a function that made a table": ("torch.ones(n, n).tril()", "torch.ones(n, n).tril() * 0.5"),
    "a table": ("MASK = table(12)", "MASK = table(12) * 0.25"),
    "a property": ("return 1.5", "return -1.5"),
    "below a decorator": ("x.square().mean(-1", "x.abs().mean(-1"),
    "a method more": (
        "    def never(self",
        "    def forward(self, idx):\n        return self.h(self.e(idx))\n\n    def never(self",
    ),
    "a method that uses super": (
        "class Part(Base):\n",
        "class Part(Base):\n    def scaled(self, x):\n        return super().scaled(x) * 0.5\n\n",
    ),
    "a method less": (
        "    def scaled(self, x, factor=2.0, *, shift=0.25):\n"
        "        return x * factor * self.slope + shift\n",
        "    scaled = nn.Identity()\n",
    ),
    "a function more": (
        "def squash(x, power=2.0):\n    return x * torch.sigmoid(power * x)\n",
        "def gate(x):\n    return x.relu()\n\n\ndef squash(x, power=2.0):\n    return gate(x)\n",
    ),
    "super in a method without": (
        "        return 1.5",
        "        return 1.5 + 0.5 * (not super().dump_patches)",
    ),
    "several places": (
        TEXT[TEXT.index("    slope = 0.5") : TEXT.index("class Part")],
        TEXT[TEXT.index("    slope = 0.5") : TEXT.index("class Part")]
        .replace("0.5", "0.7")
        .replace("1.5", "2.5"),
    ),
    "what is built": (
        "self.h = nn.Linear(8, 11)",
        "self.h = nn.Linear(8, 11)\n        self.e.weight.data[0] = 0",
    ),
}
REFUSED = {
    "a decorator": ("    @property\n", ""),
    "a base": ("class Part(Base):", "class Part(Base, object):"),
    "a statement at the top": ("MASK = table(12)\n", "MASK = table(12)\nMASK[0] = 1\n"),
}


@torch.no_grad()
def judge(model):
    logits = model.eval()(TOKENS).double()
    return F.cross_entropy(logits.transpose(1, 2), TARGETS, reduction="none").mean(1)


def build_of(module):
    def build(seed):
        torch.manual_seed(seed)
        return module.Model()

    return build


@pytest.fixture
def study(load):
    module = load(TEXT)
    return surgery.study(build=build_of(module), judge=judge, files=[module], workers=0)


def by_hand(load, study, old, new):
    """What the file does to the loss when it was edited, with the same weights."""
    assert TEXT.count(old) == 1
    edited = build_of(load(TEXT.replace(old, new)))(0)
    edited.load_state_dict(study.model.state_dict(), strict=False)
    return float((judge(edited) - judge(study.model)).mean())


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_does_what_the_file_edited_by_hand_does(what, load, study):
    old, new = EDITS[what]
    uncut = judge(study.model)
    cut = surgery.edit(study.sources[0], old, new)
    row = study.posthoc([cut]).iloc[0]
    wanted = by_hand(load, study, old, new)
    assert row["status"] in ("changed", "leak", "equivalent", "retrain-only"), row["detail"]
    assert row["delta"] == pytest.approx(wanted, abs=1e-6)
    assert torch.equal(judge(study.model), uncut)  # and all is as it was
    assert torch.equal(judge(build_of(sys.modules[study.sources[0].module])(0)), uncut)


@pytest.mark.parametrize("what", REFUSED)
def test_what_python_read_when_it_imported_is_known_by_training_alone(what, study):
    row = study.posthoc([surgery.edit(study.sources[0], *REFUSED[what])]).iloc[0]
    assert row["status"] == "retrain-only"
    assert "built and trained" in row["detail"]
    assert np.isnan(row["delta"])


def test_a_line_that_never_runs_is_said(study):
    row = study.posthoc([surgery.edit(study.sources[0], "y = x + 1", "y = x + 2")]).iloc[0]
    assert row["status"] == "dead"
    assert "do not run" in row["detail"]


def test_an_edit_in_some_layers_is_of_bodies_alone(load, study):
    cut = surgery.edit(study.sources[0], "x = x + squash", "x = x - squash")
    single = study.posthoc([cut], layers="each").set_index("layer")["delta"]
    assert set(single.index) == {"all", "0", "1"}
    assert single["0"] != pytest.approx(single["all"], abs=1e-6)
    slope = surgery.edit(study.sources[0], "slope = 0.5", "slope = 1.5")
    row = study.posthoc([surgery.at_layers(slope, [0])]).iloc[0]
    assert row["status"] == "retrain-only"
    assert "leave layers out" in row["detail"]


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "a byte order mark"])
def test_a_name_that_another_file_imported_is_edited_there_too(load, tmp_path, monkeypatch, start):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sizes_here.py").write_text("GAIN = 2.0\n")
    text = TEXT.replace("GAIN = 2.0\nDOUBLE = 2 * GAIN", "from sizes_here import GAIN\nDOUBLE = 4")
    module = load(start + text)
    study = surgery.study(
        build=build_of(module), judge=judge, files=[tmp_path / "sizes_here.py"], workers=0
    )
    row = study.posthoc([surgery.edit(study.sources[0], "GAIN = 2.0", "GAIN = 3.0")]).iloc[0]
    edited = build_of(load(text.replace("import GAIN", "import GAIN\nGAIN = 3.0")))(0)
    edited.load_state_dict(study.model.state_dict())
    assert row["delta"] == pytest.approx(
        float((judge(edited) - judge(study.model)).mean()), abs=1e-6
    )
    del sys.modules["sizes_here"]


def four_ways(tmp_path, old, new):
    source = surgery.read_source(gpt.model)
    edited = source.text.replace(old, new)
    copy, patch = tmp_path / "edited_model.py", tmp_path / "my_idea.diff"
    copy.write_text(edited)
    lines = [text.splitlines(keepends=True) for text in (source.text, edited)]
    patch.write_text("".join(difflib.unified_diff(*lines, "a/gpt/model.py", "b/gpt/model.py")))
    line = source.text[: source.text.index(old)].count("\n") + 1
    return [
        surgery.edit(source, old, new),
        surgery.at_line(source, line, new),
        surgery.from_diff(source, patch),
        surgery.from_diff(source, patch.read_text()),
        surgery.between(source, copy),
    ]


@pytest.mark.parametrize(
    "old, new",
    [("x = x + attn_out", "x = attn_out"), ("x = x / scale", "x = x / scale.mean()  # of all")],
)
def test_four_ways_to_say_a_cut_give_one_surgery(tmp_path, old, new):
    cuts = four_ways(tmp_path, old, new)
    assert len({cut.identity for cut in cuts}) == 1
    assert len({cut.id for cut in cuts}) == 1
    assert len({cut.text for cut in cuts}) == 1
    assert cuts[0].after == new


def test_a_cut_of_ones_own_is_the_one_that_an_operator_finds():
    source = surgery.read_source(gpt.model)
    found = surgery.find(source, "cut-skip", qualname="Block.forward", code="x + attn_out")
    assert surgery.edit(source, "x = x + attn_out", "x = attn_out").identity == found.identity


def test_hunks_are_cuts_of_their_own():
    source = surgery.read_source(gpt.model)
    text = source.text.replace("x = x + attn_out", "x = attn_out").replace("1e-5", "1e-3")
    both = to_text(source, text)
    eps, skip = surgery.hunks(both)
    assert (eps.after, skip.after) == ("self.eps = 1e-3", "x = attn_out")
    assert surgery.combine([eps, skip]).text == text


def test_a_diff_against_lines_that_have_moved_still_fits(tmp_path):
    source = surgery.read_source(gpt.model)
    patch = four_ways(tmp_path, "x = x + attn_out", "x = attn_out")[0].diff
    longer = tmp_path / "model.py"
    longer.write_text("# a line more\n" + source.text)
    moved = surgery.from_diff(longer, patch)
    assert moved.line == surgery.from_diff(source, patch).line + 1


WRONG = {
    "not there": (
        lambda s: surgery.edit(s, "x = x + atn_out", "x = x"),
        "nearest: 'x = x + attn_out'",
    ),
    "in several places": (
        lambda s: surgery.edit(s, "return x", "return 2 * x"),
        "places, on lines",
    ),
    "empty": (lambda s: surgery.edit(s, "", "x"), "does not say ''"),
    "no Python": (
        lambda s: surgery.edit(s, "x = x + attn_out", "x = = attn_out"),
        "'x = = attn_out', is no Python",
    ),
    "the same": (
        lambda s: surgery.edit(s, "x = x + attn_out", "x = x + attn_out"),
        "changes nothing",
    ),
    "a comment": (
        lambda s: surgery.edit(s, "x = x + attn_out", "x = x + attn_out  # why"),
        "only comments",
    ),
    "no such line": (lambda s: surgery.at_line(s, 9999, "pass"), "there is no line 9999"),
    "a blank line": (
        lambda s: surgery.at_line(s, s.text[: s.text.index("\n\n\n")].count("\n") + 2, "pass"),
        "no code stands",
    ),
    "no diff": (lambda s: surgery.from_diff(s, "hello\nworld\n"), "no unified diff"),
    "no such diff": (lambda s: surgery.from_diff(s, "idea.diff"), "cannot be read"),
    "another file's": (
        lambda s: surgery.from_diff(
            s,
            "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n"
            "--- a/y.py\n+++ b/y.py\n@@ -1 +1 @@\n-a\n+b\n",
        ),
        "the diff is of x.py, y.py, not of model.py",
    ),
    "a diff of other lines": (
        lambda s: surgery.from_diff(
            s, "--- a/model.py\n+++ b/model.py\n@@ -3 +3 @@\n-not here\n+b\n"
        ),
        "does not fit",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_cut_is_said_in_a_sentence(what):
    make, said = WRONG[what]
    with pytest.raises(SurgeryError, match=re.escape(said)):
        make(surgery.read_source(gpt.model))
