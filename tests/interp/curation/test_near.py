"""Near duplicates are those that a comparison of all pairs finds."""

import random
import re
import tracemalloc
from itertools import combinations

import pytest

from interp.curation import cluster_documents, make_document, near
from interp.curation.near import bands_for
from interp.curation.spooling import Spool
from interp.errors import UsageError
from tests.interp.curation.piles_of_tests import sentences


def runs_by_hand(text: str, words: int = 5) -> set[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return {tuple(found[n : n + words]) for n in range(max(1, len(found) - words + 1))}


def clusters_by_hand(texts: dict[str, str], similar: float) -> set[frozenset[str]]:
    """What pairs at least so similar connect, by comparing all pairs."""
    groups = {name: {name} for name in texts}
    for one, other in combinations(texts, 2):
        a, b = runs_by_hand(texts[one]), runs_by_hand(texts[other])
        if len(a & b) / len(a | b) >= similar and groups[one] is not groups[other]:
            groups[one] |= groups[other]
            for name in groups[other]:
                groups[name] = groups[one]
    return {frozenset(group) for group in groups.values()}


def edited(text: str, share: float, rng: random.Random) -> str:
    """A text with a share of its words replaced."""
    words = text.split(" ")
    for n in rng.sample(range(len(words)), int(share * len(words))):
        words[n] = f"other{rng.randrange(999)}"
    return " ".join(words)


@pytest.mark.parametrize("seed", range(3))
def test_clusters_are_those_of_all_pairs(seed, tmp_path):
    rng = random.Random(seed)
    texts = {}
    for n in range(15):
        text = sentences(20, 100 * seed + n)
        texts[f"{n:02}-original"] = text
        for copy, share in enumerate((0.0, 0.005, 0.01, 0.3)):
            texts[f"{n:02}-copy{copy}"] = edited(text, share, rng)
    documents = [make_document(name, text) for name, text in texts.items()]
    rng.shuffle(documents)
    first = cluster_documents(documents, similar=0.8)
    names = {document.id: document.source for document in documents}
    found: dict[str, set[str]] = {}
    for id, cluster in first.items():
        found.setdefault(cluster, set()).add(names[id])
    assert {frozenset(group) for group in found.values()} == clusters_by_hand(texts, 0.8)
    assert all(names[cluster] == min(group) for cluster, group in found.items())
    assert 15 < len(found) < 45  # some are clusters, and heavily edited ones are not in them
    spooled = Spool.write(tmp_path / "pile.jsonl", documents)
    assert cluster_documents(spooled, similar=0.8) == first


def test_a_thousand_copies_are_one_cluster():
    documents = [make_document(f"{n:04}", sentences(5, 0)) for n in range(1000)]
    assert set(cluster_documents(documents).values()) == {documents[0].id}


def test_documents_without_words_are_alike_only_where_they_say_the_same():
    documents = [make_document(str(n), text) for n, text in enumerate(["", "...", "a", "b", "A"])]
    first = cluster_documents(documents)
    assert [first[document.id] for document in documents] == [
        documents[n].id for n in (0, 0, 2, 3, 2)
    ]


def test_bands_propose_what_is_similar_and_little_else():
    bands, rows = bands_for(0.8)
    assert bands * rows <= 128
    assert 1 - (1 - 0.9**rows) ** bands > 0.99
    assert 1 - (1 - 0.5**rows) ** bands < 0.05


@pytest.mark.parametrize("options", [{"similar": 0.0}, {"similar": 1.1}, {"words": 0}])
def test_impossible_thresholds_are_refused(options):
    with pytest.raises(UsageError, match=r"must|at least"):
        cluster_documents([make_document("a", "b")], **options)


def test_a_long_document_takes_little_more_memory_than_its_text():
    rng = random.Random(0)
    text = " ".join(str(rng.randrange(100_000)) for _ in range(120_000))
    tracemalloc.start()
    try:
        cluster_documents([make_document("long", text), make_document("short", text[:1000])])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 40 * len(text), most / len(text)


@pytest.mark.parametrize(
    "text", ["", "one", "one two three", "a b c d e", "a b c d e f g a b c d e"]
)
@pytest.mark.parametrize("part", [1, 4, 1000])
def test_runs_of_a_text_read_in_parts_are_those_of_the_whole(text, part, monkeypatch):
    monkeypatch.setattr(near, "PART", part)
    monkeypatch.setattr(near, "HASHED", 2)
    found = set().union(*near.word_runs(text, 5))
    assert found == {" ".join(run).encode() for run in runs_by_hand(text)}
    assert len(near.runs_of(text, 5)) == len(found)
