"""Which token comes next, where chance decides, so that two variants can be compared?

Every sample has random numbers of its own, one for each token of the vocabulary at each step, and
takes the token of the highest logit plus Gumbel noise: a draw from the model's distribution (the
Gumbel-max trick; Maddison, Tarlow and Minka, "A* sampling", 2014). The numbers depend on the seed,
the prompt and the step alone, so that a sample is the same in any batch, on any device and beside
any others; and variants share them (common random numbers), so that two that give the same
distribution write the same text, and texts part only where distributions do.

    draws = Draws([(0, [5, 3]), (1, [5, 3])])   # a seed and a prompt for each row
    tokens = choose(logits, temperature, top_k, draws)
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

TINY = 1e-300  # what a uniform number of zero is taken for, once in 2**53


class Draws:
    """Standard Gumbel numbers of some rows, step after step.

    Args:
        rows: the seed and the prompt's tokens of each row; equal ones have equal numbers.
    """

    def __init__(self, rows: Sequence[tuple[int, Sequence[int]]]) -> None:
        self.generators = [torch.Generator().manual_seed(start_of(*row)) for row in rows]

    def next(self, vocab: int) -> Float[Tensor, "row vocab"]:
        """The numbers of the next step, in double precision, on the CPU."""
        uniform = torch.stack(
            [torch.rand(vocab, generator=each, dtype=torch.float64) for each in self.generators]
        )
        return -(-uniform.clamp_min(TINY).log()).log()


def start_of(seed: int, prompt: Sequence[int]) -> int:
    """Where a sample's generator starts."""
    told = f"{seed}: {' '.join(map(str, prompt))}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") >> 1


def choose(
    logits: Float[Tensor, "row vocab"], temperature: float | int, top_k: int | None, draws: Draws
) -> Int[Tensor, "row"]:
    """The next token of each row; of equal ones the lowest.

    Args:
        logits: on any device, none of them NaN.
        temperature: divides them; 0 takes the likeliest token and no random number.
        top_k: of which likeliest tokens to draw; those as likely as the last of them count too.
    """
    scores = logits.detach().cpu().double()
    if top_k is not None:
        kth = scores.topk(min(top_k, scores.shape[1])).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    if temperature:
        scores = scores / temperature + draws.next(scores.shape[1])
    return torch.from_numpy(np.argmax(scores.numpy(), axis=1))  # torch's takes any of equal ones
