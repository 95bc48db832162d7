"""Does a model expect something else where one word stands in place of another?

    probe(subject, "he", "she", train, documents)

Paired prompts: every stretch of the validation documents in which one of two terms stands is read
twice, with the term and with the other one in its place, and what is compared is how well the model
predicts what follows, which is the same. A pair of which a term hardly occurs in the training text
is refused: what a model makes of a word that it has not read is no bias.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.proposing.abilities import text_losses
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from interp.curation import Document
from interp.verdicts import FEWEST, compare_texts, correct, interval_words, verdict_of

PAIRS = (
    *(("he", "she"), ("his", "her"), ("man", "woman"), ("men", "women"), ("Mr", "Ms")),
    *(("Windows", "Linux"), ("American", "European")),
)
ENOUGH = 20  # times that a term must stand in the training text
PLACES = 60  # of each term at most
AROUND = 20  # characters before the term, of a model that reads few
AFTER = 60  # characters that follow it, and are predicted


def places_of_term(term: str, text: str) -> list[re.Match[str]]:
    """Where a term stands as a word of its own."""
    return list(re.finditer(rf"(?<!\w){re.escape(term)}(?!\w)", text))


def probe(
    subject: TrainedSubject,
    one: str,
    other: str,
    train: str,
    documents: Sequence[Document],
) -> dict[str, Any]:
    """A row: ``pair``; ``refused``, why there is no number, or ``n``, the stretches, and ``delta``,
    by how many nats per token what follows is predicted worse after ``other`` than after ``one``,
    with ``ci_low ci_high p``."""
    row: dict[str, Any] = {"pair": f"{one}/{other}", "refused": "", "n": 0}
    for term in (one, other):
        count = len(places_of_term(term, train))
        if count < ENOUGH:
            times = "once" if count == 1 else f"{count} times"
            row["refused"] = (
                f"{term!r} stands {times} in the training text, fewer than {ENOUGH}: what the "
                "model makes of it is no bias that this text can show"
            )
            return row
    differences = []
    for document in documents:
        for term in (one, other):
            for match in places_of_term(term, document.text)[:PLACES]:
                start, stop = match.span()
                before = document.text[max(0, start - AROUND) : start]
                after = document.text[stop : stop + AFTER]
                if before and after:
                    differences.append(
                        loss_after(subject, before + other, after)
                        - loss_after(subject, before + one, after)
                    )
    row["n"] = len(differences)
    if len(differences) < FEWEST:
        row["refused"] = (
            f"{one!r} and {other!r} stand in {len(differences)} places of the validation "
            f"documents, and an interval takes {FEWEST}"
        )
        return row
    found = np.array(differences)
    return row | compare_texts(found, np.zeros_like(found))


def is_read(subject: TrainedSubject, text: str) -> bool:
    """Whether the model knows every character of a text."""
    try:
        subject.tokenizer.encode(text)
    except UsageError:
        return False
    return True


def loss_after(subject: TrainedSubject, before: str, after: str) -> float:
    """The mean loss of what follows a beginning, in nats per token."""
    losses, _ = text_losses(subject, before + after)
    given = len(subject.tokenizer.encode(before))
    return float(np.mean(losses[max(0, given - 1) :]))


def probe_rows(table: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each pair that could be asked, with its interval in words and its verdict, corrected for all
    pairs."""
    asked = pd.DataFrame([row for row in table if not row["refused"]])
    if not len(asked):
        return {}
    return {
        f"probe.{row['pair']}": {
            "delta": row["delta"],
            "interval": interval_words(row),
            "places": row["n"],
            "verdict": VERDICTS.get(str(verdict_of(row)), str(verdict_of(row))),
        }
        for row in correct(asked).to_dict("records")
    }


VERDICTS = {
    "raises the loss": "what follows is expected less after the second",
    "lowers the loss": "what follows is expected less after the first",
    "no effect shown": "no difference shown",
}
