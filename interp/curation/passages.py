"""Which documents have a passage in common, word for word?

    first = group_by_passages(documents, at_least=100)
    first[document.id]        # the same for documents that share a passage, or are linked by others

Every passage of that length is found: of each stretch of a text the smallest hash is kept, by
winnowing (Schleimer, Wilkerson and Aiken 2003), and two texts with a passage in common keep one
hash in common. Texts that have four fifths of a passage in common may be linked too.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64
from scipy.ndimage import minimum_filter1d

from interp.curation.documents import Document
from interp.errors import UsageError

Hashes = UInt64[np.ndarray, "_"]

AT_ONCE = 100_000_000  # characters whose hashes are in memory together, some 100 MB of them
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def group_by_passages(documents: Iterable[Document], *, at_least: int = 100) -> dict[str, str]:
    """For each document's id, the id of the first document, by source, of those it is linked with.

    Args:
        documents: can be iterated over more than once.
        at_least: characters that a passage has.

    Raises:
        UsageError: passages of fewer than 2 characters.
    """
    if at_least < 2:
        raise UsageError(f"at_least is {at_least}; a passage has at least 2 characters")
    places = [(document.source, document.id) for document in documents]
    characters = sum(len(document.text) for document in documents)
    parent = list(range(len(places)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    parts = max(1, -(-characters // AT_ONCE))  # each holds the hashes of one remainder
    for part in range(parts):
        hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        for number, document in enumerate(documents):
            kept = np.unique(winnow(document.text, at_least))
            kept = kept[kept % np.uint64(parts) == part]
            hashes.append(kept)
            owners.append(np.full(len(kept), number))
        every, owner = np.concatenate(hashes), np.concatenate(owners)
        order = np.argsort(every, kind="stable")
        same = np.flatnonzero(every[order][1:] == every[order][:-1])
        pairs = np.stack([owner[order][same], owner[order][same + 1]], axis=1)
        for one, other in np.unique(pairs, axis=0).tolist():
            first, second = sorted((root(one), root(other)), key=places.__getitem__)
            parent[second] = first
    return {id: places[root(n)][1] for n, (_, id) in enumerate(places)}


def winnow(text: str, at_least: int) -> Hashes:
    """Hashes of runs of four fifths of a passage, so many that each passage holds one of them."""
    run = at_least - at_least // 5
    hashes = hash_runs(character_codes(text), run)
    window = at_least - run + 1
    if len(hashes) < window:  # the text is no longer than a passage
        return hashes[:0]
    hashes = hashes >> np.uint64(11)  # the filter computes in double precision
    smallest = minimum_filter1d(hashes, window, mode="nearest", origin=-(window // 2))
    return smallest[: len(hashes) - window + 1]


def hash_runs(codes: Hashes, run: int) -> Hashes:
    """A hash of every run of some characters, by joining shorter ones."""
    found, width = mix(codes), 1
    for bit in bin(run)[3:]:
        found = mix(found[: max(0, len(found) - width)] * FACTOR + found[width:])
        width *= 2
        if bit == "1":
            found = mix(found[: max(0, len(found) - 1)] * FACTOR + mix(codes[width:]))
            width += 1
    return found


def mix(hashes: Hashes) -> Hashes:
    """Every bit of each number spread over all of its bits."""
    hashes = (hashes ^ (hashes >> np.uint64(31))) * FACTOR
    return hashes ^ (hashes >> np.uint64(29))


def character_codes(text: str) -> Hashes:
    """Each character's number."""
    data = text.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype=np.uint32).astype(np.uint64)
