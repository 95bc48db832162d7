"""What is promised of corpora, tokens, batches and the n-gram lines."""

import hashlib
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.corpora import download
from gpt.errors import UsageError
from gpt.text import (
    CharTokenizer,
    Corpus,
    Data,
    batch,
    evaluation_blocks,
    load_corpus,
    ngram_entropy,
    split,
)

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def tokens_of(text: str) -> torch.Tensor:
    return CharTokenizer.from_text(text).encode(text)


def corpus_of(text: str) -> Corpus:
    return Corpus("a text", text, hashlib.sha256(text.encode()).hexdigest())


@pytest.fixture(scope="module")
def python_docs() -> Corpus:
    return load_corpus("python-docs")


@pytest.fixture(scope="module")
def docs(python_docs: Corpus) -> Data:
    return split(python_docs, CharTokenizer.from_text(python_docs.text), block_size=64)


@pytest.fixture
def tiny_shakespeare(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    folder = Path(os.environ.get("GPT_TEXT_DIR") or SHARED)
    if not any((folder / name).is_file() for name in ("tinyshakespeare.txt", "input.txt")):
        pytest.skip("no local copy of tiny shakespeare: set GPT_TEXT_DIR")
    monkeypatch.setenv("GPT_TEXT_DIR", str(folder))
    return load_corpus("shakespeare")


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
    assert "the 300 to validate on" in note


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


# Tokens


@given(st.text())
def test_decoding_undoes_encoding(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == torch.int64
    assert set(tokens.tolist()) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(tokens) == text


def test_a_character_outside_the_vocabulary_is_named_with_its_position() -> None:
    with pytest.raises(UsageError, match="'ö' at position 2"):
        CharTokenizer("abc").encode("abözö")


@pytest.mark.parametrize("token", [-1, 3])
def test_a_token_outside_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(UsageError, match=f"^{token} is no token: this vocabulary has 0 to 2"):
        CharTokenizer("abc").decode(torch.tensor([0, token]))


@pytest.mark.parametrize("characters", ["ba", "aab"])
def test_a_vocabulary_is_sorted_and_unique(characters: str) -> None:
    with pytest.raises(UsageError, match="sorted"):
        CharTokenizer(characters)


# The split


@given(block_size=st.integers(1, 500), spare=st.integers(-20, 20))
@settings(deadline=None)
def test_a_text_is_split_nine_to_one_or_the_length_it_needs_is_named(
    block_size: int, spare: int
) -> None:
    needed = 10 * block_size + 1
    text = ("ab" * needed)[: max(needed + spare, 1)]
    corpus, tokenizer = corpus_of(text), CharTokenizer("ab")
    if len(text) < needed:
        with pytest.raises(UsageError, match=f"has {len(text)} characters.* needs {needed}$"):
            split(corpus, tokenizer, block_size)
        return
    data = split(corpus, tokenizer, block_size)
    assert data.sha256 == corpus.sha256
    assert len(data.train) == len(text) * 9 // 10
    assert tokenizer.decode(torch.cat([data.train, data.val])) == text


# Batches


def test_targets_are_the_tokens_that_follow(docs: Data) -> None:
    x, y = batch(docs.train, batch_size=5, block_size=16, seed=0, step=0)
    assert x.shape == y.shape == (5, 16)
    assert x.is_contiguous()
    assert y.is_contiguous()  # so that targets.view(-1), as lectures write it, works
    text = docs.train.numpy().tobytes()
    for inputs, targets in zip(x, y, strict=True):
        assert torch.cat([inputs, targets[-1:]]).numpy().tobytes() in text
        assert inputs[1:].equal(targets[:-1])


def test_batches_depend_on_the_seed_and_the_step_alone(docs: Data) -> None:
    def starts(seed: int, step: int) -> tuple[int, ...]:
        positions = torch.arange(len(docs.train))
        x, _ = batch(positions, batch_size=8, block_size=64, seed=seed, step=step)
        return tuple(x[:, 0].tolist())

    first = {(seed, step): starts(seed, step) for seed in range(3) for step in range(50)}
    torch.manual_seed(1)
    torch.rand(7)
    assert all(starts(*key) == drawn for key, drawn in reversed(first.items()))
    assert len(set(first.values())) == len(first)


def test_every_block_of_the_text_is_drawn_about_equally_often() -> None:
    x, y = batch(torch.arange(12), batch_size=8000, block_size=4, seed=0, step=0)
    counts = x[:, 0].bincount()
    assert len(counts) == 8  # the last block ends where the text ends
    assert y.max() == 11
    assert (counts - 1000).abs().max() < 5 * math.sqrt(8000 / 8 * 7 / 8)


# Evaluation blocks


@given(length=st.integers(2, 300), block_size=st.integers(1, 30))
def test_evaluation_blocks_cover_the_text_once_but_for_a_rest(length: int, block_size: int) -> None:
    tokens = torch.arange(length)
    if length < block_size + 1:
        with pytest.raises(UsageError, match="too short"):
            evaluation_blocks(tokens, block_size)
        return
    x, y = evaluation_blocks(tokens, block_size)
    assert y.view(-1).equal(y.flatten())
    assert x.flatten().equal(tokens[: x.numel()])
    assert y.equal(x + 1)
    assert length - 1 - x.numel() < block_size


@given(at_most=st.integers(1, 120))
def test_fewer_evaluation_blocks_are_evenly_spaced(at_most: int) -> None:
    tokens = torch.arange(1000)
    every, _ = evaluation_blocks(tokens, 10)
    x, y = evaluation_blocks(tokens, 10, at_most)
    assert len(x) == min(at_most, len(every))
    assert y.equal(x + 1)
    gaps = {int(b - a) for a, b in pairwise(x[:, 0] // 10)}
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


# n-gram lines


@pytest.mark.parametrize(
    ("n", "train", "val"), [(1, 3.309, 3.347), (2, 2.452, 2.484), (3, 1.910, 2.046)]
)
def test_the_lines_of_tiny_shakespeare_are_the_published_ones(
    tiny_shakespeare: Corpus, n: int, train: float, val: float
) -> None:
    tokenizer = CharTokenizer.from_text(tiny_shakespeare.text)
    data = split(tiny_shakespeare, tokenizer, block_size=256)
    assert round(ngram_entropy(data.train, data.train, n), 3) == train
    assert round(ngram_entropy(data.train, data.val, n), 3) == val


@given(
    train=st.text("abcd", min_size=5, max_size=60),
    val=st.text("abcde", min_size=5, max_size=60),
    n=st.integers(1, 5),
    smoothing=st.floats(1e-3, 10),
)
def test_an_ngram_line_is_the_loss_of_a_model_that_counted(
    train: str, val: str, n: int, smoothing: float
) -> None:
    def grams(text: str) -> list[str]:
        return [text[i : i + n] for i in range(len(text) - n + 1)]

    seen = Counter(grams(train))
    alphabet = sorted(set(train + val))

    def probability(gram: str) -> float:
        options = {c: seen[gram[:-1] + c] + smoothing for c in alphabet}
        return options[gram[-1]] / sum(options.values())

    expected = -sum(math.log(probability(gram)) for gram in grams(val)) / len(grams(val))
    tokens = tokens_of(train + val)
    got = ngram_entropy(tokens[: len(train)], tokens[len(train) :], n, smoothing)
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_unigram_line_is_the_best_that_constant_logits_can_do(docs: Data) -> None:
    logits = (docs.train.bincount(minlength=int(docs.val.max()) + 1) + 0.1).log()
    loss = torch.nn.functional.cross_entropy(logits.expand(len(docs.val), -1), docs.val)
    assert ngram_entropy(docs.train, docs.val, 1) == pytest.approx(loss.item(), abs=1e-4)


@pytest.mark.parametrize(("n", "smoothing"), [(0, 0.1), (2, 0.0)])
def test_an_ngram_line_that_cannot_be_is_refused(n: int, smoothing: float) -> None:
    tokens = tokens_of("to be or not to be")
    with pytest.raises(UsageError, match="at least 1 and above 0"):
        ngram_entropy(tokens, tokens, n, smoothing)
