"""What is promised of texts: which one it is, where it comes from, and where it is parted."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpt.corpora import download
from gpt.errors import UsageError
from gpt.text import (
    CharTokenizer,
    Corpus,
    Data,
    load_corpus,
    split,
)

# Corpora


def test_python_docs_are_the_language_reference(python_docs: Corpus) -> None:
    assert 'The "yield" statement\n*********************' in python_docs.text
    assert len(python_docs.text) > 300_000
    assert python_docs.sha256 == hashlib.sha256(python_docs.text.encode()).hexdigest()


def test_the_validation_part_of_python_docs_repeats_none_of_the_training_part(docs: Data) -> None:
    train, val = docs.train.numpy().tobytes(), docs.val.numpy()
    assert not any(val[i : i + 200].tobytes() in train for i in range(0, len(val) - 200, 200))


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    text = "Vögel\n\tfliegen \u2028\x0c\x85 \u200b\n" * 6000
    (tmp_path / "birds.txt").write_bytes(text.encode())
    corpus = load_corpus(str(tmp_path / "birds.txt"))
    assert corpus == Corpus("birds.txt", text, hashlib.sha256(text.encode()).hexdigest(), ())


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: MARK + data, ["1 byte order mark left out"]),
        (lambda data: MARK + data[:50_000] + MARK + data[50_000:], ["2 byte order marks left out"]),
        (lambda data: data.replace(b"\n", b"\r\n"), ["sha256 is not the file's"]),
        (lambda data: data.replace(b"\n", b"\r"), ["sha256 is not the file's"]),
        (lambda data: data.replace(b"\n", b"\r\n", 9), [r"\r (9 of them)"]),
        (lambda data: MARK + data.replace(b"\n", b"\r\n"), ["1 byte order mark", "not the file's"]),
    ],
)
def test_a_text_from_windows_is_the_text_that_was_written(tmp_path, change, said) -> None:
    plain = "Line of the text, says the king: süß.\n\n".encode() * 3000
    corpora = []
    for name, data in (("plain", plain), ("windows", change(plain))):
        (tmp_path / name).write_bytes(data)
        corpora.append(load_corpus(str(tmp_path / name)))
    assert corpora[0].text == corpora[1].text == plain.decode()
    assert corpora[0].sha256 == corpora[1].sha256 == hashlib.sha256(plain).hexdigest()
    assert corpora[0].notes == ()
    assert len(corpora[1].notes) == len(said)
    for note, words in zip(corpora[1].notes, said, strict=True):
        assert words in note


def write_parts(folder: Path, train: str, val: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_bytes(train.encode())
    (folder / "val.txt").write_bytes(val.encode())
    return folder


def test_a_folder_keeps_its_own_border(tmp_path: Path) -> None:
    train, val = "a train.\r\n" * 5000, "\ufeffa value.\n" * 9000
    corpus = load_corpus(str(write_parts(tmp_path / "chats", train, val)))
    read_train, read_val = train.replace("\r", ""), val.replace("\ufeff", "")
    assert (corpus.name, corpus.text) == ("chats", read_train + read_val)
    assert corpus.border == len(read_train)
    assert [note.partition(":")[0] for note in corpus.notes] == ["train.txt", "val.txt"]
    tokenizer = CharTokenizer.from_text(corpus.text)
    data = split(corpus, tokenizer, block_size=64)
    assert tokenizer.decode(data.train) == read_train
    assert tokenizer.decode(data.val) == read_val
    assert data.sha256 == corpus.sha256


def test_the_border_is_part_of_which_text_it_is(tmp_path: Path) -> None:
    whole = "one text, and where it is parted\n" * 4000
    borders = (len(whole) // 2, int(0.9 * len(whole)))
    folders = [write_parts(tmp_path / str(n), whole[:n], whole[n:]) for n in borders]
    (tmp_path / "file").write_text(whole)
    corpora = [load_corpus(str(path)) for path in [*folders, tmp_path / "file"]]
    assert {corpus.text for corpus in corpora} == {whole}
    assert len({corpus.sha256 for corpus in corpora}) == 3
    again = load_corpus(str(write_parts(tmp_path / "run" / "text", whole[:9], whole[9:])))
    assert again.name == "run"
    assert int(0.9 * len(whole)) == corpora[2].border == corpora[1].border


def test_a_folder_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "f", "a text " * 100, "ab")
    corpus = load_corpus(str(folder))
    with pytest.raises(UsageError, match="700 characters to train on and 2 to validate on"):
        split(corpus, CharTokenizer.from_text(corpus.text), block_size=8)
    (folder / "val.txt").write_bytes(b"V\xf6gel")
    with pytest.raises(UsageError, match=r"val\.txt' is not UTF-8"):
        load_corpus(str(folder))
    (folder / "val.txt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"val\.txt' is empty"):
        load_corpus(str(folder))
    (folder / "val.txt").unlink()
    with pytest.raises(UsageError, match=r"has no val\.txt; give a folder with train\.txt"):
        load_corpus(str(folder))


def test_a_short_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("ab" * 1500)
    (note,) = load_corpus(str(tmp_path / "short")).notes
    assert note.startswith("short has 3000 characters: so short a text is soon learned by heart")
    assert "the 300 to measure on" in note


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("empty", b"", "is empty"),
        ("mark", MARK, "is empty"),
        ("latin-1", "Vögel".encode("latin-1"), "is not UTF-8: byte 0xf6 at offset 1"),
        (
            "cp1252",
            "“Vögel”".encode("cp1252"),
            "byte 0x93 at offset 0.*it would be '“'.*save it as",
        ),
        ("utf-16", "Vögel".encode("utf-16"), "not UTF-8 but UTF-16: save it as UTF-8"),
        ("utf-16-be", b"\xfe\xff" + "Vögel".encode("utf-16-be"), "not UTF-8 but UTF-16"),
        ("utf-16 without mark", "Voegel".encode("utf-16-le"), "holds a zero at offset 1"),
        ("utf-32", "Vögel".encode("utf-32"), "not UTF-8 but UTF-32"),
        ("program", b"MZ\x00\x01", "holds a zero at offset 2"),
        ("x" * 300, None, r"cannot be read \(file name too long"),
        ("a\0b", None, r"cannot be read \(embedded null byte"),
        ("missing", None, r"cannot be read \(no such file"),
        (".", None, r"the folder '.*' is no text: it has no train.txt and no val.txt"),
    ],
)
def test_a_file_that_is_no_text_is_refused(
    tmp_path: Path, name: str, data: bytes | None, sentence: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=sentence):
        load_corpus(str(tmp_path / name))


def test_an_unknown_corpus_names_the_known_and_says_that_a_path_works() -> None:
    with pytest.raises(UsageError, match=r"'shakespear'.*shakespeare, python-docs, or the path"):
        load_corpus("shakespear")


def test_another_text_under_the_name_of_tiny_shakespeare_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TEXT_DIR", str(tmp_path))
    with pytest.raises(UsageError, match=r"neither tinyshakespeare\.txt nor input\.txt"):
        load_corpus("shakespeare")
    (tmp_path / "input.txt").write_text("First Citizen:")
    with pytest.raises(UsageError, match=r"checksum mismatch: .*input\.txt"):
        load_corpus("shakespeare")


# Downloads


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], str]]:
    """Serves bytes on the loopback device, under the address it returns, until the next call."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def serving(data: bytes) -> str:
            (folder / "text").write_bytes(data)
            return f"http://127.0.0.1:{server.server_port}/text"

        yield serving
        server.shutdown()
        thread.join()


