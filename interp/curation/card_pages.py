"""A card of a curated text as a page, and as Markdown.

card_html(card), card_markdown(card)
"""

import re
from collections.abc import Sequence
from typing import Any

import jinja2

from interp.characters import visible
from interp.curation.card import DataCard
from interp.texts.card import POLICY, STYLE, percent, thousands

SHOWN = 12  # reasons of a step, and files that were skipped
QUESTIONS = (
    "May these documents be used so (licence, terms, consent)? Who wrote them, about whom, and who "
    "is missing? What would a model that repeats them say about people?"
)


def card_html(card: DataCard) -> str:
    """The card as one page that needs nothing else; all that comes from documents is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"thousands": thousands, "percent": percent, "seen": visible}
    return environment.from_string(PAGE).render(
        card=card,
        policy=POLICY,
        style=STYLE + BARS,
        shown=SHOWN,
        widest=max([1, *(one["before"] for one in card.steps)]),
        tables=tables_of_card(card),
        questions=QUESTIONS,
    )


def card_markdown(card: DataCard) -> str:
    """The card as Markdown, for a README beside the text."""
    came, kept = card.size["in"], card.size["kept"]
    share = percent(kept["characters"] / max(1, came["characters"]))
    did = [
        [step["step"], f"dropped: {row['reason']}", row["count"]]
        for step in card.steps
        for row in step["reasons"][:SHOWN]
    ]
    did += [
        [step["step"], f"{row['what']}, in how many documents: {row['documents']}", row["count"]]
        for step in card.steps
        for row in step["notes"]
    ]
    of_step = ["in", "dropped", "changed", "removed", "added", "after"]
    sizes = ["documents", "characters", "share"]
    parts = [
        f"# Data card: {cell_of_card(card.name)}",
        f"{thousands(came['documents'])} documents ({thousands(came['characters'])} characters) "
        f"came in; {thousands(kept['documents'])} ({thousands(kept['characters'])} characters, "
        f"{share}) are kept.",
        "## What each step did",
        markdown_table(
            ["step", "documents in", *of_step[1:-1], "characters left"],
            [[step["step"], *(step[name] for name in of_step)] for step in card.steps],
        ),
        "Removed and added are characters, those of dropped documents among the removed.",
        markdown_table(["step", "what", "how often"], did),
        "## What looked private, and was masked",
        markdown_table(
            ["looks like", "masked", "in documents"],
            [[row["kind"], row["count"], row["documents"]] for row in card.masked],
        ),
        "## Duplicates",
        f"Dropped because they were the same as another to the character: "
        f"{thousands(card.duplicates['exact'])}; because they were nearly the same: "
        f"{thousands(card.duplicates['near'])}.",
        "## Split",
        markdown_table(
            ["part", "documents", "clusters", "characters", "share"],
            [
                [row["part"], *(row[name] for name in ("documents", "clusters", *sizes[1:]))]
                for row in card.split
            ],
        ),
    ]
    for title, rows in tables_of_card(card):
        table = [[row["name"], *(row[name] for name in sizes)] for row in rows]
        parts += [f"## {title}", markdown_table(["name", *sizes], table)]
    if card.skipped:
        table = [[row["source"], row["reason"]] for row in card.skipped[:SHOWN]]
        parts += ["## Files that could not be read", markdown_table(["file", "why"], table)]
        if len(card.skipped) > SHOWN:
            parts.append(f"The first {SHOWN} of {thousands(len(card.skipped))}.")
    return "\n\n".join([*parts, "## What no program can answer", QUESTIONS]) + "\n"


def tables_of_card(card: DataCard) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        ("Kinds of documents", card.kinds),
        ("Languages", card.languages),
        ("Licences", card.licences),
    ]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> str:
    """Whole numbers with spaces between thousands, shares as percent, all text escaped."""
    lines = [
        list(head),
        ["---"] * len(head),
        *([cell_of_card(one) for one in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell_of_card(value: str | int | float) -> str:
    """A value as what stands in a cell of a table; text, which may be anything, means itself."""
    if isinstance(value, str):
        return re.sub(r"([\\`*_{}\[\]<>#|!&~$])", r"\\\1", " ".join(visible(value).split()))
    return percent(value) if isinstance(value, float) else thousands(value)


BARS = """.bar { display: inline-block; height: .7rem; background: #4a7ab5; vertical-align: middle;
  min-width: 1px; }
td.bars { min-width: 6rem; width: 10rem; padding-right: 0; }
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data card: {{ card.name | seen }}</title>
<style>
{{ style | safe }}</style></head><body>
{% set came, kept = card.size["in"], card.size["kept"] %}
<h1>Data card: {{ card.name | seen }}</h1>
<p>{{ came.documents | thousands }} documents ({{ came.characters | thousands }} characters) came
in; {{ kept.documents | thousands }} ({{ kept.characters | thousands }} characters,
{{ (kept.characters / ([came.characters, 1] | max)) | percent }}) are kept.
{% if card.skipped %}
Files that could not be read: {{ card.skipped | length | thousands }}.
{% endif %}</p>

