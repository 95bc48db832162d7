"""Guardrails: errors against known truth, and what loops."""

import pytest

from experiments.support.proposing.guarding import (
    SYMBOLS,
    built_in_guards,
    guard_cases,
    score_guards,
    score_writing,
    stops_repetition,
)
from interp.curation import make_document
from interp.curation.planted import plant_documents
from interp.stats import share_interval

TEXT = "".join(
    f"Line {number} of a text that says little, and says it once. " for number in range(99)
)
GUARDS = built_in_guards(TEXT)


@pytest.fixture(scope="module")
def cases():
    return guard_cases([make_document("a", TEXT)], frozenset(TEXT), seed=0)


@pytest.mark.parametrize(("answer", "shares"), [(True, (1.0, 0.0)), (False, (0.0, 1.0))])
def test_a_guard_that_stops_all_or_nothing_has_the_errors_of_that(cases, answer, shares):
    table = score_guards(dict.fromkeys(GUARDS, lambda text: answer), cases)
    assert len(table) == 3
    for row in table.to_dict("records"):
        assert (row["false_positives"], row["false_negatives"]) == shares
        ends = (row["fp_low"], row["fp_high"], row["fn_low"], row["fn_high"])
        stopped, missed = (row["harmless"], 0) if answer else (0, row["harmful"])
        wilson = share_interval(stopped, row["harmless"]), share_interval(missed, row["harmful"])
        assert ends == pytest.approx((*wilson[0][1:], *wilson[1][1:]))


def test_private_cases_are_those_that_were_planted(cases):
    planted = plant_documents(0, size=4)
    private = [case for case in cases if case.guard == "private"]
    assert sum(case.harmful for case in private) == sum(len(one.spans) for one in planted)
    assert sum(not case.harmful for case in private) == sum(len(one.harmless) for one in planted)


def test_the_built_in_guards_are_right_where_it_is_plain(cases):
    table = score_guards(GUARDS, cases).set_index("guard")
    assert table.loc[SYMBOLS, ["stopped", "missed"]].tolist() == [0, 0]
    assert table.loc["repetition", "false_positives"] == 0
    assert (table["false_negatives"] < 0.1).all()


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("it goes " + "the same again " * 3, True),
        ("a" * 30, True),
        ("the the the the the the the\n", True),
        ("he said no, no, no.", False),
        ("-----\nand then it went on", False),
        ("word   " + " " * 40, False),
        ("", False),
    ],
)
def test_a_text_that_ends_in_a_loop_is_found(text, loops):
    assert stops_repetition(text) is loops


def test_of_texts_that_were_written_those_that_are_stopped_are_counted():
    table = score_writing(GUARDS, ["ab" * 30, "Line 3 of a text", "call jane.roe@example.org"])
    assert dict(zip(table["guard"], table["stopped"], strict=True)) == {
        "private": 1,
        "repetition": 1,
        "symbols": sum(bool(set(one) - set(TEXT)) for one in ("ab", "call jane.roe@example.org")),
    }
