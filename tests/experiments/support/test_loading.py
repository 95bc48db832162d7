"""Files are imported with those beside them, and never run their training."""

import sys

import pytest
import torch

from experiments import lines
from experiments.support.models.loading import load_foreign
from experiments.support.subjects import choose_class
from experiments.support.trainings.tasks import resize_preset
from gpt.errors import UsageError
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS
from interp.surgery.running.loaded import loaded_functions
from interp.surgery.source.syntax import parse, read_source

LAYER = """
import torch
from torch import nn
class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.l = nn.Linear(d, d)
    def forward(self, x):
        return x + torch.relu(self.l(x))
"""
MODEL = """
import torch
from torch import nn
{imports}
class GPT(nn.Module):
    def __init__(self, vocab_size, n_embd=16):
        super().__init__()
        self.e = nn.Embedding({rows}, n_embd)
        self.b = Layer(n_embd)
        self.h = nn.Linear(n_embd, vocab_size)
    def forward(self, idx):
        return {returned}
"""
FORWARD = "self.h(self.b(self.e(idx)))"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def gpt(imports, rows="vocab_size", returned=FORWARD):
    return MODEL.format(imports=imports, rows=rows, returned=returned)


@pytest.fixture(autouse=True)
def as_before():
    path, finders, modules = list(sys.path), list(sys.meta_path), {**sys.modules}
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in [name for name in sys.modules if name not in modules]:
        del sys.modules[name]


@pytest.fixture
def choose(tmp_path, text, small):
    corpus = load_corpus(str(text))
    tokenizer = CharTokenizer.from_text(corpus.text)
    preset = resize_preset(PRESETS["demo"], tokenizer.vocab_size, 2)
    data = split(corpus, tokenizer, preset.model.block_size)
    runs = tmp_path / "runs"
    return lambda model, **options: choose_class(model, data, preset, 0, runs, **options)


@pytest.mark.parametrize(
    ("files", "model", "studied"),
    [
        ({"near.py": LAYER, "m.py": gpt("from near import Layer")}, "m.py", ["m.py", "near.py"]),
        ({"gpt.py": LAYER, "m.py": gpt("from gpt import Layer")}, "m.py", ["m.py", "gpt.py"]),
        (
            {"p/__init__.py": "", "p/near.py": LAYER, "p/m.py": gpt("from p.near import Layer")},
            "p/m.py",
            ["m.py", "near.py"],
        ),
        ({"q/near.py": LAYER, "q/m.py": gpt("from .near import Layer")}, "q/m.py", None),
        ({"src/near.py": LAYER, "src/a/m.py": gpt("from src.near import Layer")},
         "src/a/m.py", None),
        ({"experiments/__init__.py": "", "experiments/near.py": LAYER,
          "m.py": gpt("from experiments.near import Layer")}, "m.py", None),
        ({"interp/near.py": LAYER, "m.py": gpt("import interp.near\nLayer = interp.near.Layer")},
         "m.py", None),
        ({"gpt/__init__.py": "", "gpt/near.py": LAYER,
          "gpt/m.py": gpt("import gpt.near as other\nLayer = other.Layer")}, "gpt/m.py", None),
        ({"pandas/__init__.py": "", "pandas/near.py": LAYER,
          "pandas/m.py": gpt("from .near import Layer")}, "pandas/m.py", None),
    ],
)  # fmt: skip
def test_files_of_the_folder_that_ran_are_studied_together(tmp_path, choose, files, model, studied):
    write(tmp_path, files)
    subject = choose(f"{tmp_path / model}:GPT")
    names = [module.__file__.rpartition("/")[2] for module in subject.modules]
    assert sorted(names) == sorted(studied or ["m.py", "near.py"])
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize("imports", ["import sizes as hp", "from sizes import n_embd"])
def test_sizes_in_a_file_of_constants_give_way_to_ours(tmp_path, choose, imports):
    width = "hp.n_embd" if "hp" in imports else "n_embd"
    text = LAYER + gpt(imports).replace("vocab_size, n_embd=16", "vocab_size")
    text = text.replace(", n_embd)", f", {width})").replace("(n_embd", f"({width}")
    write(tmp_path, {"sizes.py": "batch_size = 64\nn_embd = 384\n", "m.py": text})
    subject = choose(f"{tmp_path / 'm.py'}:GPT")
    assert subject.build(0).e.embedding_dim < 384
    assert any("sizes.py is built small: n_embd = " in note for note in subject.notes)


def test_a_file_of_the_name_of_ours_is_the_one_that_is_studied(tmp_path, choose):
    write(tmp_path, {"gpt/__init__.py": "", "gpt/model.py": LAYER + gpt("")})
    subject = choose(f"{tmp_path / 'gpt/model.py'}:GPT")
    assert [module.__file__ for module in subject.modules] == [str(tmp_path / "gpt/model.py")]
    assert sys.modules["gpt.model"] is not subject.module


