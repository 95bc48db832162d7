"""What does a finding look like: some text, figures, a table, an edit?

Tables can be sorted and saved as CSV, figures saved as SVG and PNG.

    figure = Figure.saved("Loss while training.", run.save_figure(curves, "curves"))
    Section("No residual", "The loss stays at the unigram entropy.", [figure], table, diff)
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pandas as pd
from markupsafe import Markup
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import inherit
from pygments.lexers.diff import DiffLexer
from pygments.token import Generic

from interp.characters import visible
from interp.errors import UsageError

CODE = {"code", "after", "before", "surgery", "same as", "site", "hook", "command", "class"}
"""Columns that hold what is typed or read in code."""


@dataclass(frozen=True)
class Figure:
    """A drawing with what it says.

    Attributes:
        caption: what to see in it.
        image: SVG or PNG, or the path of such a file; what is shown.
        png: the same as PNG, to be saved from the page.
    """

    caption: str
    image: bytes | Path
    png: bytes | Path | None = None

    @staticmethod
    def saved(caption: str, paths: Mapping[str, Path]) -> "Figure":
        """What ``Run.save_figure`` has written."""
        return Figure(caption, paths["svg"], paths["png"])


@dataclass(frozen=True)
class Section:
    """A part of a report: text, an edit, a table, figures, each where there is one.

    Attributes:
        title: its heading.
        text: plain paragraphs, set apart by blank lines; or markup, shown as it is.
        figures: what was drawn.
        table: a result table; its index is not shown.
        saved: what is saved as CSV in its place: all rows, all digits.
        code: a unified diff.
        half: whether on paper it stands beside another, its diff left out: its figure has it.
    """

    template: ClassVar[str] = "section.html.j2"

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: pd.DataFrame | None = None
    code: str = ""
    saved: pd.DataFrame | None = None
    half: bool = False

    def context(self) -> dict[str, Any]:
        columns, rows = cells(self.table)
        return {
            "title": self.title,
            "markup": self.text if isinstance(self.text, Markup) else None,
            "paragraphs": paragraphs(self.text),
            "figures": [shown_figure(figure) for figure in self.figures],
            "columns": columns,
            "rows": rows,
            "diff": colored(self.code),
            "saved": None if self.saved is None else all_of(self.saved),
            "left_out": 0 if self.saved is None else len(self.saved) - len(rows),
        }


def paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


class ShownFigure(NamedTuple):
    """A figure as the template wants it."""

    caption: str
    source: str  # data URLs
    png: str
    kind: str


def shown_figure(figure: Figure) -> ShownFigure:
    source = data_url(figure.caption, figure.image)
    png = "" if figure.png is None else data_url(figure.caption, lighter(figure.png))
    return ShownFigure(
        figure.caption, source, png, "PNG" if source.startswith("data:image/png") else "SVG"
    )


class Cell(NamedTuple):
    """A table's cell as it is shown."""

    text: str
    numeric: bool
    exact: str = ""
    code: bool = False


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
        [
            Cell(
                text_of_cell(value),
                number,
                exact(value),
                str(name) in CODE and text_of_cell(value) != "—",
            )
            for name, value, number in zip(table, row, numeric, strict=True)
        ]
        for row in table.itertuples(index=False, name=None)
    ]
    return heads, rows


def all_of(table: pd.DataFrame) -> list[list[str]]:
    """A table for a file: its column heads, then every row, with all digits."""
    rows = table.itertuples(index=False, name=None)
    return [[str(name) for name in table], *([exact(value) for value in row] for row in rows)]


def text_of_cell(value: Any) -> str:
    """A cell's text: floats to four decimals, or four digits where that would hide them."""
    if value is None or value is pd.NA or value != value:
        return "—"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def exact(value: Any) -> str:
    """A cell's text as it is saved: all digits, nothing where there is no value."""
    return "" if text_of_cell(value) == "—" else str(value)


def lighter(png: bytes | Path) -> bytes | Path:
    """A PNG in 256 colours, a third of the bytes: it is embedded for those who save it, beside the
    SVG. What is no PNG is left to ``data_url`` to say."""
    content = png.read_bytes() if isinstance(png, Path) and png.is_file() else png
    if not isinstance(content, bytes):
        return png
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            saved = io.BytesIO()
            small.save(saved, "PNG", optimize=True, dpi=picture.info.get("dpi", (200, 200)))
    except (OSError, SyntaxError):
        return content
    return min(saved.getvalue(), content, key=len)


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
