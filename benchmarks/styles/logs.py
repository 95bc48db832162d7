"""Another way of writing than that of the built-in planted documents: files of settings, logs,
headers and lists, with values of other forms. Finders are tried on it that were not made for it."""

import base64
import string

from interp.curation.planted_words import (
    ALPHANUMERIC,
    HEXADECIMAL,
    HOSTS,
    PROSE,
    Random,
    Style,
    number,
    pick,
    symbols,
)

SURNAMES = ("OBrien", "garcia", "Nowak", "smith", "van-dijk", "Oyelaran", "lindqvist")


def email(random: Random) -> str:
    name, host = pick(SURNAMES, random), pick(HOSTS, random)
    end = pick(("info", "ch", "com.au", "gov", "fr"), random)
    local = pick(
        (name, name + number(1, 99, random), f"{name}.{symbols('abc', 1, random)}"), random
    )
    return f"{local}@{pick((host, 'smtp.' + host, host + '2'), random)}.{end}"


def telephone(random: Random) -> str:
    block, line = number(200, 990, random), number(1000, 9999, random)
    return pick(
        (
            f"+1-415-{block}-{line}",
            f"+1 (212) {block}-{line}",
            f"617.{block}.{line}",
            f"(0161) 496 {line}",
            f"+44 7911 1{line}6",
            f"+49 89 {line}{number(10, 99, random)}",
            f"+31 20 {number(200, 799, random)} {line}",
        ),
        random,
    )


def ip_address(random: Random) -> str:
    if random.random() < 0.3:
        groups = [symbols(HEXADECIMAL, 4, random).lstrip("0") or "0" for _ in range(8)]
        return ":".join(groups)
    parts = [number(11, 224, random), *(number(1, 255, random) for _ in range(3))]
    return ".".join(parts)


def street(random: Random) -> str:
    american = pick(("N", "West", "Old"), random), pick(("Lincoln", "Maple", "Park"), random)
    british = pick(("Abbey", "Kings", "Oxford"), random)
    german = pick(("Goethe", "Kant", "Markt"), random)
    french = pick(("Foch", "Mozart", "Kléber"), random)
    kind = pick(("Blvd", "Ave", "Road", "Court", "Street", "Square", "Lane"), random)
    return pick(
        (
            f"{number(1, 9999, random)} {' '.join(american)} {kind}",
            f"{number(1, 300, random)} {british} {kind}",
            german
            + pick(("straße", "strasse", "platz", "gasse"), random)
            + f" {number(1, 99, random)}",
            f"{number(1, 200, random)}, avenue {french}",
        ),
        random,
    )


def key(random: Random) -> str:
    half = "".join(symbols(part, 4, random) for part in (string.ascii_letters, string.digits))
    token = base64.urlsafe_b64encode(random.bytes(24)).decode()
    return pick(
        (
            "ASIA" + symbols(string.ascii_uppercase + string.digits, 16, random),
            "gho_" + symbols(ALPHANUMERIC, 36, random),
            half + symbols(ALPHANUMERIC, 24, random),
            symbols(HEXADECIMAL, 32, random),
            "1a" + token,
        ),
        random,
    )


LOGS = Style(
    private={
        "e-mail address": (
            "From: {}",
            "* maintainer: <{}>",
            "git log --author={}",
            "contact;{};2019",
        ),
        "telephone number": ("Tel.: {}", "Fax: {}", "| phone | {} |", "mobile={}"),
        "IP address": (
            '{} - - [10/Oct/2019:13:55:36] "GET / HTTP/1.1" 200',
            "Accepted publickey for root from {} port 22",
            "nameserver {}",
            "host = {}",
        ),
        "street address": ("Address: {}", "ship_to: {}", "| {} | 3rd floor |"),
        "key or secret": (
            "Authorization: Bearer {}",
            'secret_key: "{}"',
            "export API_TOKEN={}",
            "access key {}",
        ),
    },
    harmless={
        "version": (
            "requires libfoo>={}",
            "* Updated to v{}",
            "foo-{}.tar.gz",
            "Changes in {}:",
            "driver version: {}",
        ),
        "clause": ("{} Scope of the grant", "see also clause {}", "4. Table {} lists the results"),
        "ISBN": ("ISBN-13: {}",),
        "commit": (
            "commit {}",
            "merge {} into main",
            "https://example.com/repo/commit/{}",
            "pinned at @{}",
        ),
        "checksum": (
            "SHA256 ({}) = file.iso",
            "md5sum: {}",
            "integrity sha512-{}",
            "--hash=sha256:{}",
        ),
        "UUID": ("id: {}", "request {} done"),
        "date": ("[{}] started",),
        "time": ("{}.123 INFO ready",),
        "amount": ("total: {} EUR",),
        "identifier": ("from pkg import {}",),
        "constant": ("#define {} 1",),
        "path": ("open(/usr/share/{})",),
        "range": ("lines {}",),
    },
    sentences={
        "en": (
            ("the daemon", "this option", "each worker", "the parser", "a plugin", "the cache"),
            (
                "reads the settings",
                "waits for the lock",
                "writes a line",
                "drops old entries",
                "is off by default",
                "counts its retries",
            ),
            (
                "on startup;",
                "when asked to;",
                "unless told otherwise;",
                "every few minutes;",
                "without a restart;",
            ),
        ),
        **{language: PROSE.sentences[language] for language in ("de", "es")},
    },
    private_makers={
        "e-mail address": email,
        "telephone number": telephone,
        "IP address": ip_address,
        "street address": street,
        "key or secret": key,
    },
    harmless_makers={
        **PROSE.harmless_makers,
        "version": lambda random: ".".join(number(0, 30, random) for _ in range(4)),
        "clause": lambda random: ".".join(number(1, 9, random) for _ in range(4)),
        "checksum": lambda random: symbols(HEXADECIMAL, int(random.choice([32, 64])), random),
        "constant": lambda random: "MAX_" + "_".join(pick(HOSTS, random).upper() for _ in range(3)),
        "path": lambda random: (
            "/".join(pick(HOSTS, random) for _ in range(4)) + f"/v{number(1, 9, random)}"
        ),
    },
)
