"""One way to write what looks the same."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

from interp.curation.documents import Document, Tally

# Control characters, and those that are not to be seen: a soft hyphen, marks of direction, a byte
# order mark. Joiners stay: without them emoji and Persian words fall apart.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)
RETURNS = re.compile(r"\r\n?|[\u2028\u2029\x85]")
TRAILING = re.compile(r"[^\S\n]+$", re.MULTILINE)
BLANK = re.compile(r"\n{4,}")

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]


def normalise(documents: Iterable[Document], *, unicode: Form = "NFC") -> Iterator[Document]:
    """Write line ends as ``\\n``, characters in one of Unicode's normal forms, and leave out what
    nobody sees: control characters, spaces at a line's end, more than two blank lines in a row.

    Args:
        unicode: NFC keeps every character's meaning; NFKC also makes ``ﬁ`` two letters and ``²`` 2.
    """
    for document in documents:
        text, returns = RETURNS.subn("\n", document.text)
        text, unseen = UNSEEN.subn("", text)
        composed = unicodedata.normalize(unicode, text)
        spaced, trailing = TRAILING.subn("", composed)
        spaced, blank = BLANK.subn("\n\n\n", spaced)
        yield document.with_text(
            spaced,
            Tally("line end", returns),
            Tally("character nobody sees", unseen),
            Tally("text in another Unicode form", composed != text),
            Tally("space at a line's end", trailing),
            Tally("run of blank lines", blank),
        )
