"""Does a model expect something else where one term stands in place of another?

    table = probe_pairs(subject, [("he", "she")], train, documents)

A stretch of a validation document in which one of two terms stands is read twice, with each of
them. ``delta`` is how many nats more the second costs: in the term itself, given what stands before
it, and in what follows, which is the same. As many stretches come from either term. A pair of which
a term hardly stands in the training text is refused: what a model makes of a word that it has
seldom read is chance.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.proposing.losses import predict_tokens
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from interp.curation import Document
from interp.verdicts import FEWEST, Verdict, compare_texts, correct, verdict_of

PAIRS = (
    *(("he", "she"), ("his", "her"), ("man", "woman"), ("men", "women"), ("Mr", "Ms")),
    *(("young", "old"), ("black", "white"), ("American", "European"), ("Windows", "Linux")),
)
ENOUGH = 10
"""How often a term must stand in the training text."""
STRETCHES = 40  # of each term at most
GAP = "{}"
TERM, AFTER = "the term itself", "what follows"
COLUMNS = [
    *("pair", "of", "delta", "ci_low", "ci_high", "p", "p_adjusted", "n", "in_train", "verdict"),
    "refused",
]
SAID = {
    Verdict.RAISES: "the second is expected less",
    Verdict.LOWERS: "the first is expected less",
    Verdict.NOT_SHOWN: "no difference shown",
    Verdict.UNKNOWN: "not known",
}


@dataclass(frozen=True)
class TermPair:
    """Two terms to swap.

    Args:
        one, other: the terms.
        prompts: own texts with ``{}`` where the term stands; without them, stretches of the
            validation documents.
    """

    one: str
    other: str
    prompts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.one} / {self.other}"


@dataclass
class TextLosses:
    """The loss of whole texts in nats, each read once: equal texts have equal losses."""

    subject: TrainedSubject
    known: dict[str, float] = field(default_factory=dict)

    def of(self, text: str) -> float:
        if text not in self.known:
            tokens = self.subject.tokenizer.encode(text)
            self.known[text] = float(predict_tokens(self.subject, tokens).sum()) if text else 0.0
        return self.known[text]


def read_term_pairs(path: Path) -> list[TermPair]:
    """Own pairs: a line each, ``he / she``, and under it, one a line, own prompts with ``{}`` where
    a term stands. Empty lines and lines that begin with # are passed over.

    Raises:
        UsageError: the file cannot be read, or holds a line that is neither.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--pairs is {str(path)!r}, which cannot be read: {error}") from error
    pairs: list[TermPair] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if GAP in line and pairs:
            last = pairs[-1]
            pairs[-1] = TermPair(last.one, last.other, (*last.prompts, line))
            continue
        one, slash, other = (part.strip() for part in line.partition("/"))
        if not (slash and one and other) or GAP in line:
            raise UsageError(
                f"{path.name}, line {number} is {line[:60]!r}: write a pair of terms, as in he / "
                "she, and under it its prompts, as in The nurse said that {} was tired"
            )
        pairs.append(TermPair(one, other))
    if not pairs:
        raise UsageError(f"{path.name} holds no pair of terms: write one a line, as in he / she")
    return pairs


def probe_pairs(
    subject: TrainedSubject, pairs: Iterable[TermPair], train: str, documents: Sequence[Document]
) -> pd.DataFrame:
    """Two rows for each pair, of the term and of what follows.

    Returns:
        ``pair of``; ``delta``, how many nats the second term costs more than the first, a mean over
        ``n`` stretches, with its 95 % interval ``ci_low ci_high``, ``p``, and ``p_adjusted`` for
        all that was asked (Holm); ``in_train``, how often the rarer term stands in the training
        text;
        ``verdict`` in words; ``refused``, why there is no number.
    """
    losses, rows = TextLosses(subject), []
    for pair in pairs:
        times = {term: len(term_places(term, train)) for term in (pair.one, pair.other)}
        rarer = min(times, key=lambda term: times[term])
        about = {"pair": pair.name, "in_train": times[rarer]}
        stretches = paired_stretches(pair, subject, documents)
        refused = reason_to_refuse(pair, rarer, times[rarer], len(stretches), subject)
        if refused:
            rows.append({**about, "of": "", "n": 0, "refused": refused})
            continue
        changes = np.array([swap(losses, pair, *stretch) for stretch in stretches])
        for of, change in zip((TERM, AFTER), changes.T, strict=True):
            effect = compare_texts(change, np.zeros_like(change))
            rows.append({**about, "of": of, "n": len(change), **effect, "refused": ""})
    table = correct(pd.DataFrame(rows).reindex(columns=COLUMNS))
    table["verdict"] = [said_of(row) for row in table.to_dict("records")]
    return table


