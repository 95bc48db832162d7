"""How does a report look in a repository?

The same page as ``report.md`` with its figures beside it, as hosts of repositories render them:
what is interactive on the page is here a table, or a drawing. Whatever text the page holds is shown
as text.

    write_markdown(Path("docs/report.md"), page)
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.characters import visible
from interp.report.attention import AttentionView, grey_png, quantised
from interp.report.first_screen import FirstScreen
from interp.report.map import MapView
from interp.report.page import Page, Part, anchors_of, made_by
from interp.report.quiz import EffectBar, Quiz, Worksheet, shuffled
from interp.report.sections import Figure, Section, paragraphs, text_of_cell
from interp.report.source import SourceView
from interp.runs import write_atomically
from interp.status import WITH_LOSS
from interp.verdicts import verdicts_of

ROWS = 40  # of a table, before the rest is left to the run's own files
SCALE = 6  # pixels of a picture for a cell of a pattern


def write_markdown(path: Path, page: Page) -> Path:
    """Write the page as Markdown, its figures into ``figures`` beside it.

    Raises:
        UsageError: a figure cannot be read, or a file not be written.
    """
    text = [f"# {escape_markdown(page.title)}", escape_markdown(page.question)]
    text += headed("Summary", page.prose.get("Summary", ""), page.summary)
    text += of_first_screen(page.first, path.parent / "figures")
    for part, anchor in zip(page.parts, anchors_of(part.title for part in page.parts), strict=True):
        text += [f"## {escape_markdown(part.title)}", str(page.prose.get(part.title, ""))]
        text += part_blocks(part, anchor, path.parent / "figures")
    text += headed("Limitations", page.prose.get("Limitations", ""), page.limitations)
    text += ["## Provenance", str(page.prose.get("Provenance", ""))]
    for description in page.provenance:
        run = made_by(description)
        text += (
            [f"### {escape_markdown(run.name)}", fenced(run.command, "sh")] if run.command else []
        )
        text.append(table_of(pd.DataFrame(run.facts, columns=["", "value"])))
    content = "\n\n".join(block.strip("\n") for block in text if block.strip())
    return write_atomically(path, f"{content}\n".encode())


def of_first_screen(first: FirstScreen, folder: Path) -> list[str]:
    blocks = pictured(first.figure, "summary", folder) if first.figure else []
    rows = [
        {"line": finding.line, "code": finding.code, "name": finding.name}
        | {
            column: f"{effect.delta:+.3f} ({effect.interval})" if effect else ""
            for column, effect in (("damage", finding.damage), ("lasting cost", finding.cost))
        }
        for finding in first.findings
    ]
    if rows:
        blocks.append(table_of(pd.DataFrame(rows)))
    return blocks


def headed(title: str, prose: str, sentences: Sequence[str]) -> list[str]:
    if not prose and not sentences:
        return []
    return [f"## {title}", str(prose), "\n".join(f"- {escape_markdown(one)}" for one in sentences)]


def part_blocks(part: Part, anchor: str, folder: Path) -> list[str]:
    """A part's blocks; its pictures go into the folder."""
    if isinstance(part, Section):
        return of_section(part, anchor, folder)
    if isinstance(part, SourceView):
        return of_source(part)
    if isinstance(part, MapView):
        columns = ["block", "name", "class", "file", "line", "takes", "shape"]
        boxes = part.boxes[(part.boxes["kind"] != "hook") & (part.boxes["depth"] == 1)]
        return [table_of(boxes[columns])]
    if isinstance(part, AttentionView):
        return of_attention(part, anchor, folder)
    if isinstance(part, Quiz | Worksheet):
        return of_questions(part)
    return ["This part is on the page alone."]


def of_section(section: Section, anchor: str, folder: Path) -> list[str]:
    markup = hasattr(section.text, "__html__")
    blocks = (
        [section.text] if markup else [escape_markdown(one) for one in paragraphs(section.text)]
    )
    if section.code:
        blocks.append(fenced(section.code, "diff"))
    for number, figure in enumerate(section.figures, 1):
        blocks += pictured(figure, f"{anchor}-{number}", folder)
    if section.table is not None:
        blocks.append(table_of(section.table))
    return blocks


def pictured(figure: Figure, name: str, folder: Path) -> list[str]:
    """A figure, by its own file's name where it has one."""
    content = figure.image.read_bytes() if isinstance(figure.image, Path) else figure.image
    kind = "png" if content.startswith(b"\x89PNG") else "svg"
    write_atomically(folder / f"{name}.{kind}", content)
    caption = escape_markdown(" ".join(figure.caption.split()))
    return [f"![{caption}](figures/{name}.{kind})", f"*{caption}*"]


