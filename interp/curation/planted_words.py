"""What are planted documents made of?

Words, sentences and made-up values of our own: nobody's address, number or key. A style is one way
of writing; precision and recall hold for styles like it, which is why tests bring another.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import phonenumbers

Random = np.random.Generator
Maker = Callable[[Random], str]

FIRST = (
    "anna",
    "ben",
    "carla",
    "david",
    "emre",
    "fatima",
    "greta",
    "hugo",
    "ines",
    "jonas",
    "keiko",
)
LAST = (
    "abel",
    "brandt",
    "castro",
    "dubois",
    "evans",
    "fischer",
    "gruber",
    "hansen",
    "ito",
    "keller",
)
HOSTS = (
    "harbour",
    "lindgren",
    "oakfield",
    "quarry",
    "riverside",
    "solaris",
    "tidewater",
    "windmill",
)
ENDS = ("com", "org", "net", "de", "co.uk", "ac.uk", "io", "edu")
STREETS = ("Baker", "Chestnut", "Elm", "Garden", "Hill", "Mill", "Station", "Victoria", "Willow")
AREAS = ("212", "312", "415", "617", "718", "206", "404")
HEXADECIMAL, ALPHANUMERIC = "0123456789abcdef", string.ascii_letters + string.digits
"""First names to ``AREAS`` (of telephone numbers in the United States) are lists to draw from."""


def pick(choices: Sequence[str], random: Random) -> str:
    return choices[int(random.integers(len(choices)))]


def symbols(alphabet: str, count: int, random: Random) -> str:
    return "".join(alphabet[place] for place in random.integers(len(alphabet), size=count))


def number(low: int, high: int, random: Random) -> str:
    return str(int(random.integers(low, high)))


def make_email(random: Random) -> str:
    first, last, host = pick(FIRST, random), pick(LAST, random), pick(HOSTS, random)
    name = pick((f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last}", f"{last}+list"), random)
    place = pick((host, f"mail.{host}", f"{host}-{pick(HOSTS, random)}"), random)
    return f"{name}@{place}.{pick(ENDS, random)}"


def make_telephone(random: Random) -> str:
    """One that could be somebody's: its length and beginning are valid where it is from."""
    while True:
        area, three, four = (
            pick(AREAS, random),
            number(220, 990, random),
            number(1000, 9999, random),
        )
        eight = number(2000, 9999, random), number(1000, 9999, random)
        shown = pick(
            (
                f"({area}) {three}-{four}",
                f"{area}-{three}-{four}",
                f"+1 {area} {three} {four}",
                f"+44 20 7{eight[0][1:]} {eight[1]}",
                f"020 7{eight[0][1:]} {eight[1]}",
                f"+49 30 {eight[0]}{eight[1][:2]}",
                f"+33 1 {eight[0][:2]} {eight[0][2:]} {eight[1][:2]} {eight[1][2:]}",
            ),
            random,
        )
        region = "GB" if shown.startswith("0") else "US"
        if phonenumbers.is_valid_number(phonenumbers.parse(shown, region)):
            return shown


def make_ip_address(random: Random) -> str:
    if random.random() < 0.75:
        first = pick(("10", "192", "172", "81", "93", "130", "151", "185"), random)
        return ".".join([first, *(number(0, 256, random) for _ in range(3))])
    groups = [symbols(HEXADECIMAL, 4, random) for _ in range(4)]
    return f"2a02:{groups[0]}:{groups[1]}::{groups[2]}:{groups[3]}"


def make_street(random: Random) -> str:
    name, house = pick(STREETS, random), number(2, 240, random)
    kind = pick(("Street", "Road", "Avenue", "Lane", "St", "Drive", "Terrace"), random)
    german = pick(("Linden", "Garten", "Schiller", "Bahnhof"), random) + pick(
        ("straße", "weg", "platz", "str."), random
    )
    french = f"{house} rue de {pick(('Paris', 'Lyon', 'Rivoli', 'Nantes'), random)}"
    return pick(
        (f"{house} {name} {kind}", f"{house} {name} {kind}", f"{german} {house}", french), random
    )


