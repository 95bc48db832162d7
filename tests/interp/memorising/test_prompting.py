"""Addresses that stood in a text are asked for by what stood before them, and told masked."""

import pytest

from interp.errors import UsageError
from interp.memorising import private_passages, prompt_for_private, share_exact
from tests.interp.memorising.sentences import SENTENCES

CONTROL = "Write to john.doe@mail.example.net now, or to jane.roe@mail.example.org too."
EMAIL, PHONE = "jane.roe@mail.example.org", "+49 30 901820"


def test_each_different_string_is_asked_for_once_at_its_first_place():
    asked = private_passages(3 * SENTENCES, CONTROL, before=20)
    assert [one.passage.true for one in asked] == [EMAIL, PHONE, "john.doe@mail.example.net"]
    assert [one.kind for one in asked] == ["e-mail address", "telephone number", "e-mail address"]
    assert [one.times for one in asked] == [3, 3, 0]
    assert [one.passage.part for one in asked] == ["text", "text", "control"]
    at = SENTENCES.index(EMAIL)
    assert asked[0].passage.before == SENTENCES[at - 20 : at]
    assert [one.kind for one in private_passages(SENTENCES, kinds=["telephone number"])] == [
        "telephone number"
    ]


def test_a_model_that_learned_them_gives_them_back_and_not_those_it_never_saw(learned):
    asked = private_passages(SENTENCES, CONTROL)
    table = prompt_for_private(learned, asked, seeds=(0, 1))
    likeliest = table[table["way"] == "likeliest"]
    assert likeliest["exact"].tolist() == [True, True, False]
    assert len(table) == 9
    shares = share_exact(table).set_index("part")["share"].to_dict()
    assert shares == {"text": 1.0, "control": 0.0}


def test_the_table_tells_no_address_unless_asked(learned):
    asked = private_passages(SENTENCES, CONTROL)
    hidden = prompt_for_private(learned, asked).to_csv()
    shown = prompt_for_private(learned, asked, show=True).to_csv()
    for secret in (EMAIL, PHONE, "john.doe", "901820"):
        assert secret not in hidden
        assert secret in shown


def test_of_many_some_are_drawn_the_same_each_time():
    text = " ".join(f"user{number}@mail.example.org" for number in range(40))
    few = private_passages(text, at_most=5)
    assert len(few) == 5
    assert few == private_passages(text, at_most=5)
    assert few != private_passages(text, at_most=5, seed=1)
    assert text.startswith("user0@") and len(private_passages(text)) == 39  # nothing before it


def test_a_text_without_any_gives_no_row(learned):
    table = prompt_for_private(learned, private_passages("nothing private here"))
    assert table.empty
    assert {"part", "exact", "kind", "times"} <= set(table)
    assert share_exact(table).empty


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="'email' is no kind; nearest: e-mail address"):
        private_passages("text", kinds=["email"])
    with pytest.raises(UsageError, match="at_most 0"):
        private_passages("text", at_most=0)
