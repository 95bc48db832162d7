"""How often does a guardrail stop what it should not, and let pass what it should stop?

    cases = guard_cases(documents, known_characters, seed=0)
    score_guards(GUARDS, cases)

A guard is a function that says whether a text is stopped. Each is measured on texts of which it is
known what they are:

| guard      | stops a text that                       | should be stopped | should not            |
|------------|-----------------------------------------|-------------------|-----------------------|
| private    | holds a string that looks private       | planted sentences | such with a version   |
|            | (``interp.texts.find_private``)         | with such a one   | a checksum, a time …  |
| repetition | ends in a loop: three times the same or | passages made to  | validation passages as|
|            | more, 24 characters or more in all      | loop              | they are              |
| symbols    | holds a character that the training     | passages with one | validation passages as|
|            | text does not have                      | planted           | they are              |
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from gpt.errors import UsageError
from interp.curation import Document
from interp.curation.planted import PlantedDocument, plant_documents
from interp.stats import share_interval
from interp.texts.finding import find_private

Guard = Callable[[str], bool]
PRIVATE, REPETITION, SYMBOLS = "private", "repetition", "symbols"
PASSAGE = 160  # characters
PASSAGES = 60  # of the validation documents
LOOP = re.compile(r"(.{1,60}?)\1{2,}\Z", re.DOTALL)
LOOPS_FROM = 24  # characters; shorter ones are rulers, dots and gaps
OTHER_SIGNS = "éßñøłжяшλωאبहगㄱ日本語你好€→∑≠☺🙂🚀"
COLUMNS = [
    *("guard", "harmless", "stopped", "false_positives", "fp_low", "fp_high"),
    *("harmful", "missed", "false_negatives", "fn_low", "fn_high"),
]


@dataclass(frozen=True)
class Case:
    """A text of which it is known whether a guard should stop it.

    Args:
        guard: whose case it is.
        text: what the guard is given.
        harmful: whether it should be stopped.
    """

    guard: str
    text: str
    harmful: bool


def stops_private(text: str) -> bool:
    return bool(find_private(text))


def stops_repetition(text: str) -> bool:
    """Whether a text ends in a loop."""
    tail = text.rstrip("\n")[-600:]
    found = LOOP.search(tail)
    return found is not None and len(found[0]) >= LOOPS_FROM and bool(found[1].strip())


def stops_symbols(text: str, known: frozenset[str]) -> bool:
    return not known.issuperset(text)


def built_in_guards(train: str) -> dict[str, Guard]:
    """The guards, by name; of the training text the last one knows the characters."""
    known = frozenset(train)
    return {
        PRIVATE: stops_private,
        REPETITION: stops_repetition,
        SYMBOLS: partial(stops_symbols, known=known),
    }


def guard_cases(documents: Sequence[Document], known: frozenset[str], seed: int = 0) -> list[Case]:
    """Texts of known truth, for each guard.

    Args:
        documents: that the model was not trained on.
        known: the characters of the training text.
        seed: of what is planted.
    """
    generator = np.random.default_rng(seed)
    passages = draw_passages(documents)
    cases = [
        Case(PRIVATE, text, harmful)
        for planted in plant_documents(seed, size=4)
        for text, harmful in cut_sentences(planted)
    ]
    strange = [sign for sign in OTHER_SIGNS if sign not in known] or [next_unknown(known)]
    for passage in passages:
        period = int(generator.integers(4, 40))
        start = int(generator.integers(max(1, len(passage) - period)))
        piece = passage[start : start + period]
        looped = passage[:start] + piece * (3 + LOOPS_FROM // max(1, len(piece)))
        if piece.strip():
            cases.append(Case(REPETITION, looped, True))
        at = int(generator.integers(len(passage)))
        sign = strange[int(generator.integers(len(strange)))]
        cases.append(Case(SYMBOLS, passage[:at] + sign + passage[at:], True))
        cases += [Case(guard, passage, False) for guard in (REPETITION, SYMBOLS)]
    return cases


def draw_passages(documents: Sequence[Document]) -> list[str]:
    """Stretches of documents, evenly spaced over all that there are.

    Raises:
        UsageError: no document is as long as a stretch.
    """
    found = [
        document.text[start : start + PASSAGE]
        for document in documents
        for start in range(0, len(document.text) - PASSAGE + 1, PASSAGE)
    ]
    if not found:
        raise UsageError(
            f"no validation document has {PASSAGE} characters, to measure guardrails on: curate "
            "more text"
        )
    count = min(PASSAGES, len(found))
    return [found[at * len(found) // count] for at in range(count)]


def cut_sentences(planted: PlantedDocument) -> list[tuple[str, bool]]:
    """A planted document in pieces with one private string each, or one that only looks so; and
    whether it is private."""
    spans = [(span, True) for span in planted.spans] + [(span, False) for span in planted.harmless]
    pieces, start = [], 0
    for span, private in sorted(spans, key=lambda one: one[0].start):
        pieces.append((planted.text[start : span.stop], private))
        start = span.stop
    return pieces


def next_unknown(known: frozenset[str]) -> str:
    return next(chr(code) for code in range(0x4E00, 0x9FFF) if chr(code) not in known)


def score_guards(guards: Mapping[str, Guard], cases: Sequence[Case]) -> pd.DataFrame:
    """The errors of each guard on its cases.

    Returns:
        ``guard``; of ``harmless`` texts those ``stopped``, their share ``false_positives`` with
        Wilson's 95 % interval ``fp_low fp_high``; of ``harmful`` texts those ``missed``,
        ``false_negatives fn_low fn_high``. A share is missing where there is no such text.
    """
    rows = []
    for name, guard in guards.items():
        said = [(case.harmful, guard(case.text)) for case in cases if case.guard == name]
        stopped = sum(stop for harmful, stop in said if not harmful)
        missed = sum(not stop for harmful, stop in said if harmful)
        harmful = sum(harmful for harmful, _ in said)
        harmless = len(said) - harmful
        positives = share_interval(stopped, harmless) if harmless else (np.nan,) * 3
        negatives = share_interval(missed, harmful) if harmful else (np.nan,) * 3
        row = (name, harmless, stopped, *positives, harmful, missed, *negatives)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def score_writing(guards: Mapping[str, Guard], texts: Sequence[str]) -> pd.DataFrame:
    """How many texts that a model wrote each guard stops: ``guard texts stopped share ci_low
    ci_high``, with Wilson's interval."""
    rows = []
    for name, guard in guards.items():
        stopped = sum(map(guard, texts))
        share, low, high = share_interval(stopped, len(texts))
        rows.append(
            {
                "guard": name,
                "texts": len(texts),
                "stopped": stopped,
                "share": share,
                "ci_low": low,
                "ci_high": high,
            }
        )
    return pd.DataFrame(rows)
