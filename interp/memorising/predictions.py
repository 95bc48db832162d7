"""What does a model expect after each beginning of a text?

As when it writes: after the tokens before, of which it is given as many of the last as it can read
at once. Texts of one length are run side by side; one run answers for all beginnings of a text
where the text fits, and the model says what it expects everywhere.

    for number, expected in predictions(model, texts, starts, context=64):
        expected      # [beginning vocab]: log-probabilities after text[:start], text[:start + 1], …
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import UsageError
from interp.hooking import evaluating
from interp.logits import found_in, logits_of
from interp.samples.running import context_of

NUMBERS_AT_ONCE = 2**24  # of logits, in one run
ROWS = 64  # texts run side by side at most


def predictions(
    model: nn.Module,
    texts: Sequence[Sequence[int]],
    starts: Sequence[int],
    context: int | None = None,
) -> Iterator[tuple[int, Float[Tensor, "beginning vocab"]]]:
    """The log-probabilities of the next token, in nats, text by text in any order.

    Args:
        model: any module from tokens [batch pos] to logits.
        texts: token ids.
        starts: of each text, the shortest beginning that is asked for, in tokens; at least 1.
        context: how many of the last tokens the model is given; by default as many as its
            configuration says it can read, else all.

    Yields:
        The number of a text, and in double precision, on the CPU, what is expected after each of
        its beginnings, from the one asked for to the whole.

    Raises:
        UsageError: a beginning of no token; logits that are NaN or all infinite.
    """
    context = context or context_of(model)
    for text, start in zip(texts, starts, strict=True):
        if not 1 <= start <= len(text):
            raise UsageError(
                "nothing is expected before the first token of a text: ask for what follows at "
                "least one token, so let something stand before the secret or the passage"
            )
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(number)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), evaluating(model):
        for length, numbers in by_length.items():
            rows = 1  # until it is known how large logits are, and whether they are of all places
            while numbers:
                group, numbers = numbers[:rows], numbers[rows:]
                tokens = torch.tensor([list(texts[one]) for one in group], device=device)
                first = min(starts[one] for one in group)
                expected = expected_after(model, tokens, first, context)
                for one, row in zip(group, expected, strict=True):
                    yield one, row[starts[one] - first :].cpu()
                vocab = expected.shape[-1]
                rows = max(1, min(ROWS, NUMBERS_AT_ONCE // (length * vocab)))


def expected_after(
    model: nn.Module, tokens: Tensor, first: int, context: int | None
) -> Float[Tensor, "row beginning vocab"]:
    """After each beginning from ``first`` tokens on, of texts of one length."""
    length = tokens.shape[1]
    if context is None or length <= context:
        output = model(tokens)
        if found_in(output).shape[1] == length:
            return usable(logits_of(output, tokens)[:, first - 1 :])
    each = [
        last_expected(model, tokens[:, max(0, stop - (context or stop)) : stop])
        for stop in range(first, length + 1)
    ]
    return torch.stack(each, dim=1)


def last_expected(model: nn.Module, window: Tensor) -> Float[Tensor, "row vocab"]:
    return usable(logits_of(model(window), window)[:, -1])


def usable(logits: Any) -> Tensor:
    """Log-probabilities; of logits of which some token's is a number."""
    expected: Tensor = logits.double().log_softmax(-1)
    if expected.isnan().any():
        raise UsageError(
            "the model's logits are NaN or infinite, so that it expects nothing: look at its "
            "weights, and at what was done to it"
        )
    return expected
