"""How does a report look in a repository?

The same page as ``report.md`` with its figures and whole tables beside it, as hosts of repositories
render them: what is interactive on the page is here a table, or a drawing. Whatever text the page
holds is shown as text.

    write_markdown(Path("docs/report.md"), page)
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from interp.report.attention import AttentionView, grey_png, quantised
from interp.report.edges import EdgesView
from interp.report.first_screen import SENTENCES, CutEffect, FirstScreen
from interp.report.map import MapView
from interp.report.page import Page, Part, anchors_of, made_by
from interp.report.quiz import Quiz, Worksheet, drawn, shuffled
from interp.report.sections import CODE, Figure, Section, paragraphs, text_of_cell
from interp.report.sheets import write_csv
from interp.report.source import SourceView
from interp.report.spelling import (
    code_span,
    escape_markdown,
    fenced,
    markdown_cell,
    markdown_row,
    of_markup,
)
from interp.report.values import signed
from interp.report.writing import WritingView
from interp.runs import write_atomically
from interp.samples import MEASURES
from interp.status import WITH_LOSS
from interp.verdicts import verdict_words

ROWS = 40  # of a table, before the rest is left to a file beside it
SCALE = 6  # pixels of a picture for a cell of a pattern


def write_markdown(path: Path, page: Page) -> Path:
    """Write the page as Markdown, its figures into ``figures`` beside it, tables that are cut short
    into ``tables``, and the answers to its questions into a file of their own.

    Raises:
        UsageError: a figure cannot be read, or a file not be written.
    """
    beside = FilesBeside(path.parent)
    text = [f"# {escape_markdown(page.title)}", escape_markdown(page.question)]
    text += summary_blocks(page, beside)
    for part, anchor in zip(page.parts, anchors_of(part.title for part in page.parts), strict=True):
        text += [f"## {escape_markdown(part.title)}", beside.markup(page.prose.get(part.title, ""))]
        text += part_blocks(part, anchor, beside)
    if page.limitations or "Limitations" in page.prose:
        text += ["## Limitations", beside.markup(page.prose.get("Limitations", ""))]
        text.append(bullet_list(page.limitations))
    text += ["## Provenance", beside.markup(page.prose.get("Provenance", ""))]
    for number, description in enumerate(page.provenance, 1):
        run = made_by(description)
        text += (
            [f"### {escape_markdown(run.name)}", fenced(run.command, "sh")] if run.command else []
        )
        facts = pd.DataFrame(run.facts, columns=["", "value"])
        text += table_of(facts, f"provenance-{number}", beside)
    return write_atomically(path, joined_blocks(text).encode())


def joined_blocks(blocks: Sequence[str]) -> str:
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


@dataclass(frozen=True)
class FilesBeside:
    """The folder that the text stands in, for what it shows and links to."""

    folder: Path

    def picture(self, name: str, content: bytes) -> str:
        """Keeps a picture; how it is linked to."""
        kind = "png" if content.startswith(b"\x89PNG") else "svg"
        write_atomically(self.folder / "figures" / f"{name}.{kind}", content)
        return f"figures/{name}.{kind}"

    def table(self, name: str, table: pd.DataFrame) -> str:
        """Keeps a table with all its rows and digits; how it is linked to."""
        write_csv(self.folder / "tables" / f"{name}.csv", table)
        return f"tables/{name}.csv"

    def markup(self, text: str) -> str:
        """Harmless HTML as Markdown; its pictures, which it holds, are kept."""
        return of_markup(str(text), self._embedded)

    def _embedded(self, address: str) -> str:
        _, found, content = address.partition(";base64,")
        if not found:
            return address
        picture = base64.b64decode(content)
        return self.picture(f"notes-{hashlib.sha256(picture).hexdigest()[:8]}", picture)


def summary_blocks(page: Page, beside: FilesBeside) -> list[str]:
    """What stands on the first screen, and all findings in words."""
    own, first = page.prose.get("Summary", ""), page.first
    if not (own or page.summary or first.figure or first.findings):
        return []
    blocks = ["## Summary", beside.markup(own)]
    blocks += [escape_markdown(sentence) for sentence in page.summary[:SENTENCES]]
    if first.figure:
        blocks += pictured(first.figure, "Summary", "summary", beside)
    if first.findings:
        blocks += findings_table(first)
    return [*blocks, bullet_list(page.summary[SENTENCES:])]


def findings_table(first: FirstScreen) -> list[str]:
    columns = first.context()["columns"]
    rows = [
        [
            markdown_cell(f"{finding.line} {finding.name}".strip())
            + f"<br>{markdown_cell(finding.code, code=True)}",
            *(effect_cell(getattr(finding, name)) for name, _ in columns),
        ]
        for finding in first.findings
    ]
    text = markdown_row(["line", *(title for _, title in columns)])
    text += markdown_row(["---", *("---:" for _ in columns)])
    said = f"The largest effects on the loss, in nats. {first.over}".strip()
    return [escape_markdown(said), text + "".join(map(markdown_row, rows))]


def effect_cell(one: CutEffect | None) -> str:
    return "" if one is None else f"{one.delta:+.3f}<br>{markdown_cell(one.interval)}"


def bullet_list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(one)}" for one in sentences)


def part_blocks(part: Part, anchor: str, beside: FilesBeside) -> list[str]:
    """A part's blocks."""
    if isinstance(part, Section):
        return of_section(part, anchor, beside)
    if isinstance(part, SourceView):
        return of_source(part, anchor, beside)
    if isinstance(part, MapView):
        columns = ["block", "name", "class", "file", "line", "takes", "shape"]
        boxes = part.boxes[(part.boxes["kind"] != "hook") & (part.boxes["depth"] == 1)]
        return table_of(boxes[columns], anchor, beside)
    if isinstance(part, EdgesView):
        return table_of(part.drawn_first(), anchor, beside, part.table)
    if isinstance(part, AttentionView):
        return of_attention(part, anchor, beside)
    if isinstance(part, Quiz | Worksheet):
        return of_questions(part, anchor, beside)
    if isinstance(part, WritingView):
        return of_writing(part, anchor, beside)
    return ["This part is on the page alone."]


