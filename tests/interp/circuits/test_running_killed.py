"""Circuits in a process that was killed go on in another, and end with the same table."""

import os
import subprocess
import sys

import pandas as pd
import torch

from gpt import GPT, GPTConfig
from interp.circuits.contributions import take_apart
from interp.circuits.running import run_circuits
from interp.circuits.together import bytes_of_runs
from interp.metrics import logit_difference
from interp.runs import Run

ONE_LAYER = {"block_size": 8, "vocab_size": 13, "n_layer": 1, "n_head": 2, "n_embd": 8}


def ask(record_to, allowed=None):
    """Seven circuits, two at a time; the process ends itself when it records once too often."""
    torch.set_num_threads(1)
    model = GPT(GPTConfig(**ONE_LAYER), seed=3).eval()
    tokens = torch.arange(5 * 7).view(5, 7)
    clean, corrupted = tokens.mul(7).remainder(13), tokens.mul(3).remainder(13)
    run = take_apart(model, clean)
    edges = [str(edge) for edge in run.graph.edges]
    circuits = {str(number): [*edges[:number], *edges[number + 2 :]] for number in range(7)}
    always, each = bytes_of_runs(run)
    if allowed is not None:
        record, left = record_to.record, [allowed]

        def counting(*task):
            if not left[0]:
                os.kill(os.getpid(), 9)
            left[0] -= 1
            return record(*task)

        record_to.record = counting
    return run_circuits(
        *(model, clean, corrupted, circuits, logit_difference(answer=3, wrong=5)),
        memory=always + 2 * each,
        progress=False,
        run=record_to,
    )


def go_on(folder):
    """In a process of its own: what is left to do, and whether the answer is as one made afresh."""
    with Run.open(folder, "circuits", "one", {}) as run:
        recorded, record = [], run.record
        run.record = lambda *task: recorded.append(task) or record(*task)
        resumed = ask(run)
    pd.testing.assert_frame_equal(resumed, ask(None), check_exact=True)
    print(len(recorded))


def test_a_killed_process_leaves_what_the_next_one_takes_up(tmp_path):
    def process(call):
        code = (
            "import sys; from pathlib import Path; from interp.runs import Run; "
            f"from tests.interp.circuits.test_running_killed import ask, go_on; {call}"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    killed = process("ask(Run.open(Path(sys.argv[1]), 'circuits', 'one', {}), allowed=2)")
    assert killed.returncode == -9, killed.stderr
    resumed = process("go_on(Path(sys.argv[1]))")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.split() == ["2"]  # of four batches
