"""How is text written so that Markdown shows it as it is?

Only what Markdown would take for markup is escaped: a number, a name with underscores or a product
stays as it is typed.

    escape_markdown("a_b is 1.13 * x <b>")   # a_b is 1.13 * x \\<b>
    code_span("a | `b`")           # `` a | `b` ``
    of_markup("<p>Mine, <em>mine</em>.</p>", keep_picture)
"""

import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser

from interp.characters import visible

ALWAYS = re.compile(r"[`~$]|\\(?=[!-/:-@\[-`{-~])|\\$|\](?=[(\[:])|<(?=[A-Za-z/!?])")
ENTITY = re.compile(r"&(?=#?\w+;)")
EMPHASIS = re.compile(r"(?<!\w)_|_(?!\w)|(?<!\s)\*|\*(?!\s)")
BEGINS = re.compile(
    r"(?m)^[ \t]*(?:(#{1,6}(?=\s|$)|[+-](?=\s|$)|-(?=[ \t-]+$)|=(?==*[ \t]*$)|[>*\[])"
    r"|(\d{1,9})([.)])(?=\s|$)|)"
)


def escape_markdown(text: str) -> str:
    """Text that Markdown, and the HTML within it, leave as it is."""
    spelt = within_line(text)
    if len(re.findall(r"\*+", text)) == 1:  # one alone emphasises nothing
        spelt = spelt.replace("\\*", "*")
    if "\n" in text:  # lines of cells would be a table
        spelt = spelt.replace("|", r"\|")
    return BEGINS.sub(leading, spelt)


def within_line(text: str) -> str:
    """Text after something else on its line, where it can begin no block."""
    text = ENTITY.sub("&amp;", visible(text))
    text = ALWAYS.sub(lambda found: f"\\{found[0]}", text)
    text = EMPHASIS.sub(lambda found: f"\\{found[0]}", text)
    return re.sub(r"(?m)[ \t]+(?=\n)", "", text)


def leading(match: re.Match[str]) -> str:
    """What begins a line, so that it begins no list, heading, quote or block of code."""
    sign, number, point = match.groups(default="")
    return f"\\{sign}" if sign else f"{number}\\{point}" if number else ""


def code_span(text: str) -> str:
    """Text as code within a line; a backtick in it does not end it."""
    text = " ".join(visible(text).splitlines())
    if not text.strip():
        return ""
    runs = {len(run) for run in re.findall("`+", text)}
    fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def fenced(text: str, language: str) -> str:
    """A block of code that nothing in the text can end."""
    runs = re.findall(r"`{3,}", text)
    fence = "`" * (max(map(len, runs), default=2) + 1)
    body = visible(text).rstrip("\n")
    return f"{fence}{language}\n{body}\n{fence}"


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a table; of several lines in a cell one stands below the other."""
    return f"| {' | '.join(cells)} |\n"


def markdown_cell(text: str, code: bool = False) -> str:
    """Text as a table's cell. A bar would end the cell, in code too."""
    lines = [line for line in text.split("\n") if line.strip()]
    if code:
        return "<br>".join(code_span(line).replace("|", r"\|") for line in lines)
    return "<br>".join(escape_markdown(line).replace("|", r"\|") for line in lines)


def of_markup(markup: str, keep_picture: Callable[[str], str]) -> str:
    """Harmless HTML, as notes become it, as Markdown.

    Args:
        keep_picture: takes a picture's address and says where it stands beside the text.
    """
    reader = MarkupReader(keep_picture)
    reader.feed(markup)
    reader.close()
    reader.end_block()
    return "\n\n".join(reader.blocks)


