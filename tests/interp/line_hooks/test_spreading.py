"""A sweep that workers share ends with the table of one that is not shared."""

import numpy as np
import pandas as pd
import pytest

import interp as ip
from experiments.support.trainings.executors import InProcess, Processes
from interp.interventions import Zero
from interp.metrics import loss
from interp.runs import Run
from interp.sweep import effects_of, sweep
from tests.interp.line_hooks.families import TOKENS, built


@pytest.fixture(scope="module")
def view():
    return ip.hook_lines(built("llama", attn_implementation="eager"), TOKENS)


def questions_of(view):
    names = ("hook_attn_out", "hook_mlp_out", "hook_resid_pre")
    return [
        (site, Zero())
        for name in names
        for site in ip.sites(view, f"blocks.*.{name}", each="pos", tokens=TOKENS)
    ]


class Counting:
    """Workers that say how many parts they did."""

    def __init__(self):
        self.parts = 0

    def run(self, work, shared, tasks, told, done):
        self.parts += len(tasks)
        InProcess().run(work, shared, tasks, told, done)


@pytest.mark.parametrize("elsewhere", [InProcess(), Processes(2)], ids=["here", "processes"])
def test_a_shared_sweep_is_the_same_sweep(view, elsewhere):
    questions = questions_of(view)
    alone = sweep(view, TOKENS, questions, loss, progress=False)
    shared = sweep(view, TOKENS, questions, loss, progress=False, elsewhere=elsewhere, parts=4)
    pd.testing.assert_frame_equal(shared, alone, rtol=1e-4, atol=1e-5)


def test_parts_are_taken_from_the_record_and_computed_again_where_a_weight_differs(view, tmp_path):
    questions = questions_of(view)
    with Run.open(tmp_path, "heads", "a", {}, {}) as run:
        first, again = Counting(), Counting()
        kept = effects_of(view, TOKENS, questions, loss, progress=False, run=run, elsewhere=first)
        assert first.parts == 5
        same = effects_of(view, TOKENS, questions, loss, progress=False, run=run, elsewhere=again)
        assert again.parts == 0
        np.testing.assert_array_equal(same.values, kept.values)
        assert same.changed == kept.changed
        weight = next(view.inner.parameters())
        weight.data *= 1.01
        try:
            effects_of(view, TOKENS, questions, loss, progress=False, run=run, elsewhere=again)
        finally:
            weight.data /= 1.01
        assert again.parts == 5
