"""A pile of real documents that every Python has at hand, with nothing cleaned.

    pile = built_in_pile()
    len(pile.documents), pile.characters, pile.sha256[:12]

Python's documentation (``pydoc_data``), the docstrings of its standard library and the texts that
ship beside it; of every package installed its licences, its description and its notes to readers.
The same licence comes many times over, READMEs hold the addresses of their authors, lists of
authors little else. Nothing is downloaded. What there is depends on what is installed: ``sha256``
says which pile it was.
"""

import ast
import hashlib
import importlib.metadata
import os
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics

from interp.curation.documents import MARKDOWN, TEXT, Document, Skipped, identify_document
from interp.errors import UsageError

OURS = "nanogpt-interp"  # whose own README would make another pile with every change
LICENCE = re.compile(r"(?:licen[cs]e|copying|notice)", re.IGNORECASE)
FOR_READERS = re.compile(r"(?:authors|contributors|readme|changelog|history|news)", re.IGNORECASE)
SUFFIXES = {"": TEXT, ".txt": TEXT, ".rst": TEXT, ".md": MARKDOWN, ".markdown": MARKDOWN}
FOREIGN = {"site-packages", "dist-packages", "test", "tests"}  # of the standard library's folder
LONGEST = 40_000  # bytes of a document in a demonstration: some are collections of a megabyte
DEMO_BYTES = {
    "documentation": 400_000,
    "docstrings": 200_000,
    "licences": 320_000,
    "descriptions": 260_000,
    "notes": 120_000,
}
"""About as much as a demonstration takes of each sort."""


@dataclass(frozen=True)
class Pile:
    """Documents as they are, and what could not be read.

    Args:
        documents: by source.
        skipped: with the reason.
        sha256: of all sources and bytes.
    """

    documents: tuple[Document, ...]
    skipped: tuple[Skipped, ...]
    sha256: str

    @property
    def characters(self) -> int:
        return sum(len(document.text) for document in self.documents)


@dataclass(frozen=True)
class PileFile:
    """Where a document is.

    Args:
        source: what it is called in the pile.
        kind: of its text.
        read: gives its bytes.
    """

    source: str
    kind: str
    read: Callable[[], bytes]


def built_in_pile(size: str = "demo") -> Pile:
    """The pile of this Python and of what is installed in it.

    Args:
        size: ``demo`` takes some 1.3 million characters, the same ones each time, of each sort of
            document a share; ``all`` takes everything.

    Raises:
        UsageError: another size.
    """
    if size not in ("demo", "all"):
        raise UsageError(f"the built-in pile's size is {size!r}; it must be 'demo' or 'all'")
    documents: list[Document] = []
    skipped: list[Skipped] = []
    for sort, list_places in SORTS.items():
        taken = 0
        for place in sorted(list_places(), key=draw_order):
            if size == "demo" and taken >= DEMO_BYTES[sort]:
                break
            read = read_place(place)
            if isinstance(read, Skipped):
                skipped.append(read)
            elif read.text.strip() and (size == "all" or read.size <= LONGEST):
                documents.append(read)
                taken += read.size
    documents.sort(key=lambda document: (document.source, document.id))
    digest = hashlib.sha256()
    for document in documents:
        digest.update(f"{document.source}\0{document.id}\0".encode("utf-8", "surrogatepass"))
    skipped.sort(key=lambda one: one.source)
    return Pile(tuple(documents), tuple(skipped), digest.hexdigest())


def draw_order(place: PileFile) -> str:
    """As good as drawn, and the same each time, whatever else is installed."""
    return hashlib.sha256(place.source.encode("utf-8", "surrogatepass")).hexdigest()


