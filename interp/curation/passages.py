"""Which documents have a passage in common, word for word, with those that are validated on?

    known = find_sharing(documents, aside, at_least=100)
    known[document.id]        # the source of the first of ``aside`` that it shares one with

Every passage of that length is found: of each stretch of a text the smallest hash is kept, by
winnowing (Schleimer, Wilkerson and Aiken 2003), and two texts with a passage in common keep one
hash in common. Those that do are compared in full.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt64
from scipy.ndimage import minimum_filter1d

from interp.curation.documents import Document
from interp.errors import UsageError
from interp.texts.overlap import shared_passages

Hashes = UInt64[np.ndarray, "_"]

FACTOR = np.uint64(0x9E3779B97F4A7C15)


def find_sharing(
    documents: Iterable[Document], aside: Sequence[Document], *, at_least: int = 100
) -> dict[str, str]:
    """For the id of each document that has a passage in common with one of ``aside``, its source.

    Args:
        documents: read once; those of ``aside`` among them are passed over.
        aside: in memory.
        at_least: characters that a passage has.

    Raises:
        UsageError: passages of fewer than 2 characters.
    """
    if at_least < 2:
        raise UsageError(f"at_least is {at_least}; a passage has at least 2 characters")
    known = [np.unique(winnow(document.text, at_least)) for document in aside]
    every = np.concatenate([np.empty(0, np.uint64), *known])
    owner = np.repeat(np.arange(len(known)), [len(each) for each in known])
    order = np.argsort(every, kind="stable")
    every, owner = every[order], owner[order]
    passed, found = {document.id for document in aside}, {}
    for document in documents:
        if document.id in passed:
            continue
        hashes = np.unique(winnow(document.text, at_least))
        first, last = (np.searchsorted(every, hashes, side) for side in ("left", "right"))
        owners = {
            int(number)
            for a, b in zip(first.tolist(), last.tolist(), strict=True)
            for number in owner[a:b]
        }
        for number in sorted(owners):
            if shared_passages(aside[number].text, document.text, at_least).stretches:
                found[document.id] = aside[number].source
                break
    return found


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
