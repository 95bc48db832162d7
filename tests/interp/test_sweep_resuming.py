"""Sweeps that were killed, and go on."""

import functools
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from gpt import GPT, GPTConfig
from interp.errors import UsageError
from interp.interventions import Apply, Mean, Patch, Zero, cache, intervene
from interp.metrics import logit_difference, loss
from interp.patching import activation_patching
from interp.runs import Run
from interp.sites import sites
from interp.sweep import sweep
from interp.sweeps.identity import Digests

SUBJECT = """
import os, signal, sys
from pathlib import Path
import torch
from gpt import GPT, GPTConfig
from interp.interventions import Zero
from interp.metrics import loss
from interp.runs import Run
from interp.sites import sites
from interp.sweep import sweep

torch.set_num_threads(1)
model = GPT(GPTConfig(block_size=16, vocab_size=20, n_layer=3, n_head=4, n_embd=32), seed=3).eval()
tokens = torch.arange(60 * 16).view(60, 16).mul(7).remainder(20)
grid = [(site, Zero()) for site in sites(model, "blocks.*.hook_mlp_out", each="pos", tokens=tokens)]
grid += [("blocks.*.attn.hook_z[head=1]", Zero()), ("blocks.1.attn.hook_pattern", Zero())]
"""


class Counted:
    """A run's store that counts what it is given, and fails when told to."""

    def __init__(self, run, dies_after=None):
        self.run, self.recorded, self.dies_after = run, 0, dies_after

    def task(self, identity):
        return self.run.task(identity)

    def record(self, identity, rows):
        if self.recorded == self.dies_after:
            raise KeyboardInterrupt
        self.recorded += 1
        return self.run.record(identity, rows)


@pytest.fixture
def run(tmp_path):
    with Run.open(tmp_path, "sweeps", "one", {}) as opened:
        yield opened


@pytest.fixture
def grid(model, text_tokens):
    where = sites(model, "blocks.*.hook_resid_pre", each="pos", tokens=text_tokens)
    return [(site, Zero()) for site in where]


def test_a_sweep_that_was_killed_goes_on_and_ends_with_the_same_table(tmp_path):
    sitting = """
with Run.open(Path(sys.argv[1]), "sweeps", "one", {}) as run:
    record, left = run.record, [int(sys.argv[2])]
    def counting(*task):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return record(*task)
    run.record = counting
    run.save_table(sweep(model, tokens, grid, loss, progress=False, run=run))
    print(left[0])
"""

    def sit(records):
        started = [sys.executable, "-c", SUBJECT + sitting, str(tmp_path), str(records)]
        return subprocess.run(started, stdout=subprocess.PIPE, text=True)

    assert sit(8).returncode == -signal.SIGKILL
    resumed = sit(1000)
    again: dict = {}
    exec(SUBJECT, again)
    asked = again["model"], again["tokens"], again["grid"], loss
    with Run.open(tmp_path, "sweeps", "whole", {}) as run:
        whole = sweep(*asked, progress=False, run=(fresh := Counted(run)))
    with Run.open(tmp_path, "sweeps", "one", {}) as run:
        table = run.table()
    assert 1000 - int(resumed.stdout) == fresh.recorded - 8
    pd.testing.assert_frame_equal(table, whole, check_exact=True)
    plain = sweep(*asked, progress=False)
    pd.testing.assert_frame_equal(table, plain, check_exact=True)


def test_a_finished_sweep_computes_no_cell_again(model, text_tokens, grid, run):
    with pytest.raises(KeyboardInterrupt):
        sweep(model, text_tokens, grid, loss, progress=False, run=Counted(run, dies_after=3))
    first, second = Counted(run), Counted(run)
    table = sweep(model, text_tokens, grid, loss, progress=False, run=first)
    assert first.recorded > 3
    again = sweep(model, text_tokens, grid, loss, progress=False, run=second)
    assert second.recorded == 0
    pd.testing.assert_frame_equal(table, again, check_exact=True)


@pytest.mark.parametrize(
    "change", ["a weight", "a token", "the metric", "the intervention", "its reference", "the code"]
)
def test_nothing_is_taken_over_where_anything_differs(model, text_tokens, run, change):
    other = cache(model, text_tokens.flip(0), "blocks.*.hook_mlp_out")
    where = sites(model, "blocks.*.hook_mlp_out", each="pos", tokens=text_tokens)[:4]
    grid, metric = [(site, Patch(other)) for site in where], logit_difference(1, 2)
    sweep(model, text_tokens, grid, metric, progress=False, run=run)
    if change == "a weight":
        with torch.no_grad():
            model.blocks[2].mlp.proj.weight[0, 0] += 1e-3
    elif change == "a token":
        text_tokens = text_tokens.clone()
        text_tokens[0, 0] = (text_tokens[0, 0] + 1) % 5
    elif change == "the metric":
        metric = logit_difference(2, 1)
    elif change == "the intervention":
        grid = [(site, Mean(other)) for site in where]
    elif change == "its reference":
        other = {name: value.clone() for name, value in other.items()}
        other["blocks.0.hook_mlp_out"][0, 0, 0] += 1
    else:
        norm = model.ln_final
        norm.forward = functools.partial(lambda inner, x: 2 * inner(x), norm.forward)
    grid = [(site, type(what)(other)) for site, what in grid]
    expected = sweep(model, text_tokens, grid, metric, progress=False)
    found = sweep(model, text_tokens, grid, metric, progress=False, run=(store := Counted(run)))
    assert store.recorded > 0
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_patching_goes_on_too(model, text_tokens, run):
    asked = model, text_tokens[:6], text_tokens[6:], logit_difference(1, 2), ("resid_pre", "z")
    table = activation_patching(*asked, progress=False, run=run)
    again = activation_patching(*asked, progress=False, run=(store := Counted(run)))
    assert store.recorded == 0
    pd.testing.assert_frame_equal(table, again, check_exact=True)
    plain = activation_patching(*asked, progress=False)
    pd.testing.assert_frame_equal(table, plain, check_exact=True)


def scaled(factor):
    return lambda value: factor * value


def test_a_digest_is_that_of_what_a_value_does():
    def of(value):
        return Digests().of(value)

    assert of(Apply(scaled(2.0))) == of(Apply(scaled(2.0)))
    assert of(Apply(scaled(2.0))) != of(Apply(scaled(2)))
    assert of(Apply(lambda value: value + 1)) != of(Apply(lambda value: value + 2))
    assert of(logit_difference(1, 2)) == of(logit_difference(1, 2))
    assert of(logit_difference(1, 2)) != of(logit_difference(1, 2, pos=0))
    assert of(torch.ones(2)) != of(torch.ones(2, 1)) != of(np.ones((2, 1)))
    assert of(torch.arange(4)[::4]) == of(torch.tensor([0]))  # one element, and a stride of four
    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1})
    size = GPTConfig(n_layer=1, n_head=1, n_embd=4, vocab_size=5)
    assert of(GPT(size, seed=1)) == of(GPT(size, seed=1).eval())
    assert of(GPT(size, seed=1)) != of(GPT(size, seed=2))


def test_what_cannot_be_known_again_is_a_sentence(model, text_tokens, grid, run):
    class Metric:
        def __call__(self, logits, tokens):
            return loss(logits, tokens)

    with pytest.raises(UsageError, match="sweep without a run"):
        sweep(model, text_tokens, grid, Metric(), progress=False, run=run)
    with (
        intervene(model, {"blocks.0.hook_mlp_out": Zero()}),
        pytest.raises(UsageError, match="there are hooks on"),
    ):
        sweep(model, text_tokens, grid[-3:], loss, progress=False, run=run)
