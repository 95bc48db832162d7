"""What is a document, before a pipeline and after each of its steps?

A document is a frozen value: a step makes another one of it.

    document.with_text(shorter, Tally("control character", 3))
    document.drop("has 12 characters, fewer than 200")
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

TEXT, MARKDOWN, HTML, PDF, CODE, JSON_LINES = (
    "text",
    "markdown",
    "html",
    "pdf",
    "code",
    "json lines",
)
KINDS_OF_DOCUMENTS = (TEXT, MARKDOWN, HTML, PDF, CODE, JSON_LINES)


@dataclass(frozen=True)
class Tally:
    """What a step did to one document, counted.

    Args:
        what: in the reader's words, such as ``e-mail address``.
        count: how often.
    """

    what: str
    count: int = 1


@dataclass(frozen=True)
class Document:
    """A text that came from one place.

    Args:
        id: 16 hexadecimal digits, of its source and its bytes; see ``identify_document``.
        source: its path inside the pile; ``notes.jsonl:17`` is a row of a file.
        kind: one of ``KINDS_OF_DOCUMENTS``.
        text: as it is now.
        size: its bytes as they were read.
        encoding: that they were read with.
        language: as ISO 639-1 names it, once a step knows.
        licence: whose notice it carries, as SPDX names it, once a step knows.
        cluster: the id of the first document of its near duplicates, once a step knows.
        split: ``train`` or ``val``, once a step has decided.
        dropped: why it is left out; empty keeps it.
        notes: what the step that made this value did.
    """

    id: str
    source: str
    kind: str
    text: str
    size: int
    encoding: str = "utf-8"
    language: str = ""
    licence: str = ""
    cluster: str = ""
    split: str = ""
    dropped: str = ""
    notes: tuple[Tally, ...] = field(default=())

    def with_text(self, text: str, *notes: Tally) -> "Document":
        """The document with another text. Notes that count nothing are left out."""
        return replace(self, text=text, notes=self.notes + tuple(n for n in notes if n.count))

    def about(self, **known: Any) -> "Document":
        """The document with something more known of it: ``language``, ``cluster``, ``split`` …"""
        return replace(self, **known)

    def drop(self, reason: str) -> "Document":
        """The document, left out from here on."""
        return replace(self, dropped=reason)


@dataclass(frozen=True)
class Skipped:
    """What could not be read, and why."""

    source: str
    reason: str


def make_document(source: str, text: str, kind: str = TEXT, encoding: str = "utf-8") -> Document:
    """A document of a text that is at hand, as if it had been read from UTF-8."""
    data = text.encode("utf-8", "surrogatepass")
    return Document(identify_document(source, data), source, kind, text, len(data), encoding)


def identify_document(source: str, data: bytes) -> str:
    """A document's id: it depends on nothing but its source and its bytes."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass") + b"\0" + data).hexdigest()[:16]