def read_place(place: PileFile) -> Document | Skipped:
    try:
        data = place.read()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return Skipped(place.source, f"cannot be read ({reason})")
    if b"\0" in data:
        return Skipped(place.source, "is no text: it holds a zero byte")
    for encoding in ("utf-8", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        id = identify_document(place.source, data)
        return Document(id, place.source, place.kind, text, len(data), encoding)
    return Skipped(place.source, "is neither UTF-8 nor cp1252")


def documentation() -> Iterator[PileFile]:
    """The topics of the language reference. Some are sections of others."""
    for name, text in topics.items():
        yield PileFile(f"Python documentation {name}", TEXT, text.encode)


def docstrings() -> Iterator[PileFile]:
    """Of each module of the standard library that is written in Python, all docstrings."""
    for folder, path in files_of_python():
        if path.suffix == ".py":
            source = f"Python {folder}{path.name} docstrings"
            yield PileFile(source, TEXT, partial(docstrings_of, path))


def docstrings_of(path: Path) -> bytes:
    """Each docstring of a file below the name of what it describes; none where it is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return b""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = getattr(node, "name", path.stem)
            if said := ast.get_docstring(node):
                found.append((getattr(node, "lineno", 0), f"{name}\n\n{said}\n"))
    return "\n\n".join(text for _, text in sorted(found)).encode("utf-8", "surrogatepass")


def notes_of_python() -> Iterator[PileFile]:
    for folder, path in files_of_python():
        told = path.suffix in (".txt", ".rst") or path.name.startswith(("README", "LICENSE"))
        if told:
            yield PileFile(f"Python {folder}{path.name}", TEXT, path.read_bytes)


def files_of_python() -> Iterator[tuple[str, Path]]:
    """Each file of the standard library, with the folder in it that it is in."""
    start = sysconfig.get_path("stdlib")
    for folder, folders, names in os.walk(start):
        folders[:] = [name for name in folders if name not in FOREIGN]
        inside = Path(folder).relative_to(start).as_posix()
        for name in names:
            yield "" if inside == "." else f"{inside}/", Path(folder, name)


def files_of_packages(named: re.Pattern[str]) -> Iterator[PileFile]:
    for package in installed_packages():
        name = package.metadata["Name"]
        for file in (package.read_text("RECORD") or "").splitlines() if name != OURS else ():
            inside = file.split(",")[0]  # a name with a comma in it stands in quotes: none of ours
            base = inside.rpartition("/")[2]
            kind = SUFFIXES.get(os.path.splitext(base)[1].lower())  # noqa: PTH122, of 100,000 names
            if kind and named.match(base):
                path = Path(str(package.locate_file(inside)))
                source = re.sub(r"^[^/]*\.dist-info/", "", inside)
                yield PileFile(f"{name} {source}", kind, path.read_bytes)


def installed_packages() -> list[importlib.metadata.Distribution]:
    """The packages of this environment, each once. Others that a package brings along and puts
    within reach while it runs are none of it."""
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    found = importlib.metadata.distributions(path=list(folders))
    return list({package.metadata["Name"]: package for package in found}.values())


def descriptions() -> Iterator[PileFile]:
    """What each package says of itself, most often its README."""
    for package in installed_packages():
        name, metadata = package.metadata["Name"], package.metadata
        text = metadata.get_payload() or metadata.get("Description", "")  # type: ignore[attr-defined]
        markdown = "markdown" in metadata.get("Description-Content-Type", "")  # type: ignore[attr-defined]
        if name != OURS and isinstance(text, str) and text.strip():
            data = text.encode("utf-8", "surrogatepass")
            yield PileFile(
                f"{name} description", MARKDOWN if markdown else TEXT, partial(bytes, data)
            )


def notes() -> Iterator[PileFile]:
    yield from notes_of_python()
    yield from files_of_packages(FOR_READERS)


def licences() -> Iterator[PileFile]:
    return files_of_packages(LICENCE)


SORTS: dict[str, Callable[[], Iterator[PileFile]]] = {
    "documentation": documentation,
    "docstrings": docstrings,
    "licences": licences,
    "descriptions": descriptions,
    "notes": notes,
}
"""The sorts of documents, in the order in which they are looked for."""
