"""What is left out of a script that trains, and what stays."""

import ast

import pytest

from experiments.support.models.top_level import without_training

LECTURE = """
import os, torch
from torch import nn
n_embd = 384
head_size = n_embd // 6
device = 'cuda' if torch.cuda.is_available() else 'cpu'
unread = 7
print(os.environ['NOT_THERE'])
text = open('input.txt').read()
chars = sorted(set(text))
vocab_size = len(chars)
class Config:
    n_layer = 12
class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(vocab_size, n_embd)
        self.h = head_size, device
model = GPT()
for step in range(100):
    model(text).backward()
def generate():
    return model
late = 3
"""


def run(text, known=None, missing=()):
    tree, left = without_training(ast.parse(text), known or {}, lambda name: name not in missing)
    space = {"__name__": "studied"}
    exec(compile(tree, "lecture.py", "exec"), space)
    return space, left


def test_classes_and_numbers_stay_and_what_reads_or_trains_goes():
    text = LECTURE.replace("print(os.environ['NOT_THERE'])", "print('hello')")
    known = {"vocab_size": 65, "n_embd": 12, "n_layer": 2, "device": "cpu", "unread": 8}
    space, left = run(text, known)
    assert (space["vocab_size"], space["n_embd"], space["head_size"]) == (65, 12, 2)
    assert (space["device"], space["Config"].n_layer, space["late"]) == ("cpu", 2, 3)
    assert space["unread"] == 7  # no code reads it: it is no size of the model
    assert left.replaced["n_embd"] == "384"
    assert {"text", "chars", "model"} <= {*left.names}
    assert [first for first, *_ in left.lines] == [9, 10, 11, 19, 20]
    assert space["GPT"]().e.weight.shape == (65, 12)


def test_names_that_only_a_script_binds_are_known_or_said_to_be_missing():
    text = "class A:\n    def f(self):\n        return device, gain, late\n"
    text += "late = 1\nif __name__ == '__main__':\n    device, gain, late = 'cuda', 2, 3\n"
    space, left = run(text, {"device": "cpu"})
    assert (space["device"], space["late"], "gain" in space) == ("cpu", 1, False)
    assert left.names == {"gain": (5, "is bound only where the file is a script")}


def test_a_file_that_trains_nothing_runs_whole():
    text = "names = {}\nfor k in 'ab':\n    names[k] = k.upper()\nsize = len(names)\n"
    space, left = run(text, {"size": 9})
    assert (space["names"], space["size"], left.lines) == ({"a": "A", "b": "B"}, 2, [])


@pytest.mark.parametrize(
    "line",
    [
        "go()",
        "with open('data.bin', 'rb') as f: raw = f.read()",
        "import numpy as np; data = np.memmap('train.bin')",
        "import wandb; wandb.init(project='x')",
        "opt = torch.optim.AdamW([])",
        "if True: M()",
        "while True: go()",
    ],
)
def test_what_acts_is_left_out_also_by_a_function_that_it_calls(line):
    text = f"""
import torch
from torch import nn
class M(nn.Module):
    def __init__(self):
        raise SystemExit('a model was built')
def go():
    open('side effect', 'w')
    raise SystemExit('it trained')
{line}
"""
    space, left = run(text, missing=["wandb"])
    assert left.lines
    assert "M" in space


def test_what_a_missing_package_would_bind_is_left_out_with_the_reason():
    text = "import tiktoken\ntry:\n    import flash\nexcept ImportError:\n    flash = None\n"
    text += "enc = tiktoken.get('gpt2')\nclass Data(tiktoken.Base):\n    pass\n"
    space, left = run(text, missing=["tiktoken"])
    assert space["flash"] is None
    assert left.names["Data"][1].startswith("needs tiktoken of line 1, which imports tiktoken")


def test_a_name_that_stood_for_something_else_before_is_gone():
    space, left = run("scale = 1\ndata = open('x')\nscale = len(data)\n")
    assert "scale" not in space
    assert left.names["scale"][0] == 3


OPTIONS = """
import argparse
from torch import nn
parser = argparse.ArgumentParser(description="trains")
parser.add_argument("-e", "--n-embd", type=int, default=384)
parser.add_argument("--rate", type=float, default=0.5)
parser.add_argument("--tied", action="store_true")
args = parser.parse_args()
class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(args.n_embd, 3)
text = open("input.txt").read()
"""


def test_a_script_that_reads_options_has_their_defaults_and_our_sizes():
    space, left = run(OPTIONS, {"n_embd": 8})
    assert vars(space["args"]) == {"n_embd": 8, "rate": 0.5, "tied": False}
    assert left.replaced == {"n_embd": "384"} and {*left.names} == {"text"}
    assert space["GPT"]().h.in_features == 8


@pytest.mark.parametrize(
    "option",
    ['"--text", required=True', '"text"', '"--text", type=str, required=True, help="a file"'],
)
def test_a_script_that_must_be_given_options_is_not_ended_by_them(option):
    text = OPTIONS.replace('"--tied", action="store_true"', option)
    space, left = run(text, {"n_embd": 8})
    assert "args" not in space and "args" in left.names and "GPT" in space
