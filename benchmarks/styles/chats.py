"""A third way of writing: what people type to each other, with pictures and orders in it."""

import base64
import string

from benchmarks.styles.logs import LOGS
from interp.curation.planted_words import (
    ALPHANUMERIC,
    FIRST,
    HEXADECIMAL,
    HOSTS,
    PROSE,
    Random,
    Style,
    number,
    pick,
    symbols,
)


def email(random: Random) -> str:
    name = pick(FIRST, random).title() + pick(("", ".", "_"), random) + symbols("xyz", 2, random)
    return f"{name}@{pick(HOSTS, random).title()}.{pick(('se', 'co.jp', 'eu', 'Com'), random)}"


def telephone(random: Random) -> str:
    three, four = number(220, 990, random), number(1000, 9999, random)
    forms = f"1-206-{three}-{four}", f"(404){three}-{four}", f"+1.312.{three}.{four}"
    return pick((*forms, f"+44 (0)20 7{three} {four}", f"0131 4{three[:2]} {four}"), random)


def key(random: Random) -> str:
    groups = "-".join(symbols(string.ascii_lowercase + string.digits, 8, random) for _ in range(4))
    return pick(
        (
            "glpat-" + symbols(ALPHANUMERIC, 20, random),
            "npm_" + symbols(ALPHANUMERIC, 36, random),
            symbols(HEXADECIMAL, 48, random),
            base64.b64encode(random.bytes(30)).decode(),
            groups,
        ),
        random,
    )


CHATS = Style(
    private={
        "e-mail address": ("mail me, {}!", "cc {} pls", "{} bounced again"),
        "telephone number": ("my cell: {}", "ring me on {} ok?", "new nr {} from monday"),
        "IP address": ("ping {} times out", "the box is {} :)", "ssh root@{} works"),
        "street address": ("party at {}, 8pm", "we're {} now", "pick me up: {}"),
        "key or secret": ("here's the token {}", "my password is {}", "use key {} for now"),
    },
    harmless={
        "version": ("the app store has version {}", "v{} is out"),
        "commit": ("git show {}", "bisect says {} is bad", "fixed in {} btw"),
        "image": ("docker pull app@sha256:{}",),
        "order": ("order {} shipped", "my ticket nr is {}"),
        "card": ("test card {} fails",),
        "place": ("meet at {}?",),
        "ISBN": ("isbn {} if you want it",),
        "street": ("they sang {}",),
        "picture": ('<img src="data:image/png;base64,{}">',),
        "article": ("read doi:{}",),
    },
    sentences={
        "en": (
            ("lol", "ok so", "honestly", "btw", "anyway"),
            (
                "the build is green",
                "lunch was great",
                "my cat sleeps",
                "the meeting moved",
                "i am late",
            ),
            ("again", "as always", "for real", "no idea why", "today"),
        )
    },
    private_makers={
        **LOGS.private_makers,
        "e-mail address": email,
        "telephone number": telephone,
        "key or secret": key,
    },
    harmless_makers={
        **PROSE.harmless_makers,
        "image": lambda random: symbols(HEXADECIMAL, 64, random),
        "order": lambda random: number(2_000_000_000, 9_999_999_999, random),
        "card": lambda random: "4111 " + " ".join(number(1000, 9999, random) for _ in range(3)),
        "place": lambda random: (
            f"{number(10, 89, random)}.{number(1000, 9999, random)}, 0.{number(100, 999, random)}"
        ),
        "street": lambda random: pick(("Penny Lane", "Abbey Road", "Baker Street"), random),
        "picture": lambda random: base64.b64encode(random.bytes(90)).decode(),
        "article": lambda random: (
            f"10.{number(1000, 9999, random)}/{number(100, 999, random)}.{number(10, 99, random)}"
        ),
    },
)
