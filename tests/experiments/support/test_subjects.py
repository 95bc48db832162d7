"""Models that somebody else wrote: what cannot be studied is said before anything is begun."""

import shutil

import pytest
import torch

from experiments import lines
from experiments.support.subjects import choose_class, path_of, train_subject_once
from experiments.support.trainings.tasks import resize_preset
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, Preset

MODEL = """
import sys
import torch
from torch import nn

class Stop(BaseException):
    pass

class Speechless(Exception):
    def __str__(self):
        raise ValueError

class Model(nn.Module):
    def __init__(self, vocab_size, n_embd):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_embd)
        self.head = nn.{layer}
        self.calls = 0

    def forward(self, tokens):
        self.calls += 1
        {line}
        return {returned}
"""


def written(tmp_path, line="pass", returned="self.head(self.embed(tokens))", layer=""):
    path = tmp_path / "foreign.py"
    layer = layer or "Linear(n_embd, vocab_size)"
    path.write_text(MODEL.format(line=line, returned=returned, layer=layer))
    return f"{path}:Model"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"returned": "self.head(self.embed(tokens)).detach()"}, "does not require grad"),
        ({"returned": "self.head(self.embed(tokens))[:, -1:]"}, "of every position"),
        ({"line": "if self.training: raise ValueError('no, never')"}, "ValueError: no, never"),
        ({"line": "if self.training: sys.exit(0)"}, "SystemExit: 0"),
        ({"line": "if self.training: raise Stop('halt')"}, "Stop: halt"),
        ({"line": "raise Stop('halt')"}, "Stop: halt"),
        ({"line": "raise Speechless"}, "Speechless: it cannot say why"),
        ({"line": "assert len(tokens) == 1"}, "AssertionError"),
        ({"line": "self.requires_grad_(False)"}, "does not require grad"),
        ({"returned": "self.head(self.embed(tokens)) * float('nan')"}, "is nan"),
        ({"layer": "LazyLinear(vocab_size)"}, "its parameter head.weight while it runs"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_begun(
    refused, tmp_path, text, change, told
):
    model = written(tmp_path, **change)
    said = refused(lines.main, lines.Config, "--model", model, "--text", str(text), "--steps", "4")
    assert told in said


def test_a_training_that_exits_on_its_way_is_no_success(tmp_path, text, capsys):
    model = written(tmp_path, line="if self.training and self.calls == 3: sys.exit(0)")
    asked = ["--model", model, "--text", str(text), "--steps", "4", "--runs", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as exit_:
        lines.launch(lines.main, lines.Config, asked)
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert "error: Model cannot be trained: SystemExit: 0 (foreign.py:22: if self.training" in told


def test_a_buffer_that_grows_and_weights_of_another_seed(tmp_path, text, small, capsys):
    model = written(
        tmp_path,
        line="self.seen = torch.cat([self.seen, tokens.new_ones(1)])",
    )
    path = tmp_path / "foreign.py"
    grown = "self.register_buffer('seen', torch.zeros(0, dtype=torch.long))"
    path.write_text(path.read_text().replace("self.calls = 0", f"self.calls = 0; {grown}"))
    corpus = load_corpus(str(text))
    tokenizer = CharTokenizer.from_text(corpus.text)
    demo = PRESETS["demo"]
    preset = resize_preset(Preset(demo.model, demo.train), tokenizer.vocab_size, 4)
    data = split(corpus, tokenizer, preset.model.block_size)
    subject = choose_class(model, data, preset, 0, tmp_path)
    first = train_subject_once(subject, 0, tmp_path)
    assert len(first.seen) == 4  # one for each step
    train_subject_once(subject, 1, tmp_path)
    shutil.copy(path_of(subject, 1, tmp_path), path_of(subject, 0, tmp_path))
    again = train_subject_once(subject, 0, tmp_path)
    assert torch.equal(first.head.weight, again.head.weight)
    assert "holds the weights of another training" in capsys.readouterr().err