def test_a_download_is_kept_and_fetched_again_only_if_damaged(
    serve: Callable[[bytes], str], tmp_path: Path
) -> None:
    kept, right = tmp_path / "cache" / "text.txt", b"First Citizen:"
    sha256 = hashlib.sha256(right).hexdigest()
    url = serve(right)
    assert download(url, sha256, kept) == right
    assert download("http://127.0.0.1:9/nobody", sha256, kept) == right
    kept.write_bytes(b"damaged")
    assert download(url, sha256, kept) == right


def test_a_download_of_another_text_is_refused_and_not_kept(
    serve: Callable[[bytes], str], tmp_path: Path
) -> None:
    kept = tmp_path / "cache" / "text.txt"
    with pytest.raises(UsageError, match=r"checksum mismatch: .*GPT_TEXT_DIR"):
        download(serve(b"another text"), hashlib.sha256(b"the text").hexdigest(), kept)
    assert list(kept.parent.iterdir()) == []


def test_a_download_that_cannot_be_had_says_what_works(
    serve: Callable[[bytes], str], tmp_path: Path
) -> None:
    for url in (serve(b"First Citizen:") + "-not-here", "http://127.0.0.1:9/nobody"):
        with pytest.raises(UsageError, match=r"not be downloaded .*--text FILE.*GPT_TEXT_DIR"):
            download(url, "0" * 64, tmp_path / "text.txt")
        assert not (tmp_path / "text.txt").exists()


def test_shakespeare_without_a_local_copy_is_a_download(
    serve: Callable[[bytes], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"First Citizen:"
    monkeypatch.delenv("GPT_TEXT_DIR", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr("gpt.corpora.SHAKESPEARE_URL", serve(text))
    with pytest.raises(UsageError, match="checksum mismatch"):
        load_corpus("shakespeare")
    monkeypatch.setattr("gpt.corpora.SHAKESPEARE_SHA256", hashlib.sha256(text).hexdigest())
    assert load_corpus("shakespeare").text == "First Citizen:"
