"""An author's prose in a report: harmless whatever it holds, and quoting nothing but what is so."""

import re
from html.parser import HTMLParser

import pytest

from interp.errors import UsageError
from interp.report import Page, Section, write_report
from interp.report.notes import notes_of, place_notes, read_notes, references

NUMBERS = {
    "course": {
        "none": {"val_best": 1.4641, "n": 3},
        "no_residual": {"val_best": 3.35498, "n": 3},
    },
    "laptop-tiny.txt": {"model.py:189:cut-skip": {"delta": 0.25, "label": "<b>_x_</b>"}},
}
PAGE = Page("The page", "Why?", [Section("Curves"), Section("All numbers")], summary=["One."])


def prose(text):
    return "".join(note.prose for note in notes_of(text, NUMBERS))


def titles(page):
    return [part.title for part in page.parts]


def test_a_reference_is_the_number_of_the_run_in_the_form_asked_for():
    assert "at 3.3550 nats" in prose("at {{ course.no_residual.val_best }} nats")
    assert "at 3.35 nats" in prose("at {{course.no_residual.val_best:.2f}} nats")
    assert "3 seeds" in prose("**{{ course.none.n }}** seeds").replace("</strong>", "")


def test_names_may_hold_dots_and_colons():
    assert "+0.250" in prose("{{ laptop-tiny.txt.model.py:189:cut-skip.delta:+.3f }}")
    assert "0.2500" in prose("{{ laptop-tiny.txt.model.py:189:cut-skip.delta }}")


def test_what_is_quoted_is_text_whatever_it_holds():
    said = prose("{{ laptop-tiny.txt.model.py:189:cut-skip.label }}")
    assert "&lt;b&gt;_x_&lt;/b&gt;" in said
    assert "<em>" not in said


def test_in_code_a_reference_stays_as_it_is_written():
    assert "{{ course.x }}" in prose("`{{ course.x }}`\n\n```\n{{ course.x }}\n```")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("cours.none.n", r"nearest: course\.none\.n.* the runs are course, laptop-tiny\.txt"),
        ("course.no_residul.val_best", "nearest: course.no_residual.val_best.* the rows of course"),
        ("course.none.val_bets", "nearest: course.none.val_best.* columns .* are val_best, n"),
        ("course.none.val_bets:.2f", "nearest: course.none.val_best.* columns"),
        ("course.none.val_best:.2q", "format"),
        ("nothing", "the runs are"),
    ],
)
def test_a_reference_to_nothing_is_one_sentence_with_its_line_and_what_there_is(reference, told):
    with pytest.raises(UsageError, match=told) as error:
        notes_of(f"# Curves\n\nfine\n\nbut {{{{ {reference} }}}}", NUMBERS)
    assert "notes.md, line 5" in str(error.value)
    assert "\n" not in str(error.value)


def test_all_references_are_listed_and_each_of_them_resolves():
    found = dict(references(NUMBERS))
    assert len(found) == 6
    for reference in found:
        assert prose(f"{{{{ {reference} }}}}")


def test_prose_stands_where_its_heading_says():
    notes = notes_of(
        "Before.\n\n# curves\nOn curves.\n\n## A thought\nMine.\n\n### Small\nStill mine."
        "\n\n# Second thought\nMore.\n\n# Limitations\nFew.",
        NUMBERS,
    )
    page = place_notes(PAGE, notes)
    assert titles(page) == ["Curves", "A thought", "Second thought", "All numbers"]
    assert page.prose["Summary"] == "<p>Before.</p>\n"
    assert page.prose["Curves"] == "<p>On curves.</p>\n"
    assert page.prose["Limitations"] == "<p>Few.</p>\n"
    assert "<h3>Small</h3>" in page.parts[1].text


def test_prose_before_any_part_is_named_comes_first():
    assert titles(place_notes(PAGE, notes_of("# Why we ask\nBecause.", NUMBERS)))[0] == "Why we ask"


