from dataclasses import replace

import pytest

from experiments.support.retraining import run_all
from experiments.support.trainings.executors import InProcess, Processes
from experiments.support.trainings.tasks import tasks_of
from gpt.errors import UsageError
from gpt.text import CharTokenizer, Corpus, Data, load_corpus, split
from gpt.train import PRESETS, Preset
from interp.runs import Run

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def texts(text) -> dict[str, tuple[Data, CharTokenizer]]:
    """Two texts of one vocabulary."""
    corpus = load_corpus(str(text))
    tokenizer = CharTokenizer.from_text(corpus.text)
    parts = {"first": corpus.text[:9000], "second": corpus.text[9000:]}
    return {
        sha256: (split(Corpus(sha256, part, sha256), tokenizer, 16), tokenizer)
        for sha256, part in parts.items()
    }


def tasks_on(run: Run, texts, names, seeds=(0, 1)):
    tokenizer = texts["first"][1]
    demo = PRESETS["demo"]
    preset = Preset(replace(demo.model, vocab_size=tokenizer.vocab_size), demo.train)
    return [
        task
        for name in names
        for task in tasks_of(run, {f"on {name}": None}, list(seeds), preset, name)
    ]


def test_trainings_on_several_texts_side_by_side_are_those_on_each_alone(tmp_path, texts):
    with Run.open(tmp_path / "beside", "some", "run", {}) as run:
        both = run_all(run, tasks_on(run, texts, texts), texts, Processes(2))
    alone = []
    for name, given in texts.items():
        with Run.open(tmp_path / name, "some", "run", {}) as run:
            alone += run_all(run, tasks_on(run, texts, [name]), {name: given}, InProcess())
    assert both == alone
    losses = {row["variant"]: row["loss"] for row in both if row["split"] == "val"}
    assert losses["on first"] != losses["on second"]


def test_a_training_on_a_text_that_is_not_given_is_refused_before_any_begins(tmp_path, texts):
    with Run.open(tmp_path, "some", "run", {}) as run:
        tasks = tasks_on(run, texts, texts, seeds=[0])
        with pytest.raises(UsageError, match="on second seed 0 is to be trained on a text that"):
            run_all(run, tasks, {"first": texts["first"]}, InProcess())
        assert run.task(tasks[0].identity) is None
