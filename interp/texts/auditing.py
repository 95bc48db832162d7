"""Everything that the data card of a text says.

audit_text(text).findings
"""

import hashlib
import importlib.metadata
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from interp.characters import visible
from interp.errors import UsageError
from interp.texts.finding import KINDS, REGIONS, Found, find_private
from interp.texts.overlap import shared_passages

LIBRARIES = ("phonenumbers", "detect-secrets", "py3langid")
SHOWN = 12  # of each list
EXCERPT = 60  # characters
LINE = 20  # characters that make a line worth comparing
PIECE = 1000  # characters whose language is asked at a time
PIECES = 400  # asked at most, evenly spaced
SURE = 0.5  # below it a piece's language is not known
RARE = 10  # a symbol seen less often can hardly be learned
INVISIBLE = {
    "Cc": "a control character",
    "Cf": "invisible",
    "Co": "private use, without a meaning",
    "Cn": "not assigned",
    "Cs": "half of a pair",
}


@dataclass(frozen=True)
class TextAudit:
    """What there is to say about a text; all of it JSON.

    Attributes:
        sha256: of its UTF-8 bytes.
        size: ``bytes``, ``characters``, ``lines``, ``words``.
        symbols: each character with ``symbol code name count unusual``, the most frequent first;
            ``unusual`` says why one is, or is empty.
        lines: how many lines are ``repeated`` beyond their first occurrence, the ``share`` of all
            that are not blank, and the most frequent ones.
        overlap: the ``border`` between training and validation text, in characters, and what of the
            latter is also in the former, by passages of ``at_least`` characters and by lines.
        findings: by kind, how many strings look private, and some of them, masked.
        languages: the share of the text in each, 0 to 1; ``und`` is not known.
        method: the versions of what looked, and its settings.
    """

    sha256: str
    size: dict[str, int]
    symbols: list[dict[str, Any]]
    lines: dict[str, Any]
    overlap: dict[str, Any]
    findings: list[dict[str, Any]]
    languages: dict[str, float]
    method: dict[str, Any]


def audit_text(
    text: str,
    *,
    train_share: float = 0.9,
    border: int | None = None,
    at_least: int = 50,
    regions: Sequence[str] = REGIONS,
) -> TextAudit:
    """Look through a text.

    Args:
        text: the whole text; the first part is trained on, the rest validated on.
        train_share: of the characters that are trained on.
        border: how many are trained on, where that is no share of the text.
        at_least: the characters that make a passage shared by both parts count.
        regions: where telephone numbers without a country code may be from.

    Raises:
        UsageError: an empty text, a share that leaves a part none, ``at_least`` below 1.
    """
    if not text:
        raise UsageError("the text is empty: there is nothing to audit")
    if not 0 < train_share < 1:
        raise UsageError(f"train_share is {train_share}; it must lie between 0 and 1")
    border = int(train_share * len(text)) if border is None else border
    data = text.encode("utf-8", "surrogatepass")
    found = find_private(text, regions)
    hidden = mask_found(text, found)
    return TextAudit(
        sha256=hashlib.sha256(data).hexdigest(),
        size={
            "bytes": len(data),
            "characters": len(text),
            "lines": text.count("\n") + (not text.endswith("\n")),
            "words": len(text.split()),
        },
        symbols=symbols_of(text),
        lines=repeated_lines(hidden),
        overlap=overlap_of(text, hidden, border, at_least),
        findings=findings_of(text, hidden, found),
        languages=languages_of(text),
        method=method(train_share, at_least, regions),
    )


def method(
    train_share: float = 0.9, at_least: int = 50, regions: Sequence[str] = REGIONS
) -> dict[str, Any]:
    """What decides an audit beside the text: settings, and the versions of the code."""
    here = sorted(Path(__file__).parent.glob("*.py"))
    return {
        "code": hashlib.sha256(b"".join(path.read_bytes() for path in here)).hexdigest()[:12],
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
        "train_share": train_share,
        "at_least": at_least,
        "regions": list(regions),
    }


def symbols_of(text: str) -> list[dict[str, Any]]:
    return [
        {
            "symbol": visible(character),
            "code": f"U+{ord(character):04X}",
            "name": unicodedata.name(character, ""),
            "count": count,
            "unusual": unusual(character, count, len(text)),
        }
        for character, count in sorted(Counter(text).items(), key=lambda item: (-item[1], item[0]))
    ]


