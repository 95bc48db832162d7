"""What kind of document is a file, by its name, and where that says nothing by its first bytes?"""

from pathlib import PurePath

from interp.curation.documents import CODE, HTML, JSON_LINES, MARKDOWN, PDF, TEXT

HEAD = 65_536  # bytes that are looked at
GZIP = b"\x1f\x8b"
PDF_MARK = b"%PDF-"
SUFFIXES = {
    TEXT: "txt text rst log tex csv tsv srt vtt org adoc asc",
    MARKDOWN: "md markdown mdown mkd",
    HTML: "html htm xhtml",
    PDF: "pdf",
    JSON_LINES: "jsonl ndjson",
    CODE: "py pyi js mjs ts tsx jsx c h cc cpp cxx hpp cs java kt scala go rs rb php pl lua r jl "
    "swift m hs ml clj ex erl sh bash zsh ps1 bat sql css scss json toml yaml yml xml ini cfg "
    "ipynb vue",
}
KIND_OF_SUFFIX = {
    suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes.split()
}
TAR_AT = 257  # where an archive says that it is one
BINARY = {  # by how a file begins
    b"PK\x03\x04": "an archive or a document of an office program (zip)",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"\x7fELF": "a program (ELF)",
    b"MZ\x90": "a program (EXE)",
    b"BZh9": "packed (bzip2)",
    b"\xfd7zXZ": "packed (xz)",
    b"7z\xbc\xaf": "an archive (7z)",
    b"\x28\xb5\x2f\xfd": "packed (zstd)",
    b"SQLite format 3": "a database (SQLite)",
    b"PAR1": "a table (Parquet)",
    b"\xd0\xcf\x11\xe0": "a document of an office program",
    b"ID3": "sound (MP3)",
    b"OggS": "sound (Ogg)",
    b"wOF": "a font",
    GZIP: "packed once more (gzip)",
}


def kind_of_file(name: str, head: bytes) -> str:
    """The kind of a document whose file begins with ``head``.

    Args:
        name: of the file, without ``.gz``.
        head: the first bytes, unpacked.
    """
    if head.startswith(PDF_MARK):  # whatever it is called
        return PDF
    kind = KIND_OF_SUFFIX.get(PurePath(name).suffix.lstrip(".").lower())
    return kind or kind_of_head(head)


def kind_of_head(head: bytes) -> str:
    """Of a file whose name says nothing."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    return CODE if start.startswith(b"#!") else TEXT


def binary_sentence(head: bytes) -> str:
    """Why a file that begins like this is no text; empty where it may be one."""
    if head[TAR_AT : TAR_AT + 5] == b"ustar":
        return "is an archive (tar), no text"
    for mark, what in BINARY.items():
        if head.startswith(mark):
            return f"is {what}, no text"
    return ""
