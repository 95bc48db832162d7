"""What a sweep holds, measured in a process that does nothing else."""

import subprocess
import sys

import pytest

# The peak is that of the sweep: reset before it, after all that the process needs anyway. Sizes are
# such that all clean values together are several times the budget.
SCRIPT = """
import ctypes
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from gpt import GPT, GPTConfig
from interp.interventions import Zero, intervene
from interp.metrics import logit_difference, loss
from interp.site import sites
from interp.sweep import effects_of

pattern, each, metric, budget = sys.argv[1:]
size = GPTConfig(block_size=32, vocab_size=50, n_layer=8, n_head=2, n_embd=64)
model, tokens = GPT(size).eval(), torch.randint(50, (384, 32))
found = sites(model, pattern, each=each, tokens=tokens[:1])
questions = [(site, Zero()) for site in found[:: max(1, len(found) // 40)]]
measure = loss if metric == "loss" else logit_difference(3, 5)

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

def reset():
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()

effects_of(model, tokens[:2], questions, measure, progress=False)
before = reset()
with torch.no_grad(), intervene(model, {questions[0][0]: Zero()}):
    measure(model(tokens), tokens)
loop = peak() - before
before = reset()
effects = effects_of(model, tokens, questions, measure, progress=False, memory=budget)
print(len(effects.plan.routes.fast_path.rounds), peak() - before, loop)
"""


def held(pattern, each, metric, budget):
    """Rounds of a sweep, and the MiB that it and one step of the plain loop held at their peak."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, pattern, each, metric, budget],
        capture_output=True,
        text=True,
        check=True,
    )
    rounds, peak, loop = done.stdout.split()
    return int(rounds), float(peak), float(loop)


NEURONS = ("blocks.*.mlp.hook_post", "pos", "last")


@pytest.mark.parametrize(
    ("sweep", "budget"), [(NEURONS, 100), (("blocks.*.attn.hook_q", "head", "loss"), 80)]
)
def test_a_sweep_stays_within_its_budget(sweep, budget):
    rounds, peak, loop = held(*sweep, f"{budget}MiB")
    assert rounds > 1
    # the proof that the short cuts are right runs every text at once, as the plain loop does
    assert 1 < peak < budget + loop / 2


def test_the_same_sweep_holds_more_where_it_may():
    rounds, peak, _ = held(*NEURONS, "2GiB")
    assert rounds == 1
    assert peak > 2 * 100
