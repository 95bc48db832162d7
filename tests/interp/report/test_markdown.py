"""The same page for a repository: what a reader of Markdown sees is what the page says."""

import re

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup

from interp.report import Figure, Page, Section
from interp.report.attention import AttentionView
from interp.report.markdown import escape_markdown, fenced, write_markdown
from interp.report.quiz import EffectBar, Question, Quiz
from interp.report.source import SourceView

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
PNG = b"\x89PNG\r\n\x1a\n"
TABLE = pd.DataFrame({"surgery": ["a|b", "<c>"], "delta": [0.25, np.nan]})


def rendered(text):
    return MarkdownIt("commonmark").enable("table").render(text)


@pytest.fixture
def written(tmp_path):
    lines = pd.DataFrame(
        {
            "file": "model.py",
            "line": [1, 2],
            "code": ["x = 1", "y = x * 2"],
            "status": ["", "changed"],
            "delta": [np.nan, 0.5],
            "ci_low": [np.nan, 0.4],
            "ci_high": [np.nan, 0.6],
        }
    )
    page = Page(
        "A page_of_runs",
        "Why?",
        [
            Section("Curves", "One.\n\n- two", [Figure("A *figure*", SVG)], TABLE, "-x\n+```y"),
            Section("Own", Markup("<p>Prose.</p>"), [Figure("Grey", PNG)]),
            SourceView("The source", lines),
            AttentionView(["a", "`"], {(0, 0): np.array([[1.0, 0.0], [0.5, 0.5]])}),
            Quiz(
                [Question([2], "It doubles.", "-y\n", bars=[EffectBar("last", 0.5)])],
                "m.py",
                ["", "y"],
            ),
        ],
        [{"experiment": "course", "command": "python -m experiments.course", "seeds": [0, 1]}],
        summary=["The loss <b>falls</b>."],
        limitations=["One seed."],
        prose={"Curves": Markup("<p>Mine.</p>")},
    )
    return write_markdown(tmp_path / "report.md", page)


def test_every_part_is_there_under_its_heading(written):
    text = written.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", rendered(text))
    assert titles == [
        *("Summary", "Curves", "Own", "The source", "Attention, head by head"),
        *("Which line was it?", "Limitations", "Provenance"),
    ]
    assert "python -m experiments.course" in text
    assert text.index("Mine.") < text.index("One.")


def test_figures_lie_beside_it_and_are_linked(written):
    links = re.findall(r'<img src="([^"]+)"', rendered(written.read_text(encoding="utf-8")))
    assert len(links) == 3
    for link in links:
        assert (written.parent / link).read_bytes()


def test_tables_keep_their_cells(written):
    html = rendered(written.read_text(encoding="utf-8"))
    assert re.search(r"<td>a\|b</td>\s*<td[^>]*>0.2500</td>", html)
    assert re.search(r"<td>&lt;c&gt;</td>\s*<td[^>]*>—</td>", html)
    assert re.search(r">y = x \* 2</td>\s*<td[^>]*>changed</td>\s*<td[^>]*>0.5000", html)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a_b_c *d* `e` [f](g) ![h](i) ~j~ $k$ |l|",
        "# no heading",
        "- no list",
        "1. no list",
        "> no quote",
        "    no code",
        "&lt; &amp;",
        "a\u202eb\x00",
        "---",
        "\\*",
    ],
)
def test_any_text_is_shown_as_it_is(text):
    html = rendered(f"{escape_markdown(text)}\n").strip()
    shown = re.sub(r"^<p>|</p>$", "", html)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, character)
    assert shown == text.strip().replace("\u202e", "\\u202e").replace("\x00", "\\x00")


def test_nothing_ends_a_block_of_code():
    assert rendered(fenced("a\n```\n<b>\n````\nc", "diff")).count("<code") == 1
