import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing

from interp.errors import UsageError
from interp.report import Figure, Page, Section, write_report

HOSTILE = (
    "</code></pre><script>alert('1')</script> \"q\" & {{ 7 * 7 }} <img src=x onerror=alert(2)>"
)
DIFF = "--- a/model.py\n+++ b/model.py\n@@ -1,2 +1,2 @@\n-x = x + y\n+x = y\n return x\n"
VOID = {"meta", "link", "img", "br"}


class Parsed(HTMLParser):
    """The page as a browser's parser sees it: elements with their attributes, and their text."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.open = [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": ""} | dict(attributes)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        wanted = {"tag": tag} | attributes
        return [e for e in self.elements if wanted.items() <= e.items()]

    def texts(self, tag, **attributes):
        return [element["text"] for element in self.all(tag, **attributes)]


def drawn(kind):
    content = io.BytesIO()
    figure = Drawing(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    figure.savefig(content, format=kind)
    return content.getvalue()


def written(path, *sections, title="Title", question="Question?", **provenance):
    return Parsed(write_report(path / "report.html", Page(title, question, sections, [provenance])))


def test_a_page_holds_what_it_was_given_in_order(tmp_path):
    table = pd.DataFrame({"variant": ["none", "no residual"], "best": [1.88, np.nan]})
    first = Section(
        "First", "One.\nStill one.\n\nTwo.", [Figure("A curve", drawn("svg"))], table, DIFF
    )
    page = written(tmp_path, first, Section("Second"), title="T", question="Why?")
    assert page.texts("title") == page.texts("h1") == ["T"]
    assert page.texts("h2") == ["First", "Second", "Provenance"]
    assert page.texts("p")[:3] == ["Why?", "One.\nStill one.", "Two."]
    assert page.texts("th", scope="col") == ["variant", "best"]
    assert page.texts("th", scope="row") == ["none", "no residual"]
    assert page.texts("td") == ["1.8800", "—"]
    assert page.texts("figcaption") == ["A curve"]
    links = [link["href"] for link in page.all("a") if "href" in link]
    assert links == ["#report", *(f"#{heading['id']}" for heading in page.all("h2"))]


def test_a_diff_is_shown_whole_and_each_kind_of_line_marked(tmp_path):
    page = written(tmp_path, Section("Cut", code=DIFF))
    assert page.texts("pre", **{"class": "diff"}) == [DIFF.rstrip("\n")]
    assert page.texts("span", **{"class": "diff-gd"}) == ["-x = x + y"]
    assert page.texts("span", **{"class": "diff-gi"}) == ["+x = y"]
    assert "--- a/model.py" in "".join(page.texts("span", **{"class": "diff-gh"}))


def test_figures_are_embedded_as_given_from_bytes_and_from_files(tmp_path):
    png, svg = drawn("png"), drawn("svg")
    (tmp_path / "figure.svg").write_bytes(svg)
    figures = [Figure("PNG", png), Figure("SVG", tmp_path / "figure.svg")]
    page = written(tmp_path, Section("Figures", figures=figures))
    sources = [image["src"].partition(";base64,") for image in page.all("img")]
    assert [kind for kind, _, _ in sources] == ["data:image/png", "data:image/svg+xml"]
    assert [base64.b64decode(data) for _, _, data in sources] == [png, svg]
    assert [image["alt"] for image in page.all("img")] == ["PNG", "SVG"]


def test_whatever_the_texts_contain_nothing_becomes_markup(tmp_path):
    table = pd.DataFrame({HOSTILE: [HOSTILE], "number": [1.0], "other": [HOSTILE]})
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(3)</script></svg>"
    section = Section(HOSTILE, HOSTILE, [Figure(HOSTILE, svg)], table, f"-{HOSTILE}\n+{HOSTILE}\n")
    page = written(
        tmp_path, section, title=HOSTILE, question=HOSTILE, command=HOSTILE, **{HOSTILE: [HOSTILE]}
    )
    (script,) = page.texts("script")
    assert "alert" not in script
    assert page.texts("title") == page.texts("h1") == [HOSTILE]
    for tag in ("h2", "p", "th", "figcaption", "dt", "dd"):
        assert HOSTILE in page.texts(tag)
    assert page.texts("pre") == [f"-{HOSTILE}\n+{HOSTILE}", HOSTILE]
    (image,) = page.all("img")
    assert image["alt"] == HOSTILE
    assert not [name for element in page.elements for name in element if name.startswith("on")]


def test_the_page_asks_no_network_and_may_run_its_own_script_alone(tmp_path):
    page = written(tmp_path, Section("Figures", figures=[Figure("A curve", drawn("svg"))]))
    asked = [e[name] for e in page.elements for name in ("src", "href", "action") if name in e]
    assert all(address.startswith(("data:", "#")) for address in asked)
    (style,) = page.texts("style")
    assert not re.search(r"url\(|@import", style)
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    (script,) = page.texts("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in policy["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_controls_bidi_marks_and_surrogates_are_shown_as_escapes(tmp_path):
    bad = "a\x00\x1b[31m\u202e\u2066\ud800b"
    page = written(tmp_path, Section(bad, bad, code=f"+{bad}\n"), title=bad, command=bad)
    escaped = "a\\x00\\x1b[31m\\u202e\\u2066\\ud800b"
    assert page.texts("h1") == [escaped]
    assert page.texts("pre") == [f"+{escaped}", escaped]
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\u2066]", (tmp_path / "report.html").read_text())


def test_numbers_keep_four_decimals_or_four_digits(tmp_path):
    numbers = [0.0, 1.88, 3.3549999, 1e-5, 123456.789, float("inf")]
    table = pd.DataFrame({"loss": numbers, "seed": range(6), "leak": [True] * 6})
    page = written(tmp_path, Section("Table", table=table))
    cells = page.texts("td", **{"class": "number"})
    assert cells[::2] == ["0.0000", "1.8800", "3.3550", "1e-05", "1.235e+05", "inf"]
    assert cells[1::2] == list("012345")


def test_provenance_ends_the_page_with_the_command_that_makes_it_again(tmp_path):
    page = written(
        tmp_path,
        command="python -m experiments.course --preset demo",
        config={"seeds": [0, 1], "train": {"lr": 1e-3}},
        commit=None,
        resumed=[{"at": "today", "python": "3.12"}],
    )
    assert page.texts("pre") == ["python -m experiments.course --preset demo"]
    assert dict(zip(page.texts("dt"), page.texts("dd"), strict=True)) == {
        "config.seeds": "0, 1",
        "config.train.lr": "0.001",
        "commit": "none",
        "resumed.1.at": "today",
        "resumed.1.python": "3.12",
    }


def test_a_figure_that_is_none_is_one_sentence_and_the_old_page_stays(tmp_path):
    written(tmp_path, title="old")
    for wrong, sentence in (
        (b"%PDF-1.4", "'A curve' is neither SVG nor PNG"),
        (tmp_path / "missing.svg", "cannot read .*missing.svg for the report: No such file"),
    ):
        with pytest.raises(UsageError, match=sentence):
            written(tmp_path, Section("Figures", figures=[Figure("A curve", wrong)]), title="new")
    assert Parsed(tmp_path / "report.html").texts("h1") == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", Page("T", "Q?", []))


def test_provenance_is_a_line_for_each_run_with_the_rest_folded(tmp_path):
    page = written(
        tmp_path,
        command="python -m experiments.lines",
        commit="0123456789abcdef with uncommitted changes",
        python="3.11.7",
        packages={"torch": "2.13.0", "einops": "0.8.2"},
        provenance={"text_sha256": "feedbeef" * 8},
    )
    [brief] = page.texts("p", **{"class": "brief"})
    assert brief == (
        "commit 0123456789ab with uncommitted changes, text feedbeeffeed, "
        "Python 3.11.7, torch 2.13.0"
    )
    [folded] = [text for text in page.texts("details") if "einops" in text]
    assert "packages.einops" in folded and "command" not in folded
