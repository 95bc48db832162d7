import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.support.cli import launch
from gpt import GPTConfig
from gpt.text import load_corpus
from gpt.train import PRESETS, Preset, TrainConfig
from tests.experiments.folders import folder_of, tokenizer, tokenizer_with_start

__all__ = ["folder_of", "tokenizer", "tokenizer_with_start"]

SMALL = Preset(
    GPTConfig(block_size=16, n_layer=2, n_head=2, n_embd=16),
    TrainConfig(
        steps=60, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=20, eval_blocks=16
    ),
)


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A short stretch of real text."""
    path = tmp_path_factory.mktemp("text") / "docs.txt"
    path.write_text(load_corpus("python-docs").text[:20_000], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    """Where runs go whose model is trained once for all."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """The demo preset trains in a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "demo", SMALL)
        yield


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[..., str]:
    """The sentence that an experiment answers a command line with, having written nothing."""

    def refuse(main: Callable[[Any], Any], config: type, *arguments: str) -> str:
        runs = tmp_path / "runs"
        with pytest.raises(SystemExit) as exit_:
            launch(main, config, ["--runs", str(runs), *arguments])
        assert exit_.value.code == 2
        answer = capsys.readouterr().err
        assert re.fullmatch(r"error: [^\n]+\n", answer)
        assert not runs.exists()
        return answer

    return refuse
