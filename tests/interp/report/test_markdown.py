"""The same page for a repository: what a reader of Markdown sees is what the page says."""

import re
from collections import defaultdict
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup

from interp.report import Figure, Page, Section
from interp.report.attention import AttentionView
from interp.report.markdown import write_markdown
from interp.report.page import rendered as rendered_page
from interp.report.quiz import EffectBar, Question, Quiz
from interp.report.source import SourceView
from interp.report.spelling import code_span, escape_markdown, fenced, markdown_cell, of_markup

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
    html = re.sub("</?code>", "", rendered(written.read_text(encoding="utf-8")))
    assert re.search(r"<td>a\|b</td>\s*<td[^>]*>0.2500</td>", html)
    assert re.search(r"<td>&lt;c&gt;</td>\s*<td[^>]*>—</td>", html)
    assert re.search(r">y = x \* 2</td>\s*<td[^>]*>\+0.500</td>\s*<td>\+0.400 to \+0.600", html)


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


@pytest.mark.parametrize(
    "text", ["1.1322 nats", "no_residual", "a * b", "blocks.*.attn.hook_z", "-0.5", "x[3] → {y}"]
)
def test_what_is_no_markup_is_written_without_a_backslash(text):
    assert escape_markdown(text) == text
    assert shown(rendered(escape_markdown(text))) == text


CODES = ["a | b", "`", "a `b` ``c", " x ", "\\|", "<b>&amp;", "x = self.w[1] * y_", "||"]


@pytest.mark.parametrize("code", CODES)
def test_code_is_shown_as_it_is_also_in_a_cell(code):
    assert unescape(re.findall("<code>(.*?)</code>", rendered(code_span(code)))[0]) == code
    for cell in (markdown_cell(code, code=True), markdown_cell(code)):
        html = rendered(f"| h | i |\n|---|---|\n| {cell} | 2 |\n")
        assert [shown(one) for one in re.findall("(?s)<td>(.*?)</td>", html)] == [code.strip(), "2"]


def test_a_note_is_the_same_when_its_html_is_written_as_markdown_again():
    note = "Mine, *mine* **b** `c|d` 1.5.\n\n- one\n- two\n\n  more\n\n1. a\n   > q\n2. b\n\n"
    note += "| h | `x\\|y` |\n|---|---|\n| a | **b** \\| c |\n\n[l](http://x.y)\n\n```\ncode\n```\n"
    again = of_markup(rendered(note), str)
    assert "<" not in again.replace("<br>", "")
    assert shown(rendered(again)) == shown(rendered(note))
    tags = re.compile("<(h2|table|td|li|strong|em|code|blockquote|a)")
    assert tags.findall(rendered(again)) == tags.findall(rendered(note))


def shown(html):
    html = re.sub("<br[^>]*>", " ", html)
    return " ".join(unescape(re.sub("<[^>]*>", "", html)).split())


KINDS = {"p": "p", "li": "p", "figcaption": "p", "td": "cell", "th": "cell", "pre": "pre"}


class Read(HTMLParser):
    """What a reader sees, section by section: texts of paragraphs, cells and blocks of code."""

    def __init__(self, html):
        super().__init__()
        self.sections, self.at = {"": defaultdict(list)}, ""
        self.open, self.skipped, self.text = [], 0, ""
        self.feed(html[html.find("</header>") if "</header>" in html else 0 :])

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "nav", "dialog", "summary") or dict(attrs).get("class", "").startswith(
            "save"
        ):
            self.open.append((tag, "skipped"))
            self.skipped += 1
        elif tag in KINDS or tag == "h2":
            self.open.append((tag, KINDS.get(tag, "h2")))
            self.text = ""
        elif tag == "br":
            self.text += " "

    def handle_data(self, data):
        if not self.skipped:
            self.text += data

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            return
        kind = self.open.pop()[1]
        text, self.text = " ".join(self.text.split()), ""
        if kind == "skipped":
            self.skipped -= 1
        elif kind == "h2":
            self.at = text
            self.sections[text] = defaultdict(list)
        elif text:
            self.sections[self.at][kind].append(text)


def test_what_it_shows_is_what_the_page_shows(tmp_path):
    long = pd.DataFrame({"site": [f"blocks.0.hook[{n}]" for n in range(50)], "n": range(50)})
    hard = {"code": CODES, "said": ["1. a", "*b*", "c_d_", "- e", "f|g", "<h>", "~i~", "$j$"]}
    hard["delta"] = np.arange(8) / 7
    sections = [
        Section("A_b *c*", "1. One [x](y).\n\n- two\n\n# 3 `q`", [Figure("Its *c*.", SVG)]),
        Section("Hard", "a_b * c, 1.1322", table=pd.DataFrame(hard), code="-x\n+```y"),
        Section("Prose", Markup("<p>Mine <em>own</em>.</p><ul><li>x</li><li>y</li></ul>")),
        Section("Long", table=long.head(45), saved=long),
    ]
    page = Page(
        "t",
        "q?",
        sections,
        summary=["A <b>", "2) b", "c", "d_e_", "+ f"],
        limitations=["- One.", "model.py:3 is *it*."],
    )
    text = write_markdown(tmp_path / "report.md", page).read_text(encoding="utf-8")
    ours, pages = Read(rendered(text)).sections, Read(rendered_page(page)).sections
    assert [*ours] == [*pages]
    for title in [title for title in pages if title not in ("", "Long")]:
        assert ours[title] == pages[title], title
    cells = pages["Long"]["cell"]
    assert len(cells) == 2 + 90 and ours["Long"]["cell"] == cells[: 2 + 80]
    assert "40 of 50 rows are shown; all." in ours["Long"]["p"]
    assert pd.read_csv(tmp_path / "tables" / "long.csv").equals(long)


def test_answers_do_not_stand_next_to_their_questions(written):
    text = written.read_text(encoding="utf-8")
    assert "It doubles." not in text and "<details>" not in text
    assert "It doubles." in (written.parent / "which-line-was-it-answers.md").read_text()
