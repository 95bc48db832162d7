"""A cut of several files is one cut, and does what editing all of them by hand does."""

import importlib
import sys

import pytest
import torch
from torch.nn import functional as F

from interp import surgery
from interp.errors import SurgeryError

LAYERS = """
import torch
from torch import nn

SCALE = 0.5


class Mix(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.project = nn.Linear(width, width)

    def forward(self, x):
        mixed = self.project(x)
        return x + SCALE * mixed
"""
MODEL = """
import torch
from torch import nn
from .layers import SCALE, Mix


class Small(nn.Module):
    def __init__(self, vocab_size=11, width=8):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList([Mix(width) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocab_size)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.out(x) * SCALE
"""
TOKENS = torch.arange(40).reshape(4, 10) * 7 % 11
EDITS = {
    "bodies": [
        ("layers.py", "mixed = self.project(x)", "mixed = torch.tanh(self.project(x))"),
        ("model.py", "x = self.norm(x)", "x = x * 2"),
    ],
    "a name that one file makes and the other imports": [
        ("layers.py", "SCALE = 0.5", "SCALE = 0.5\n\n\ndef squash(x):\n    return x.tanh()\n"),
        ("model.py", "import SCALE, Mix", "import SCALE, Mix, squash"),
        ("model.py", "x = self.norm(x)", "x = squash(x)"),
    ],
    "a constant that the other file has imported": [
        ("layers.py", "SCALE = 0.5", "SCALE = 0.75"),
        ("model.py", "x = self.norm(x)", "x = self.norm(x) + 1"),
    ],
    "what acts when a model is built": [
        (
            "layers.py",
            "self.project = nn.Linear",
            "self.wide = 3.0\n        self.project = nn.Linear",
        ),
        ("layers.py", "return x + SCALE * mixed", "return x + self.wide * mixed"),
        ("model.py", "x = self.norm(x)", "x = self.norm(x) / 2"),
    ],
}


def judge(model):
    logits = model(TOKENS)[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), TOKENS[:, 1:], reduction="none").mean(1)


def build_of(module):
    def build(seed):
        torch.manual_seed(seed)
        return module.Small()

    return build


def train(model, seed):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(5):
        optimizer.zero_grad()
        judge(model).mean().backward()
        optimizer.step()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes a package of the two files, edited or not, and imports it; returns its folder's
    module of the model."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def load(name, edits=()):
        texts = {"__init__.py": "", "layers.py": LAYERS, "model.py": MODEL}
        for file, old, new in edits:
            assert texts[file].count(old) == 1
            texts[file] = texts[file].replace(old, new)
        (tmp_path / name).mkdir()
        for file, text in texts.items():
            (tmp_path / name / file).write_text(text)
        made.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(f"{name}.model")

    yield load
    for name in [name for name in sys.modules if name.partition(".")[0] in made]:
        del sys.modules[name]


def sources_of(module):
    folder = surgery.read_source(module).path.parent
    layers = sys.modules[f"{module.__package__}.layers"]
    assert (folder / "layers.py").is_file()
    return [surgery.read_source(module), surgery.read_source(layers)]


@pytest.mark.parametrize("what", EDITS)
def test_it_is_both_files_edited_by_hand_on_the_trained_model_and_retrained(load, tmp_path, what):
    module, by_hand = load("plain"), load("edited", EDITS[what])
    sources = sources_of(module)
    cut = surgery.between(sources, tmp_path / "edited")
    assert {part.file for part in cut.parts} == {"model.py", "layers.py"}
    study = surgery.study(
        build=build_of(module), judge=judge, train=train, files=[s.path for s in sources], workers=0
    )
    before = judge(study.model).detach()
    row = study.posthoc([cut]).iloc[0]
    assert torch.equal(judge(study.model).detach(), before)  # nothing is left of it
    edited = build_of(by_hand)(0)
    edited.load_state_dict(study.model.state_dict())
    with torch.no_grad():
        assert row["value"] == pytest.approx(float(judge(edited).mean()), abs=1e-6)
        assert abs(row["delta"]) > 1e-3
    again = study.trainings([cut], seeds=[3]).set_index("id")["value"]
    edited = build_of(by_hand)(3)
    train(edited, 3)
    with torch.no_grad():
        assert again[cut.id] == pytest.approx(float(judge(edited).mean()), abs=1e-6)
    assert again[""] != pytest.approx(again[cut.id], abs=1e-4)


