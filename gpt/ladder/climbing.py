"""How is a rung trained, as the lecture trains it?

model, curve = climb(RUNGS["one head"], data, vocab_size=tokenizer.vocab_size)
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from gpt.diverging import check_step
from gpt.ladder.rungs import Bigram, Recipe
from gpt.model import GPTConfig
from gpt.text import Data, windows
from gpt.train import Evaluation, mean_loss

EVALUATED_AT_ONCE = 16384
"""Tokens: enough to keep a machine busy, few enough for the attention scores to fit."""


def climb(
    rung: type[Bigram],
    data: Data,
    *,
    vocab_size: int,
    size: GPTConfig | None = None,
    recipe: Recipe | None = None,
    seed: int = 1337,
    device: torch.device | str = "cpu",
    report: Callable[[int], None] = lambda step: None,
) -> tuple[Bigram, list[Evaluation]]:
    """Build a rung and train it as the lecture does.

    One generator, torch's own, draws initial weights, training batches and evaluation batches in
    turn; its state is set by ``seed`` and stays where the training leaves it.

    Args:
        rung: the class.
        data: token ids of the two splits, on the CPU.
        vocab_size: of the text's tokenizer.
        size: of the model; the rung's own in the lecture by default.
        recipe: likewise.
        report: called after every step with the number of steps made.

    Returns:
        The model after the last step, in evaluation mode; and its losses in nats per token at
        every multiple of ``recipe.eval_interval`` below ``recipe.steps``, as the lecture prints
        them: no evaluation follows the last step.

    Raises:
        DivergedError: a loss or a gradient is no finite number any more.
    """
    recipe = recipe or rung.recipe
    torch.manual_seed(seed)
    model = rung(replace(size or rung.size, vocab_size=vocab_size)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    curve = []
    for number in range(recipe.steps):
        if number % recipe.eval_interval == 0:
            losses = [estimate(model, tokens, recipe) for tokens in (data.train, data.val)]
            curve.append(Evaluation(number, losses[0], losses[1]))
        x, y = draw_batch(data.train, model, recipe.batch_size)
        loss = model(x, y, return_type="loss")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.step()
        check_step(number + 1, *torch.stack([loss.detach(), norm]).tolist())
        report(number + 1)
    return model.eval(), curve


def estimate(model: Bigram, tokens: Int[Tensor, "length"], recipe: Recipe) -> float:
    """The mean loss in nats per token over freshly drawn batches."""
    x, y = draw_batch(tokens, model, recipe.eval_batches * recipe.batch_size)
    return mean_loss(model, x, y, rows=max(1, EVALUATED_AT_ONCE // model.config.block_size))


def draw_batch(
    tokens: Int[Tensor, "length"], model: Bigram, rows: int
) -> tuple[Int[Tensor, "rows pos"], Int[Tensor, "rows pos"]]:
    """Blocks that start anywhere in the text, and for each position the token that follows.

    Many rows at once are the same blocks as several batches one after the other.
    """
    blocks = windows(tokens, model.config.block_size + 1)
    chosen = blocks[torch.randint(len(blocks), (rows,))].to(model.wte.weight.device)
    return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()
