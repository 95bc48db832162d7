"""Which strings of a text look like somebody's address, number or key?

    for found in find_private(text):
        found.kind, found.start, found.stop

It finds what looks so: a version number can look like an IP address, and a name with its village
does not look like anything. The card says so.

| kind             | found by                                                                |
|------------------|-------------------------------------------------------------------------|
| e-mail address   | its form                                                                |
| key or secret    | detect-secrets: the forms of some twenty providers' keys, what follows  |
|                  | a word like password, long strings that look random                     |
| IP address       | its form, read by the standard library                                  |
| street address   | a number beside a capitalised name that ends like a street's            |
| telephone number | phonenumbers: international, or valid in one of some regions            |
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import phonenumbers
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import (
    Base64HighEntropyString,
    HexHighEntropyString,
    HighEntropyStringsPlugin,
)
from detect_secrets.plugins.ip_public import IPPublicDetector
from detect_secrets.plugins.keyword import KeywordDetector

from interp.errors import UsageError, nearest

REGIONS = ("US", "GB")
Span = tuple[int, int]


@dataclass(frozen=True)
class Found:
    """A string that looks private.

    Attributes:
        kind: one of ``KINDS``.
        what: what it looks like, more closely; may be empty.
        start, stop: where it is, in characters.
    """

    kind: str
    what: str
    start: int
    stop: int


def find_private(text: str, regions: Sequence[str] = REGIONS) -> list[Found]:
    """Everything that looks private, in the order of the text; where two overlap, the first kind
    of ``KINDS``.

    Args:
        regions: where telephone numbers without a country code may be from, as in ``US``.

    Raises:
        UsageError: a region that is none.
    """
    known = phonenumbers.SUPPORTED_REGIONS
    if unknown := [region for region in regions if region not in known]:
        raise UsageError(f"{unknown[0]!r} is no region; nearest: {nearest(unknown[0], known)}")
    kept: list[Found] = []
    taken: set[int] = set()
    for kind, finder in KINDS.items():
        for start, stop, what in sorted(set(finder(text, regions))):
            place = range(start, stop)
            if taken.isdisjoint(place):
                taken.update(place)
                kept.append(Found(kind, what, start, stop))
    return sorted(kept, key=lambda found: found.start)


EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}")


def emails(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    return ((*match.span(), "") for match in EMAIL.finditer(text))


def telephones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    asked: list[str | None] = [*regions] or [None]
    for region in asked:
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            yield match.start, match.end, phonenumbers.region_code_for_number(match.number) or ""


IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
IPV6 = re.compile(
    r"(?<![\w:.])(?=[\da-fA-F:.]*\d)[\da-fA-F]{0,4}(?::[\da-fA-F]{0,4}){3,7}(?![\w:])"
)


def ip_addresses(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for pattern in (IPV4, IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            yield *match.span(), f"v{address.version}{'' if address.is_global else ', not public'}"


STREET = r"Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Boulevard|Blvd|Court|Square|Terrace|Highway"
STREETS = (
    re.compile(rf"\b\d{{1,5}}[A-Za-z]?,? (?:[A-Z][\w'.-]* ){{1,3}}(?:{STREET})\b"),
    re.compile(
        r"\b[A-ZÄÖÜ][\wäöüß-]*(?:stra(?:ß|ss)e|str\.|weg|platz|gasse|allee) \d{1,4}[a-z]?\b"
    ),
    re.compile(r"\b\d{1,4},? (?:rue|avenue|boulevard|place|calle|via) (?:d\w{0,2}[ '])?[A-ZÉ]\w+"),
)


def streets(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    return ((*match.span(), "") for pattern in STREETS for match in pattern.finditer(text))


# A key holds a digit, an address of the web or a heading, or stands after a word that says so; all
# other lines are passed over, which makes the search of a book ten times as fast.
WORTHWHILE = re.compile(r"\d|://|BEGIN|pass|pwd|secret|key|token|api|auth|cred", re.IGNORECASE)
# detect-secrets asks for quotes around random-looking strings, which text does not have.
RANDOM = re.compile(r"(?<![\w+/=-])(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[A-Za-z0-9+/=_-]{20,}")
CASES = re.compile(r"(?=.*[a-z])(?=.*[A-Z])")


def secrets(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    start = 0
    for line in text.splitlines(keepends=True):
        if WORTHWHILE.search(line):
            for first, last, what in secrets_of(line):
                yield start + first, start + last, what
        start += len(line)


def secrets_of(line: str) -> Iterator[tuple[int, int, str]]:
    for what, pattern in key_forms():
        for match in pattern.finditer(line):
            if match.group():
                yield *match.span(), what
    for value in KeywordDetector().analyze_string(line):
        if value and (first := line.find(value)) >= 0:
            yield first, first + len(value), KeywordDetector.secret_type
    for match in RANDOM.finditer(line):
        value = match.group()
        for detector, fits in entropy_checks():
            if fits(value) and detector.calculate_shannon_entropy(value) > detector.entropy_limit:
                yield *match.span(), str(detector.secret_type)
                break


@cache
def key_forms() -> list[tuple[str, re.Pattern[str]]]:
    """What providers' keys look like."""
    kinds: Mapping[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
    return [
        (name, pattern)
        for name, kind in kinds.items()
        if issubclass(kind, RegexBasedDetector) and kind is not IPPublicDetector
        for pattern in kind().denylist
    ]


@cache
def entropy_checks() -> list[tuple[HighEntropyStringsPlugin, Callable[[str], bool]]]:
    """What says whether a string looks random, and of which strings."""
    hexadecimal = re.compile(r"[0-9a-fA-F]{32,}")
    return [
        (HexHighEntropyString(), lambda value: bool(hexadecimal.fullmatch(value))),
        (Base64HighEntropyString(), lambda value: bool(CASES.match(value))),
    ]


KINDS: dict[str, Callable[[str, Sequence[str]], Iterator[tuple[int, int, str]]]] = {
    "e-mail address": emails,
    "key or secret": secrets,
    "IP address": ip_addresses,
    "street address": streets,
    "telephone number": telephones,
}
