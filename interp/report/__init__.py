"""How does a run become a page that people read?

One HTML file that holds everything it shows: it opens from disk, asks no network, runs no script,
and shows whatever code, labels and titles contain as text.

    section = Section("No residual", "The loss stays at the unigram entropy.", figures, table, diff)
    write_report(run.folder / "report.html", title, question, [section], run.description)
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import inherit
from pygments.lexers.diff import DiffLexer
from pygments.token import Generic

from interp.characters import visible
from interp.errors import UsageError
from interp.runs import write_atomically


@dataclass(frozen=True)
class Section:
    """One part of a report, shown in this order.

    Attributes:
        title: its heading.
        text: plain paragraphs, set apart by blank lines.
        figures: captions with SVG or PNG content, or the path of such a file.
        table: a result table; its index is not shown.
        code: a unified diff.
    """

    title: str
    text: str = ""
    figures: Sequence[tuple[str, bytes | Path]] = ()
    table: pd.DataFrame | None = None
    code: str = ""


def write_report(
    path: Path,
    title: str,
    question: str,
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the page, all or nothing.

    Args:
        question: what the reader came to learn, in one sentence.
        provenance: what ``Run.description`` holds, or anything shaped like JSON. Its ``command`` is
            shown as the way to make the page again.

    Raises:
        UsageError: a figure is neither SVG nor PNG, or cannot be read; the page cannot be written.
    """
    page = template().render(
        title=title,
        question=question,
        parts=[part_of(section) for section in sections],
        command=provenance.get("command"),
        facts=[fact for fact in facts(provenance) if fact[0] != "command"],
    )
    return write_atomically(path, page.encode())


class Cell(NamedTuple):
    """A table's cell as it is shown."""

    text: str
    numeric: bool


class Part(NamedTuple):
    """A section as the template wants it: everything text, or markup made here."""

    title: str
    paragraphs: list[str]
    figures: list[tuple[str, str]]  # caption, data URL
    columns: list[Cell]
    rows: list[list[Cell]]
    diff: Markup


def part_of(section: Section) -> Part:
    columns, rows = cells(section.table)
    return Part(
        section.title,
        [part.strip() for part in re.split(r"\n\s*\n", section.text) if part.strip()],
        [(caption, data_url(caption, content)) for caption, content in section.figures],
        columns,
        rows,
        colored(section.code),
    )


def cells(table: pd.DataFrame | None) -> tuple[list[Cell], list[list[Cell]]]:
    """Column heads and rows of cells, those of numeric columns marked."""
    if table is None:
        return [], []
    numeric = [
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        for dtype in table.dtypes
    ]
    heads = [Cell(str(name), number) for name, number in zip(table, numeric, strict=True)]
    rows = [
        [Cell(shown(value), number) for value, number in zip(row, numeric, strict=True)]
        for row in table.itertuples(index=False, name=None)
    ]
    return heads, rows


def shown(value: Any) -> str:
    """A cell's text: floats to four decimals, or four digits where that would hide them."""
    if value is None or value is pd.NA or value != value:
        return "—"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def data_url(caption: str, content: bytes | Path) -> str:
    """A figure as a URL that holds it. As an image it cannot run anything, whatever it holds."""
    if isinstance(content, Path):
        path = content
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {path} for the report: {error.strerror}") from error
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif b"<svg" in content[:2000]:
        kind = "svg+xml"
    else:
        raise UsageError(f"the figure {caption!r} is neither SVG nor PNG")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def colored(diff: str) -> Markup:
    """A diff as escaped markup, one span for each kind of line."""
    lexer = HeadedDiffLexer(stripnl=False)
    formatter = HtmlFormatter(nowrap=True, classprefix="diff-")
    # Pygments escapes what it colours
    return Markup(highlight(visible(diff), lexer, formatter).rstrip("\n"))


class HeadedDiffLexer(DiffLexer):
    """Diffs whose two lines of file names are neither taken out nor put in."""

    tokens = {"root": [(r"(---|\+\+\+) .*\n", Generic.Heading), inherit]}  # noqa: RUF012


def facts(provenance: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """Nested provenance as dotted names with values."""
    for name, value in provenance.items():
        dotted = f"{within}.{name}" if within else str(name)
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            yield from facts(value, dotted)
        elif isinstance(value, list | tuple):
            yield dotted, ", ".join(map(str, value)) or "none"
        else:
            yield dotted, "none" if value is None else str(value)


def template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("interp.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=as_text,
    )
    return environment.get_template("report.html.j2")


def as_text(value: Any) -> Any:
    """What the template prints: markup as it is, all else with nothing that acts or hides."""
    return value if isinstance(value, Markup) else visible(str(value))
