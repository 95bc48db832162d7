"""Sweeps that were killed, and go on."""

import functools
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from interp.caching import cache
from interp.errors import UsageError
from interp.interventions import Mean, Patch, Zero, intervene
from interp.metrics import logit_difference, loss
from interp.patching import activation_patching
from interp.runs import Run
from interp.site import sites
from interp.sweep import sweep

SUBJECT = """
import os, signal, sys
from pathlib import Path
import torch
from gpt import GPT, GPTConfig
from interp.interventions import Zero
from interp.metrics import loss
from interp.runs import Run
from interp.site import sites
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


@pytest.mark.parametrize("change", ["the metric's", "the intervention's"])
def test_a_sweep_computes_anew_where_a_dict_that_is_read_has_changed(
    model, text_tokens, run, change
):
    settings = {"scale": 1.0, "add": 1.0}

    def metric(logits, tokens):
        return loss(logits, tokens) * settings["scale"]

    question = {"blocks.1.hook_resid_post": lambda x: x + settings["add"] * x.roll(1, -1)}
    asked = (model, text_tokens, question, metric)
    first = sweep(*asked, progress=False, run=run)
    settings["scale" if change == "the metric's" else "add"] = 3.0
    again = sweep(*asked, progress=False, run=run)
    pd.testing.assert_frame_equal(again, sweep(*asked, progress=False), check_exact=True)
    assert again["delta"][0] != first["delta"][0]


def test_what_cannot_be_known_again_is_a_sentence(model, text_tokens, grid, run):
    def timed(logits, tokens):
        return loss(logits, tokens) + 0 * time.time()

    with pytest.raises(UsageError, match="sweep without a run"):
        sweep(model, text_tokens, grid, timed, progress=False, run=run)
    with (
        intervene(model, {"blocks.0.hook_mlp_out": Zero()}),
        pytest.raises(UsageError, match="there are hooks on"),
    ):
        sweep(model, text_tokens, grid[-3:], loss, progress=False, run=run)
