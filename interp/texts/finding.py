"""Which strings of a text look like somebody's address, number or key?

    for found in find_private(text):
        found.kind, found.start, found.stop

It finds what looks so, and passes over what the words before it explain: a version, a section, a
commit, a checksum. A name with its village does not look like anything. The card says so.

| kind             | found by                                                                |
|------------------|-------------------------------------------------------------------------|
| e-mail address   | its form                                                                |
| key or secret    | detect-secrets: the forms of some twenty providers' keys, what follows  |
|                  | a word like password, long strings that look random (``keys``)          |
| IP address       | its form, read by the standard library; not masks and the machine's own |
| street address   | a number beside a capitalised name with a word for a street, as a dozen |
|                  | languages write them (``streets``)                                      |
| telephone number | phonenumbers: international, or valid in one of some regions            |
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher

from interp.errors import UsageError, nearest
from interp.texts.keys import secrets
from interp.texts.streets import streets

REGIONS = ("US", "GB")


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


def find_private(
    text: str, regions: Sequence[str] = REGIONS, kinds: Collection[str] | None = None
) -> list[Found]:
    """Everything that looks private, in the order of the text; where two overlap, the first kind
    of ``KINDS``.

    Args:
        regions: where telephone numbers without a country code may be from, as in ``US``.
        kinds: only these of ``KINDS``; all by default. What they are does not depend on it.

    Raises:
        UsageError: a region that is none, or a kind.
    """
    known = phonenumbers.SUPPORTED_REGIONS
    if unknown := [region for region in regions if region not in known]:
        raise UsageError(f"{unknown[0]!r} is no region; nearest: {nearest(unknown[0], known)}")
    if unknown := [kind for kind in kinds or () if kind not in KINDS]:
        raise UsageError(f"{unknown[0]!r} is no kind; nearest: {nearest(unknown[0], KINDS)}")
    wanted = set(KINDS) if kinds is None else set(kinds)
    kept: list[Found] = []
    taken: set[int] = set()
    for kind, finder in KINDS.items():
        if not wanted:  # those that are left overlap none of the others
            break
        for start, stop, what in sorted(set(finder(text, regions))):
            place = range(start, stop)
            if taken.isdisjoint(place):
                taken.update(place)
                kept.append(Found(kind, what, start, stop))
        wanted.discard(kind)
    if kinds is not None:
        kept = [found for found in kept if found.kind in kinds]
    return sorted(kept, key=lambda found: found.start)


EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]+(?:(?<=\w)'\w[\w.+-]*)?@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,}"
)
# What looks like one and names no person: "git@host:path/to.git", "postgres://app:word@host".
USER_OF_HOST = re.compile(r":[\w~.-]*/")
IN_WEB_ADDRESS = re.compile(r"://[^\s/@]*$")


def emails(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    for match in EMAIL.finditer(text):
        before = text[max(0, match.start() - 80) : match.start()]
        if not (USER_OF_HOST.match(text, match.end()) or IN_WEB_ADDRESS.search(before)):
            yield *match.span(), ""


def telephones(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    asked: list[str | None] = [*regions] or [None]
    for region in asked:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING):
            if match.raw_string.startswith(("+", "00")) or is_written_as_telephone(text, match):
                region_of = phonenumbers.region_code_for_number(match.number)
                yield match.start, match.end, region_of or ""


DIAL = re.compile(
    r"\b(?:tele)?(?:phone|fax|call|cell|dial|mob|mobile|ring|sms|tel|telefon|tél|whatsapp)"
    r"[\w ]{0,20}\W{0,4}$",
    re.IGNORECASE,
)
DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d[/.]\d\d[/.]\d{4}")


def is_written_as_telephone(text: str, match: phonenumbers.PhoneNumberMatch) -> bool:
    """Whether a number without a country's code is one: it may be a sum, a date or a size."""
    written = match.raw_string
    if written.isdigit():
        return bool(DIAL.search(text[max(0, match.start - 40) : match.start]))
    before, after = text[max(0, match.start - 2) : match.start], text[match.end : match.end + 2]
    within_number = re.search(r"[\d.,-]$", before) or re.match(r"[.,]\d|-", after)
    mixed = "." in written and "-" in written
    return not (within_number or mixed or DATE.search(written))


IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
IPV6 = re.compile(
    r"(?<![\w:.])(?=[\da-fA-F:.]*\d)(?:[\da-fA-F]{0,4}(?::[\da-fA-F]{0,4}){3,7}"
    r"|(?:[23][\da-fA-F]{3}|[fF][cdefCDEF][\da-fA-F]{2})::[\da-fA-F]{1,4})(?![\w:])"
)
# What says that four numbers with points between them are no address.
NUMBERED = re.compile(
    r"(?:\b(?:versions?|releases?|ver|revisions?|rev|build|tag|firmware|sections?|sect?|clauses?"
    r"|chapters?|paragraphs?|figures?|fig|tables?|appendix|articles?|rules?|part|update|upgrade"
    r"|changes)\b\.?(?: (?:in|for|since|to|of|is|at|from|number|no\.?))?[\s:=#v(`'\"]{0,4}"
    r"|§\s*|(?:[<>=~!]=|[~^]|[A-Za-z]\s?[<>]\s)\s*[`'\"]?|[A-Za-z]-)$",
    re.IGNORECASE,
)
HEADING = re.compile(r"(?:\d{1,2}\.){3}\d{1,2}\s+[A-Z][a-z]")
AND_SO_ON = re.compile(r"\s*(?:,|-|\u2013|/|\b(?:and|or|to|through|until)\b|\s)+\s*")


def ip_addresses(text: str, regions: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    numbered = -1  # where the last number ended that is none
    for match in IPV4.finditer(text):
        start, stop = match.span()
        goes_on = numbered >= 0 and AND_SO_ON.fullmatch(text, numbered, start)
        if goes_on or is_numbered(text, start, stop):
            numbered = stop
        elif address := address_of(match.group()):
            yield start, stop, address
    for match in IPV6.finditer(text):
        if address := address_of(match.group()):
            yield *match.span(), address


def is_numbered(text: str, start: int, stop: int) -> bool:
    """Whether four numbers are those of a version or a section: the words before them say so, or
    a heading follows."""
    line = text.rfind("\n", 0, start) + 1
    if NUMBERED.search(text, max(line, start - 40), start):
        return True
    return not text[line:start].strip(" #*") and bool(HEADING.match(text, start))


def address_of(written: str) -> str:
    """What address it is; empty where it is none, or one that all machines have."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return ""
    if address.is_loopback or address.is_unspecified or written.startswith("255."):
        return ""
    return f"v{address.version}{'' if address.is_global else ', not public'}"


KINDS: dict[str, Callable[[str, Sequence[str]], Iterator[tuple[int, int, str]]]] = {
    "e-mail address": emails,
    "key or secret": secrets,
    "IP address": ip_addresses,
    "street address": streets,
    "telephone number": telephones,
}
