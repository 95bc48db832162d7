"""Small piles of documents, the same for every seed."""

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from interp.curation import Document, Pipeline, Skipped, Step, make_document, run_pipeline
from interp.curation.documents import HTML, MARKDOWN

WORDS = [
    "the",
    "river",
    "carries",
    "old",
    "boats",
    "past",
    "a",
    "quiet",
    "town",
    "where",
    "people",
    "read",
    "letters",
    "and",
    "write",
    "books",
    "about",
    "weather",
    "trains",
    "gardens",
    "winter",
    "music",
    "bread",
    "and",
    "long",
    "roads",
    "that",
    "nobody",
    "walks",
    "in",
    "the",
    "evening",
]


def sentences(count: int, seed: int) -> str:
    rng = random.Random(seed)
    made = (" ".join(rng.choice(WORDS) for _ in range(12)) for _ in range(count))
    return "\n".join(sentence.capitalize() + "." for sentence in made)


def mixed_pile() -> list[Document | Skipped]:
    """Thirty documents with copies, near copies, private strings, pages and a notice."""
    pile: list[Document | Skipped] = [
        make_document(f"prose/{n:02}.txt", sentences(12, n)) for n in range(24)
    ]
    pile += [
        make_document("copy.txt", sentences(12, 3)),
        make_document("near.txt", sentences(12, 4) + "\nAnd one more line."),
        make_document("short.txt", "Too short."),
        make_document("mail.txt", sentences(12, 40) + "\nWrite to ann.lee@corp.org at once.\r\n"),
        make_document("page.html", page(sentences(20, 41)), HTML),
        make_document(
            "notes.md", f"# Notes\n\nSee [this](http://x.org/a). {sentences(9, 42)}", MARKDOWN
        ),
        Skipped("picture.png", "is a picture"),
    ]
    return pile


def page(text: str) -> str:
    paragraphs = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    menu = "<nav><a href='/'>Home</a><a href='/b'>Shop</a></nav>"
    return f"<html><body>{menu}<article>{paragraphs}</article></body></html>"


def pipeline_of(*functions: Callable[[Iterable[Document]], Iterator[Document]]) -> Pipeline:
    """Some functions as a pipeline, with the split at its end."""
    own = tuple(Step(function.__name__, function) for function in functions)
    return Pipeline((*own, Pipeline.default().steps[-1]))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The texts of a curated folder."""
    return {part: (folder / f"{part}.txt").read_bytes() for part in ("train", "val")}


__all__ = ["bytes_of", "mixed_pile", "page", "pipeline_of", "run_pipeline", "sentences"]
