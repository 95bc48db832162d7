"""Every file of a pile is either a document or named with the reason why not."""

import gzip
import json
import logging
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from interp.curation import Document, Skipped
from interp.curation.documents import CODE, HTML, JSON_LINES, MARKDOWN, PDF, TEXT
from interp.curation.reading import read_documents
from interp.errors import UsageError


def write_files(folder: Path, **files: bytes | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def write_pdf(path: Path, text: str, password: str = "") -> None:
    """A PDF of one page with a line of text; of an empty page, without one."""
    writer = PdfWriter()
    page = writer.add_blank_page(300, 300)
    if text:
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    writer.write(path)


def read_all(*paths: Path, **options) -> tuple[dict[str, Document], dict[str, str]]:
    """Documents by source, and the reasons of what was skipped."""
    read = list(read_documents(paths, **options))
    documents = {one.source: one for one in read if isinstance(one, Document)}
    reasons = {one.source: one.reason for one in read if isinstance(one, Skipped)}
    assert len(documents) + len(reasons) == len(read)
    return documents, reasons


def test_each_kind_is_read_as_it_is(tmp_path):
    page = "<html><body><p>Hello</p></body></html>"
    folder = write_files(
        tmp_path / "pile",
        **{
            "b.md": "# Title",
            "a.txt": "plain",
            "c.html": page,
            "README": "no suffix",
            "page": "\n<!DOCTYPE html><p>x",
            "run": "#!/bin/sh\necho 1",
            "code.py": "x = 1\n",
            "notes.jsonl": '{"text": "one"}\n\n{"body": "three"}\n',
            "old.txt.gz": gzip.compress(b"packed"),
        },
    )
    write_pdf(folder / "paper.pdf", "Hello from a page")
    (folder / "misnamed.txt").write_bytes((folder / "paper.pdf").read_bytes())
    documents, reasons = read_all(folder)
    assert not reasons
    assert list(documents) == sorted(documents)
    assert {source: one.kind for source, one in documents.items()} == {
        "README": TEXT,
        "a.txt": TEXT,
        "b.md": MARKDOWN,
        "c.html": HTML,
        "code.py": CODE,
        "misnamed.txt": PDF,
        "notes.jsonl:1": JSON_LINES,
        "notes.jsonl:3": JSON_LINES,
        "old.txt.gz": TEXT,
        "page": HTML,
        "paper.pdf": PDF,
        "run": CODE,
    }
    assert documents["c.html"].text == page
    assert documents["paper.pdf"].text.strip() == "Hello from a page"
    assert documents["notes.jsonl:3"].text == "three"
    assert documents["old.txt.gz"].text == "packed"
    assert documents["a.txt"].size == 5
    assert len({one.id for one in documents.values()}) == len(documents)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path, caplog):
    folder = write_files(
        tmp_path / "pile",
        **{
            "good.txt": "a good text",
            "empty.txt": "",
            "mark.txt": b"\xef\xbb\xbf",
            "blank.txt": " \n\t\n",
            "binary.dat": b"\1\0\2\0\3" * 30,
            "picture": b"\x89PNG\r\n\x1a\n",
            "office.docx": b"PK\x03\x04rest",
            "broken.pdf": b"%PDF-1.7\nnothing that a PDF has",
            "named.pdf": b"this is no PDF",
            "broken.txt.gz": gzip.compress(b"x" * 5000)[:-10],
            "big.txt": "x" * 2001,
            "bomb.gz": gzip.compress(b"x" * 100_000),
        },
    )
    write_pdf(folder / "locked.pdf", "secret", "password")
    write_pdf(folder / "scanned.pdf", "")
    (folder / "cut.pdf").write_bytes((folder / "scanned.pdf").read_bytes()[:200])
    with caplog.at_level(logging.DEBUG):
        documents, reasons = read_all(folder, at_most=2000)
    assert list(documents) == ["good.txt"]
    assert not caplog.records
    expected = {
        "empty.txt": "is empty",
        "mark.txt": "holds white space alone",
        "blank.txt": "holds white space alone",
        "binary.dat": "is no text: it holds zero bytes",
        "picture": "is a picture (PNG), no text",
        "office.docx": "is an archive or a document of an office program (zip), no text",
        "broken.pdf": "is a broken PDF",
        "named.pdf": "is a broken PDF",
        "cut.pdf": "is a broken PDF",
        "locked.pdf": "is an encrypted PDF that asks for a password",
        "scanned.pdf": "is a PDF without text: its 1 page may be pictures of text",
        "broken.txt.gz": "is a broken gzip file: it cannot be unpacked to its end",
        "big.txt": "has more than 2000 bytes",
        "bomb.gz": "has more than 2000 bytes",
    }
    assert reasons.keys() == expected.keys()
    for source, said in expected.items():
        assert reasons[source].startswith(said), (source, reasons[source])