def of_section(section: Section, anchor: str, beside: FilesBeside) -> list[str]:
    if isinstance(section.text, Markup):
        blocks = [beside.markup(section.text)]
    else:
        blocks = [escape_markdown(one) for one in paragraphs(section.text)]
    if section.code:
        blocks.append(fenced(section.code, "diff"))
    for number, figure in enumerate(section.figures, 1):
        title = f"{section.title}, figure {number}"
        blocks += pictured(figure, title, f"{anchor}-{number}", beside)
    if section.table is not None:
        blocks += table_of(section.table, anchor, beside, section.saved)
    return blocks


def pictured(figure: Figure, title: str, name: str, beside: FilesBeside) -> list[str]:
    content = figure.image.read_bytes() if isinstance(figure.image, Path) else figure.image
    link = beside.picture(name, content)
    return [
        f"![{escape_markdown(title)}]({link})",
        f"*{escape_markdown(' '.join(figure.caption.split()))}*",
    ]


def of_source(view: SourceView, anchor: str, beside: FilesBeside) -> list[str]:
    """The lines that were cut, with their effects."""
    lines, blocks = view.lines, []
    if {"status", "delta"} <= {*lines}:
        cut = lines[lines["delta"].notna() & lines["status"].isin(WITH_LOSS)]
        cut = cut.loc[cut["delta"].abs().sort_values(ascending=False).index]
        rows = [
            {"line": row["line"], "code": row["code"].strip()} | outcome(row, "cut")
            for row in cut.to_dict("records")
        ]
        blocks += ["In the trained model:"]
        blocks += table_of(pd.DataFrame(rows), anchor, beside, lines)
    if view.retrained is not None and len(view.retrained):
        rows = [
            {"surgery": row["surgery"], "code": row.get("code"), "after": row.get("after")}
            | outcome(row, "lasting")
            for row in view.retrained.to_dict("records")
        ]
        blocks += ["Before training:"]
        blocks += table_of(pd.DataFrame(rows), f"{anchor}-retrained", beside)
    return blocks


def outcome(row: Mapping[Any, Any], way: str) -> dict[str, str]:
    """What became of a cut, as the page says it."""
    low, high = row["ci_low"], row["ci_high"]
    between = f"{signed(low)} to {signed(high)}" if np.isfinite([low, high]).all() else ""
    return {
        f"{way} (nats)": signed(row["delta"]),
        "95 % interval": between,
        "verdict": verdict_words(row),
    }


