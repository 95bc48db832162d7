"""What the data card of a text says is so, and gives nothing away."""

import json
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser

import pytest

from gpt.text import load_corpus
from interp.errors import UsageError
from interp.texts import TextAudit, audit_text, html

MARKUP = "<script>alert('x')</script>"
EMAIL, PHONE = "jane.roe@mail.example.org", "+49 30 901820"


@pytest.fixture(scope="module")
def text() -> str:
    """Real text, into which what an audit looks for is put by hand."""
    docs = load_corpus("python-docs").text
    twice = docs[3000:3400]
    return (
        f"{docs[:20_000]}\nWrite to {EMAIL}\nor call {PHONE}.\n"
        + 5 * f"{MARKUP}\n"
        + f"a\u200bb \ufffd \u00a0\n{docs[20_000:21_000]}\n{twice}\n{EMAIL} again"
    )


@pytest.fixture(scope="module")
def audit(text) -> TextAudit:
    return audit_text(text)


def test_sizes_and_counts_are_those_of_the_text(text, audit):
    assert audit.size["bytes"] == len(text.encode())
    assert audit.size["characters"] == len(text)
    assert audit.size["lines"] == len(text.split("\n"))
    counts = Counter(text)
    assert [row["count"] for row in audit.symbols] == sorted(counts.values(), reverse=True)
    assert {row["code"] for row in audit.symbols} == {f"U+{ord(c):04X}" for c in counts}


def test_symbols_that_deserve_a_look_say_why(audit):
    why = {row["code"]: row["unusual"] for row in audit.symbols}
    assert why["U+200B"] == "invisible"
    assert why["U+FFFD"] == "stands where decoding failed"
    assert why["U+00A0"] == "a space that is not the space"
    assert why["U+0065"] == why["U+000A"] == ""


def test_repeated_lines_are_counted_beyond_the_first(text, audit):
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    assert audit.lines["repeated"] == len(lines) - len(set(lines))
    assert {"line": MARKUP, "count": 5} in audit.lines["most"]


def test_a_passage_in_both_parts_is_shown_with_its_line(text, audit):
    border = audit.overlap["border"]
    assert border == int(0.9 * len(text))
    first = audit.overlap["shown"][0]
    assert first["characters"] >= 400
    begins = border + text[border:].index(text[3000:3100])
    assert first["line"] == text.count("\n", 0, begins) + 1


def test_what_looks_private_is_told_by_line_and_masked(text, audit):
    rows = {row["kind"]: row for row in audit.findings}
    mail = rows["e-mail address"]
    assert (mail["count"], mail["distinct"]) == (2, 1)
    assert [one["line"] for one in mail["shown"]] == [
        number for number, line in enumerate(text.split("\n"), 1) if EMAIL in line
    ]
    assert mail["shown"][0]["text"] == "ja" + "•" * (len(EMAIL) - 2)
    assert rows["telephone number"]["count"] == 1


def test_neither_page_nor_json_gives_away_what_was_found(text, audit):
    for shown in (html(audit, "a text"), json.dumps(asdict(audit), ensure_ascii=False)):
        for secret in (EMAIL, PHONE, "mail.example", "901820"):
            assert secret in text
            assert secret not in shown


class Elements(HTMLParser):
    """A page's elements with their attributes, in their order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_nothing_of_the_text_is_markup_on_the_page(audit):
    tags = Counter(tag for tag, _ in Elements(html(audit, MARKUP)).found)
    assert tags["h1"] == 1
    assert tags["script"] == 0
    assert "a\\u202eb" in html(audit, "a\u202eb")  # a name that would turn the line round


def test_a_card_may_run_nothing_and_ask_nothing(audit):
    found = Elements(html(audit, "a text")).found
    policies = [each for _, each in found if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policies[0]["content"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    names = [tag for tag, _ in found]
    policy = found.index(("meta", policies[0]))
    assert policy < names.index("style")  # it holds for what comes after it
    assert not [name for _, each in found for name in each if name in ("src", "href", "action")]
    assert not [name for _, each in found for name in each if name.startswith("on")]


def test_an_audit_comes_back_from_json_as_it_was(audit):
    assert TextAudit(**json.loads(json.dumps(asdict(audit)))) == audit


def test_the_same_text_gives_the_same_audit(text, audit):
    assert audit_text(text) == audit


def test_languages_are_told_apart():
    english = load_corpus("python-docs").text[:4000]
    german = (
        "Die Sonne ging langsam unter, und die Kinder liefen über die Wiese nach Hause, wo die "
        "Großmutter mit dem Abendessen auf sie wartete und eine alte Geschichte erzählte. "
    )
    shares = audit_text(english + german * 25).languages
    assert set(shares) == {"en", "de"}
    assert shares["en"] == pytest.approx(0.5, abs=0.15)
    assert sum(shares.values()) == pytest.approx(1)


def test_what_cannot_be_audited_is_refused():
    with pytest.raises(UsageError, match="the text is empty"):
        audit_text("")
    with pytest.raises(UsageError, match=r"train_share is 1\.0"):
        audit_text("text", train_share=1.0)
