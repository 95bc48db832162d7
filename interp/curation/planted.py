"""Documents of which everything is known that a pipeline should find.

    planted = plant_documents(seed=0)
    planted[0].spans              # what is private in it, to the character
    planted[0].fault              # why it should go; empty where it should stay

Made by a seeded generator from words and templates of our own (``planted_words``), with things that
only look private: version numbers, ISBNs, checksums, commits, times.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from interp.curation.planted_words import (
    BOILERPLATE,
    LICENCES,
    PROSE,
    Random,
    Style,
    pick,
    symbols,
)
from interp.errors import UsageError

ENGLISH = "en"
EXACT, NEAR = "exact duplicate", "near duplicate"
DUPLICATES = (EXACT, NEAR)
SHORT, GIBBERISH, FOREIGN = "too short", "gibberish", "another language"
SENTENCES = 24  # of a document


@dataclass(frozen=True)
class Span:
    """Something private in a document.

    Args:
        kind: as the finders name it.
        start, stop: where it stands, in characters.
    """

    kind: str
    start: int
    stop: int


@dataclass(frozen=True)
class PlantedDocument:
    """A document of which everything is known.

    Args:
        source: its name.
        text: as it would be read.
        spans: what is private in it.
        harmless: where things stand that only look so.
        language: of its sentences.
        fault: why it should not be trained on; empty where it should.
        original: of a duplicate, the source that it was made from.
        boilerplate: lines round its text that are none of it, and ``paragraphs`` that are.
        licence: whose notice it carries; empty where none.
    """

    source: str
    text: str
    spans: tuple[Span, ...] = ()
    harmless: tuple[Span, ...] = ()
    language: str = ENGLISH
    fault: str = ""
    original: str = ""
    boilerplate: tuple[str, ...] = ()
    paragraphs: tuple[str, ...] = ()
    licence: str = ""


def plant_documents(
    seed: int = 0, *, size: int = 8, style: Style = PROSE, per_document: int = 5
) -> tuple[PlantedDocument, ...]:
    """The documents, always the same for one seed; their order is no hint.

    Args:
        seed: of all that is drawn.
        size: how many of each sort: with private data, exact and near duplicates, short ones,
            gibberish, web pages, with a licence notice, in each other language; and four times as
            many with nothing of these.
        style: the way of writing.
        per_document: of each kind, the private strings in a document that has any, and as many
            that only look so.

    Raises:
        UsageError: a size below 1.
    """
    if size < 1 or per_document < 1:
        raise UsageError(f"size is {size} and per_document {per_document}: each is at least 1")
    random = np.random.default_rng(seed)
    plain = [
        PlantedDocument(f"plain/{at}.txt", write_prose(style, ENGLISH, SENTENCES, random))
        for at in range(4 * size)
    ]
    private = [with_private(f"letters/{at}.txt", style, per_document, random) for at in range(size)]
    originals = [plain[int(at)] for at in random.permutation(len(plain))[: 2 * size]]
    made = [
        *plain,
        *private,
        *(copy_exactly(one) for one in originals[:size]),
        *(copy_nearly(one, random) for one in originals[size:]),
        *faulty(style, size, random),
        *(with_boilerplate(f"pages/{at}.html", style, random) for at in range(size)),
        *(with_licence(f"code/{at}.txt", style, at, random) for at in range(size)),
    ]
    return tuple(made[int(place)] for place in random.permutation(len(made)))


def write_prose(style: Style, language: str, count: int, random: Random) -> str:
    """Sentences in paragraphs of four."""
    written = [
        " ".join(pick(part, random) for part in style.sentences[language]) for _ in range(count)
    ]
    return set_in_paragraphs(written)


def set_in_paragraphs(written: Sequence[str]) -> str:
    return "\n\n".join(" ".join(written[at : at + 4]) for at in range(0, len(written), 4)) + "\n"


def with_private(source: str, style: Style, per_document: int, random: Random) -> PlantedDocument:
    """Letters with private strings and such as only look so, a line each, in any order."""
    lines = [kind for kind in style.private for _ in range(per_document)]
    lines += [what for what in style.harmless for _ in range(max(1, per_document // 2))]
    carriers = {**style.harmless, **style.private}
    makers = {**style.harmless_makers, **style.private_makers}
    text, spans = "", []
    for place in random.permutation(len(lines)):
        kind = lines[int(place)]
        before, after = pick(carriers[kind], random).split("{}")
        value = makers[kind](random)
        start = len(text) + len(before)
        spans.append(Span(kind, start, start + len(value)))
        text += f"{before}{value}{after} {write_prose(style, ENGLISH, 1, random)}"
    return PlantedDocument(
        source,
        text,
        spans=tuple(one for one in spans if one.kind in style.private),
        harmless=tuple(one for one in spans if one.kind not in style.private),
    )


def copy_exactly(one: PlantedDocument) -> PlantedDocument:
    return replace(one, source=f"copies/{one.source}", fault=EXACT, original=one.source)


def copy_nearly(one: PlantedDocument, random: Random) -> PlantedDocument:
    """The same with two words in place of others."""
    words = re.split(r"(\s+)", one.text)
    written = [place for place, word in enumerate(words) if word.strip()]
    for place, word in zip(random.permutation(written)[:2], ("later", "again"), strict=True):
        words[int(place)] = word
    text = "".join(words)
    return replace(one, source=f"variants/{one.source}", text=text, fault=NEAR, original=one.source)


def faulty(style: Style, size: int, random: Random) -> Iterator[PlantedDocument]:
    short: dict[str, None] = {}
    while len(short) < size:  # each once: no duplicate is planted by chance
        short[write_prose(style, ENGLISH, 1, random)] = None
    for at, text in enumerate(short):
        yield PlantedDocument(f"notes/{at}.txt", text, fault=SHORT)
        yield PlantedDocument(f"dumps/{at}.txt", gibberish(random), fault=GIBBERISH)
        for language in (one for one in style.sentences if one != ENGLISH):
            yield PlantedDocument(
                f"abroad/{language}{at}.txt",
                write_prose(style, language, SENTENCES, random),
                language=language,
                fault=FOREIGN,
            )


def gibberish(random: Random) -> str:
    """What a broken export leaves: letters, digits and signs without words."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789#%&/=?;:~|<>^"
    lengths = random.integers(2, 14, size=160)
    return " ".join(symbols(alphabet, int(length), random) for length in lengths) + "\n"


