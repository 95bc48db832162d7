"""What does a text hold, that samples are measured against?

text = KnownText(training_text)
text.trigram_losses("the", context="in")   # nats for each character
text.longest_matches("to be or")           # how long a stretch from each character on is its own
"""

import re
from collections import Counter
from functools import cached_property

import numpy as np
from jaxtyping import Float, Shaped

from interp.errors import UsageError

# Scripts that are written without spaces, of which each character counts as a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+")
INDEXED = 6  # characters of the stretches whose places are kept


class KnownText:
    """The text that a model was trained on, counted once.

    Args:
        text: its characters.

    Raises:
        UsageError: an empty text.
    """

    def __init__(self, text: str) -> None:
        if not text:
            raise UsageError("the text that samples are measured against is empty")
        self.text = text

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(WORD.findall(self.text))

    @cached_property
    def shares(self) -> dict[str, float]:
        """How frequent each character is."""
        return {one: count / len(self.text) for one, count in Counter(self.text).items()}

    @cached_property
    def followers(self) -> dict[str, tuple[Counter[str], int]]:
        """What follows each context of no, one and two characters, how often, and the sum."""
        found: dict[str, Counter[str]] = {}
        for length in range(3):
            for gram, count in Counter(
                self.text[at : at + length + 1] for at in range(len(self.text) - length)
            ).items():
                found.setdefault(gram[:-1], Counter())[gram[-1]] = count
        return {context: (counts, counts.total()) for context, counts in found.items()}

    def trigram_losses(self, sample: str, context: str = "") -> Float[np.ndarray, "character"]:
        """The loss of each character of a sample, in nats, under the text's trigram model.

        Interpolated Witten-Bell smoothing (Witten and Bell 1991; Chen and Goodman 1999, section
        2.4): of a context seen n times before t kinds of characters, a character seen c times after
        it has the probability (c + t p) / (n + t), where p is its probability by the context
        without its first character. Below the empty context p is the same for every character of
        the text and one more, which stands for all that the text lacks.

        Args:
            sample: what is measured.
            context: what stands before it.
        """
        whole = context[-2:] + sample
        start = len(whole) - len(sample)
        return -np.log(
            [
                self.probability(whole[at], whole[max(0, at - 2) : at])
                for at in range(start, len(whole))
            ]
        )

    def probability(self, character: str, context: str) -> float:
        """How likely the trigram model finds a character after a context of two, one or none."""
        p = 1 / (len(self.shares) + 1)
        for length in range(len(context) + 1):
            seen = self.followers.get(context[len(context) - length :])
            if seen is not None:  # after a context that the text lacks, the shorter one decides
                counts, total = seen
                p = (counts[character] + len(counts) * p) / (total + len(counts))
        return p

    @cached_property
    def _codes(self) -> Shaped[np.ndarray, "character"]:
        return codes_of(self.text)

    @cached_property
    def _stretches(self) -> list[tuple[Shaped[np.ndarray, "n"], Shaped[np.ndarray, "n"]]]:
        """Of each length up to the indexed one: the text's stretches as numbers, sorted, and where
        each begins."""
        found = []
        for length in range(1, INDEXED + 1):
            numbers = numbers_of_stretches(self._codes, length)
            order = np.argsort(numbers, kind="stable")
            found.append((numbers[order], order))
        return found

    def longest_matches(self, sample: str) -> Shaped[np.ndarray, "character"]:
        """For each character of a sample, how many from it on occur like this in the text."""
        codes = codes_of(sample)
        found = np.zeros(len(codes), dtype=np.int64)
        for length, (numbers, _) in enumerate(self._stretches, 1):
            wanted = numbers_of_stretches(codes, length)
            left, right = (np.searchsorted(numbers, wanted, side) for side in ("left", "right"))
            found[: len(wanted)][right > left] = length
        for at in np.flatnonzero(found == INDEXED):  # left and right are of this length now
            found[at] = self._match_from(codes[at:], self._stretches[-1][1][left[at] : right[at]])
        return found

    def _match_from(
        self, codes: Shaped[np.ndarray, "character"], places: Shaped[np.ndarray, "place"]
    ) -> int:
        """The longest stretch from the first of ``codes`` on that begins at one of the places,
        where the first few are known to stand."""
        length = INDEXED
        while length < len(codes):
            places = places[places + length < len(self._codes)]
            places = places[self._codes[places + length] == codes[length]]
            if not len(places):
                break
            length += 1
        return length


def codes_of(text: str) -> Shaped[np.ndarray, "character"]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def numbers_of_stretches(
    codes: Shaped[np.ndarray, "character"], length: int
) -> Shaped[np.ndarray, "stretch"]:
    """A number for each stretch of a length: equal for equal ones, and of 64 bits, so that of a
    text's millions hardly two others share one."""
    count = max(0, len(codes) - length + 1)
    numbers = np.zeros(count, dtype=np.uint64)
    for offset in range(length):
        numbers = numbers * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + count]
    return numbers
