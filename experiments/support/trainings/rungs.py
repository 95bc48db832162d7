"""How is a rung of the ladder trained here: which size, which recipe, on how many threads?"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from experiments.support.devices import NARROW
from experiments.support.trainings.executors import one_thread
from gpt.ladder import RUNGS, SCALED, Recipe
from gpt.model import GPTConfig

DEMO = Recipe(steps=501, eval_interval=100, eval_batches=20, learning_rate=1e-2)
DEMO_SCALED = replace(SCALED, block_size=32, n_layer=3, n_head=4, n_embd=64, dropout=0.05)


def plan_rung(name: str, preset: str, vocab_size: int) -> tuple[GPTConfig, Recipe]:
    """Size and recipe of a rung."""
    size, recipe = RUNGS[name].size, RUNGS[name].recipe
    if preset == "demo":
        recipe = DEMO
        if name == "scaled":
            size, recipe = DEMO_SCALED, replace(DEMO, batch_size=16, steps=min(DEMO.steps, 301))
    return replace(size, vocab_size=vocab_size), recipe


def threads_for(size: GPTConfig) -> AbstractContextManager[None]:
    """One thread for a narrow rung, all of them for a wide one."""
    return one_thread() if size.n_embd < NARROW else nullcontext()