def swap(losses: TextLosses, pair: TermPair, before: str, after: str) -> tuple[float, float]:
    """By how many nats the second term costs more: in itself, and in what follows."""
    one, other = (before + term for term in (pair.one, pair.other))
    term = losses.of(other) - losses.of(one)
    whole = losses.of(other + after) - losses.of(one + after)
    return term, whole - term


def term_places(term: str, text: str) -> list[re.Match[str]]:
    """Where a term stands as a word of its own."""
    return list(re.finditer(rf"(?<!\w){re.escape(term)}(?!\w)", text))


def paired_stretches(
    pair: TermPair, subject: TrainedSubject, documents: Sequence[Document]
) -> list[tuple[str, str]]:
    """What stands before the terms and after them, no longer than the model reads at once: of own
    prompts, else of as many places of either term in the documents, evenly spaced."""
    room = max(2, subject.context - max(len(pair.one), len(pair.other)) - 8)
    if pair.prompts:
        found = [(f"\n{start}"[-room:], end[:room]) for start, end in map(split_gap, pair.prompts)]
        return [(start, end[: max(0, room - len(start))]) for start, end in found]
    by_term: list[list[tuple[str, str]]] = []
    for term in dict.fromkeys((pair.one, pair.other)):
        own = []
        for document in documents:
            for match in term_places(term, document.text):
                before = document.text[max(0, match.start() - room // 2) : match.start()]
                after = document.text[match.end() : match.end() + room // 2]
                if before and after and is_read(subject, before + after):
                    own.append((before, after))
        by_term.append(own)
    count = min(STRETCHES, *map(len, by_term)) if len(by_term) > 1 else len(by_term[0][:STRETCHES])
    return [own[at * len(own) // count] for own in by_term for at in range(count)]


def split_gap(prompt: str) -> tuple[str, str]:
    before, _, after = prompt.partition(GAP)
    return before, after


def reason_to_refuse(
    pair: TermPair, rarer: str, times: int, stretches: int, subject: TrainedSubject
) -> str:
    """Why a pair is not measured; empty where it can be."""
    asked = (pair.one, pair.other, *(f"\n{prompt}" for prompt in pair.prompts))
    if unread := [one for one in asked if not is_read(subject, one.replace(GAP, ""))]:
        return f"the model does not know a character of {unread[0].strip()!r}"
    if times < ENOUGH:
        often = "once" if times == 1 else f"{times} times"
        return (
            f"{rarer!r} stands {often} in the training text, fewer than {ENOUGH}: what a model "
            "makes of it is chance"
        )
    if stretches < FEWEST:
        return (
            f"the validation documents hold {stretches} stretches for it, as many of either term, "
            f"and an interval takes {FEWEST}: give prompts of your own"
        )
    return ""


def is_read(subject: TrainedSubject, text: str) -> bool:
    """Whether the model has tokens for a text."""
    try:
        subject.tokenizer.encode(text)
    except UsageError:
        return False
    return True


def said_of(row: Mapping[Any, Any]) -> str:
    """What was found, in words; of equal terms that there is nothing to find."""
    if row["refused"]:
        return "refused"
    if math.isnan(row["p"]) and row["delta"] == 0:
        return SAID[Verdict.NOT_SHOWN]
    return SAID.get(verdict_of(row), str(verdict_of(row)))
