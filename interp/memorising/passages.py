"""Does a model continue a text word for word?

    table = ask_passages(model, [Passage("Write to jane.", "roe@example.org")])
    table[["exact", "matched", "chance"]]

One run answers for the likeliest text and for chance: the model would write the passage with
temperature 0 if each of its tokens is the likeliest after those before, and in one draw of a
sample with the product of their probabilities (Hayes et al. 2024). No luck of draws is in either.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from interp.errors import UsageError
from interp.memorising.predictions import predictions
from interp.samples import write
from interp.samples.prompts import Coder, encoded, split_text, text_maker
from interp.samples.running import context_of
from interp.stats import share_interval

LIKELIEST, SAMPLED = "likeliest", "sampled"
COLUMNS = [
    *("passage", "part", "way", "seed", "before", "true", "matched", "exact", "chance", "loss", "n")
]


@dataclass(frozen=True)
class Passage:
    """Something that stands in a text.

    Args:
        before: what stands before it, which the model is given.
        true: how it goes on.
        part: what text it is from, such as train.
    """

    before: str
    true: str
    part: str = ""


def ask_passages(
    model: nn.Module,
    passages: Sequence[Passage],
    *,
    seeds: Sequence[int] = (),
    temperature: float | int = 1.0,
    tokenizer: Coder | None = None,
    context: int | None = None,
) -> pd.DataFrame:
    """One row for each passage, and one more for each seed of samples that are drawn.

    Args:
        model: any module from tokens to logits.
        passages: what it is asked for.
        seeds: of samples to draw beside; ``chance`` says already how many of many would be right.
        temperature: of these samples, and of ``chance``.
        tokenizer: where the model has no ``to_tokens`` of its own.
        context: how many of the last tokens the model is given; by default as many as it can read.

    Returns:
        ``passage`` (counted from 0) ``part``; ``way``, the likeliest text or a sample, with its
        ``seed``; ``before true``; ``matched``, how many characters are right until the first wrong
        one, and ``exact``, whether all are; of the likeliest, ``chance``, the probability that one
        sample is exact, and ``loss``, of the passage's tokens in nats at temperature 1; ``n``, the
        passage's characters.

    Raises:
        UsageError: no passage, one without text or without anything before it; a temperature that
            is not above 0.
    """
    if not passages:
        raise UsageError("there is no passage to ask for: give at least one")
    if not all(one.before and one.true for one in passages):
        raise UsageError("a passage is empty, or nothing stands before it, by which to ask for it")
    if not temperature > 0:
        raise UsageError(
            f"temperature is {temperature}; samples take one above 0, and the likeliest text is "
            "asked for anyhow"
        )
    asked, context = TokenisedPassages(model, passages, tokenizer), context or context_of(model)
    rows = likeliest_rows(asked, temperature, context)
    if seeds:
        rows += sampled_rows(asked, seeds, temperature, context)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table = table.astype({"seed": "Int64", "matched": int, "exact": bool})
    return table.sort_values(["passage", "seed"], na_position="first", ignore_index=True)


def share_exact(table: pd.DataFrame) -> pd.DataFrame:
    """Of each part the share of its passages that the likeliest text repeats word for word.

    Args:
        table: what ``ask_passages`` and what is built on it give.

    Returns:
        ``part n exact share ci_low ci_high``, a 95 % interval over passages; ``chance``, the mean
        probability that a sample is exact; ``matched``, the mean of characters that are right
        until the first wrong one.
    """
    rows = []
    for part, own in table[table["way"] == LIKELIEST].groupby("part", sort=False):
        share, low, high = share_interval(int(own["exact"].sum()), len(own))
        rows.append(
            {
                "part": part,
                "n": len(own),
                "exact": int(own["exact"].sum()),
                "share": share,
                "ci_low": low,
                "ci_high": high,
                "chance": own["chance"].mean(),
                "matched": own["matched"].mean(),
            }
        )
    columns = ["part", "n", "exact", "share", "ci_low", "ci_high", "chance", "matched"]
    return pd.DataFrame(rows, columns=columns)


class TokenisedPassages:
    """Passages in tokens.

    Where a passage's first characters share a token with what stands before it, the model is given
    that much less, so that tokens are as the tokenizer makes them of the whole.
    """

    def __init__(
        self, model: nn.Module, passages: Sequence[Passage], tokenizer: Coder | None
    ) -> None:
        self.model, self.passages, self.tokenizer = model, passages, tokenizer
        self.texts = encoded(model, [one.before + one.true for one in passages], tokenizer)
        prompts = encoded(model, [one.before for one in passages], tokenizer)
        self.starts = [count_shared(*pair) for pair in zip(prompts, self.texts, strict=True)]
        self.text_of = text_maker(model, tokenizer)

    def row(self, number: int, written: str) -> dict[str, Any]:
        """A passage and how far a text agrees that was written after its first tokens."""
        passage, tokens = self.passages[number], self.texts[number]
        given, _ = split_text(self.text_of, tokens[: self.starts[number]], [])
        whole, _ = split_text(self.text_of, tokens, [])
        rest = whole[len(given) :]
        matched = max(0, count_shared(written, rest) - (len(rest) - len(passage.true)))
        return {
            "passage": number,
            "part": passage.part,
            "before": passage.before,
            "true": passage.true,
            "n": len(passage.true),
            "matched": matched,
            "exact": matched == len(passage.true),
        }


def likeliest_rows(
    asked: TokenisedPassages, temperature: float, context: int | None
) -> list[dict[str, Any]]:
    rows = []
    beginnings = [text[:-1] for text in asked.texts]
    for number, expected in predictions(asked.model, beginnings, asked.starts, context):
        start, tokens = asked.starts[number], asked.texts[number]
        true = np.array(tokens[start:])
        likeliest = expected.numpy().argmax(axis=1)  # of equal ones the lowest, as in writing
        wrong = np.flatnonzero(likeliest != true)
        stop = start + (int(wrong[0]) + 1 if len(wrong) else len(true))
        _, written = split_text(
            asked.text_of,
            tokens[:start],
            [*tokens[start : stop - 1], int(likeliest[stop - start - 1])],
        )
        each = np.arange(len(true)), true
        tempered = (expected / temperature).log_softmax(-1)
        rows.append(
            {
                **asked.row(number, written),
                "way": LIKELIEST,
                "chance": float(tempered[each].sum().exp()),
                "loss": float(-expected[each].sum()),
            }
        )
    return rows


def sampled_rows(
    asked: TokenisedPassages, seeds: Sequence[int], temperature: float, context: int | None
) -> list[dict[str, Any]]:
    prompts = [
        torch.tensor(text[:start]) for text, start in zip(asked.texts, asked.starts, strict=True)
    ]
    longest = max(len(text) - start for text, start in zip(asked.texts, asked.starts, strict=True))
    written = write(
        asked.model,
        prompts if context is None else [one[-context:] for one in prompts],
        longest,
        seeds=seeds,
        temperature=temperature,
        tokenizer=asked.tokenizer,
        context=context,
    )
    return [
        {**asked.row(place // len(seeds), sample.text), "way": SAMPLED, "seed": sample.seed}
        for place, sample in enumerate(written.samples)
    ]


def count_shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many elements both begin with."""
    pairs = zip(one, other, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