def test_a_broken_row_is_skipped_alone(tmp_path):
    rows = [
        json.dumps({"text": "one"}),
        '{"text": "two"',
        "[1, 2]",
        json.dumps({"title": "x", "n": 2}),
        json.dumps({"text": 5}),
        json.dumps({"text": "  "}),
        json.dumps({"text": "x" * 500}),
        "[" * 200,
        json.dumps({"text": "half \ud800 a character"}),
        json.dumps({"content": "last"}),
    ]
    folder = write_files(tmp_path / "pile", **{"n.jsonl": "\n".join(rows)})
    documents, reasons = read_all(folder, at_most=300)
    assert {source: one.text for source, one in documents.items()} == {
        "n.jsonl:1": "one",
        "n.jsonl:9": "half \N{REPLACEMENT CHARACTER} a character",
        "n.jsonl:10": "last",
    }
    assert reasons["n.jsonl:2"].startswith("is no JSON: expecting")
    assert reasons["n.jsonl:3"] == "is a list, where a row is an object with a text"
    assert reasons["n.jsonl:4"] == "has no field text or content or body; it has title, n"
    assert reasons["n.jsonl:5"] == "its field text holds a number, no text"
    assert reasons["n.jsonl:6"] == "its field text is empty"
    assert reasons["n.jsonl:7"].startswith("has more than 300 bytes")
    assert reasons["n.jsonl:8"].startswith("is no JSON")
    titled, _ = read_all(folder, field="title")
    assert {source: one.text for source, one in titled.items()} == {"n.jsonl:4": "x"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_rows_are_read_in_unicode_of_every_width(tmp_path, encoding):
    rows = "".join(json.dumps({"text": f"läuft {n}"}, ensure_ascii=False) + "\n" for n in range(3))
    folder = write_files(tmp_path / "pile", **{"n.jsonl": rows.encode(encoding)})
    documents, reasons = read_all(folder)
    assert [one.text for one in documents.values()] == ["läuft 0", "läuft 1", "läuft 2"]
    assert not reasons


def test_links_are_named_and_never_followed_in_a_circle(tmp_path):
    outside = write_files(tmp_path / "outside", **{"far.txt": "far"})
    folder = write_files(tmp_path / "pile", **{"near.txt": "near"})
    write_files(folder / ".git", config="x")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "up").symlink_to(folder)
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "same").symlink_to(folder / "near.txt")
    (folder / "out").symlink_to(outside)
    documents, reasons = read_all(folder)
    assert list(documents) == ["near.txt"]
    assert reasons == {
        ".git": "is a hidden folder: give its path as well to have it read",
        "gone": "is a link to nothing",
        "loop": "is a link that leads round to itself",
        "out": f"is a link out of the folder, to {outside}: give that path as well",
        "same": "is a link to near.txt, which is in the pile under its own name",
        "up": "is a link to a folder that it lies in",
    }
    linked, _ = read_all(folder / "out")
    assert list(linked) == ["far.txt"]


def test_a_file_is_read_once_however_often_it_is_given(tmp_path):
    folder = write_files(tmp_path / "pile", **{"a.txt": "a"})
    write_files(folder / "in", **{"b.txt": "b"})
    expected = ["a.txt", "in/b.txt"]
    for paths in ([folder], [folder, folder / "in"], [folder / "in" / "b.txt", folder]):
        assert list(read_all(*paths)[0]) == expected
    assert list(read_all(folder / "in", folder / "a.txt")[0]) == expected
    assert list(read_all(folder / "in" / "b.txt")[0]) == ["b.txt"]
    _, reasons = read_all(folder, leave_out=[folder / "in"])
    assert reasons == {"in": "is where results are written"}


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "pile", **{"a.txt": "a", "mine.txt": "b"})
    opened = Path.open

    def refuse(path: Path, *args, **kwargs):
        if path.name == "mine.txt":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert read_all(folder)[1] == {"mine.txt": "cannot be read (permission denied)"}


def test_what_holds_no_document_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    for paths, said in [
        ([], "no file and no folder was given"),
        ([tmp_path / "none"], "there is no such file or folder"),
        ([tmp_path / "empty"], "there is no file in"),
    ]:
        with pytest.raises(UsageError, match=said):
            read_documents(paths)
    folder = write_files(tmp_path / "pile", **{"a.txt": "", "b": b"\0"})
    with pytest.raises(UsageError, match=r"nothing .* can be read: 'a.txt' is empty; and 1 more"):
        list(read_documents([folder]))
