"""The built-in pile is what is installed, the same each time, with its faults."""

import hashlib
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from interp.curation import piles
from interp.curation.documents import MARKDOWN, TEXT, Skipped, identify_document
from interp.curation.piles import DEMO_BYTES, LONGEST, Pile, PileFile, built_in_pile
from interp.errors import UsageError
from interp.texts import find_private


@pytest.fixture(scope="module")
def pile() -> Pile:
    return built_in_pile()


def test_a_demonstration_is_a_megabyte_or_so_the_same_each_time(pile):
    assert built_in_pile() == pile
    assert 0.7 * sum(DEMO_BYTES.values()) < pile.characters < 1.3 * sum(DEMO_BYTES.values())
    sources = [one.source for one in pile.documents]
    assert sources == sorted(sources)
    assert len(set(sources)) == len(sources)
    assert max(one.size for one in pile.documents) <= LONGEST
    assert {one.kind for one in pile.documents} == {TEXT, MARKDOWN}


def test_its_sha256_is_of_all_sources_and_bytes(pile):
    digest = hashlib.sha256()
    for one in pile.documents:
        assert one.id == identify_document(one.source, one.text.encode())
        digest.update(f"{one.source}\0{one.id}\0".encode())
    assert pile.sha256 == digest.hexdigest()


def test_documents_are_those_that_stand_where_their_source_says(pile):
    of = {one.source: one.text for one in pile.documents}
    named = [source for source in of if source.startswith("Python documentation ")]
    assert len(named) > 10
    assert all(of[one] == topics[one.removeprefix("Python documentation ")] for one in named)
    docstrings = [source for source in of if source.endswith(".py docstrings")]
    assert docstrings
    assert any("LICENSE" in source for source in of)
    assert any(source.endswith(" description") for source in of)
    assert not any(source.startswith("nanogpt-interp ") for source in of)


def test_duplicates_and_addresses_are_in_it_as_they_are(pile):
    counts = Counter(one.text for one in pile.documents)
    assert sum(count - 1 for count in counts.values()) >= 3
    kinds = Counter(
        found.kind
        for one in pile.documents
        if "LICENSE" in one.source or "description" in one.source
        for found in find_private(one.text)
    )
    assert kinds["e-mail address"] >= 5


def test_what_cannot_be_read_is_skipped_with_the_reason(monkeypatch):
    def places():
        yield PileFile("a LICENSE", TEXT, Path("/no/such/file").read_bytes)
        yield PileFile("b LICENSE", TEXT, lambda: b"one\0two")
        yield PileFile("c LICENSE", TEXT, lambda: "Grüße".encode("cp1252"))
        yield PileFile("d LICENSE", TEXT, lambda: b"\x81\x8d\xff")
        yield PileFile("e LICENSE", TEXT, lambda: b"  \n")

    monkeypatch.setattr(piles, "SORTS", {"licences": places})
    pile = built_in_pile("all")
    assert [(one.source, one.text, one.encoding) for one in pile.documents] == [
        ("c LICENSE", "Grüße", "cp1252")
    ]
    assert pile.skipped == (
        Skipped("a LICENSE", "cannot be read (no such file or directory)"),
        Skipped("b LICENSE", "is no text: it holds a zero byte"),
        Skipped("d LICENSE", "is neither UTF-8 nor cp1252"),
    )


def test_docstrings_stand_below_their_names_in_the_files_order(tmp_path):
    path = tmp_path / "stack.py"
    path.write_text('"""A stack."""\n\n\nclass Stack:\n    def pop(self):\n        "Take one."\n')
    assert piles.docstrings_of(path) == b"stack\n\nA stack.\n\n\npop\n\nTake one.\n"
    path.write_text("def broken(:")
    assert piles.docstrings_of(path) == b""


def test_another_size_is_refused():
    with pytest.raises(UsageError, match="size is 'huge'"):
        built_in_pile("huge")
