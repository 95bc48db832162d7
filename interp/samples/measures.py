"""What can be counted in a text that a model wrote?

    table = measure_texts(writing.table(), KnownText(training_text))
    table[["variant", "known_words", "trigram_loss", "longest_copy"]]

None of it says how good a text is: a text of known words only may be copied, and one of which
nothing is copied may be noise. Each measure is described by a sentence, which belongs beside it
wherever it is shown.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from interp.samples.known_text import WORD, KnownText

REPEATED = 8  # characters
COPIED = 20  # characters
OPENING = {
    '"': '"',
    "(": ")",
    "[": "]",
    "{": "}",
    "“": "”",
    "«": "»",
    "「": "」",
    "『": "』",
    "\uff08": "\uff09",
}
CLOSING = set(OPENING.values())
NAN = math.nan


@dataclass(frozen=True)
class Measure:
    """One thing that can be counted in a sample.

    Args:
        name: of its column.
        title: in a reader's words.
        unit: of its numbers; empty for a share.
        says: what is counted, and when there is nothing to count, in a sentence or two.
        of: counts it: from the sample, the prompt, and the training text.
    """

    name: str
    title: str
    unit: str
    says: str
    of: Callable[[str, str, KnownText], float]


def known_words(sample: str, prompt: str, text: KnownText) -> float:
    found = list(WORD.finditer(sample))
    if found and found[0].start() == 0 and WORD.search(prompt[-1:]):
        found = found[1:]
    if found and found[-1].end() == len(sample):
        found = found[:-1]
    return float(np.mean([match[0] in text.words for match in found])) if found else NAN


def repeated(sample: str, prompt: str, text: KnownText) -> float:
    grams = [sample[at : at + REPEATED] for at in range(len(sample) - REPEATED + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else NAN


def longest_repeat(sample: str, prompt: str, text: KnownText) -> float:
    longest = 0
    for at in range(1, len(sample)):
        while at + longest < len(sample) and is_repeated(sample, at, longest + 1):
            longest += 1
    return float(longest) if sample else NAN


def is_repeated(sample: str, at: int, length: int) -> bool:
    """Whether a stretch began somewhere before too; the two may overlap."""
    return sample.find(sample[at : at + length], 0, at + length - 1) >= 0


def trigram_loss(sample: str, prompt: str, text: KnownText) -> float:
    return float(text.trigram_losses(sample, prompt).mean()) if sample else NAN


def character_distance(sample: str, prompt: str, text: KnownText) -> float:
    if not sample:
        return NAN
    counts = Counter(sample)
    either = {*counts, *text.shares}
    apart = (abs(counts[one] / len(sample) - text.shares.get(one, 0.0)) for one in either)
    return math.fsum(apart) / 2


def copied(sample: str, prompt: str, text: KnownText) -> float:
    if not sample:
        return NAN
    covered = np.zeros(len(sample), dtype=bool)
    for at, length in enumerate(text.longest_matches(sample)):
        if length >= COPIED:
            covered[at : at + length] = True
    return float(covered.mean())


def longest_copy(sample: str, prompt: str, text: KnownText) -> float:
    return float(text.longest_matches(sample).max()) if sample else NAN


def closed(sample: str, prompt: str, text: KnownText) -> float:
    waiting: list[tuple[str, int]] = []  # what would close a mark, and whether it is the sample's
    marks = paired = 0
    for at, character in enumerate(prompt + sample, -len(prompt)):
        own = int(at >= 0)
        closers = [closer for closer, _ in waiting]
        if character in closers:  # what was opened in between stays open
            while (last := waiting.pop())[0] != character:
                pass
            paired += own + own * last[1]
        elif character in OPENING:
            waiting.append((OPENING[character], own))
        marks += own * (character in OPENING or character in CLOSING)
    return paired / marks if marks else NAN


MEASURES = (
    Measure(
        "known_words",
        "known words",
        "",
        "Share of the sample's words that occur in the training text; a word that the sample's "
        "ends cut off is left out, and a character of a script without spaces is a word. Short "
        "words are often known by chance.",
        known_words,
    ),
    Measure(
        "repeated",
        "repeated stretches",
        "",
        f"Share of the sample's stretches of {REPEATED} characters that stand earlier in it too.",
        repeated,
    ),
    Measure(
        "longest_repeat",
        "longest repeat",
        "characters",
        "The longest stretch of the sample that stands earlier in it too; the two may overlap.",
        longest_repeat,
    ),
    Measure(
        "trigram_loss",
        "trigram loss",
        "nats per character",
        "How badly a model that only counted which character follows which two in the training "
        "text (interpolated Witten-Bell) would have predicted the sample, mean over characters: "
        "high in noise, low where frequent letters follow each other.",
        trigram_loss,
    ),
    Measure(
        "character_distance",
        "distance of characters",
        "",
        "Total variation between how frequent characters are in the sample and in the training "
        "text: 0 where they agree, 1 where none is shared. The text's own stretches of the same "
        "length are not at 0.",
        character_distance,
    ),
    Measure(
        "copied",
        "copied",
        "",
        f"Share of the sample's characters that lie in a stretch of {COPIED} or more that stands "
        "in the training text, character by character.",
        copied,
    ),
    Measure(
        "longest_copy",
        "longest copy",
        "characters",
        "The longest stretch of the sample that stands in the training text.",
        longest_copy,
    ),
    Measure(
        "closed",
        "brackets and quotes that close",
        "",
        "Share of the sample's brackets and double quotes that have their partner, in the sample "
        "or, of one that the prompt left open, there. Single quotes are not counted, for they are "
        "apostrophes too; a sample without any has no share.",
        closed,
    ),
)


def measure_texts(samples: pd.DataFrame, text: KnownText) -> pd.DataFrame:
    """The samples with a column for each measure; NaN where a sample has nothing to count.

    Args:
        samples: with columns ``prompt`` and ``text``; others stay.
        text: the training text.
    """
    counted = {
        one.name: [
            one.of(sample, prompt, text)
            for sample, prompt in zip(samples["text"], samples["prompt"], strict=True)
        ]
        for one in MEASURES
    }
    return samples.assign(**counted)