def test_a_diff_and_a_copied_folder_are_one_cut_whatever_the_order_of_files(load, tmp_path):
    sources = sources_of(load("plain"))
    load("edited", EDITS["bodies"])
    copied = surgery.between(sources, tmp_path / "edited")
    (tmp_path / "idea.diff").write_text(copied.diff)
    patched = surgery.from_diff(sources, tmp_path / "idea.diff")
    turned = surgery.from_diff(sources[::-1], copied.diff)
    combined = surgery.combine(surgery.hunks(copied))
    assert len({cut.identity for cut in (copied, patched, turned, combined)}) == 1
    assert patched.id == copied.id == f"{copied.parts[0].id}+{copied.parts[1].id}"
    assert copied.identity not in {part.identity for part in copied.parts}
    assert copied.label.count("→") == 2


def test_in_one_layer_it_is_made_in_that_layer_of_every_file(load):
    sources = sources_of(load("plain"))
    layers = surgery.edit(sources[1], "mixed = self.project(x)", "mixed = x * 0")
    model = surgery.edit(sources[0], "x = self.norm(x)", "x = x * 2")
    study = surgery.study(
        build=build_of(sys.modules["plain.model"]), judge=judge, files=[s.path for s in sources]
    )
    both, alone = study.posthoc([surgery.combine([layers, model]), layers], layers=[1])["delta"]
    assert both == pytest.approx(alone, abs=1e-6)  # the norm is in no layer
    assert abs(alone) > 1e-4


def test_a_file_of_the_diff_that_cannot_be_cut_is_refused(load, tmp_path):
    sources = sources_of(load("plain"))
    load("edited", EDITS["bodies"])
    diff = surgery.between(sources, tmp_path / "edited").diff
    with pytest.raises(SurgeryError, match=r"also of .*layers.py, which is none of .* model.py"):
        surgery.from_diff(sources[:1], diff)
    with pytest.raises(SurgeryError, match=r"layers.py is edited too, and is none of"):
        surgery.between(sources[:1], tmp_path / "edited")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SurgeryError, match=r"has none of the files that can be cut, model.py, lay"):
        surgery.between(sources, tmp_path / "empty")
    with pytest.raises(SurgeryError, match="changes nothing"):
        surgery.between(sources, tmp_path / "plain")


def test_a_file_of_which_only_comments_change_is_no_part_of_the_cut(load, tmp_path):
    sources = sources_of(load("plain"))
    load("edited", [EDITS["bodies"][1], ("layers.py", "SCALE = 0.5", "SCALE = 0.5  # half")])
    cut = surgery.between(sources, tmp_path / "edited")
    assert cut.beside == ()
    assert cut.identity == surgery.edit(sources[0], "x = self.norm(x)", "x = x * 2").identity


def test_a_cut_of_a_file_that_is_not_studied_is_refused(load):
    sources = sources_of(load("plain"))
    layers = surgery.edit(sources[1], "mixed = self.project(x)", "mixed = x * 0")
    model = surgery.edit(sources[0], "x = self.norm(x)", "x = x * 2")
    study = surgery.study(
        build=build_of(sys.modules["plain.model"]), judge=judge, files=[sources[0].path]
    )
    with pytest.raises(SurgeryError, match=r"is a cut of .*layers.py as it was read then"):
        study.posthoc([surgery.combine([model, layers])])


def test_a_module_of_one_file_cannot_have_a_cut_of_two(load):
    sources = sources_of(load("plain"))
    cut = surgery.combine(
        [
            surgery.edit(sources[0], "x = self.norm(x)", "x = x * 2"),
            surgery.edit(sources[1], "mixed = self.project(x)", "mixed = x * 0"),
        ]
    )
    with pytest.raises(SurgeryError, match="a module is one file: build the model inside"):
        surgery.edited_module(sources[0], cut)
