"""Where are the documents of a pile that does not fit in memory?

On disk, one line of JSON each, in order. Between two steps that need the whole pile, nothing else
is kept.

    spool = Spool.write(path, documents)
    for document in spool: ...         # as often as you like
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from interp.curation.documents import Document, Tally


class Spool:
    """Documents in a file, in order; iterate over it as often as you like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def write(cls, path: Path, documents: Iterable[Document]) -> "Spool":
        with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
            for document in documents:
                file.write(dump_document(document) + "\n")
        return cls(path)

    def __iter__(self) -> Iterator[Document]:
        with self.path.open(encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            for line in file:
                yield load_document(line)

    def starts(self) -> Iterator[int]:
        """The place of each document's line, in bytes; no document is read for it."""
        return (at for at, _ in self._lines())

    def offsets(self) -> Iterator[tuple[int, Document]]:
        """Each document with the place of its line, in bytes."""
        return ((at, load_document(line)) for at, line in self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self.path.open("rb") as file:
            at = 0
            for line in file:
                yield at, line
                at += len(line)

    def read_at(self, offsets: Iterable[int]) -> Iterator[Document]:
        """The documents whose lines are at some places, in the order of the places given."""
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield load_document(file.readline())


def dump_document(document: Document) -> str:
    fields = asdict(document)
    fields["notes"] = [[note.what, note.count] for note in document.notes]
    return json.dumps(fields)  # only ASCII, so that a line of the file is a document


def load_document(line: str | bytes) -> Document:
    fields: dict[str, Any] = json.loads(line)
    notes = tuple(Tally(what, count) for what, count in fields.pop("notes"))
    return Document(**fields, notes=notes)


def reader_of(documents: Iterable[Document]) -> Callable[[int], Document]:
    """How to read the n-th document again."""
    if isinstance(documents, Spool):
        offsets = np.fromiter(documents.starts(), dtype=np.int64)
        return lambda n: next(documents.read_at([int(offsets[n])]))
    at_hand = list(documents)
    return at_hand.__getitem__