def test_a_page_shows_its_prose_under_the_part_it_belongs_to(tmp_path):
    notes = notes_of("# Summary\nIn short.\n\n# All numbers\nMind the *sign*.", NUMBERS)
    html = write_report(tmp_path / "page.html", place_notes(PAGE, notes)).read_text(
        encoding="utf-8"
    )
    assert re.search(r'id="summary">Summary</h2>\s*<p>In short', html)
    assert re.search(r'id="all-numbers">All numbers</h2>\s*<p>Mind the <em>sign</em>', html)


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](java\tscript:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "[a](vbscript:x)",
    "[a](file:///etc/passwd)",
    "[a](//elsewhere.example/x)",
    r"[a](\\\\elsewhere.example/x)",
    "<javascript:alert(1)>",
    "![a](data:image/svg+xml,x)",
    '[a](https://x.example "t\\" onclick=\\"alert(1)")',
    "[a]: javascript:alert(1)\n\n[a]",
    "```\n</code></pre><script>alert(1)</script>\n```",
    '```"><script>\nx\n```',
    "| <script> |\n|---|\n| x |",
    "# <script>alert(1)</script>\nx",
]


class Elements(HTMLParser):
    """The elements of a piece of HTML, with their attributes."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_the_prose_can_act(text, tmp_path):
    found = Elements()
    found.feed(prose(text))
    for tag, attributes in found.seen:
        assert tag in {"p", "a", "h1", "pre", "code", "table", "thead", "tbody", "tr", "th", "td"}
        assert set(attributes) <= {"href", "title", "class"}
        assert attributes.get("href", "#").startswith(("https://", "#"))
    page = place_notes(PAGE, notes_of(text, NUMBERS))
    html = write_report(tmp_path / "page.html", page).read_text(encoding="utf-8")
    assert "<script>alert" not in html


def test_marks_that_reorder_or_hide_are_shown_as_escapes():
    assert prose("a\u202eb\x00\u2028") == "<p>a\\u202eb\\x00\\u2028</p>\n"


@pytest.mark.parametrize("link", ["https://x.example/a?b=c:d", "#L104", "notes/a.md", "./b:c.html"])
def test_links_to_the_web_the_page_and_beside_it_work(link):
    assert f'href="{link}"' in prose(f"[a]({link})")


def test_a_picture_beside_the_notes_becomes_part_of_the_page(tmp_path):
    (tmp_path / "notes.md").write_text("![A drawing](a.svg)", encoding="utf-8")
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    (note,) = read_notes(tmp_path / "notes.md", NUMBERS)
    assert '<img src="data:image/svg+xml;base64,' in note.prose
    assert 'alt="A drawing"' in note.prose


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("![a](https://x.example/a.png)", "asks no network"),
        ("![a](missing.png)", "cannot read"),
        ("![a](../a.svg)", "is not beside the notes"),
        ("![a](sub/../../a.svg)", "is not beside the notes"),
        ("![a](%2e%2e/a.svg)", "is not beside the notes"),
        ("![a](/etc/a.svg)", "is not beside the notes"),
        ("![a](link.svg)", "is not beside the notes"),
    ],
)
def test_a_picture_from_elsewhere_is_refused(tmp_path, text, told):
    (tmp_path / "a.svg").write_text("<svg/>")
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "link.svg").symlink_to(tmp_path / "a.svg")
    (folder / "notes.md").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        read_notes(folder / "notes.md", NUMBERS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my pic.svg", "<my pic.svg>"),
        ("my pic.svg", "my%20pic.svg"),
        ("größe.svg", "größe.svg"),
        ("日本.svg", "日本.svg"),
        ("100%.svg", "100%25.svg"),
        ("a%20b.svg", "a%20b.svg"),
        ("a(b).svg", "a(b).svg"),
        ("a.svg", "sub/../a.svg"),
        ("a.svg", "./a.svg"),
    ],
)
def test_a_picture_is_found_under_whatever_name_it_bears(tmp_path, name, text):
    (tmp_path / name).write_text("<svg/>")
    (tmp_path / "notes.md").write_text(f"![A drawing]({text})", encoding="utf-8")
    (note,) = read_notes(tmp_path / "notes.md", NUMBERS)
    assert '<img src="data:image/svg+xml;base64,' in note.prose


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_notes_that_cannot_be_read_are_one_sentence(tmp_path, content):
    path = tmp_path / "notes.md"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the notes"):
        read_notes(path, NUMBERS)
