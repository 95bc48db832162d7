"""How much does a model prefer the secret that was planted to all that could have been?

Exposure (Carlini et al. 2019, "The Secret Sharer"), in bits: log2 of the number of candidates,
minus log2 of the secret's rank among them, the likeliest first. Of 10,000 candidates it is 13.3
where the model likes the planted one best, and 1.44 on average where it knows nothing of it.

    measure_exposure(model, [Canary("The number of the box is ", "4821")])

The rank is exact up to 20,000 candidates: their tokens are a tree, and each beginning that several
share is run once. Of more, some are drawn, and the table says that its number is an estimate.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import nn

from interp.errors import UsageError
from interp.memorising.canaries import Canary
from interp.memorising.passages import count_shared
from interp.memorising.predictions import predictions
from interp.samples.prompts import Coder, encoded
from interp.stats import share_interval

EXACT, ESTIMATE = "exact", "estimate"
TIE = 1e-5  # nats; what two runs of one model may differ by
COLUMNS = [
    *("canary", "before", "secret", "candidates", "how", "n", "rank", "tied", "exposure"),
    *("ci_low", "ci_high", "most", "loss"),
]


def measure_exposure(
    model: nn.Module,
    canaries: Sequence[Canary],
    *,
    tokenizer: Coder | None = None,
    context: int | None = None,
    at_most: int = 20_000,
    draws: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row for each canary.

    Candidates whose probabilities differ by less than rounding are tied. Which of them comes first
    is then no merit of the model, so that the logarithm is averaged over the ranks they share: a
    model to which all are one is at 1.44 bits, as one that ranks them at random is on average.

    Args:
        model: any module from tokens to logits.
        canaries: those of one form share their candidates' run.
        tokenizer: where the model has no ``to_tokens`` of its own.
        context: how many of the last tokens the model is given; by default as many as it can read.
        at_most: candidates of which each is ranked; of more, ``draws`` are drawn with ``seed``.

    Returns:
        ``canary`` (counted from 0) ``before secret candidates``; ``how``, exact or estimate, and
        ``n``, the candidates that were run; ``rank``, the first that the secret can have, and
        ``tied``, how many candidates share it (estimates have neither); ``exposure`` in bits, of
        estimates with a 95 % interval; ``most``, the exposure of the first rank; ``loss``, of the
        secret's tokens, in nats.

    Raises:
        UsageError: no canary; candidates that the tokenizer does not tell apart.
    """
    if not canaries:
        raise UsageError("there is no canary: give at least one")
    losses: dict[object, np.ndarray] = {}
    rows = []
    for number, canary in enumerate(canaries):
        exact = canary.count <= at_most
        if exact:
            secrets = list(canary.candidates())
            if canary.form not in losses:
                losses[canary.form] = secret_losses(
                    model, canary.before, secrets, tokenizer, context
                )
            all_losses, place = losses[canary.form], secrets.index(canary.secret)
            found = exact_exposure(all_losses, place)
        else:
            secrets = [canary.secret, *draw_others(canary, draws, seed)]
            all_losses, place = (
                secret_losses(model, canary.before, secrets, tokenizer, context),
                0,
            )
            found = estimated_exposure(all_losses[0], all_losses[1:], canary.count)
        rows.append(
            {
                "canary": number,
                "before": canary.before,
                "secret": canary.secret,
                "candidates": canary.count,
                "how": EXACT if exact else ESTIMATE,
                "n": len(secrets) - (not exact),
                "most": float(np.log2(canary.count)),
                "loss": float(all_losses[place]),
                **found,
            }
        )
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return table.astype({"rank": "Int64", "tied": "Int64"})


