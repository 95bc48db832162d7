"""The page "Add an instrument" is true: three files, and nothing else, make one."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "add_instrument.md"
FILE = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
BY_HAND = """
import torch
from gpt import GPT, GPTConfig
from interp.attention_entropy import attention_entropy

model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8))
with torch.no_grad():
    model.blocks[0].attn.key.weight.zero_()  # every head looks at all tokens alike
print(attention_entropy(model, torch.zeros(3, 8, dtype=torch.long))["value"].tolist())
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with the page's files written into them."""
    folder = tmp_path_factory.mktemp("house")
    for package in ("gpt", "interp", "experiments"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    files = FILE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(files) == 3
    for name, text in files:
        assert not (folder / name).exists()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(house: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    done = subprocess.run(
        [sys.executable, *command], cwd=house, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_it_is_listed_run_and_on_a_page_of_its_own(house: Path) -> None:
    assert "  entropy      How widely does each attention head look?\n" in run(
        house, "-m", "experiments"
    )
    run(house, "-m", "experiments.entropy", "--examples", "8")
    (folder,) = (house / "runs" / "entropy").iterdir()
    assert "How widely heads look" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "figures" / "entropies.pdf").stat().st_size > 1000
    table = pd.read_parquet(folder / "results.parquet")
    assert table["ci_low"].le(table["value"]).all() and table["line"].notna().all()
    quoted = run(house, "-m", "experiments.report", f"entropy/{folder.name}", "--references")
    assert (
        "entropy.blocks.0.attn.hook_z" in quoted or "entropy.blocks.0.attn.hook_pattern" in quoted
    )


def test_its_numbers_are_those_of_the_equality_that_the_page_names(house: Path) -> None:
    found = eval(run(house, "-c", BY_HAND))
    expected = np.mean([math.log(i + 1) for i in range(8)])
    np.testing.assert_allclose(found, [expected] * 2, atol=1e-6)
