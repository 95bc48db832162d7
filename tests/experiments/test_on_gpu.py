"""Trainings that share a GPU."""

import pandas as pd
import pytest
import torch

from experiments.support.retraining import run_all
from experiments.support.trainings.executors import InProcess, Processes
from experiments.support.trainings.tasks import resize_preset, tasks_of
from experiments.support.variants import course_variants
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS
from interp.runs import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.mark.usefixtures("small")
def test_trainings_side_by_side_give_the_bits_of_one_after_the_other(tmp_path, text):
    corpus = load_corpus(str(text))
    tokenizer = CharTokenizer.from_text(corpus.text)
    demo = resize_preset(PRESETS["demo"], tokenizer.vocab_size, None)
    data = split(corpus, tokenizer, demo.model.block_size)
    tables = []
    for name, executor in (("side", Processes(3)), ("after", InProcess())):
        with Run.open(tmp_path / name, "course", "gpu", {}, {}) as run:
            variants = course_variants(["no_residual"])
            tasks = tasks_of(run, variants, [0, 1], demo, corpus.sha256)
            tables.append(
                pd.DataFrame(run_all(run, tasks, {corpus.sha256: (data, tokenizer)}, executor))
            )
    assert set(tables[0]["precision"]) == {"bfloat16"}
    assert set(tables[0]["status"]) == {"changed"}
    pd.testing.assert_frame_equal(*tables)