def test_files_chooses_and_the_others_are_counted(tmp_path, choose):
    write(tmp_path, {"near.py": LAYER, "m.py": gpt("from near import Layer")})
    subject = choose(f"{tmp_path / 'm.py'}:GPT", files=["near.py"])
    assert [module.__name__ for module in subject.modules] == ["near"]
    assert "also ran, not studied: m.py, 5 lines" in subject.notes
    with pytest.raises(UsageError, match=r"--files other\.py: no such file ran; nearest: near\.py"):
        choose(f"{tmp_path / 'm.py'}:GPT", files=["other.py"])


def test_a_script_beside_the_model_does_not_train_either(tmp_path, choose):
    trains = "model = Layer(4)\nopen('side effect', 'w')\nraise SystemExit('trained')\n"
    write(tmp_path, {"near.py": LAYER + trains, "m.py": gpt("from near import Layer")})
    subject = choose(f"{tmp_path / 'm.py'}:GPT")
    assert any("near.py reads data, builds a model or trains" in note for note in subject.notes)


def test_every_local_file_that_ran_is_in_the_identity(tmp_path, choose):
    write(tmp_path, {"near.py": LAYER, "m.py": gpt("from near import Layer")})
    before = choose(f"{tmp_path / 'm.py'}:GPT").about["beside"]
    write(tmp_path, {"near.py": LAYER.replace("relu", "tanh")})
    assert choose(f"{tmp_path / 'm.py'}:GPT").about["beside"] != before


NEAR = {"near.py": LAYER}
HERE = "from near import Layer"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (gpt("import not_there_at_all\n" + HERE, rows="not_there_at_all.size"),
         "needs not_there_at_all of m.py, line 4, which was left out, for it imports"),
        (gpt("from near import Layer\nrows = len(open('a.txt').read())", rows="rows"),
         "needs rows of m.py, line 5, which was left out, for it reads data"),
        (gpt(HERE, rows="7"), "has an embedding of 7 rows, and the text has"),
        (gpt(HERE, returned=FORWARD.replace("idx", "idx.cuda()")), "it asks for a GPU"),
        (gpt(HERE, returned=FORWARD + "[:, -1:]"), "--judge judge.py:ask"),
        (gpt(HERE, rows="torch.randint(99, (), generator=None) * 0 + 1 and open('x')"),
         "cannot be built: FileNotFoundError"),
        (gpt(HERE).replace("n_embd=16", "n_embd=16, twist=3").replace(
            "super().__init__()", "super().__init__(); assert twist == 4"),
         "AssertionError: (m.py:7: super().__init__(); assert twist == 4)"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_with_the_line_and_what_would_work(
    tmp_path, choose, model, told
):
    write(tmp_path, {**NEAR, "m.py": model})
    with pytest.raises(UsageError) as error:
        choose(f"{tmp_path / 'm.py'}:GPT")
    assert told in str(error.value).replace("Error:  (", "Error: (")


def test_set_build_and_judge_tell_what_nothing_can(tmp_path, choose):
    model = gpt(HERE, returned=FORWARD + "[:, -1:]").replace("n_embd=16", "twist, n_embd=16")
    build = "from m import GPT\ndef make(vocab_size):\n    return GPT(vocab_size, 1, n_embd=4)\n"
    ask = "def ask(model, tokens):\n    return model.h(model.b(model.e(tokens)))\n"
    write(tmp_path, {**NEAR, "m.py": model, "build.py": build, "judge.py": ask})
    judge = f"{tmp_path / 'judge.py'}:ask"
    set_twist = choose(f"{tmp_path / 'm.py'}:GPT", given=["twist=1", "n_embd=6"], judge=judge)
    assert set_twist.build(0).model.e.weight.shape[1] == 6
    built = choose(f"{tmp_path / 'm.py'}:GPT", build=f"{tmp_path / 'build.py'}:make", judge=judge)
    assert built.build(0).model.e.weight.shape[1] == 4
    alone = choose("", build=f"{tmp_path / 'build.py'}:make", judge=judge)
    assert (alone.name, alone.module.__name__) == ("GPT", "m")
    assert alone.build(0)(torch.zeros(2, 5, dtype=torch.long)).shape[:2] == (2, 5)


def test_options_for_anothers_model_are_refused_without_one(refused):
    assert "--set, --judge, --files and --weights are" in refused(
        lines.main, lines.Config, "--set", "n_layer=2"
    )


def test_a_package_that_is_not_installed_is_named(tmp_path):
    write(tmp_path, {"m.py": "import not_there\nclass GPT(not_there.Module):\n    pass\n"})
    loaded = load_foreign(str(tmp_path / "m.py"))
    told = "m.py imports not_there, which is not installed: what needs it was left out"
    assert loaded.notes == [told]


def test_functions_are_what_the_file_says_whatever_was_left_out(tmp_path):
    text = "import not_there\nfor k in 'ab':\n    import os\n    open('x')\n"
    text += "if __name__ == '__main__':\n    import json\n"
    text += "def use(x):\n    return not_there.get(x), os.stat(x), json.dumps(x)\n"
    write(tmp_path, {"m.py": text})
    source = read_source(load_foreign(str(tmp_path / "m.py")).module)
    (node,) = parse(source).outermost_functions()
    assert len(loaded_functions(source, node)) == 1  # it is refused where it is other code
