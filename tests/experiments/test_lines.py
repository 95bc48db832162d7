from pathlib import Path

import pandas as pd
import pytest

from experiments import lines
from experiments.cli import launch
from experiments.lines import Config
from gpt.errors import UsageError
from interp.errors import SurgeryError

SCRIPT = """
import math
import torch
from torch import nn
from torch.nn import functional as F

class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = q.view(B, T, self.heads, -1).transpose(1, 2)
        k = k.view(B, T, self.heads, -1).transpose(1, 2)
        v = v.view(B, T, self.heads, -1).transpose(1, 2)
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        mask = torch.ones(T, T, dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, float("-inf"))
        x = scores.softmax(dim=-1) @ v
        return self.out(x.transpose(1, 2).reshape(B, T, C))

class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

class Transformer(nn.Module):
    def __init__(self, vocab_size, seq_len, dim=32, n_layers=2, heads=2):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(seq_len, dim)
        self.layers = nn.ModuleList([Layer(dim, heads) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size)

    def forward(self, idx, targets=None):
        x = self.tokens(idx) + self.positions(torch.arange(idx.shape[1]))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return logits, loss

if __name__ == "__main__":
    model = Transformer(65, 64).cuda()
    torch.save(model.state_dict(), "weights.pt")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "plain_gpt.py").write_text(SCRIPT)
    config = Config(
        runs=folder / "runs",
        model=f"{folder / 'plain_gpt.py'}:Transformer",
        steps=30,
        texts=4,
        retrain_top=1,
        seeds=2,
        workers=2,
    )
    page = lines.main(config)
    return page.parent


def test_a_plain_script_is_studied_from_the_outside(run):
    table = pd.read_parquet(run / "results.parquet")
    source = (run.parents[2] / "plain_gpt.py").read_text().splitlines()
    together = table[table["layer"] == "all"]

    def status(operator, code):
        line = next(number for number, text in enumerate(source, 1) if code in text)
        found = together[(together["operator"] == operator) & (together["line"] == line)]
        return set(found["status"])

    assert status("cut-skip", "x = x + self.attention") == {"changed"}
    assert status("cut-branch", "return x + self.mlp") == {"changed"}
    assert status("bypass-call", "scores.masked_fill") == {"leak"}
    assert status("", "loss = F.cross_entropy") == {"dead"}
    assert "x + self.attention" in "".join(source)
    assert set(table["layer"]) == {"all", "0", "1"}


def test_the_run_leaves_tables_figures_and_pages(run):
    for name in ("annotated_source", "line_by_layer", "damage_relearnability"):
        for kind in ("png", "svg", "pdf"):
            assert (run / "figures" / f"{name}.{kind}").stat().st_size > 5000
    assert "plain_gpt.py" in (run / "report.html").read_text()
    retrained = pd.read_parquet(run / "retrained.parquet")
    assert (retrained["n"] == 2).all()
    shown = pd.read_parquet(run / "lines.parquet")
    assert len(shown) == SCRIPT.count("\n")
    assert shown["retrained"].notna().sum() >= 1


def test_a_scripts_side_effects_do_not_happen(run):
    assert not Path("weights.pt").exists()
    assert not (run / "weights.pt").exists()


def test_a_class_that_is_not_there_names_the_nearest(tmp_path):
    path = tmp_path / "absent_class.py"
    path.write_text(SCRIPT)
    with pytest.raises(UsageError, match=r"no module class 'Transfomer'; nearest: Transformer"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:Transfomer"))
    assert not (tmp_path / "runs").exists()


def test_a_file_with_a_syntax_error_is_one_sentence(tmp_path):
    path = tmp_path / "typo.py"
    path.write_text("def f(:\n")
    with pytest.raises(SurgeryError, match=r"typo\.py, line 1, has a syntax error"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:GPT"))


def test_a_class_that_cannot_be_built_says_what_it_lacks(tmp_path):
    path = tmp_path / "needy.py"
    path.write_text(
        "from torch import nn\nclass Needy(nn.Module):\n    def __init__(self, secret):\n"
        "        super().__init__()\n"
    )
    with pytest.raises(UsageError, match="Needy takes 'secret', which nothing here can tell"):
        lines.main(Config(runs=tmp_path / "runs", model=f"{path}:Needy"))


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        launch(lines.main, Config, ["--model", "nothing", "--runs", str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --model is 'nothing'; write FILE:Class, as in model.py:GPT"
    ]
