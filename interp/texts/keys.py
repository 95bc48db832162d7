"""Which strings of a text look like a key, a token or a password?

detect-secrets knows the forms of some twenty providers' keys and the words that stand before a
password. A long string that looks random is a key too, unless something explains it: it names a
commit or a checksum, or is part of a web address or a path.

    for start, stop, what in secrets(text, ()):
        text[start:stop]
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import (
    Base64HighEntropyString,
    HexHighEntropyString,
    HighEntropyStringsPlugin,
)
from detect_secrets.plugins.ip_public import IPPublicDetector
from detect_secrets.plugins.keyword import KeywordDetector

# A key holds a digit, an address of the web or a heading, or stands after a word that says so; all
# other lines are passed over, which makes the search of a book ten times as fast.
WORTHWHILE = re.compile(r"\d|://|BEGIN|pass|pwd|secret|key|token|api|auth|cred", re.IGNORECASE)
# detect-secrets asks for quotes around random-looking strings, which text does not have.
RANDOM = re.compile(
    r"(?<![\w+/-])(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[A-Za-z0-9+/_-]{20,}(?![\w+/-])={0,2}"
)
CASES = re.compile(r"(?=.*[a-z])(?=.*[A-Z])")
# What says that a string is a key, and what says that it is something else.
SECRET = re.compile(
    r"(?:bearer|tokens?|api|keys?|secrets?|passw\w*|pwd|auth\w*|credentials?|sig\w*)"
    r"\w*(?: is)?\W{0,4}$",
    re.IGNORECASE,
)
DIGEST = re.compile(
    r"(?:\b(?:git|commits?|bisect|fixed in|reverts?|since|revisions?|rev|changesets?|merge[sd]?"
    r"|checkout|branch|cherry[ -]pick\w*"
    r"|sha-?\d*|md5\w*|blake\w*|checksums?|digests?|\w*hash\w*|integrity|fingerprint|etag|uuid)"
    r"(?:\b[^\n]{0,16})?|[@/])$",
    re.IGNORECASE,
)
DIGESTS = frozenset({32, 40, 56, 64, 96, 128})  # lengths in hexadecimal
HEXADECIMAL = re.compile(r"[0-9a-fA-F]+")
DIGEST_FORM = re.compile(r"(?:sha\d{1,3}|md5)[-:][A-Za-z0-9+/=_-]+", re.IGNORECASE)
WEB = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)[^\s<>\"'`]+", re.IGNORECASE)
GIVEN = re.compile(r"[?&#][\w-]*(?:key|token|secret|sig|signature|auth|pass)\w*=$", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z]?[a-z_.-]{2,}|[a-z]\w{0,11}|[A-Z][a-z]\w{0,9}|v?\d+")
LOWEST = 3.5  # bits a character, of a string after a word that says it is a key


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
    addresses = [match.span() for match in WEB.finditer(line)]
    for match in RANDOM.finditer(line):
        what = random_kind(match.group(), line[: match.start()])
        if what and not is_explained(match, line, addresses):
            yield *match.span(), what


def random_kind(value: str, before: str) -> str:
    """What kind of random string a string looks like; empty where it looks like none."""
    said = bool(SECRET.search(before))
    for detector, fits in entropy_checks():
        limit = min(LOWEST, detector.entropy_limit) if said else detector.entropy_limit
        fitting = fits(value) or (said and has_many_digits(value))
        if fitting and detector.calculate_shannon_entropy(value) > limit:
            return str(detector.secret_type)
    return ""


def has_many_digits(value: str) -> bool:
    """As no name of a file or a variable has."""
    return 8 * sum(character.isdigit() for character in value) >= len(value)


def is_explained(match: re.Match[str], line: str, addresses: Sequence[tuple[int, int]]) -> bool:
    """Whether a string that looks random has a reason to: a checksum, an address, a path."""
    value, before = match.group(), line[max(0, match.start() - 40) : match.start()]
    if any(start <= match.start() < stop for start, stop in addresses):
        return not GIVEN.search(before)
    if SECRET.search(before) or "passw" in before.lower():  # a password's hash too
        return False
    if before.endswith(";base64,"):  # a picture within a page
        return True
    if DIGEST_FORM.fullmatch(value) or (
        HEXADECIMAL.fullmatch(value) and len(value) in DIGESTS and DIGEST.search(before)
    ):
        return True
    parts = [part for part in value.split("/") if part]
    return len(parts) > 2 and sum(bool(WORD.fullmatch(part)) for part in parts) > len(parts) / 2


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
