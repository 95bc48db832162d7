"""What trainings write is kept, is the same when resumed, and is no part of their curves."""

from dataclasses import replace

import pandas as pd
import pytest

from experiments.support.retraining import run_all, samples_of, train_task
from experiments.support.sampling import (
    PROMPTS,
    SAMPLE,
    SHORT,
    beside_each_other,
    is_written_at,
    known_text,
    prompts_of,
    save_samples,
    short_writer,
    write_samples,
)
from experiments.support.trainings.executors import InProcess
from experiments.support.trainings.tasks import tasks_of
from experiments.support.variants import BASELINE, course_variants
from gpt import checkpoint
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import PRESETS, Preset
from interp.interventions import Zero
from interp.report.writing import VARIANTS
from interp.runs import Run
from interp.samples import write

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def shared(text):
    corpus = load_corpus(str(text))
    tokenizer = CharTokenizer.from_text(corpus.text)
    return split(corpus, tokenizer, 16), tokenizer


@pytest.fixture
def tasks(shared, tmp_path):
    data, tokenizer = shared
    demo = PRESETS["demo"]
    preset = Preset(replace(demo.model, vocab_size=tokenizer.vocab_size), demo.train)
    variants = course_variants(["no_residual"])
    with Run.open(tmp_path, "course", "some", {}, {}) as run:
        yield run, tasks_of(run, variants, [0], preset, data.sha256, keep=lambda *_: True)


def texts_of(shared):
    return {shared[0].sha256: shared}


def test_a_training_keeps_what_it_writes_on_the_way_and_at_the_end(shared, tasks):
    run, (whole, cut) = tasks
    rows = pd.DataFrame(run_all(run, [whole, cut], texts_of(shared), InProcess()))
    assert set(rows["split"]) == {"train", "val"}
    evaluated = rows[(rows["split"] == "val") & (rows["variant"] == BASELINE)]
    wrote = evaluated[evaluated["sample"] != ""]
    assert list(wrote["step"]) == [0, 40, 60]  # of evaluations at 0, 20, 40 and 60
    assert (wrote["sample"].str.len() == SHORT).all() and wrote["sample"].nunique() == 3
    samples = samples_of(run, [whole, cut])
    assert len(samples) == 2 * PROMPTS and (samples["text"].str.len() == SAMPLE).all()
    data, tokenizer = shared
    assert list(samples["prompt"][:PROMPTS]) == [
        tokenizer.decode(row) for row in prompts_of(data, 16)
    ]
    model = checkpoint.load(whole.weights).model
    again = write_samples(model, data, tokenizer, seed=0, block_size=16)
    assert [row["text"] for row in again] == list(samples["text"][:PROMPTS])
    assert evaluated["sample"].iloc[-1] == samples["text"][0][:SHORT]
    alone = short_writer(data, tokenizer, 0, 16, replace(whole.train, steps=61))
    assert alone(model, 0) == evaluated["sample"].iloc[-1]  # one prompt alone writes the same
    table = save_samples(run, samples, known_text(data, tokenizer), BASELINE)
    assert set(table["variant"]) == {BASELINE, "no_residual"}
    listed = beside_each_other(run.table("samples"), table, 60).splitlines()[1:]
    assert [line.split()[0] for line in listed] == [BASELINE, "no_residual"]
    assert all(len(line) <= 60 for line in listed)
    value = table.set_index(["variant", "measure"])["value"]["no_residual", "trigram_loss"]
    assert f" {value:.2f} " in listed[1]
    many = pd.concat([samples[:PROMPTS].assign(variant=f"v{n}") for n in range(42)])
    assert len(beside_each_other(many, table).splitlines()) == 1 + VARIANTS


def test_a_resumed_training_writes_what_a_fresh_one_writes(shared, tasks):
    _, (whole, _) = tasks
    fresh = train_task(texts_of(shared), whole, lambda progress: None)

    def interrupt(progress):
        if progress[0] == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_task(texts_of(shared), whole, interrupt)
    stopped = train_task(texts_of(shared), replace(whole, stop_at=40), lambda progress: None)
    assert whole.state.exists()
    assert train_task(texts_of(shared), whole, lambda progress: None) == fresh
    assert [row["sample"] for row in stopped if row["split"] == "val"] == [
        row["sample"] for row in fresh if row["split"] == "val"
    ][:3]


def test_a_model_writes_ever_less_often_while_it_is_trained():
    recipe = replace(PRESETS["demo"].train, steps=600, eval_interval=50)
    steps = [step for step in range(0, 601, 50) if is_written_at(step, recipe)]
    assert steps == [0, 100, 200, 400]


def test_what_decides_the_samples_is_in_the_trainings_identity(tasks, monkeypatch):
    _, (whole, _) = tasks
    before = whole.identity
    monkeypatch.setattr("experiments.support.trainings.tasks.DECIDED_BY", {"prompts": 9})
    assert whole.identity != before


def test_a_model_that_cannot_write_says_why(shared, tasks):
    data, tokenizer = shared
    run, (whole, _) = tasks
    run_all(run, [whole], texts_of(shared), InProcess())
    model = checkpoint.load(whole.weights).model
    model.lm_head.weight.data.fill_(float("nan"))
    rows = write_samples(model, data, tokenizer, seed=0, block_size=16)
    assert {row["text"] for row in rows} == {""}
    assert "NaN" in rows[0]["detail"]
    samples = pd.DataFrame(rows).assign(variant=BASELINE, seed=0)
    counted = save_samples(run, samples, known_text(data, tokenizer), BASELINE)
    assert counted.empty
    assert "nothing: " in beside_each_other(samples, counted)


def test_samples_with_an_intervention_are_those_of_write(shared, tasks):
    data, tokenizer = shared
    run, (whole, _) = tasks
    run_all(run, [whole], texts_of(shared), InProcess())
    model = checkpoint.load(whole.weights).model
    cut = {"blocks.0.hook_mlp_out": Zero()}
    rows = write_samples(model, data, tokenizer, seed=3, block_size=16, interventions=cut)
    writing = write(
        model, prompts_of(data, 16), SAMPLE, seeds=[3], tokenizer=tokenizer, interventions=cut
    )
    assert [row["text"] for row in rows] == [sample.text for sample in writing.samples]


def test_a_text_that_repeats_itself_has_each_prompt_once(tmp_path):
    (tmp_path / "repeated.txt").write_text("\N{GRINNING FACE}a\u4e2d " * 500, encoding="utf-8")
    corpus = load_corpus(str(tmp_path / "repeated.txt"))
    tokenizer = CharTokenizer.from_text(corpus.text)
    asked = prompts_of(split(corpus, tokenizer, 16), 16)
    texts = [tokenizer.decode(row) for row in asked]
    assert len(texts) == len(set(texts)) <= 4 < PROMPTS
    assert all(each in corpus.text for each in texts)
