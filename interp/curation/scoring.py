"""How often is a finder or a filter right, where all is known?

    planted = plant_documents(seed=0)
    score_finders(planted)        # precision and recall of each kind that looks private
    score_steps(planted)          # of each step of the default pipeline

Precision is the share of what was found, dropped or masked that should have been; recall the share
of what should have been that was. Both hold for documents like these: a finder that is right here
may overlook what people write elsewhere.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from interp.curation.documents import HTML, TEXT, Document, make_document
from interp.curation.planted import (
    DUPLICATES,
    EXACT,
    FOREIGN,
    GIBBERISH,
    SHORT,
    PlantedDocument,
)
from interp.curation.steps import STEPS
from interp.stats import share_interval
from interp.texts.finding import KINDS, REGIONS, find_private

COLUMNS = [
    *("step", "what", "planted", "found", "right"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
]
SECRET = "key or secret"
Step = Callable[[Iterable[Document]], Iterator[Document]]
Pair = tuple[PlantedDocument, Document]


def score_finders(
    planted: Sequence[PlantedDocument], regions: Sequence[str] = REGIONS
) -> pd.DataFrame:
    """A row for each kind that ``find_private`` knows.

    What is found counts as right where it is what was planted, of that kind and to the character.

    Args:
        planted: documents of which everything is known.
        regions: where telephone numbers without a country code may be from.

    Returns:
        ``step what``; ``planted``, strings of the kind that stand in the documents, ``found`` and
        ``right``; ``precision`` and ``recall`` with Wilson's 95 % intervals, missing where there
        is nothing to divide by.
    """
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for document in planted:
        true = {(span.kind, span.start, span.stop) for span in document.spans}
        seen = {(one.kind, one.start, one.stop) for one in find_private(document.text, regions)}
        there.update(kind for kind, _, _ in true)
        found.update(kind for kind, _, _ in seen)
        right.update(kind for kind, _, _ in true & seen)
    rows = [
        score_row("find_private", kind, there[kind], found[kind], right[kind]) for kind in KINDS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def score_steps(
    planted: Sequence[PlantedDocument], steps: Mapping[str, Step] = STEPS
) -> pd.DataFrame:
    """A row for each step that does something to what was planted, run one after another.

    Every step sees all documents, those too that a step before would have taken out, so that each
    answers for itself. A document that should go for another reason counts neither for a filter nor
    against it; of duplicates all but one should go, whichever.

    Args:
        planted: documents of which everything is known.
        steps: functions on documents, by the names of the default pipeline.

    Returns:
        The columns of ``score_finders``: of filters in documents, of masks in strings, of markup in
        paragraphs.
    """
    documents = [as_document(one) for one in planted]
    rows = []
    for name, step in steps.items():
        after = {one.id: one for one in step(documents)}
        pairs = [
            (one, after[document.id]) for one, document in zip(planted, documents, strict=True)
        ]
        rows += [score_row(name, *row) for row in SCORES[name](pairs)] if name in SCORES else []
        documents = [replace(after[one.id], dropped="", notes=()) for one in documents]
    return pd.DataFrame(rows, columns=COLUMNS)


def as_document(planted: PlantedDocument) -> Document:
    kind = HTML if planted.source.endswith(".html") else TEXT
    return make_document(planted.source, planted.text, kind)


def score_row(step: str, what: str, planted: int, found: int, right: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "step": step,
        "what": what,
        "planted": planted,
        "found": found,
        "right": right,
    }
    for name, total in (("precision", found), ("recall", planted)):
        ends = share_interval(right, total) if total else (np.nan,) * 3
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return row


Score = tuple[str, int, int, int]  # what, planted, found, right


def score_filter(fault: str) -> Callable[[Sequence[Pair]], Iterator[Score]]:
    """Of a filter that should drop documents with a fault."""

    def score(pairs: Sequence[Pair]) -> Iterator[Score]:
        wanted = sum(planted.fault == fault for planted, _ in pairs)
        right = sum(planted.fault == fault for planted, after in pairs if after.dropped)
        wrong = sum(not planted.fault for planted, after in pairs if after.dropped)
        yield fault, wanted, right + wrong, right

    return score


def score_duplicates(*faults: str) -> Callable[[Sequence[Pair]], Iterator[Score]]:
    """Of a step that should keep one of each group of documents."""

    def score(pairs: Sequence[Pair]) -> Iterator[Score]:
        copied = {planted.original for planted, _ in pairs if planted.fault in faults}
        sizes: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for planted, after in pairs:
            group = planted.original if planted.fault in faults else planted.source
            sizes[group] += group in copied
            dropped[group] += bool(after.dropped)
        right = sum(min(dropped[group], sizes[group] - 1) for group in copied)
        yield faults[-1], sum(sizes.values()) - len(copied), sum(dropped.values()), right

    return score


def score_masks(kinds: Iterable[str]) -> Callable[[Sequence[Pair]], Iterator[Score]]:
    """Of a step that should mask some kinds of strings, and notes how many it masked."""

    def score(pairs: Sequence[Pair]) -> Iterator[Score]:
        for kind in kinds:
            strings = [
                (planted.text[span.start : span.stop], after.text)
                for planted, after in pairs
                for span in planted.spans
                if span.kind == kind
            ]
            gone = sum(string not in text for string, text in strings)
            noted = sum(n.count for _, after in pairs for n in after.notes if n.what == kind)
            yield kind, len(strings), max(noted, gone), gone

    return score


def score_markup(pairs: Sequence[Pair]) -> Iterator[Score]:
    """Of a step that should leave a page its paragraphs, and nothing of what is round them."""
    planted = right = lost = 0
    for page, after in pairs:
        if page.boilerplate:
            planted += len(page.boilerplate)
            right += sum(line not in after.text for line in page.boilerplate)
            lost += sum(paragraph not in after.text for paragraph in page.paragraphs)
    yield "what is round a page", planted, right + lost, right


def score_licences(pairs: Sequence[Pair]) -> Iterator[Score]:
    """Of a step that should name licences, in as many words as it likes."""
    wanted = sum(bool(planted.licence) for planted, _ in pairs)
    found = sum(bool(after.licence) for _, after in pairs)
    right = sum(
        bool(after.licence) and planted.licence.startswith(after.licence)
        for planted, after in pairs
    )
    yield "licence", wanted, found, right


SCORES: Mapping[str, Callable[[Sequence[Pair]], Iterator[Score]]] = {
    "markup": score_markup,
    "language": score_filter(FOREIGN),
    "exact_duplicates": score_duplicates(EXACT),
    "near_duplicates": score_duplicates(*DUPLICATES),
    "private": score_masks([kind for kind in KINDS if kind != SECRET]),
    "secrets": score_masks([SECRET]),
    "lengths": score_filter(SHORT),
    "quality": score_filter(GIBBERISH),
    "licences": score_licences,
}
"""By step, what it should have done."""