def of_attention(view: AttentionView, anchor: str, beside: FilesBeside) -> list[str]:
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
    link = beside.picture(anchor, grey_png(picture.astype(np.uint8)))
    text = fenced("".join(view.tokens), "")
    return [
        f"![Every head's pattern]({link})",
        "A row of squares for each layer, a square for each head; in a square a row for each query "
        "and a column for each key, dark where it looks (by the square root). The text:",
        text,
    ]


def of_writing(view: WritingView, anchor: str, beside: FilesBeside) -> list[str]:
    """The first prompt continued by each variant, and what was counted in all samples."""
    first = view.continued(view.prompts[0])
    blocks = [
        f"After {code_span(first.prompt)}, on the same random numbers. {view.over} None of them "
        "says how good a text is."
    ]
    for text in first.texts:
        wrote = "".join(piece for _, piece in text.pieces)
        said = text.said or (f"wrote nothing: {text.detail}" if text.detail else "")
        blocks.append(f"{code_span(text.variant)} {escape_markdown(said)}".strip())
        blocks.append(fenced(wrote, ""))
    rows = [
        {"variant": variant}
        | {
            cell.title: " ".join([cell.value, cell.difference, cell.verdict]).strip()
            for cell in cells
        }
        for variant, cells in view.counted()
    ]
    blocks += table_of(pd.DataFrame(rows), anchor, beside, view.samples)
    return [*blocks, bullet_list([f"{one.title}: {one.says}" for one in MEASURES])]


def of_questions(quiz: Quiz | Worksheet, anchor: str, beside: FilesBeside) -> list[str]:
    """The questions in words; the answers in a file of their own, not next to them."""
    questions = shuffled(quiz.questions)
    asked = isinstance(quiz, Quiz)
    blocks = [
        f"What was cut in {code_span(quiz.file)}, if this became of the loss, or of the text?"
    ]
    answers = [f"# {escape_markdown(quiz.title)} The answers"]
    for one, question in zip(drawn(questions, exact=not asked), questions, strict=True):
        blocks += [f"### {one.name}", escape_markdown(one.said)]
        if one.bars:
            rows = [[markdown_cell(bar.name), markdown_cell(bar.value)] for bar in one.bars]
            text = markdown_row(["cut", "nats"]) + markdown_row(["---", "---"])
            blocks.append(text + "".join(map(markdown_row, rows)))
        if one.wrote:
            for wrote in one.wrote.texts:
                whole = one.wrote.prompt + "".join(piece for _, piece in wrote.pieces)
                blocks += [f"{escape_markdown(wrote.variant)} writes:", fenced(whole, "")]
        if isinstance(quiz, Quiz):
            codes = [(line, quiz.source[line - 1].strip()) for line in quiz.offered(question)]
            blocks.append("\n".join(f"- line {line}: {code_span(code)}" for line, code in codes))
        lines = " or ".join(map(str, question.lines))
        answers += [f"## {one.name}", f"Line {lines} of {code_span(quiz.file)}."]
        answers += [escape_markdown(question.why), fenced(question.diff, "diff")]
    if not isinstance(quiz, Worksheet) or quiz.answers:
        name = f"{anchor}-answers.md"
        write_atomically(beside.folder / name, joined_blocks(answers).encode())
        blocks.append(f"The answers are in [{name}]({name}).")
    return blocks


def table_of(
    table: pd.DataFrame, name: str, beside: FilesBeside, whole: pd.DataFrame | None = None
) -> list[str]:
    """A table, its numbers as the page shows them; where rows are left out, a file has all.

    Args:
        whole: what is kept in the file, where that is more than the table.
    """
    if table.empty:
        return []
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes]
    text = markdown_row(markdown_cell(str(column)) for column in table)
    text += markdown_row("---:" if number else "---" for number in numeric)
    for row in table.head(ROWS).itertuples(index=False):
        cells = zip(table, row, strict=True)
        text += markdown_row(
            markdown_cell(text_of_cell(value), str(column) in CODE) for column, value in cells
        )
    whole = table if whole is None else whole
    if len(whole) <= min(len(table), ROWS):
        return [text]
    link = beside.table(name, whole)
    return [text, f"{min(len(table), ROWS)} of {len(whole)} rows are shown; [all]({link})."]
