"""Documents that are long enough, and that read like text."""

import re
from collections.abc import Iterable, Iterator, Mapping

from interp.curation.documents import CODE, Document


def filter_lengths(
    documents: Iterable[Document], *, at_least: int = 200, at_most: int = 10_000_000
) -> Iterator[Document]:
    """Keep documents of some length.

    Args:
        at_least, at_most: characters, without white space at both ends.
    """
    for document in documents:
        length = len(document.text.strip())
        if length < at_least:
            yield document.drop(f"has {length} characters, fewer than {at_least}")
        elif length > at_most:
            yield document.drop(f"has {length} characters, more than {at_most}")
        else:
            yield document


WORD = re.compile(r"\S+")
FENCES = ("```", "~~~")


def filter_quality(
    documents: Iterable[Document],
    *,
    shortest_words: float = 3.0,
    longest_words: float = 10.0,
    alphabetic: float = 0.7,
    symbols: float = 0.1,
    bullets: float = 0.9,
    ellipses: float = 0.3,
    repeated: float = 0.3,
) -> Iterator[Document]:
    """Keep documents that pass the rules of Gopher (Rae et al. 2021, table A1). Source code is not
    judged.

    Args:
        shortest_words, longest_words: the mean length of a word, in characters.
        alphabetic: the smallest share of words with a letter. Gopher asks 0.8 of web pages; manuals
            hold more numbers and signs.
        symbols: the most ``#`` and ellipses for each word.
        bullets: the largest share of lines that begin with a bullet.
        ellipses: the largest share of lines that end with an ellipsis.
        repeated: the largest share of lines that are there already, of those with a letter or digit
            that do not open a block of code: what Markdown is laid out with repeats itself.
    """
    limits = {
        "shortest_words": shortest_words,
        "longest_words": longest_words,
        "alphabetic": alphabetic,
        "symbols": symbols,
        "bullets": bullets,
        "ellipses": ellipses,
        "repeated": repeated,
    }
    for document in documents:
        reason = "" if document.kind == CODE else fault_of(document.text, limits)
        yield document.drop(reason) if reason else document


def fault_of(text: str, limits: Mapping[str, float]) -> str:
    """The first rule that a text breaks; empty where it keeps all."""
    words, lines = WORD.findall(text), [line.strip() for line in text.split("\n") if line.strip()]
    if not words:
        return "has no words"
    length = sum(map(len, words)) / len(words)
    if not limits["shortest_words"] <= length <= limits["longest_words"]:
        return f"its words have {length:.1f} characters on average"
    told = [line for line in lines if any(map(str.isalnum, line)) and not line.startswith(FENCES)]
    shares = {
        "of words without a letter": (
            sum(not any(c.isalpha() for c in word) for word in words) / len(words),
            1 - limits["alphabetic"],
        ),
        "as many signs (# and …) as words": (
            (text.count("#") + text.count("…") + text.count("...")) / len(words),
            limits["symbols"],
        ),
        "of lines begin with a bullet": (
            sum(line[0] in "-*•‣" for line in lines) / len(lines),
            limits["bullets"],
        ),
        "of lines end with an ellipsis": (
            sum(line.endswith(("…", "...")) for line in lines) / len(lines),
            limits["ellipses"],
        ),
        "of lines are repeated": (
            (len(told) - len({*told})) / max(1, len(told)),
            limits["repeated"],
        ),
    }
    for rule, (share, most) in shares.items():
        if share > most:
            return f"{100 * share:.3g} % {rule}, more than {100 * most:.0f} %"
    return ""
