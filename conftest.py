"""The Python blocks of README and guide, and the examples in docstrings, are tests.

They run where a reader would have typed ``make demo``: in a folder whose ``runs`` holds a trained
model, here one trained for a moment.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from gpt import GPT, checkpoint
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, train

MODEL = Path("runs/course/demo-python-docs/models/none-0.safetensors")


@pytest.fixture(scope="session")
def demo_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    preset, corpus = PRESETS["demo"], load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    model = GPT(replace(preset.model, vocab_size=tokenizer.vocab_size))
    data = split(corpus, tokenizer, model.config.block_size)
    train(model, data, replace(preset.train, steps=60, eval_interval=60, eval_blocks=8))
    identity = checkpoint.Identity.of(model, text=corpus.sha256, seed=0)
    checkpoint.save(folder / MODEL, model, identity, tokenizer)
    return folder


@pytest.fixture
def in_demo_runs(demo_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.chdir(demo_runs)
        yield


guide = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/howto/*.md"],
    fixtures=["in_demo_runs"],
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["gpt/*.py", "interp/*.py", "interp/*/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (guide + docstrings).pytest()
