"""Which documents are in some files and folders?

    for document in read_documents([Path("notes")]): ...

Text and source code in whatever encoding, Markdown, HTML, PDF, JSON lines, and these packed by
gzip. What cannot be read is named with the reason, and the rest goes on.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path

from interp.curation.documents import JSON_LINES, PDF, Document, Skipped, identify_document
from interp.curation.reading.encodings import NoTextError, decode_text
from interp.curation.reading.finding import FoundFile, find_documents
from interp.curation.reading.kinds import GZIP, HEAD, binary_sentence, kind_of_file
from interp.curation.reading.pdf import text_of_pdf
from interp.curation.reading.rows import read_rows
from interp.errors import UsageError

AT_MOST = 50_000_000
"""Bytes of a document, unless more are asked for."""


def read_documents(
    paths: Sequence[Path],
    *,
    field: str = "",
    at_most: int = AT_MOST,
    leave_out: Sequence[Path] = (),
) -> Iterator[Document | Skipped]:
    """Read files, and all files in folders, one after the other in the order of their names.

    HTML and Markdown are given as they are: taking the text out is a step of the pipeline.

    Args:
        paths: of files and folders.
        field: the field of JSON lines that holds the text; by default ``text``, ``content`` or
            ``body``, the first that a row has.
        at_most: bytes of a document, unpacked; a larger one is skipped. A file of JSON lines may be
            as long as it likes: its rows are the documents.
        leave_out: folders that are not read, such as those of results.

    Raises:
        UsageError: at once, a path that does not exist or a folder without files; in the end, when
            nothing was read.
    """
    return documents_of(find_documents(paths, leave_out), field, at_most)


def documents_of(
    found: Sequence[FoundFile | Skipped], field: str, at_most: int
) -> Iterator[Document | Skipped]:
    read, first = 0, None
    for one in found:
        for each in [one] if isinstance(one, Skipped) else read_file(one, field, at_most):
            if isinstance(each, Skipped):
                first = first or each
            else:
                read += 1
            yield each
    if not read:
        assert first is not None
        raise UsageError(
            f"nothing that was given can be read: {first.source!r} {first.reason}"
            + (f"; and {len(found) - 1} more" if len(found) > 1 else "")
        )


def read_file(file: FoundFile, field: str, at_most: int) -> Iterator[Document | Skipped]:
    """The documents of a file; most have one."""
    try:
        with file.path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if not packed:
                yield from read_open_file(raw, file.source, file.source, field, at_most)
                return
            with gzip.open(raw) as unpacked:
                name = file.source.removesuffix(".gz")
                yield from read_open_file(unpacked, file.source, name, field, at_most)
    except NoTextError as error:
        yield Skipped(file.source, str(error))
    except UnicodeDecodeError as error:
        yield Skipped(file.source, f"is not {error.encoding.upper()} to its end")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield Skipped(file.source, "is a broken gzip file: it cannot be unpacked to its end")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        yield Skipped(file.source, f"cannot be read ({reason})")


def read_open_file(
    file: BufferedIOBase, source: str, name: str, field: str, at_most: int
) -> Iterator[Document | Skipped]:
    """The documents of an open file that is not packed, or no longer.

    Raises:
        NoTextError: it holds none.
    """
    head = file.read(HEAD)
    if not head:
        raise NoTextError("is empty")
    if reason := binary_sentence(head):
        raise NoTextError(reason)
    kind = kind_of_file(name, head)
    if kind == JSON_LINES and b"\0" in head:
        decode_text(head[: len(head) // 4 * 4])  # raises, where this is not UTF-16 or UTF-32
    file.seek(0)
    if kind == JSON_LINES:
        yield from read_rows(file, source, field=field, at_most=at_most)
        return
    data = file.read(at_most + 1)
    if len(data) > at_most:
        raise NoTextError(f"has more than {at_most} bytes: split it, or allow more (at_most)")
    if kind == PDF:
        text, encoding = text_of_pdf(data, at_most), "pdf"
    else:
        text, encoding = decode_text(data)
    if not text.strip("\ufeff \t\r\n\f\v"):
        raise NoTextError("holds white space alone")
    yield Document(identify_document(source, data), source, kind, text, len(data), encoding)