def with_boilerplate(source: str, style: Style, random: Random) -> PlantedDocument:
    """A web page: its text among what stands on every page of the place."""
    head, cookies, letter, foot = BOILERPLATE
    body = tuple(write_prose(style, ENGLISH, SENTENCES, random).strip().split("\n\n"))
    title = f"About {pick(style.sentences[ENGLISH][0], random).lower()}"
    page = (
        f"<!doctype html><html><head><title>{title}</title><style>p {{ margin: 1em }}</style>"
        f"<script>var visits = 1;</script></head><body>\n<nav><ul><li>{head}</li></ul></nav>\n"
        f'<div class="cookie-banner">{cookies}</div>\n<main><article><h1>{title}</h1>\n'
        + "".join(f"<p>{html.escape(one)}</p>\n" for one in body)
        + f"</article></main>\n<aside>{letter}</aside>\n<footer>{foot}</footer></body></html>\n"
    )
    return PlantedDocument(source, page, boilerplate=BOILERPLATE, paragraphs=body)


def with_licence(source: str, style: Style, at: int, random: Random) -> PlantedDocument:
    name = tuple(LICENCES)[at % len(LICENCES)]
    text = f"{LICENCES[name]}\n\n{write_prose(style, ENGLISH, SENTENCES, random)}"
    return PlantedDocument(source, text, licence=name)