class MarkupReader(HTMLParser):
    """Blocks of Markdown from HTML, read once from its beginning."""

    INLINE = {"em": "*", "i": "*", "strong": "**", "b": "**", "del": "~~", "s": "~~"}  # noqa: RUF012
    BREAKING = ("p", "li", "blockquote", "ul", "ol", "pre", "table", "hr", "div")

    def __init__(self, keep_picture: Callable[[str], str]) -> None:
        super().__init__()
        self.keep_picture = keep_picture
        self.blocks: list[str] = []
        self.inline = ""  # of the block that is read
        self.begins = ""  # what stands before its first line: a list's mark
        self.around: list[str] = []  # what stands before each of its lines
        self.numbers: list[int | None] = []  # of lists, the next item's
        self.target = ""
        self.verbatim: list[str] | None = None  # text of code
        self.row: list[str] = []
        self.before_cell: str | None = None  # what of a table is read, while a cell is
        self.in_table = self.in_pre = False

    def end_block(self) -> None:
        """Closes what is read: its lines, with what stands before each of them."""
        text, self.inline = self.inline.strip(), ""
        if not text:
            return
        before = "".join(self.around)
        first = before[: len(before) - len(self.begins)] + self.begins
        lines = text.split("\n")
        self.blocks.append("\n".join([first + lines[0], *(before + line for line in lines[1:])]))
        self.begins = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in self.BREAKING or re.fullmatch("h[1-6]", tag):
            self.end_block()
        if tag in self.INLINE:
            self.inline += self.INLINE[tag]
        elif re.fullmatch("h[1-6]", tag):
            self.inline = "#" * int(tag[1]) + " "
        elif tag == "br":
            self.inline += "<br>" if self.in_table else "\\\n"
        elif tag == "hr":
            self.inline = "---"
            self.end_block()
        elif tag == "a":
            self.target = given.get("href", "")
            self.inline += "["
        elif tag == "img":
            self.inline += (
                f"![{escape_markdown(given.get('alt', ''))}]({self.keep_picture(given['src'])})"
            )
        elif tag == "blockquote":
            self.around.append("> ")
        elif tag in ("ul", "ol"):
            self.numbers.append(int(given.get("start") or 1) if tag == "ol" else None)
        elif tag == "li":
            number = self.numbers[-1]
            self.begins = "- " if number is None else f"{number}. "
            self.numbers[-1] = None if number is None else number + 1
            self.around.append(" " * len(self.begins))
        elif tag == "pre":
            self.in_pre = True
        elif tag == "code":
            self.verbatim = []
        elif tag == "table":
            self.in_table = True
        elif tag == "tr":
            self.row = []
        elif tag in ("td", "th"):
            self.row.append("")
            self.before_cell, self.inline = self.inline, ""

    def handle_endtag(self, tag: str) -> None:
        if tag in self.INLINE:
            self.inline += self.INLINE[tag]
        elif tag == "a":
            self.inline += f"](<{self.target}>)" if " " in self.target else f"]({self.target})"
        elif tag == "code" and self.verbatim is not None:
            text, self.verbatim = "".join(self.verbatim), None
            self.inline += fenced(text, "") if self.in_pre else code_span(text)
        elif tag in ("td", "th"):
            self.row[-1] = self.inline.strip().replace("|", r"\|")
            self.inline, self.before_cell = self.before_cell or "", None
        elif tag == "tr":
            self.inline += markdown_row(self.row)
        elif tag == "thead":
            self.inline += markdown_row("---" for _ in self.row)
        if tag in self.BREAKING or re.fullmatch("h[1-6]", tag):
            self.end_block()
        if tag in ("blockquote", "li"):
            self.around.pop()
        elif tag in ("ul", "ol"):
            self.numbers.pop()
        elif tag == "pre":
            self.in_pre = False
        elif tag == "table":
            self.in_table = False

    def handle_data(self, data: str) -> None:
        if self.verbatim is not None:
            self.verbatim.append(data)
            return
        if self.in_table and self.before_cell is None:  # between rows
            return
        text = re.sub(r"\s+", " ", data)
        self.inline += within_line(text) if self.inline.strip() else escape_markdown(text)
