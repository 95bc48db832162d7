"""Which documents are in the rows of a file of JSON lines?

A row is a document of its own, ``notes.jsonl:17``; one that cannot be read is skipped by itself.
"""

import json
from collections.abc import Iterator
from io import BufferedIOBase, TextIOWrapper
from typing import Any

from interp.curation.documents import JSON_LINES, Document, Skipped, identify_document
from interp.curation.reading.encodings import MARKS, NoTextError, decode_text

FIELDS = ("text", "content", "body")
"""The fields that hold a row's text, the first that is there."""
HOLDS = {
    int: "a number",
    float: "a number",
    bool: "a yes or no",
    type(None): "nothing",
    list: "a list",
    dict: "an object",
}
SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def read_rows(
    file: BufferedIOBase, source: str, *, field: str = "", at_most: int
) -> Iterator[Document | Skipped]:
    """Every row, in order; empty lines are none.

    Args:
        source: of the file.
        field: that holds the text; by default the first of ``FIELDS`` that a row has.
        at_most: bytes of a row.
    """
    for number, line in enumerate(raw_rows(file, at_most), 1):
        at = f"{source}:{number}"
        if len(line) > at_most:
            yield Skipped(at, f"has more than {at_most} bytes: a row is one document")
        elif row := line.strip():
            try:
                text, encoding = decode_text(row)
                text = text_of_row(text, field)
            except NoTextError as error:
                yield Skipped(at, str(error))
            else:
                id = identify_document(at, row)
                yield Document(id, at, JSON_LINES, text, len(row), encoding)


def raw_rows(file: BufferedIOBase, at_most: int) -> Iterator[bytes]:
    """Each line, without a file's UTF-16 or UTF-32; of a line that is too long, its beginning."""
    head = file.read(4)
    file.seek(0)
    wide = [name for mark, name in MARKS if head.startswith(mark) and name != "utf-8-sig"]
    if not wide:
        yield from beginnings(file, at_most)
        return
    text = TextIOWrapper(file, wide[0], newline="\n")  # type: ignore[type-var]
    try:
        for line in beginnings(text, at_most):
            yield line.encode("utf-8", "surrogatepass")
    finally:
        text.detach()


def beginnings(lines: Any, at_most: int) -> Iterator[Any]:
    """Each line of a file, of text or of bytes, up to one more than ``at_most``."""
    while line := lines.readline(at_most + 1):
        yield line
        while len(line) > at_most and line[-1:] not in ("\n", b"\n"):
            line = lines.readline(at_most + 1)


def text_of_row(row: str, field: str) -> str:
    """The text of a row.

    Raises:
        NoTextError: no JSON, no object, no field that holds text, or none in it.
    """
    try:
        given = json.loads(row)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise NoTextError(f"is no JSON: {told.lower()}") from None
    if not isinstance(given, dict):
        raise NoTextError(f"is a {type(given).__name__}, where a row is an object with a text")
    names = (field,) if field else FIELDS
    found = [name for name in names if name in given]
    if not found:
        has = ", ".join(list(given)[:8]) or "no field at all"
        raise NoTextError(f"has no field {' or '.join(names)}; it has {has}"[:300])
    text = given[found[0]]
    if not isinstance(text, str):
        raise NoTextError(f"its field {found[0]} holds {HOLDS[type(text)]}, no text")
    if not text.strip():
        raise NoTextError(f"its field {found[0]} is empty")
    return text.translate(SURROGATES)  # halves of a character, which JSON can write and no file can
