"""What does each idea of a GPT buy?

The lecture "Let's build GPT: from scratch, in code, spelled out" (Karpathy, 2023) climbs from a
table of letter pairs to a transformer, one idea at a time. Here every rung is a model: a small
class that takes over the rung below and changes one thing. Hook points have the names and layouts
of ``gpt.model``, so that every instrument works on every rung.

    model, curve = climb(OneHead, data, vocab_size=tokenizer.vocab_size)
    curve[-1].val_loss      # 2.4084 on tiny shakespeare, as in the lecture
    print(step("one head"))  # what the rung changes in the code of the one below, as a diff

Trained with seed 1337, a rung makes the generator calls of the lecture in the lecture's order, from
initial weights to batches and evaluations, and arrives at the lecture's losses. The order in which
an ``__init__`` draws weights is therefore part of what it promises.
"""

from gpt.ladder.climbing import climb
from gpt.ladder.rungs import LECTURE, RUNGS, SCALED, Bigram, Recipe
from gpt.ladder.steps import step

__all__ = ["LECTURE", "RUNGS", "SCALED", "Bigram", "Recipe", "climb", "step"]