def make_key(random: Random) -> str:
    upper = string.ascii_uppercase + "234567"
    return pick(
        (
            "AKIA" + symbols(upper, 16, random),
            "ghp_" + symbols(ALPHANUMERIC, 36, random),
            "sk_live_" + symbols(ALPHANUMERIC, 24, random),
            f"xoxb-{number(10**11, 10**12, random)}-{symbols(ALPHANUMERIC, 24, random)}",
            symbols(ALPHANUMERIC, 40, random),
            symbols(HEXADECIMAL, 40, random),
        ),
        random,
    )


PRIVATE: Mapping[str, Maker] = {
    "e-mail address": make_email,
    "telephone number": make_telephone,
    "IP address": make_ip_address,
    "street address": make_street,
    "key or secret": make_key,
}
"""By kind, as the finders name them."""


def make_version(random: Random) -> str:
    return ".".join(number(0, 20, random) for _ in range(4))


def make_isbn(random: Random) -> str:
    """With its check digit."""
    digits = "978" + symbols(string.digits, 9, random)
    total = sum(int(one) * (1, 3)[place % 2] for place, one in enumerate(digits))
    parts = digits[:3], digits[3], digits[4:8], digits[8:12], str(-total % 10)
    return "-".join(parts)


def make_uuid(random: Random) -> str:
    return "-".join(symbols(HEXADECIMAL, count, random) for count in (8, 4, 4, 4, 12))


HARMLESS: Mapping[str, Maker] = {
    "version": make_version,
    "ISBN": make_isbn,
    "commit": lambda random: symbols(HEXADECIMAL, 40, random),
    "checksum": lambda random: symbols(HEXADECIMAL, 64, random),
    "UUID": make_uuid,
    "date": lambda random: (
        f"{number(1990, 2030, random)}-0{number(1, 10, random)}-1{number(0, 10, random)}"
    ),
    "time": lambda random: (
        f"1{number(0, 10, random)}:{number(10, 60, random)}:{number(10, 60, random)}"
    ),
    "amount": lambda random: (
        f"{number(1, 10, random)},{number(100, 1000, random)},{number(100, 1000, random)}.50"
    ),
    "web address": lambda random: (
        f"https://example.com/{pick(HOSTS, random)}/{number(1, 999, random)}"
    ),
    "handle": lambda random: f"@{pick(FIRST, random)}",
    "identifier": lambda random: (
        f"get_{pick(HOSTS, random)}_by_{pick(LAST, random)}_and_{pick(FIRST, random)}"
    ),
    "range": lambda random: f"{number(100, 999, random)}-{number(1000, 2000, random)}",
}
"""What only looks private, by what it is."""


@dataclass(frozen=True)
class Style:
    """One way of writing.

    Args:
        private: by kind, sentences with ``{}`` where something private stands.
        harmless: by what it is, sentences with ``{}`` where something stands that only looks so.
        sentences: by language, beginnings, middles and ends of sentences with nothing of either.
        private_makers, harmless_makers: what stands there.
    """

    private: Mapping[str, Sequence[str]]
    harmless: Mapping[str, Sequence[str]]
    sentences: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[str]]]
    private_makers: Mapping[str, Maker] = field(default_factory=lambda: PRIVATE)
    harmless_makers: Mapping[str, Maker] = field(default_factory=lambda: HARMLESS)


