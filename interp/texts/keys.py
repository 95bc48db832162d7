"""Which strings of a text look like a key, a token or a password?

detect-secrets knows the forms of some twenty providers' keys, and ``PREFIXES`` how those of some
forty more begin; what is said to be a password is one (``passwords``). A long string that looks
random is a key too, unless something explains it: it names a commit or a checksum, or is part of a
web address, a path, a public key or a certificate.

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

from interp.texts.passwords import ABROAD, NO_SECRET, told_secrets

# A key holds a digit, an address of the web or a heading, or stands after a word that says so; all
# other lines are passed over, which makes the search of a book ten times as fast.
WORTHWHILE = re.compile(r"\d|://|BEGIN|pass|pwd|secret|key|token|api|auth|cred", re.IGNORECASE)
# A whole private key; and what stands in one that is for everybody.
PRIVATE = r"[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
PRIVATE_BLOCK = re.compile(rf"-----BEGIN {PRIVATE}.{{0,20000}}?-----END {PRIVATE}", re.DOTALL)
PUBLIC_BLOCK = re.compile(
    r"-----BEGIN (?![A-Z0-9 ]*PRIVATE KEY)([A-Z0-9 ]+)-----.{0,20000}?-----END \1-----", re.DOTALL
)
PUBLIC_KEY = re.compile(r"\b(?:ssh-\w+|ecdsa-sha2-\w+|sk-\w[\w.@-]*) $")
PREFIXES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:hf|gsk|r8|figd|ntn|shp(?:at|ss|ca|pa)|do[opr]_v1|gls?a?c?|sntry[su]|lin_api|dckr_pat"
    r"|github_pat|rubygems|pscale_tkn|sbp|whsec|[rsp]k_(?:live|test)|sq0[a-z]{3}|xkeysib|npm|lsv2_pt"
    r")_|(?:sk|sk-ant|sk-proj|pplx|xai|xapp|pul|pat|PMAK|NR[A-Z]{2}|GOCSPX|CLOJARS|key)-"
    r"|dapi|AIza|ya29\.|hv[sbr]\.|dp\.\w{2,5}\.|EAA|AGE-SECRET-KEY-1|AT[AC]TT|oy2|tfp_|secret_)"
    r"(?=[\w-]*[A-Z0-9])[\w.-]{18,}[\w-]={0,2}"
)
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
    r"(?:(?:\b|_)(?:git|commits?|bisect|fixed in|reverts?|since|revisions?|rev|changesets?"
    r"|merge[sd]?|checkout|branch|cherry[ -]pick\w*"
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
DOTTED_BEFORE = re.compile(r"(?<![\w./-])(?:[\w-]{2,5}|[\w-]{16,})\.(?:[\w-]{2,5}\.)?$")
DOTTED_AFTER = re.compile(r"(?:\.[\w-]{16,}={0,2})+(?![\w.])")
LOWEST = 3.5  # bits a character, of a string after a word that says it is a key


def secrets(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for block in PRIVATE_BLOCK.finditer(text):
        yield *block.span(), "Private Key"
    public = [block.span() for block in PUBLIC_BLOCK.finditer(text)]
    lowered, start = text.lower(), 0
    abroad = any(word in lowered for word in ABROAD)
    for line in text.splitlines(keepends=True):
        if (abroad or WORTHWHILE.search(line)) and not any(a <= start < b for a, b in public):
            for first, last, what in merge_spans(sorted(set(spans_of(line)))):
                yield start + first, start + last, what
        start += len(line)


def merge_spans(spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Strings that overlap are one."""
    found: list[tuple[int, int, str]] = []
    for start, stop, what in spans:
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1]), found[-1][2]
        else:
            found.append((start, stop, what))
    return found


def spans_of(line: str) -> Iterator[tuple[int, int, str]]:
    """Where secrets stand in a line, some more than once."""
    for what, pattern in key_forms():
        for match in pattern.finditer(line):
            start, stop = key_within(match)
            inside = start > match.start()  # after a word that says so, or a user's name
            if stop > start and not (inside and NO_SECRET.fullmatch(line, start, stop)):
                yield *with_dotted(line, start, stop), what
    for match in PREFIXES.finditer(line):
        yield *match.span(), "Provider's Key"
    for start, stop in told_secrets(line):
        yield start, stop, "Secret Keyword"
    for value in KeywordDetector().analyze_string(line):
        if value and not NO_SECRET.fullmatch(value) and (first := line.find(value)) >= 0:
            yield first, first + len(value), KeywordDetector.secret_type
    addresses = [match.span() for match in WEB.finditer(line)]
    for match in RANDOM.finditer(line):
        what = random_kind(match.group(), line[: match.start()])
        if what and not is_explained(match, line, addresses):
            yield *with_dotted(line, *match.span()), what


def key_within(match: re.Match[str]) -> tuple[int, int]:
    """The key in what a form matches: its group where words stand before that, else all but the
    signs round it."""
    if match.re.groups and match[1] and match.start(1) > match.start() and len(match[1]) >= 6:
        return match.span(1)
    left = len(match[0]) - len(match[0].lstrip(' \t\r\n"=:'))
    return match.start() + left, match.start() + len(match[0].rstrip(' \t\r\n".'))


def with_dotted(line: str, start: int, stop: int) -> tuple[int, int]:
    """A string with the parts that points join to it, as in ``header.payload.signature``."""
    if before := DOTTED_BEFORE.search(line, max(0, start - 200), start):
        start = before.start()
    if after := DOTTED_AFTER.match(line, stop):
        stop = after.end()
    return start, stop


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
    if before.endswith(";base64,") or PUBLIC_KEY.search(before):  # a picture within a page
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
