"""The same command after a model's files were edited."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

SPLIT_MODEL = """
import torch
from torch import nn
from layers_beside import Layer

class Model(nn.Module):
    def __init__(self, vocab_size, n_embd=16):
        super().__init__()
        self.e = nn.Embedding(vocab_size, n_embd)
        self.layer = Layer(n_embd)
        self.h = nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        return self.h(self.layer(self.e(idx)))
"""
LAYER = """
from torch import nn

class Layer(nn.Module):
    def __init__(self, n_embd):
        super().__init__()
        self.l = nn.Linear(n_embd, n_embd)

    def forward(self, x):
        return x + self.l(x).relu()
"""


def test_after_an_edit_the_same_command_gives_what_a_fresh_one_does(tmp_path):
    (tmp_path / "split_model.py").write_text(SPLIT_MODEL)
    (tmp_path / "layers_beside.py").write_text(LAYER)

    def studied(runs):
        command = [sys.executable, "-m", "experiments.lines", "--retrain-top", "0", "--texts", "4"]
        command += ["--model", f"{tmp_path / 'split_model.py'}:Model", "--runs", runs]
        command += ["--steps", "20", "--seeds", "1", "--workers", "2"]
        subprocess.run(command, check=True, capture_output=True)
        (found,) = Path(runs).glob("lines/*/results.parquet")
        return pd.read_parquet(found)

    before = studied(str(tmp_path / "runs"))
    edited = LAYER.replace("x + self.l(x).relu()", "x - self.l(x).relu() * 3.0")
    (tmp_path / "layers_beside.py").write_text(edited)
    after, fresh = studied(str(tmp_path / "runs")), studied(str(tmp_path / "fresh"))
    assert after["value"].dropna().tolist() == fresh["value"].dropna().tolist()
    assert before["baseline"].dropna().iloc[0] != after["baseline"].dropna().iloc[0]