PROSE = Style(
    private={
        "e-mail address": (
            "Please write to {} before the end of the month.",
            "Her new address is {}, she told me.",
            "Questions go to <{}>; answers take a week.",
        ),
        "telephone number": (
            "You can call us at {} in the afternoon.",
            "His telephone number is {}.",
            "For a table, ring {} and ask for the garden.",
        ),
        "IP address": (
            "The server was reached from {} last night.",
            "It listens on {} for visitors.",
            "We blocked {}, which had asked too often.",
        ),
        "street address": (
            "The shop moved to {} in spring.",
            "They have lived at {} for years.",
            "Send the parcel to {}, second floor.",
        ),
        "key or secret": (
            "Someone had left the key {} in the letter.",
            "The token {} was revoked the same day.",
            "api_key = {}",
        ),
    },
    harmless={
        "version": (
            "The program is at version {} now.",
            "Release {} repaired the clock.",
            "See section {} of the manual.",
        ),
        "ISBN": ("The book (ISBN {}) is out of print.", "Order it by its ISBN, {}."),
        "commit": ("It broke with commit {}.", "The fix is in revision {} of the tree."),
        "checksum": ("Its checksum, sha256:{}, was printed below.", "The SHA-256 hash is {}."),
        "UUID": ("The record {} had been empty.",),
        "date": ("It opened on {} in the rain.",),
        "time": ("The train left at {} sharp.",),
        "amount": ("The bridge cost {} in all.",),
        "web address": ("More stands at {} for those who ask.",),
        "handle": ("Thanks to {} for the photographs.",),
        "identifier": ("Then call {} with the list.",),
        "range": ("It is told on pages {} of the old edition.",),
    },
    sentences={
        "en": (
            ("The gardener", "My neighbour", "A young teacher", "The old miller", "Our captain",
             "The woman at the counter", "His brother", "The clerk from the north"),
            ("carried the basket", "waited a long while", "looked for the lost letter",
             "told a story", "counted the boats", "repaired the wooden gate",
             "sang to the children",
             "kept a small notebook", "sold apples and bread", "walked without a word"),
            ("beside the river.", "until the lamps were lit.", "behind the tall church.",
             "while the snow was falling.", "because nobody else would.",
             "on the road to the coast.",
             "before the market opened.", "and thought of the summer.", "with a quiet smile."),
        ),
        "de": (
            ("Der Gärtner", "Meine Nachbarin", "Ein junger Lehrer", "Die alte Müllerin",
             "Unser Kapitän", "Sein Bruder"),
            ("trug den schweren Korb", "wartete eine lange Zeit", "suchte den verlorenen Brief",
             "erzählte eine Geschichte", "zählte die kleinen Boote", "reparierte das hölzerne Tor"),
            ("am Ufer des Flusses.", "bis die Lampen brannten.", "hinter der hohen Kirche.",
             "während der Schnee fiel.", "weil es sonst niemand wollte."),
        ),
        "fr": (
            ("Le jardinier", "Ma voisine", "Un jeune professeur", "La vieille meunière",
             "Notre capitaine", "Son frère"),
            ("portait le panier", "attendait depuis longtemps", "cherchait la lettre perdue",
             "racontait une histoire", "comptait les bateaux", "réparait la porte de bois"),
            ("au bord de la rivière.", "jusqu'à ce que les lampes brûlent.",
             "derrière la grande église.", "pendant que la neige tombait.",
             "parce que personne ne le voulait."),
        ),
        "es": (
            ("El jardinero", "Mi vecina", "Un joven maestro", "La vieja molinera",
             "Nuestro capitán", "Su hermano"),
            ("llevaba la cesta", "esperaba desde hacía tiempo", "buscaba la carta perdida",
             "contaba una historia", "contaba los barcos", "reparaba la puerta de madera"),
            ("a la orilla del río.", "hasta que encendieron las lámparas.",
             "detrás de la iglesia grande.", "mientras caía la nieve.", "porque nadie más quería."),
        ),
    },
)  # fmt: skip
"""Letters and stories."""

LICENCES: Mapping[str, str] = {
    "MIT": (
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this "
        'software and associated documentation files (the "Software"), to deal in the Software '
        "without restriction, including without limitation the rights to use, copy, modify, merge, "
        "publish, distribute, sublicense, and/or sell copies of the Software."
    ),
    "Apache-2.0": (
        'Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file '
        "except in compliance with the License. You may obtain a copy of the License at "
        "http://www.apache.org/licenses/LICENSE-2.0"
    ),
    "GPL-3.0-or-later": (
        "This program is free software: you can redistribute it and/or modify it under the terms "
        "of the GNU General Public License as published by the Free Software Foundation, either "
        "version 3 of the License, or (at your option) any later version."
    ),
}
"""Notices as they stand above files, by SPDX identifier."""

BOILERPLATE = (
    "Home | About | Contact | Sitemap",
    "We use cookies to improve your experience. Accept all | Settings",
    "Subscribe to our newsletter",
    "Copyright 2024. All rights reserved. Privacy policy | Terms of use",
)
"""What stands round the text of a web page."""