def of_source(view: SourceView) -> list[str]:
    """The lines that were cut, with their effects."""
    lines = view.lines
    wanted = ["line", "code", "status", "delta", "ci_low", "ci_high"]
    blocks = []
    if {"status", "delta"} <= {*lines}:
        cut = lines[lines["delta"].notna() & lines["status"].isin(WITH_LOSS)]
        order = cut["delta"].abs().sort_values(ascending=False).index
        cut = cut.assign(code=cut["code"].str.strip(), verdict=verdicts_of(cut).astype(str))
        table = cut.loc[order, [*wanted, "verdict"]]
        blocks += ["In the trained model:", table_of(table)]
    if view.retrained is not None and len(view.retrained):
        columns = ["surgery", "code", "after", "delta", "ci_low", "ci_high", "status"]
        verdicts = verdicts_of(view.retrained).astype(str)
        table = view.retrained.reindex(columns=columns).assign(verdict=verdicts)
        blocks += ["Before training:", table_of(table)]
    return blocks


def of_attention(view: AttentionView, anchor: str, folder: Path) -> list[str]:
    """All heads in one picture, a row for each layer."""
    layers: dict[int, list[Any]] = {}
    for (layer, _), pattern in sorted(view.patterns.items()):
        dark = np.sqrt(quantised(pattern) / 255) * 255
        cell = np.pad(255 - np.rint(dark).astype(np.uint8), 1, constant_values=160)
        layers.setdefault(layer, []).append(cell)
    widest = max(len(row) for row in layers.values())
    blank = np.full_like(next(iter(layers.values()))[0], 255)
    rows = [np.hstack([*row, *[blank] * (widest - len(row))]) for row in layers.values()]
    scale = max(1, SCALE * 32 // len(view.tokens))
    picture = np.kron(np.vstack(rows), np.ones((scale, scale), dtype=np.uint8))
    write_atomically(folder / f"{anchor}.png", grey_png(picture.astype(np.uint8)))
    text = fenced("".join(view.tokens), "")
    return [
        f"![Every head's pattern](figures/{anchor}.png)",
        "A row of squares for each layer, a square for each head; in a square a row for each query "
        "and a column for each key, dark where it looks (by the square root). The text:",
        text,
    ]


def of_questions(quiz: Quiz | Worksheet) -> list[str]:
    """The questions in words, each answer folded away."""
    blocks = []
    for number, question in enumerate(shuffled(quiz.questions), 1):
        bars = pd.DataFrame([bar._asdict() for bar in question.bars], columns=[*EffectBar._fields])
        blocks.append(f"**{number}.** What was cut, if this is what became of the loss (nats)?")
        blocks.append(table_of(bars))
        lines = " or ".join(map(str, question.lines))
        blocks += [
            f"<details><summary>The answer</summary>\n\nLine {lines} of "
            f"{escape_markdown(quiz.file)}. {escape_markdown(question.why)}\n\n"
            f"{fenced(question.diff, 'diff')}\n\n</details>"
        ]
    return blocks


def table_of(table: pd.DataFrame) -> str:
    """A table, its numbers as the page shows them."""
    if table.empty:
        return ""
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
    rows = [
        [markdown_cell(value) for value in row] for row in table.head(ROWS).itertuples(index=False)
    ]
    text = markdown_row(markdown_cell(name) for name in table)
    text += markdown_row("---:" if number else "---" for number in numeric)
    text += "".join(markdown_row(row) for row in rows)
    more = len(table) - ROWS
    return text + (f"\nAnd {more} rows more, in the run's tables.\n" if more > 0 else "")


def markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def markdown_cell(value: Any) -> str:
    return escape_markdown(text_of_cell(value)).replace("\n", "<br>")


def escape_markdown(text: str) -> str:
    """Text that Markdown, and the HTML within it, leave as it is."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?m)^[ \t]*(?:([#+=-])|(\d+)([.)])|)", leading, text)


def leading(match: re.Match[str]) -> str:
    """What begins a line, so that it begins no list, heading or block of code."""
    sign, number, point = match.groups(default="")
    return f"\\{sign}" if sign else f"{number}\\{point}" if number else ""


def fenced(text: str, language: str) -> str:
    """A block of code that nothing in the text can end."""
    runs = re.findall(r"`{3,}", text)
    fence = "`" * (max(map(len, runs), default=2) + 1)
    body = visible(text).rstrip("\n")
    return f"{fence}{language}\n{body}\n{fence}"
