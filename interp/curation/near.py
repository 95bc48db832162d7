"""Which documents of a pile say nearly the same?

    first = cluster_documents(documents, similar=0.8)
    first[document.id]        # the id of the first document, by source, of its cluster

MinHash proposes pairs (Broder 1997, by datasketch); a pair counts where the true overlap of the two
sets of word runs reaches the threshold. A cluster is what such pairs connect.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import combinations, pairwise
from zlib import crc32

import numpy as np
from datasketch import MinHash
from jaxtyping import UInt32, UInt64

from interp.curation.documents import Document
from interp.curation.spooling import reader_of
from interp.errors import UsageError

Runs = UInt64[np.ndarray, "_"]
Signature = UInt32[np.ndarray, "permutation"]

PERMUTATIONS = 128
SEED = 1
HASHED = 4096  # runs that are hashed at a time: 128 numbers each
CACHED = 256  # documents whose runs are kept while pairs are compared
ALL_PAIRS = 50  # documents of one band up to which each is compared with each
PART = 1_000_000  # characters that are taken apart at a time
WORD, NO_WORD = re.compile(r"\w+"), re.compile(r"\W")


def cluster_documents(
    documents: Iterable[Document], *, similar: float = 0.8, words: int = 5
) -> dict[str, str]:
    """For each document's id, the id of the first document of its cluster, by source.

    In memory: some hundred bytes for each document, and no text.

    Args:
        documents: can be iterated over more than once.
        similar: the Jaccard overlap from which two documents are near duplicates.
        words: in a run.

    Raises:
        UsageError: a threshold that is no share, runs of no words.
    """
    if not 0 < similar <= 1:
        raise UsageError(f"similar is {similar}; it must lie above 0 and be at most 1")
    if words < 1:
        raise UsageError(f"words is {words}; a run has at least 1 word")
    places, keys = [], array("Q")
    for document in documents:
        places.append((document.source, document.id))
        keys.frombytes(band_keys(signature_of(document.text, words), similar).tobytes())
    parent = list(range(len(places)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    @lru_cache(maxsize=CACHED)
    def runs(n: int) -> Runs:
        return runs_of(read(n).text, words)

    read = reader_of(documents)
    for one, other in proposed_pairs(
        np.frombuffer(keys, np.uint64).reshape(-1, 1 + bands_for(similar)[0])
    ):
        if root(one) != root(other) and jaccard(runs(one), runs(other)) >= similar:
            first, second = sorted((root(one), root(other)), key=places.__getitem__)
            parent[second] = first
    return {id: places[root(n)][1] for n, (_, id) in enumerate(places)}


def runs_of(text: str, words: int) -> Runs:
    """The different runs of some words in a text, each as a number, in order."""
    parts = [
        np.fromiter(
            (int.from_bytes(blake2b(run, digest_size=8).digest()) for run in part), np.uint64
        )
        for part in word_runs(text, words)
    ]
    return np.unique(np.concatenate(parts))


def word_runs(text: str, words: int) -> Iterator[set[bytes]]:
    """Every run of some words in a text, without case and punctuation, part by part; a text of
    fewer words is one run."""
    text, at, found = text.casefold(), 0, list[str]()
    short = True
    while at < len(text):
        end = NO_WORD.search(text, at + PART)
        stop = end.end() if end else len(text)
        found += WORD.findall(text, at, stop)
        last = len(found) - words + 1
        for first in range(0, last, HASHED):
            short = False
            yield {
                " ".join(found[n : n + words]).encode("utf-8", "surrogatepass")
                for n in range(first, min(first + HASHED, last))
            }
        at, found = stop, found[max(0, last) :]
    if short:
        yield {" ".join(found).encode("utf-8", "surrogatepass")}


def jaccard(one: Runs, other: Runs) -> float:
    """Jaccard: what is in both, as a share of what is in either."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def signature_of(text: str, words: int) -> Signature:
    """MinHash's signature of a text's runs, a part of them in memory at a time."""
    hashes = of_nothing().copy()
    for part in word_runs(text, words):
        hashes.update_batch(part)
    return hashes.hashvalues.astype(np.uint32)


@cache
def of_nothing() -> MinHash:
    """The hash of no runs: to draw its permutations takes a quarter of a short document's time."""
    return MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=crc32)


def band_keys(signature: Signature, similar: float) -> UInt64[np.ndarray, "_"]:
    """A number for the whole of a signature, and one for each of its bands. That two which differ
    have one number, one time in 2^64, proposes a pair in vain, and no more."""
    bands, rows = bands_for(similar)
    parts = [signature, *(signature[band * rows : (band + 1) * rows] for band in range(bands))]
    digests = [blake2b(part.tobytes(), digest_size=8).digest() for part in parts]
    return np.frombuffer(b"".join(digests), np.uint64)


def proposed_pairs(keys: UInt64[np.ndarray, "document key"]) -> Iterator[tuple[int, int]]:
    """Pairs of documents that may be similar: those whose signatures agree in a whole band.

    Args:
        keys: of each document, as ``band_keys`` makes them.
    """
    for group in documents_alike(keys[:, 0]):  # with one signature, likely with one text
        yield from ((group[0], other) for other in group[1:])
    different = np.sort(np.unique(keys[:, 0], return_index=True)[1])
    for band in range(1, keys.shape[1]):
        for group in documents_alike(keys[different, band]):
            members = different[group].tolist()
            if len(members) <= ALL_PAIRS:
                yield from combinations(members, 2)
            else:
                yield from pairwise(members)
                yield from ((members[0], other) for other in members[2:])


def documents_alike(names: UInt64[np.ndarray, "document"]) -> Iterator[list[int]]:
    """The places of each name that stands in several."""
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=names[order[:1]] + np.uint64(1)))
    counts = np.diff(starts, append=len(names))
    several = counts > 1
    for start, count in zip(starts[several].tolist(), counts[several].tolist(), strict=True):
        yield order[start : start + count].tolist()


@cache
def bands_for(similar: float) -> tuple[int, int]:
    """How many bands of how many rows tell pairs above a threshold from pairs below it best.

    The area of false positives and the area of misses (Leskovec, Rajaraman and Ullman, Mining of
    Massive Datasets, 3.4), a miss counting nine times.
    """
    below, above = np.linspace(0, similar, 200), np.linspace(similar, 1, 200)

    def cost(shape: tuple[int, int]) -> float:
        bands, rows = shape
        in_vain = np.trapezoid(1 - (1 - below**rows) ** bands, below)
        missed = np.trapezoid((1 - above**rows) ** bands, above)
        return float(0.1 * in_vain + 0.9 * missed)

    shapes = [
        (bands, rows)
        for rows in range(1, PERMUTATIONS + 1)
        for bands in range(1, PERMUTATIONS // rows + 1)
    ]
    return min(shapes, key=cost)
