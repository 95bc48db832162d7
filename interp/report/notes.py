"""How does an author's prose come into a report, with numbers that cannot drift from the data?

Notes are Markdown. A first- or second-level heading names a place in the page: under the title of
one of its parts, or ``Summary``, the prose opens that part; any other heading makes a part of its
own, right after the part that the headings before it have come to. What stands before the first
heading opens the summary. HTML is shown as text, links lead to http, https, ``#places`` of the page
or relative paths, pictures are PNG or SVG files in the notes' folder or below it and become part of
the page.

    Without the residual the loss stays at {{ course.no_residual.val_best:.2f }} nats.

A reference names a run or its experiment, a row and a column, and may end in a format as Python's
``format`` takes it; in code it stays as it is written. One that names nothing is an error.

    notes = read_notes(Path("notes.md"), numbers)
    write_report(path, place_notes(page, notes))
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup, escape

from interp.characters import visible
from interp.errors import UsageError, nearest
from interp.report.page import Page
from interp.report.sections import Section, data_url, text_of_cell

Numbers = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""By run, row and column: what can be quoted."""

REFERENCE = re.compile(r"\{\{[ \t]*([^{}\n]+?)[ \t]*\}\}")
LISTED = 12  # names in an error message
FRONT = "Summary"


@dataclass(frozen=True)
class Note:
    """The prose under one heading.

    Attributes:
        heading: as plain text; empty before the first one.
        prose: harmless markup.
    """

    heading: str
    prose: Markup


def read_notes(path: Path, numbers: Numbers) -> list[Note]:
    """The notes in a file, their references resolved.

    Raises:
        UsageError: the file cannot be read; a reference names nothing; a picture is not beside it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the notes {path}: {error}") from error
    return notes_of(text, numbers, path)


def notes_of(text: str, numbers: Numbers, path: Path = Path("notes.md")) -> list[Note]:
    """The notes in a text; ``path`` is where pictures are sought, and is named in errors."""
    markdown = parser()
    tokens = markdown.parse(visible(text.replace("\r\n", "\n")))
    for line, token in inline_tokens(tokens):
        where = f"{path.name}, line {line}"
        if token.type == "reference":
            token.content = quoted(token.content, numbers, where)
        elif token.type == "image":
            token.attrs["src"] = picture(str(token.attrs["src"]), path.parent, where)
    notes: list[Note] = []
    for heading, content in by_heading(tokens):
        prose = markdown.renderer.render(content, markdown.options, {})
        if heading or prose:
            notes.append(Note(heading, Markup(prose)))
    return notes


def place_notes(page: Page, notes: Sequence[Note]) -> Page:
    """The page with the notes where their headings say."""
    parts, prose = list(page.parts), dict(page.prose)
    fixed = {fold_title(name): name for name in (FRONT, "Limitations", "Provenance")}
    at = 0  # where the next part of its own goes
    for note in notes:
        key = fold_title(note.heading)
        titles = [fold_title(part.title) for part in parts]
        if key in titles:
            title, at = parts[titles.index(key)].title, titles.index(key) + 1
        elif key in fixed or not key:
            title = fixed.get(key, FRONT)
            at = at if title == FRONT else len(parts)
        else:
            parts.insert(at, Section(note.heading, note.prose))
            at += 1
            continue
        prose[title] = prose.get(title, Markup("")) + note.prose
    return replace(page, parts=parts, prose=prose)


def quoted(reference: str, numbers: Numbers, where: str) -> str:
    """What a reference stands for.

    Raises:
        UsageError: it names nothing, or the value does not take the format.
    """
    value = looked_up(reference, numbers)
    if not isinstance(value, Unknown):
        return text_of_cell(value)
    name, colon, form = reference.rpartition(":")
    if colon:
        formatted = looked_up(name, numbers)
        if not isinstance(formatted, Unknown):
            try:
                return format(formatted, form.strip())
            except (ValueError, TypeError) as error:
                raise UsageError(f"{where}: {{{{ {reference} }}}}: {error}") from error
        value = formatted
    raise UsageError(
        f"{where}: {{{{ {reference} }}}} is no number of these runs; nearest: "
        f"{nearest(name if colon else reference, (full for full, _ in references(numbers)))}; "
        f"{value.there_is}; --references lists all"
    )


def references(numbers: Numbers) -> Iterator[tuple[str, Any]]:
    """Everything that can be quoted, with its value."""
    for run, rows in numbers.items():
        for row, columns in rows.items():
            for column, value in columns.items():
                yield f"{run}.{row}.{column}", value


@dataclass(frozen=True)
class Unknown:
    """How far a reference could be followed."""

    there_is: str


def looked_up(reference: str, numbers: Numbers) -> Any:
    """The value, or ``Unknown``. Names may hold dots: the longest that fits is taken."""
    run = begins(reference, numbers)
    if run is None:
        return Unknown(f"the runs are {list_some(numbers)}")
    rest = reference[len(run) + 1 :]
    row = begins(rest, numbers[run])
    if row is None:
        return Unknown(f"the rows of {run} are {list_some(numbers[run])}")
    columns, column = numbers[run][row], rest[len(row) + 1 :]
    if column not in columns:
        return Unknown(f"the columns of {run}.{row} are {list_some(columns)}")
    return columns[column]


def begins(reference: str, names: Iterable[str]) -> str | None:
    fitting = [name for name in names if reference.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def list_some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def parser() -> MarkdownIt:
    """CommonMark with tables and references, without HTML."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.inline.ruler.before("escape", "reference", reference_rule)
    markdown.add_render_rule("reference", rendered_reference)
    markdown.validateLink = allowed  # type: ignore[method-assign]
    return markdown


