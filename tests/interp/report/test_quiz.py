import base64
import json
import re
from dataclasses import replace

import pytest

from interp.errors import UsageError
from interp.report import Page, write_report
from interp.report.quiz import (
    Bar,
    Curve,
    Question,
    Quiz,
    answer_key,
    letter,
    shuffled,
    worksheet,
)

NAN = float("nan")
SOURCE = ["import torch", "", "def forward(x):", "    x = x + branch(x)", "    return x </script>"]
FLAT = Curve([0.0, 10.0, 20.0], [4.0, 3.3, 3.3], [3.9, 3.2, 3.2], [4.1, 3.4, 3.4])
WHOLE = Curve([0.0, 10.0, 20.0], [4.0, 2.0, 1.5])
RESIDUAL = Question(
    lines=[4],
    why="It learned frequencies alone.",
    diff="-    x = x + branch(x)\n+    x = branch(x)\n",
    curve=FLAT,
    whole=WHOLE,
    levels=[("unigram", 3.31)],
    bars=[Bar("last loss", 1.8, 1.7, 1.9), Bar("layer 0 alone", NAN)],
)
OTHER = Question([1, 5], "It cannot run.", "-import torch\n", bars=[Bar("all", -0.25)])
QUIZ = Quiz([RESIDUAL, OTHER], "model.py", SOURCE, choices=[3])


def html_of(part, folder, name="page"):
    path = write_report(folder / f"{name}.html", Page("Quiz", "Which?", [part]))
    return path.read_text(encoding="utf-8")


def test_the_order_of_questions_does_not_tell_how_they_were_given():
    assert shuffled([RESIDUAL, OTHER]) == shuffled([OTHER, RESIDUAL])
    swapped = replace(QUIZ, questions=[OTHER, RESIDUAL])
    assert swapped.context()["data"] == QUIZ.context()["data"]


def test_answers_are_in_the_page_but_not_to_be_read_at_a_glance(tmp_path):
    html = html_of(QUIZ, tmp_path)
    assert RESIDUAL.why not in html
    assert "+    x = branch(x)" not in html
    answers = [json.loads(base64.b64decode(a)) for a in QUIZ.context()["data"]["answers"]]
    assert {answer["why"] for answer in answers} == {RESIDUAL.why, OTHER.why}
    assert sorted(answer["lines"] for answer in answers) == [[1, 5], [4]]


def test_the_choices_are_the_right_lines_and_those_offered_beside_them():
    assert [line for line, _ in QUIZ.context()["choices"]] == [1, 3, 4, 5]


def test_a_worksheet_is_the_same_whatever_the_answers_are(tmp_path):
    """The surest sign that it does not hold them, not even hidden."""
    one = Quiz([RESIDUAL], "model.py", SOURCE)
    changed = replace(RESIDUAL, lines=[1, 3], why="Something else.", diff="-something\n+else\n")
    other = Quiz([changed], "model.py", SOURCE, choices=[5])
    assert html_of(worksheet(one), tmp_path) == html_of(worksheet(other), tmp_path)


def test_worksheet_and_key_ask_the_same_questions_in_the_same_order(tmp_path):
    sheet, key = (html_of(part, tmp_path) for part in (worksheet(QUIZ), answer_key(QUIZ)))
    drawings = [re.findall(r"<polyline[^>]*>|<i style[^>]*>", html) for html in (sheet, key)]
    assert drawings[0] == drawings[1] and len(drawings[0]) == 5
    assert RESIDUAL.why in key and OTHER.why in key
    assert key.index("It cannot run") > 0
    assert "\n   4      x = x + branch(x)\n" in sheet


def test_all_questions_are_drawn_on_the_same_axes():
    drawn = QUIZ.context()["questions"]
    first = next(question for question in drawn if question.curves)
    (kind, line, band), (other, cut, cut_band) = first.curves
    assert (kind, other) == ("whole", "cut")
    assert band == "" and len(cut_band.split()) == 6
    heights = [float(point.split(",")[1]) for point in (line + " " + cut).split()]
    assert heights == sorted(heights[:3]) + heights[3:]
    assert heights[0] == heights[3] < heights[5] < heights[2]
    bars = {bar.name: bar for question in drawn for bar in question.bars}
    assert bars["all"].left < bars["last loss"].left
    assert bars["last loss"].value == "+1.800 (+1.700 to +1.900)"
    assert bars["layer 0 alone"].value == "no number"


def test_losses_that_are_no_numbers_leave_a_gap():
    broken = replace(RESIDUAL, curve=Curve([0.0, 10.0, 20.0], [4.0, NAN, float("inf")]))
    (drawn,) = Quiz([broken], "model.py", SOURCE).context()["questions"]
    assert len(drawn.curves[1][1].split()) == 1


@pytest.mark.parametrize(
    ("quiz", "sentence"),
    [
        (lambda: Quiz([replace(OTHER, lines=[6])], "model.py", SOURCE), "has 5 lines"),
        (lambda: Quiz([], "model.py", SOURCE), "takes questions"),
        (lambda: Quiz([replace(OTHER, lines=[])], "model.py", SOURCE), "takes questions"),
    ],
)
def test_a_quiz_without_answers_is_none(quiz, sentence):
    with pytest.raises(UsageError, match=sentence):
        quiz()


def test_questions_are_called_by_letters():
    assert [letter(number) for number in (0, 25, 26, 52)] == ["A", "Z", "AA", "BA"]


def test_the_source_is_shown_as_text(tmp_path):
    html = html_of(QUIZ, tmp_path)
    assert "    return x </script>" not in html
    assert "return x &lt;/script&gt;" in html
