"""Every number of a card is what counting in the pile and the text gives."""

import json
from collections import Counter
from dataclasses import asdict
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from interp.curation import Curated, Pipeline, Skipped, run_pipeline
from interp.curation.card import DataCard, make_card, shape_of_reason
from interp.curation.card_pages import SHOWN, card_html, card_markdown
from interp.curation.planted import EXACT, plant_documents
from interp.curation.scoring import as_document
from interp.errors import UsageError

SIZE = 2
MARKUP = "<script>alert('x')</script> | `a` *b* [c](d)"


@pytest.fixture(scope="module")
def documents():
    return [as_document(one) for one in plant_documents(size=SIZE)]


@pytest.fixture(scope="module")
def curated(documents, tmp_path_factory) -> Curated:
    skipped = [
        Skipped(f"{MARKUP} {number}.pdf", f"is broken {MARKUP}") for number in range(SHOWN + 3)
    ]
    pile = [*documents, *skipped]
    return run_pipeline(Pipeline.default(), pile, tmp_path_factory.mktemp("card") / "text")


@pytest.fixture(scope="module")
def card(curated) -> DataCard:
    return make_card(curated, MARKUP)


def test_what_came_in_and_what_is_kept_are_those_of_the_pile_and_the_text(documents, curated, card):
    assert card.size["in"] == {
        "documents": len(documents),
        "characters": sum(len(one.text) for one in documents),
    }
    kept = [*curated.documents()]
    characters = sum(len(one.text) for one in kept)
    assert card.size["kept"] == {"documents": len(kept), "characters": characters}
    between = 2 * (len(kept) - 2)  # blank lines between the documents of a part
    assert len(curated.train) + len(curated.val) == characters + between
    assert len(card.skipped) == SHOWN + 3


def test_characters_that_came_in_less_those_removed_plus_those_added_are_those_kept(card):
    removed, added = (sum(step[name] for step in card.steps) for name in ("removed", "added"))
    assert card.size["in"]["characters"] - removed + added == card.size["kept"]["characters"]
    for step in card.steps:
        assert step["before"] - step["removed"] + step["added"] == step["after"]
        assert step["in"] - step["dropped"] == step["out"]
        assert sum(row["count"] for row in step["reasons"]) == step["dropped"]
    assert sum(step["dropped"] for step in card.steps) == (
        card.size["in"]["documents"] - card.size["kept"]["documents"]
    )


def test_parts_and_kinds_are_those_of_the_documents_that_are_kept(curated, card):
    for row in card.split:
        own = [*curated.documents(row["part"])]
        assert row["documents"] == len(own)
        assert row["clusters"] == len({one.cluster for one in own})
        assert row["characters"] == sum(len(one.text) for one in own)
    assert sum(row["share"] for row in card.split) == pytest.approx(1)
    for rows, name in (
        (card.kinds, "kind"),
        (card.languages, "language"),
        (card.licences, "licence"),
    ):
        counted = Counter(getattr(one, name) or "not known" for one in curated.documents())
        assert {row["name"]: row["documents"] for row in rows} == counted
        assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_what_was_masked_and_what_was_twice_is_what_was_planted(card):
    planted = plant_documents(size=SIZE)
    spans = Counter(span.kind for one in planted for span in one.spans)
    assert {row["kind"]: row["count"] for row in card.masked} == spans
    assert {row["documents"] for row in card.masked} == {SIZE}
    assert card.duplicates["exact"] == sum(one.fault == EXACT for one in planted)
    assert card.duplicates["near"] == SIZE


def test_a_card_is_json_and_comes_back_the_same(card, curated):
    assert DataCard(**json.loads(json.dumps(asdict(card)))) == card
    assert make_card(Curated(curated.folder), MARKUP) == card


class Page(HTMLParser):
    """A page's elements and its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.words = Counter[str](), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_data(self, data):
        self.words += data


def test_nothing_of_a_document_or_a_name_is_markup_in_html_or_markdown(card):
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(card_markdown(card))
    for page in (card_html(card), rendered):
        found = Page(page)
        assert found.tags["script"] == found.tags["em"] == found.tags["a"] == 0
        assert found.tags["h1"] == 1
        assert "alert('x')</script> | `a` *b* [c](d)" in found.words
        for number in (card.size["in"]["characters"], card.steps[0]["removed"]):
            assert f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") in found.words
    rows = rendered.count("<tr>")
    assert rows == card_markdown(card).count("\n|") - rendered.count("<table>")


def test_a_page_names_some_skipped_files_and_says_how_many_there_are(card):
    page = card_html(card)
    assert page.count(".pdf") == SHOWN
    assert f"The first {SHOWN} of {SHOWN + 3}" in page


def test_equal_reasons_are_counted_together_whatever_their_numbers_and_sources():
    assert shape_of_reason("has 12 characters, fewer than 200") == (
        "has … characters, fewer than …"
    )
    assert shape_of_reason("the same as notes 3.txt") == "the same as another"
    assert shape_of_reason("nearly the same as a\nb") == "nearly the same as another"
    assert shape_of_reason("has a passage in common with a, b 3.txt, which is validated on") == (
        "has a passage in common with another, which is validated on"
    )


def test_a_step_that_was_left_out_is_not_on_the_card_and_the_rest_adds_up(documents, tmp_path):
    pipeline = Pipeline.default().without("exact_duplicates", "near_duplicates")
    card = make_card(run_pipeline(pipeline, documents, tmp_path / "text"), "pile")
    assert [step["step"] for step in card.steps] == pipeline.names
    assert card.duplicates == {"exact": 0, "near": 0}
    assert sum(row["clusters"] for row in card.split) < card.size["kept"]["documents"]


def test_tables_of_different_runs_are_refused(curated, tmp_path, documents):
    run_pipeline(Pipeline.default(), documents, tmp_path / "text")
    histories = curated.histories
    histories[histories["order"] != 3].to_parquet(tmp_path / "text" / "histories.parquet")
    with pytest.raises(UsageError, match="the tables are not of one run"):
        make_card(Curated(tmp_path / "text"), "pile")