def secret_losses(
    model: nn.Module,
    before: str,
    secrets: Sequence[str],
    tokenizer: Coder | None = None,
    context: int | None = None,
) -> Float[np.ndarray, "candidate"]:
    """Of each secret the loss of its tokens after ``before``, in nats, by a tree over them.

    Tokens that all candidates begin with are left out of the sum: they say nothing of any of them.

    Raises:
        UsageError: two candidates of the same tokens, or one that another begins with; candidates
            that have no first token in common.
    """
    texts = [tuple(one) for one in encoded(model, [before + one for one in secrets], tokenizer)]
    known: dict[tuple[int, ...], str] = {}
    for tokens, secret in zip(texts, secrets, strict=True):
        if tokens in known:
            raise UsageError(
                f"the tokenizer makes the same tokens of {known[tokens]!r} and {secret!r} after "
                f"{before!r}: take secrets that it tells apart"
            )
        known[tokens] = secret
    common = count_shared(min(texts), max(texts))
    if common == 0:
        raise UsageError(
            f"after {before!r} the candidates have no first token in common, so that nothing can "
            "be asked: let more stand before the secret"
        )
    children: dict[tuple[int, ...], set[int]] = {}
    for tokens in texts:
        for stop in range(common, len(tokens)):
            children.setdefault(tokens[:stop], set()).add(tokens[stop])
    if beginning := next((known[tokens] for tokens in texts if tokens in children), ""):
        raise UsageError(
            f"another candidate begins with {beginning!r}, which is likelier for that alone: end "
            "each with the same mark, such as a full stop"
        )
    step_losses: dict[tuple[int, ...], float] = {}
    leaves = deepest(children)
    for number, expected in predictions(model, leaves, [common] * len(leaves), context):
        for row, stop in enumerate(range(common, len(leaves[number]) + 1)):
            node = leaves[number][:stop]
            following = sorted(children.pop(node, ()))  # the first run of a beginning counts
            values = expected[row, following].tolist()
            step_losses.update(
                {(*node, token): -value for token, value in zip(following, values, strict=True)}
            )
    return np.array(
        [
            sum(step_losses[tokens[: stop + 1]] for stop in range(common, len(tokens)))
            for tokens in texts
        ]
    )


def deepest(nodes: dict[tuple[int, ...], set[int]]) -> list[tuple[int, ...]]:
    """The beginnings that are no beginning of another: running these runs all."""
    ordered = sorted(nodes)
    return [
        one
        for one, following in itertools.zip_longest(ordered, ordered[1:], fillvalue=())
        if following[: len(one)] != one
    ]


def exact_exposure(losses: Float[np.ndarray, "candidate"], place: int) -> dict[str, Any]:
    """Exposure of the candidate at a place, among all."""
    own = losses[place]
    better = int((losses < own - TIE).sum())
    tied = int((np.abs(losses - own) <= TIE).sum())
    ranks = np.arange(better + 1, better + tied + 1)
    exposure = float(np.log2(len(losses)) - np.log2(ranks).mean())
    return {"rank": better + 1, "tied": tied, "exposure": exposure}


def draw_others(canary: Canary, draws: int, seed: int) -> list[str]:
    """Secrets that were not planted, each at most once, drawn from all candidates.

    Raises:
        UsageError: no draws.
    """
    if draws < 1:
        raise UsageError(f"draws is {draws}; of too many candidates at least 1 must be drawn")
    generator, found = np.random.default_rng(seed), dict[str, None]()
    while len(found) < min(draws, canary.count - 1):
        if canary.among:
            drawn = canary.among[int(generator.integers(len(canary.among)))]
        else:
            places = generator.integers(len(canary.symbols), size=len(canary.secret))
            drawn = "".join(canary.symbols[place] for place in places)
        if drawn != canary.secret:
            found[drawn] = None
    return list(found)


def estimated_exposure(
    own: float, others: Float[np.ndarray, "draw"], candidates: int
) -> dict[str, Any]:
    """Exposure from drawn candidates: minus log2 of the share of all that come no later.

    A tied one counts half. Of n draws the share is taken for at least 1 in n + 1, so that what
    surpasses all of them is exposed by what they can show and no more; the interval reaches on to
    the first rank.
    """
    better = int((others < own - TIE).sum())
    tied = int((np.abs(others - own) <= TIE).sum())
    share = (better + tied / 2 + 1) / (len(others) + 1)
    low = share_interval(better, len(others)).low
    high = share_interval(better + tied, len(others)).high
    first = 1 / candidates
    return {
        "exposure": float(-np.log2(share)),
        "ci_low": float(-np.log2(max(float(high), first))),
        "ci_high": float(-np.log2(max(float(low), first))),
    }
