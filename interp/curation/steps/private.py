"""Nobody's address, number or key."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from interp.curation.documents import Document, Tally
from interp.texts.finding import REGIONS, find_private

SECRET = "key or secret"
PLACEHOLDERS = {
    "e-mail address": "<EMAIL>",
    "key or secret": "<SECRET>",
    "IP address": "<IP>",
    "street address": "<STREET>",
    "telephone number": "<PHONE>",
}
ROUNDS = 5  # of looking again: what stood beside a masked string can look private by itself


def mask_private(
    documents: Iterable[Document], *, regions: Sequence[str] = REGIONS
) -> Iterator[Document]:
    """Write ``<EMAIL>``, ``<PHONE>``, ``<IP>`` and ``<STREET>`` where somebody's stands.

    Args:
        regions: where telephone numbers without a country code may be from.
    """
    kinds = [kind for kind in PLACEHOLDERS if kind != SECRET]
    return (mask_kinds(document, kinds, regions) for document in documents)


def mask_secrets(documents: Iterable[Document]) -> Iterator[Document]:
    """Write ``<SECRET>`` where a password or a key stands."""
    return (mask_kinds(document, [SECRET], REGIONS) for document in documents)


def mask_kinds(document: Document, kinds: Sequence[str], regions: Sequence[str]) -> Document:
    """Mask until nothing of these kinds is found; a document that stays private is dropped."""
    text, counts = document.text, Counter[str]()
    for _ in range(ROUNDS):
        found = find_private(text, regions, kinds)
        if not found:
            notes = [Tally(kind, count) for kind, count in sorted(counts.items())]
            return document.with_text(text, *notes)
        parts, at = [], 0
        for one in found:
            parts += [text[at : one.start], PLACEHOLDERS[one.kind]]
            at = one.stop
            counts[one.kind] += 1
        text = "".join([*parts, text[at:]])
    return document.drop("private strings are found again however often they are masked")