<h2>What each step did</h2>
<div class="scroll"><table><tr><th>step</th><th class="number">documents in</th>
<th class="number">dropped</th><th class="number">changed</th><th class="number">removed</th>
<th class="number">added</th><th class="number">characters left</th><td></td></tr>
{% for step in card.steps %}
<tr><td>{{ step.step | seen }}</td><td class="number">{{ step["in"] | thousands }}</td>
<td class="number">{{ step.dropped | thousands }}</td>
<td class="number">{{ step.changed | thousands }}</td>
<td class="number">{{ step.removed | thousands }}</td>
<td class="number">{{ step.added | thousands }}</td>
<td class="number">{{ step.after | thousands }}</td><td class="bars">
<span class="bar" style="width: {{ (100 * step.after / widest) | round(2) }}%"></span></td></tr>
{% endfor %}
</table></div>
<p class="note">Removed and added are characters, counted document by document; those of dropped
documents are among the removed. The bar is what is left.</p>

<h2>Why documents were dropped, and what was changed</h2>
<div class="scroll"><table><tr><th>step</th><th class="number">times</th><th>what</th></tr>
{% for step in card.steps %}
{% for row in step.reasons[:shown] %}
<tr><td>{{ step.step | seen }}</td><td class="number">{{ row["count"] | thousands }}</td>
<td>dropped: {{ row.reason | seen }}</td></tr>
{% endfor %}
{% if step.reasons | length > shown %}
<tr><td>{{ step.step | seen }}</td><td></td>
<td>and {{ step.reasons | length - shown }} more reasons</td></tr>
{% endif %}
{% for row in step.notes %}
<tr><td>{{ step.step | seen }}</td><td class="number">{{ row["count"] | thousands }}</td>
<td>{{ row.what | seen }}, in
{{ row.documents | thousands }} {{ "document" if row.documents == 1 else "documents" }}</td></tr>
{% endfor %}
{% endfor %}
</table></div>

<h2>What looked private, and was masked</h2>
<div class="scroll"><table><tr><th>looks like</th><th class="number">masked</th>
<th class="number">in documents</th></tr>
{% for row in card.masked %}
<tr><td>{{ row.kind }}</td><td class="number">{{ row["count"] | thousands }}</td>
<td class="number">{{ row.documents | thousands }}</td></tr>
{% endfor %}
</table></div>
<p class="note">Forms are found, not people: names and stories stay.</p>

<h2>Duplicates</h2>
<p>Dropped because they were the same as another to the character:
{{ card.duplicates.exact | thousands }}; because they were nearly the same:
{{ card.duplicates.near | thousands }}.</p>

<h2>Split</h2>
<div class="scroll"><table><tr><th>part</th><th class="number">documents</th>
<th class="number">clusters</th><th class="number">characters</th><th class="number">share</th></tr>
{% for row in card.split %}
<tr><td>{{ row.part | seen }}</td><td class="number">{{ row.documents | thousands }}</td>
<td class="number">{{ row.clusters | thousands }}</td>
<td class="number">{{ row.characters | thousands }}</td>
<td class="number">{{ row.share | percent }}</td></tr>
{% endfor %}
</table></div>

{% for title, rows in tables %}
<h2>{{ title }}</h2>
<div class="scroll"><table><tr><th>name</th><th class="number">documents</th>
<th class="number">characters</th><th class="number">share</th></tr>
{% for row in rows %}
<tr><td>{{ row.name | seen }}</td><td class="number">{{ row.documents | thousands }}</td>
<td class="number">{{ row.characters | thousands }}</td>
<td class="number">{{ row.share | percent }}</td></tr>
{% endfor %}
</table></div>
{% endfor %}
<p class="note">Of the documents that are kept. A licence is one that a document names; one that
names none may have one nevertheless.</p>

{% if card.skipped %}
<h2>Files that could not be read</h2>
<div class="scroll"><table><tr><th>file</th><th>why</th></tr>
{% for row in card.skipped[:shown] %}
<tr><td><code>{{ row.source | seen }}</code></td><td>{{ row.reason | seen }}</td></tr>
{% endfor %}
</table></div>
{% if card.skipped | length > shown %}
<p class="note">The first {{ shown }} of {{ card.skipped | length | thousands }};
<code>skipped.parquet</code> has all.</p>
{% endif %}
{% endif %}

<h2>What no program can answer</h2>
<p>{{ questions }}</p>
<footer>Every number is computed from histories.parquet, notes.parquet, documents.parquet and
skipped.parquet beside the text.</footer>
</body></html>
"""
