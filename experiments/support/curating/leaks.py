"""How much of the validation text stands in a variant's training text?

Measured, not guessed from what was left out: passages that are word for word in both
(``interp.texts``), and documents that are nearly the same (``interp.curation``). A variant leaks
where more validation documents are known to it than to the whole pipeline.

    leaks_of(texts, validated)         # a row for each variant
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.curating.leaving_out import VariantText
from interp.curation import Document, cluster_documents
from interp.curation.running import BETWEEN
from interp.texts import shared_passages

AT_LEAST = 50  # characters of a passage that counts
Held = set[tuple[str, str]]
KNOWN = 0.5  # of a document's characters in such passages, from which it counts as known


def leaks_of(texts: Sequence[VariantText], validated: Sequence[Document]) -> pd.DataFrame:
    """One row for each variant.

    Args:
        texts: the whole pipeline's first.
        validated: the documents that all variants are validated on.

    Returns:
        ``variant``; ``shared``, characters of the validation text in passages of at least 50 that
        the training text has too, their ``share`` and the ``longest``; ``near``, validation
        documents with a near duplicate in the training text; ``known``, those and the ones of which
        at least half the characters are shared; ``documents``, how many there are; ``more``, how
        many the whole pipeline does not know, or not as a near duplicate; ``leak``, whether there
        are any.
    """
    rows, whole = list[dict[str, Any]](), Held()
    by_text: dict[str, tuple[dict[str, Any], Held]] = {}
    for text in texts:
        if text.train not in by_text:
            by_text[text.train] = measure_leak(text, validated)
        measured, known = by_text[text.train]
        if not rows:
            whole = known
        more = len({id for _, id in known - whole})
        rows.append({"variant": text.variant.name, **measured, "more": more, "leak": more > 0})
    return pd.DataFrame(rows)


def measure_leak(text: VariantText, validated: Sequence[Document]) -> tuple[dict[str, Any], Held]:
    """What one training text holds of the validation text; and how it knows which documents: as a
    near duplicate, or in whatever way."""
    val = BETWEEN.join(document.text for document in validated)
    overlap = shared_passages(text.train, val, AT_LEAST)
    covered = np.zeros(len(val) + 1, dtype=np.int64)
    for start, stop in overlap.stretches:
        covered[start:stop] = 1
    near = near_duplicates(text.documents, validated)
    known, at = set(near), 0
    for document in validated:
        stop = at + len(document.text)
        if covered[at:stop].mean() >= KNOWN:
            known.add(document.id)
        at = stop + len(BETWEEN)
    return {
        "shared": overlap.characters,
        "share": overlap.share,
        "longest": overlap.longest,
        "near": len(near),
        "known": len(known),
        "documents": len(validated),
    }, {*(("near", id) for id in near), *(("known", id) for id in known)}


def near_duplicates(train: Sequence[Document], validated: Sequence[Document]) -> set[str]:
    """Ids of the validation documents that a training document is nearly the same as."""
    clusters = cluster_documents([*train, *validated])
    trained = {clusters[document.id] for document in train}
    return {document.id for document in validated if clusters[document.id] in trained}


def leak_words(row: Mapping[Any, Any]) -> str:
    """What a variant knows of the validation text, in a sentence."""
    if not row["leak"]:
        return ""
    return (
        f"{row['known']} of {row['documents']} validation documents stand in its training text, "
        f"{100 * row['share']:.0f} % of their characters word for word"
    )