def reference_rule(state: StateInline, silent: bool) -> bool:
    found = REFERENCE.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("reference", "", 0).content = found[1]
    state.pos = found.end()
    return True


def rendered_reference(_: Any, tokens: Sequence[Token], at: int, *__: Any) -> str:
    return str(escape(tokens[at].content))


def allowed(url: str) -> bool:
    """Whether a link leads to the web, to a place in the page, or to a file beside it."""
    plain = re.sub(r"[\x00-\x20]", "", url).lower()
    if plain.startswith(("//", "\\", "%5c")):
        return False
    scheme = re.match(r"([^/?#]*?):", plain)
    return scheme is None or scheme[1] in ("http", "https")


def inline_tokens(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """What stands in paragraphs, headings and cells, with the line on which those begin."""
    line = 1
    for block in tokens:
        line = block.map[0] + 1 if block.map else line
        for token in block.children or ():
            yield line, token


def picture(source: str, folder: Path, where: str) -> str:
    """A picture beside the notes, as a URL that holds it.

    Markdown percent-encodes what it parses as a link; a file may also be named by the encoded form.
    """
    named = [unquote(source), source]
    beside = folder.resolve()
    paths = [(beside / name).resolve() for name in named if "\0" not in name]
    web = re.match(r"[A-Za-z][\w+.-]*:", source) or source.startswith(("/", "\\"))
    if web or not paths or not all(path.is_relative_to(beside) for path in paths):
        raise UsageError(
            f"{where}: the picture {named[0]} is not beside the notes, and a report asks no "
            "network: save it there"
        )
    found = [path for path in paths if is_file(path)]
    return data_url(named[0], found[0] if found else folder / named[0])


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def by_heading(tokens: Sequence[Token]) -> Iterator[tuple[str, list[Token]]]:
    """The blocks under each first- or second-level heading, the first those before any."""
    heading, content = "", list[Token]()
    rest = iter(tokens)
    for token in rest:
        if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0:
            yield heading, content
            heading, content = heading_text(next(rest)), []
            next(rest)  # where it closes
        else:
            content.append(token)
    yield heading, content


def heading_text(heading: Token) -> str:
    kinds = ("text", "reference", "code_inline")
    return "".join(token.content for token in heading.children or () if token.type in kinds)


def fold_title(title: str) -> str:
    return " ".join(title.casefold().split())
