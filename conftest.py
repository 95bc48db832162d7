"""The Python blocks of README and guide, and the examples in docstrings, are tests.

They run where a reader would have typed ``make demo``: in a folder whose ``runs`` holds a trained
model, here one trained for a moment. What a block prints stands under it, in a block of text. Where
that has a title, its numbers are of another training, machine or Python, and only they may differ.
"""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.document import PythonDocStringDocument
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from gpt import GPT, checkpoint
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, train

PRINTED = re.compile(r"\s*\n```text(?P<title> title=.*)?\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
NUMBER = re.compile(r"\b[0-9a-f]{64}\b|[-+]?\d+(\.\d*)?(e[-+]?\d+)?|\bnan\b")
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


def blocks_of_python(document: Document) -> Iterator[Region]:
    """The blocks of a page, each with the block of text that follows it at once."""
    for region in PythonCodeBlockParser()(document):
        follows = PRINTED.match(document.text, region.end)
        said = (follows["text"], bool(follows["title"])) if follows else ("", False)
        yield Region(region.start, region.end, (region.parsed, *said), run_block)


def run_block(example: Example) -> str | None:
    """Run a block, and compare what it prints with what the page says that it prints."""
    source, said, numbers_differ = example.parsed
    example.parsed = source
    with redirect_stdout(io.StringIO()) as out:
        PythonEvaluator()(example)
    printed = out.getvalue()
    if comparable(printed, numbers_differ) == comparable(said, numbers_differ):
        return None
    return f"the page says that this prints\n{said}\nbut it prints\n{printed}"


def comparable(text: str, numbers_differ: bool) -> list[str]:
    """Its lines, of which blanks at the end do not count, nor numbers and their width if they may
    differ."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    if not numbers_differ:
        return lines
    return [" ".join(NUMBER.sub(" # ", line).split()) for line in lines]


guide = Sybil(
    parsers=[blocks_of_python, SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/howto/*.md"],
    fixtures=["in_demo_runs"],
)
docstrings = Sybil(
    parsers=[DocTestParser()],
    patterns=["gpt/*.py", "interp/*.py", "interp/*/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (guide + docstrings).pytest()
