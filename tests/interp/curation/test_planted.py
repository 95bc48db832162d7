"""What is said of a planted document is so, and finders and filters find it in three styles."""

from pathlib import Path

import pytest

from benchmarks.finders import table_row
from benchmarks.styles.chats import CHATS
from benchmarks.styles.held_out import write_held_out
from benchmarks.styles.logs import LOGS
from benchmarks.styles.papers import write_papers
from interp.curation import make_document
from interp.curation.near import jaccard, runs_of
from interp.curation.planted import (
    DUPLICATES,
    EXACT,
    FOREIGN,
    GIBBERISH,
    NEAR,
    SHORT,
    PlantedDocument,
    Span,
    plant_documents,
)
from interp.curation.planted_words import PROSE
from interp.curation.scoring import score_finders, score_steps
from interp.errors import UsageError
from interp.texts import KINDS

STYLES = {"prose": PROSE, "logs": LOGS, "chats": CHATS}


@pytest.fixture(scope="module")
def planted() -> tuple[PlantedDocument, ...]:
    return plant_documents(size=3)


def test_the_same_seed_plants_the_same_documents_and_another_seed_others(planted):
    assert plant_documents(size=3) == planted
    assert plant_documents(1, size=3) != planted
    assert len({one.source for one in planted}) == len(planted)


def test_what_is_said_of_a_document_is_so(planted):
    by_source = {one.source: one for one in planted}
    counts = dict.fromkeys([*KINDS], 0)
    for one in planted:
        for span in one.spans:
            counts[span.kind] += 1
        if one.fault == EXACT:
            assert one.text == by_source[one.original].text
        if one.fault == NEAR:
            other = by_source[one.original].text
            assert one.text != other
            assert jaccard(runs_of(one.text, 5), runs_of(other, 5)) > 0.8
        assert bool(one.original) == (one.fault in DUPLICATES)
        assert (one.language != "en") == (one.fault == FOREIGN)
        assert all(line in one.text for line in one.boilerplate)
    assert set(counts.values()) == {15}
    texts = [one.text for one in planted if one.fault != EXACT]
    assert len(set(texts)) == len(texts)
    assert {EXACT, NEAR, SHORT, GIBBERISH, FOREIGN, ""} == {one.fault for one in planted}


@pytest.mark.parametrize("style", STYLES)
def test_planted_near_duplicates_are_such_in_every_style(style):
    documents = plant_documents(size=4, style=STYLES[style])
    text_of = {one.source: one.text for one in documents}
    pairs = [(one.text, text_of[one.original]) for one in documents if one.fault == NEAR]
    assert len(pairs) == 4
    for text, original in pairs:
        assert text != original
        assert jaccard(runs_of(text, 5), runs_of(original, 5)) >= 0.8


@pytest.mark.parametrize("style", STYLES)
def test_finders_are_right_about_nine_in_ten_in_ways_of_writing_they_were_not_made_for(style):
    table = score_finders(plant_documents(3, size=4, style=STYLES[style]))
    assert (table["planted"] == 20).all()
    assert (table["precision"] >= 0.9).all(), table
    assert (table["recall"] >= 0.9).all(), table
    assert (table["precision_low"] < table["precision"]).all()


def test_the_guide_tells_what_the_finders_score_on_documents_seen_and_held_out():
    guide = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    seen = sort_scores("papers", write_papers())
    held_out = sort_scores("held out", write_held_out())
    assert seen in guide, seen
    assert held_out in guide, held_out


def sort_scores(name, planted):
    assert all(one.text[span.start : span.stop].strip() for one in planted for span in one.spans)
    return table_row(name, score_finders(planted))


def test_each_step_of_the_default_pipeline_does_what_it_is_for(planted):
    table = score_steps(planted).set_index("what")
    assert set(table["step"]) == {
        *("markup", "language", "exact_duplicates", "near_duplicates", "private", "secrets"),
        *("lengths", "quality", "licences"),
    }
    assert table.loc[SHORT, "recall"] == table.loc[FOREIGN, "recall"] == 1
    assert table.loc[EXACT, ["planted", "right"]].tolist() == [3, 3]
    assert table.loc[NEAR, ["planted", "right"]].tolist() == [6, 6]
    assert (table["precision"].dropna() >= 0.9).all()
    assert (table["recall"] >= 0.6).all()


def test_a_finder_is_scored_by_what_it_finds_to_the_character():
    text = "Write to a.b@mail.example.org or c.d@mail.example.org."
    first, second = text.index("a.b"), text.index("c.d")
    whole = PlantedDocument("a", text, spans=(Span("e-mail address", first, first + 20),))
    wrong = PlantedDocument("b", text, spans=(Span("e-mail address", second, second + 5),))
    (row,) = score_finders([whole]).query("what == 'e-mail address'").to_dict("records")
    assert (row["planted"], row["found"], row["right"]) == (1, 2, 1)
    assert (row["precision"], row["recall"]) == (0.5, 1.0)
    (row,) = score_finders([whole, wrong]).query("what == 'e-mail address'").to_dict("records")
    assert (row["planted"], row["found"], row["right"]) == (2, 4, 1)
    others = score_finders([whole]).query("what != 'e-mail address'")
    assert others[["precision", "recall"]].isna().all().all()


def test_steps_that_do_nothing_or_too_much_are_scored_so(planted):
    def keep(documents):
        yield from documents

    def drop(documents):
        yield from (one.drop("all of them") for one in documents)

    nothing = score_steps(planted, {"lengths": keep, "exact_duplicates": keep})
    assert nothing["recall"].tolist() == [0, 0]
    assert nothing["precision"].isna().all()
    all_of_them = score_steps(planted, {"lengths": drop, "exact_duplicates": drop})
    assert all_of_them["recall"].tolist() == [1, 1]
    faultless = sum(not one.fault for one in planted)
    assert all_of_them["precision"][0] == pytest.approx(3 / (3 + faultless))
    assert all_of_them["precision"][1] == pytest.approx(3 / len(planted))


def test_a_size_below_one_is_refused():
    with pytest.raises(UsageError, match="size is 0"):
        plant_documents(size=0)


def test_every_planted_document_can_be_one_of_a_pile(planted):
    assert len({make_document(one.source, one.text).id for one in planted}) == len(planted)