def unusual(character: str, count: int, length: int) -> str:
    """Why a character deserves a look; empty where it does not."""
    category = unicodedata.category(character)
    if character in "\n\t":
        return ""
    if character == "\N{REPLACEMENT CHARACTER}":
        return "stands where decoding failed"
    if category in INVISIBLE:
        return INVISIBLE[category]
    if category[0] == "Z" and character != " ":
        return "a space that is not the space"
    if category[0] == "M":
        return "combines with the one before"
    if count < RARE and length > 1000 * RARE:
        return f"rare: {count} in {length}"
    return ""


def repeated_lines(hidden: str) -> dict[str, Any]:
    counts = Counter(line.strip() for line in hidden.split("\n"))
    del counts[""]
    total, repeated = counts.total(), counts.total() - len(counts)
    most = [(line, count) for line, count in counts.most_common(SHOWN) if count > 1]
    return {
        "nonblank": total,
        "repeated": repeated,
        "share": repeated / max(1, total),
        "most": [{"line": excerpt(line), "count": count} for line, count in most],
    }


def overlap_of(text: str, hidden: str, border: int, at_least: int) -> dict[str, Any]:
    train, val = text[:border], text[border:]
    shared = shared_passages(train, val, at_least)
    numbers = line_starts(text)
    seen = {line.strip() for line in train.split("\n")}
    lines = [line.strip() for line in val.split("\n") if len(line.strip()) >= LINE]
    again = sum(line in seen for line in lines)
    places: dict[str, list[int]] = {}
    for start, stop in sorted(shared.stretches, key=lambda span: (span[0] - span[1], span)):
        places.setdefault(hidden[border + start : border + stop], []).append(border + start)
    return {
        "border": border,
        "at_least": at_least,
        "characters": shared.characters,
        "share": shared.share,
        "longest": shared.longest,
        "stretches": len(shared.stretches),
        "shown": [
            {
                "line": bisect_right(numbers, starts[0]),
                "characters": len(passage),
                "times": len(starts),
                "text": excerpt(passage),
            }
            for passage, starts in list(places.items())[:SHOWN]
        ],
        "lines": {"at_least": LINE, "count": len(lines), "also_in_train": again},
    }


def findings_of(text: str, hidden: str, found: Sequence[Found]) -> list[dict[str, Any]]:
    numbers = line_starts(text)
    rows = []
    for kind in KINDS:
        those = [one for one in found if one.kind == kind]
        rows.append(
            {
                "kind": kind,
                "count": len(those),
                "distinct": len({text[one.start : one.stop] for one in those}),
                "shown": [
                    {
                        "line": bisect_right(numbers, one.start),
                        "what": one.what,
                        "text": excerpt(hidden[one.start : one.stop]),
                    }
                    for one in those[:SHOWN]
                ],
            }
        )
    return rows


def mask_found(text: str, found: Sequence[Found]) -> str:
    """The text with all but the first characters, at most two, of what was found unreadable."""
    parts, at = [], 0
    for one in found:
        open_to = one.start + min(2, (one.stop - one.start) // 3)
        parts += [text[at:open_to], "•" * (one.stop - open_to)]
        at = one.stop
    return "".join([*parts, text[at:]])


def excerpt(text: str) -> str:
    """The beginning of a passage on one line."""
    short = " ".join(text.split())
    return visible(short if len(short) <= EXCERPT else short[: EXCERPT - 1] + "…")


def line_starts(text: str) -> list[int]:
    """Where every line begins: the number of a place's line is how many begin no later."""
    return [0, *accumulate(len(line) + 1 for line in text.split("\n")[:-1])]


def languages_of(text: str) -> dict[str, float]:
    """The share of evenly spaced pieces in each language."""
    starts = range(0, len(text), PIECE)
    step = -(-len(starts) // PIECES)
    pieces = [text[start : start + PIECE] for start in starts[::step]]
    sizes: Counter[str] = Counter()
    for piece in pieces:
        sizes[identifier().classify(piece)[0]] += len(piece)
    return {name: size / sizes.total() for name, size in sizes.most_common()}


@cache
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)
