"""What licence a document carries, and its notice out of the way."""

import re
from collections.abc import Iterable, Iterator

from interp.curation.documents import Document, Tally

LICENCES = {
    "Apache-2.0": r"apache licen[cs]e|apache-2\.0",
    "AGPL-3.0": r"gnu affero general public licen[cs]e|agpl-3\.0",
    "LGPL": r"gnu (?:lesser|library) general public licen[cs]e|\blgpl",
    "GPL": r"gnu general public licen[cs]e|\bgpl-?[23]|\bgplv[23]",
    "MPL-2.0": r"mozilla public licen[cs]e|mpl-2\.0",
    "PSF-2.0": r"python software foundation licen[cs]e|psf licen[cs]e",
    "BSD": r"redistribution and use in source and binary forms|\bbsd(?:-[23]-clause)? licen[cs]e",
    "MIT": r"\bmit licen[cs]e|permission is hereby granted, free of charge",
    "ISC": r"\bisc licen[cs]e|permission to use, copy, modify, and(?:/or)? distribute",
    "CC": r"creative commons|\bcc[- ]by\b",
    "Unlicense": r"free and unencumbered software released into the public domain",
}
FORMS = {name: re.compile(form, re.IGNORECASE) for name, form in LICENCES.items()}
SPDX = re.compile(r"SPDX-License-Identifier:\s*([\w.+-]+)")
NOTICE = re.compile(
    r"copyright|\(c\)\s|©|all rights reserved|licen[cs]ed under|spdx-license-identifier|"
    r"warranty|redistribution|permission is hereby granted",
    re.IGNORECASE,
)
PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
HEADER = 4  # paragraphs at the top among which a notice may stand
MOST = 0.5  # of a document: what is mostly notice is a licence, and is read as one


def note_licences(documents: Iterable[Document], *, remove: bool = True) -> Iterator[Document]:
    """Note the licence that a document names, and take its notice from the top.

    A notice is a paragraph among the first four that speaks of copyright, warranty or permission. A
    document of which that would take more than half is itself a licence: it stays as it is.

    Args:
        remove: False only notes.
    """
    for document in documents:
        document = document.about(licence=licence_of(document.text))
        text, count = without_notice(document.text) if remove else (document.text, 0)
        if count and len(text) >= (1 - MOST) * len(document.text):
            yield document.with_text(text, Tally("licence notice", count))
        else:
            yield document


def licence_of(text: str) -> str:
    """The licence that a text names first; empty where it names none that is known."""
    if match := SPDX.search(text):
        return match.group(1)
    found = [(match.start(), name) for name, form in FORMS.items() if (match := form.search(text))]
    return min(found)[1] if found else ""


def without_notice(text: str) -> tuple[str, int]:
    """A text without the notices among its first paragraphs, and how many they were."""
    starts = [0, *(match.end() for match in PARAGRAPH.finditer(text))][: HEADER + 1]
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    kept = [p for n, p in enumerate(pieces) if n >= HEADER or not NOTICE.search(p)]
    return "".join(kept), len(pieces) - len(kept)
