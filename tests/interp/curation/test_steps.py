"""Each step does what its docstring says, and once is enough."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.curation import STEPS, Document, Tally, make_document
from interp.curation.documents import CODE, HTML, MARKDOWN
from interp.curation.steps import (
    filter_languages,
    filter_lengths,
    filter_quality,
    mask_private,
    mask_secrets,
    normalise,
    note_licences,
    split_documents,
    strip_markup,
)
from interp.curation.steps.languages import language_identifier
from interp.errors import UsageError
from interp.texts import find_private
from interp.texts.finding import KINDS
from tests.interp.curation.piles_of_tests import page, sentences


def after(step, text: str, kind: str = "text", **options) -> Document:
    [document] = step([make_document("it", text, kind)], **options)
    return document


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.sampled_from(["NFC", "NFKC"])
)
def test_normalising_twice_is_normalising_once(text, form):
    once = after(normalise, text, unicode=form).text
    assert after(normalise, once, unicode=form).text == once
    assert unicodedata.is_normalized(form, once)
    assert "\r" not in once and "\0" not in once


def test_what_normalising_changes_is_counted():
    document = after(normalise, "\ufeffcafe\u0301 \r\nA\u200bB\n\n\n\n\n\nend\f")
    assert document.text == "café\nAB\n\n\nend"
    assert {note.what: int(note.count) for note in document.notes} == {
        "line end": 1,
        "character nobody sees": 3,
        "text in another Unicode form": 1,
        "space at a line's end": 1,
        "run of blank lines": 1,
    }


def test_joined_emoji_and_persian_words_stay_whole():
    text = "👩‍👩‍👧 می‌خواهم"
    assert after(normalise, text).text == text


def test_the_text_of_a_page_is_taken_without_its_menu():
    text = sentences(12, 0)
    document = after(strip_markup, page(text), HTML)
    assert "Shop" not in document.text
    assert document.text.split("\n") == text.split("\n")
    assert after(strip_markup, "<html><body></body></html>", HTML).dropped
    long = after(strip_markup, page(text), HTML, longest_page=500)
    assert "characters, more than 500" in long.dropped


def test_the_text_of_markdown_is_what_a_reader_sees():
    markdown = (
        "# Title\n\nSome *bold* [link](http://x.y), `code` <b>tag</b>.\n\n"
        "* one\n* two\n\n```py\nx = 1\n```\n"
    )
    assert after(strip_markup, markdown, MARKDOWN).text == (
        "Title\n\nSome bold link, code tag.\n\none\n\ntwo\n\nx = 1\n"
    )


def test_other_languages_go_and_code_stays():
    german = (
        "Der Fluss trägt alte Boote an einer stillen Stadt vorbei, in der man Bücher liest. " * 3
    )
    assert after(filter_languages, german).dropped == "is in another language (de)"
    assert after(filter_languages, german, keep=["de"]).dropped == ""
    assert after(filter_languages, german, keep=[]).language == "de"
    assert after(filter_languages, german, CODE).language == "und"
    assert after(filter_languages, "42 17").dropped == ""


def test_a_list_of_names_is_in_no_language_and_one_that_is_none_is_refused():
    names = "* Jean Dupont\n* Anna Schmidt\n* Pedro Gomez\n* Yuki Sato\n* Ivan Petrov"
    assert language_identifier().classify(names)[0] == "bcl"
    assert after(filter_languages, names, sure=0.0).language == "und"
    with pytest.raises(UsageError, match="keep names 'english', which is no language"):
        after(filter_languages, names, keep=["english"])


PRIVATE = [
    "ann.lee@corp.org",
    "8.8.8.8",
    "+1 202 456 1111",
    "12 Long Street",
    "password = 'hunter2horse'",
    "AKIAIOSFODNN7EXAMPLE",
    "and more words",
    "\n",
]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(PRIVATE), max_size=6).map(" ".join))
def test_nothing_private_is_found_in_what_was_masked(text):
    [document] = mask_secrets(mask_private([make_document("it", text)]))
    assert document.dropped or find_private(document.text) == []


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(PRIVATE), max_size=6).map(" ".join), st.sets(st.sampled_from([*KINDS]))
)
def test_what_is_found_of_some_kinds_is_what_is_found_of_them_among_all(text, kinds):
    expected = [found for found in find_private(text) if found.kind in kinds]
    assert find_private(text, kinds=kinds) == expected


def test_what_was_masked_is_counted_by_kind():
    document = after(mask_private, "Write to a@b.org or c@d.org, 12 Long Street.")
    assert document.text == "Write to <EMAIL> or <EMAIL>, <STREET>."
    assert set(document.notes) == {Tally("e-mail address", 2), Tally("street address", 1)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 199, "has 199 characters, fewer than 200"),
        (" " * 300, "has 0 characters, fewer than 200"),
        ("x" * 200, ""),
    ],
)
def test_documents_are_as_long_as_asked(text, reason):
    assert after(filter_lengths, text).dropped == reason
    assert after(filter_lengths, text, at_least=0).dropped == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no words"),
        ("a b c d", "its words have 1.0 characters on average"),
        ("1234 5678 words", "66.7 % of words without a letter, more than 30 %"),
        ("#tag #tags other words", "50 % as many signs (# and …) as words, more than 10 %"),
        ("- a longer line of words\n- and the next of them", "100 % of lines begin with a bullet"),
        ("word one...\nthing with more words in it than one or two or three", "of lines end with"),
        ("same line\nsame line\nsame line", "66.7 % of lines are repeated, more than 30 %"),
        (
            "```\nthe first words of all are these eight here\n```\n---\n"
            "```\nthe second words of all are those eight there\n```\n---",
            "",
        ),
        (sentences(5, 0), ""),
    ],
)
def test_a_document_is_dropped_by_the_rule_that_it_breaks(text, reason):
    found = after(filter_quality, text).dropped
    assert reason in found and bool(reason) == bool(found)
    assert after(filter_quality, text, CODE).dropped == ""


def test_a_notice_goes_from_the_top_and_a_licence_stays():
    notice = "Copyright (c) 2020 Somebody. Licensed under the MIT license.\n\n"
    document = after(note_licences, notice + sentences(12, 0))
    assert (document.text, document.licence) == (sentences(12, 0), "MIT")
    assert after(note_licences, notice + sentences(12, 0), remove=False).text.startswith("Copy")
    licence = notice + "Permission is hereby granted, free of charge, to any person.\n"
    assert after(note_licences, licence).text == licence
    assert after(note_licences, "# SPDX-License-Identifier: EUPL-1.2\n").licence == "EUPL-1.2"


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_are_never_on_both_sides(seed):
    pile = [make_document(f"{n}", sentences(12, n // 4) + f"\nLine {n}.") for n in range(80)]
    found = list(split_documents(pile, seed=seed, val_share=0.2))
    for n in range(0, 80, 4):
        assert len({document.split for document in found[n : n + 4]}) == 1
    val = sum(len(document.text) for document in found if document.split == "val")
    total = sum(len(document.text) for document in found)
    largest = max(sum(len(d.text) for d in pile[n : n + 4]) for n in range(0, 80, 4))
    assert abs(val - 0.2 * total) <= largest
    apart = list(split_documents(pile, seed=seed, val_share=0.2, by="document"))
    assert any(len({d.split for d in apart[n : n + 4]}) == 2 for n in range(0, 80, 4))


def test_an_impossible_share_is_refused():
    with pytest.raises(UsageError, match="between 0 and 1"):
        list(split_documents([make_document("a", "b")], val_share=1.0))


@pytest.mark.parametrize("name", STEPS)
def test_every_step_takes_an_empty_document_and_says_its_rule(name):
    [document] = STEPS[name]([make_document("it", "")])
    assert document.id == make_document("it", "").id
    assert STEPS[name].__doc__
