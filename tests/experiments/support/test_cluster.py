"""Trainings on a real Ray cluster of two workers, one of them killed in the middle."""

import os
import signal
import socket
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from experiments.support import cluster
from experiments.support.cluster import Cluster
from experiments.support.retraining import train_task
from experiments.support.trainings.executors import InProcess, stay_connected
from experiments.support.trainings.tasks import Task
from experiments.support.variants import course_variants
from gpt import GPTConfig, checkpoint
from gpt.errors import UsageError
from gpt.text import CharTokenizer, load_corpus, split
from gpt.train import TrainConfig
from interp.curation import Pipeline, run_pipeline, stages
from tests.interp.curation.piles_of_tests import bytes_of, mixed_pile

pytest.importorskip("ray", reason="Ray is not installed: pip install -e .[cluster]")

RECIPE = TrainConfig(
    steps=150, batch_size=8, warmup_steps=5, learning_rate=1e-2, eval_interval=25, eval_blocks=16
)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_killed_worker_of_a_cluster_costs_nothing_but_time(tmp_path):
    corpus = load_corpus("python-docs")
    tokenizer = CharTokenizer.from_text(corpus.text)
    model = GPTConfig(
        block_size=16, n_layer=2, n_head=2, n_embd=16, vocab_size=tokenizer.vocab_size
    )
    shared = {corpus.sha256: (split(corpus, tokenizer, model.block_size), tokenizer)}
    folders = [tmp_path / where for where in ("cluster", "here")]
    on_cluster, here = (
        [
            Task(
                variant,
                cut,
                0,
                model,
                RECIPE,
                corpus.sha256,
                folder / f"{variant}.state",
                folder / f"{variant}.weights",
            )
            for variant, cut in course_variants(["no_residual", "no_layer_norm"]).items()
        ]
        for folder in folders
    )

    def work(shared, task, tell):
        tell(("worker", os.getpid()))
        begun = task.state.exists()
        rows = train_task(shared, task, tell)
        return begun, rows

    workers, killed, results = {}, [], {}

    def told(number, what):
        if what[0] == "worker":
            workers[number] = what[1]
        elif number == 0 and what[0] >= 50 and not killed:
            killed.append(workers[number])
            os.kill(killed[0], signal.SIGKILL)

    def done(number, result):
        assert number not in results
        results[number] = result

    Cluster("", 2).run(work, shared, on_cluster, told, done)
    assert killed
    assert results[0][0], "the killed training did not go on from its state"
    assert workers[0] != killed[0]
    expected = {}
    InProcess().run(train_task, shared, here, lambda *_: None, expected.__setitem__)
    assert {number: rows for number, (_, rows) in results.items()} == expected
    for ours, theirs in zip(here, on_cluster, strict=True):
        one, other = (checkpoint.read(task.weights)[0] for task in (ours, theirs))
        assert all(torch.equal(one[name], other[name]) for name in one | other)
    assert replace(here[0], state=on_cluster[0].state).identity == on_cluster[0].identity


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_pile_in_many_windows_connects_once_and_leaves_the_bytes_of_one_process(
    tmp_path, monkeypatch
):
    import ray

    begun, init = [], ray.init
    monkeypatch.setattr(ray, "init", lambda *args, **how: begun.append(1) or init(*args, **how))
    monkeypatch.setattr(stages, "CHUNK", 2)
    monkeypatch.setattr(stages, "WINDOW", 3)
    alone = run_pipeline(Pipeline.default(), mixed_pile(), tmp_path / "alone")
    with stay_connected(Cluster("", 2)) as elsewhere:
        spread = run_pipeline(
            Pipeline.default(), mixed_pile(), tmp_path / "spread", elsewhere=elsewhere
        )
    assert len(begun) == 1
    assert bytes_of(spread.folder) == bytes_of(alone.folder)
    pd.testing.assert_frame_equal(spread.histories, alone.histories)


@pytest.mark.parametrize("shape", ["ray://127.0.0.1:{}", "127.0.0.1:{}"])
@pytest.mark.parametrize("listens", [False, True], ids=["nobody", "somebody silent"])
def test_an_address_at_which_no_cluster_answers_is_a_sentence_at_once(monkeypatch, shape, listens):
    monkeypatch.setattr(cluster, "PATIENCE", 1.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody else gets this port
        if listens:
            taken.listen()
        address = shape.format(taken.getsockname()[1])
        begun = time.monotonic()
        with pytest.raises(UsageError, match=f"no Ray cluster answers at '{address}' within"):
            Cluster(address, 1).require()
    assert time.monotonic() - begun < 15  # of which most is importing Ray


def test_a_note_of_a_cluster_that_is_gone_is_no_cluster(monkeypatch, tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert not cluster.answers("auto")


@pytest.mark.parametrize("address", ["head", "local", "head:10001x"])
def test_what_names_no_port_is_left_to_ray(address):
    assert cluster.answers(address)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_cluster_that_is_there_answers():
    with cluster.connect_ray("", 1) as ray:
        assert cluster.answers(ray.get_runtime_context().gcs_address)
