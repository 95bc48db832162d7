import base64
import json
import re
from dataclasses import replace

import pytest

from interp.errors import UsageError
from interp.report import Page, write_report
from interp.report.markdown import write_markdown
from interp.report.quiz import (
    Curve,
    EffectBar,
    Question,
    Quiz,
    answer_key,
    hint_of,
    letter,
    shuffled,
    text_of_question,
    worksheet,
)
from interp.report.vocabulary import functions_of
from interp.report.writing import Continued, Text

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
    bars=[EffectBar("last loss", 1.8, 1.7, 1.9), EffectBar("layer 0 alone", NAN)],
)
OTHER = Question([1, 5], "It cannot run.", "-import torch\n", bars=[EffectBar("all", -0.25)])
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


def test_nothing_of_an_answer_is_found_by_a_search_of_the_page(tmp_path):
    html = html_of(QUIZ, tmp_path)
    for told in ("frequencies alone", "cannot run", "branch(x)\n", "+1.800", "1.700", "0.250"):
        assert told not in html
    assert "about +1.8" in html and "about -0.2" in html


def test_each_question_offers_a_handful_with_one_right_line():
    source = [f"x = f{number}(x)" for number in range(1, 61)]
    source[29] = source[9]  # reads as line 10 does
    ten = Question([10], "Why.", "-a\n+b\n", bars=[EffectBar("all", 1.0)])
    others = [replace(ten, lines=[n, n + 1], diff=f"-{n}\n") for n in (20, 40, 50)]
    quiz = Quiz([ten, *others], "model.py", source, choices=range(1, 61))
    for question in quiz.questions:
        lines = quiz.offered(question)
        assert len(lines) == 5 == len({source[line - 1] for line in lines})
        assert lines == sorted(lines)
        assert len({*lines} & {*question.lines}) == 1
        assert lines == quiz.offered(question)  # the same each time
    assert 30 not in quiz.offered(ten)
    places = [
        quiz.offered(one).index(min(one.lines))
        for one in quiz.questions
        if min(one.lines) in quiz.offered(one)
    ]
    assert len(set(places)) > 1  # the right one has no place of its own


def test_a_quiz_of_few_lines_offers_those_it_has():
    assert QUIZ.offered(RESIDUAL) in ([1, 3, 4], [1, 3, 4, 5], [3, 4, 5])


def test_a_hint_names_the_function_or_the_lines_around():
    source = ["import x", "class A:", "  def f(self):", "    return 1", "y = 2"]
    functions = functions_of("\n".join(source))
    assert hint_of(replace(OTHER, lines=[4]), functions) == "It is in A.f."
    assert hint_of(replace(OTHER, lines=[4, 2]), functions) == "It is in A.f or in A."
    assert hint_of(replace(OTHER, lines=[5, 12]), functions) == (
        "It is in lines 1 to 10 or in lines 11 to 20."
    )


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
    assert "+1.800 (+1.700 to +1.900)" in sheet  # on paper nobody searches
    assert RESIDUAL.why in key and OTHER.why in key
    assert key.index("It cannot run") > 0
    assert "\n   4      x = x + branch(x)\n" in sheet


def test_all_questions_are_drawn_on_the_same_axes():
    drawn = [question for question, _ in QUIZ.context()["questions"]]
    first = next(question for question in drawn if question.curves)
    (kind, line, band), (other, cut, cut_band) = first.curves
    assert (kind, other) == ("whole", "cut")
    assert band == "" and len(cut_band.split()) == 6
    heights = [float(point.split(",")[1]) for point in (line + " " + cut).split()]
    assert heights == sorted(heights[:3]) + heights[3:]
    assert heights[0] == heights[3] < heights[5] < heights[2]
    bars = {bar.name: bar for question in drawn for bar in question.bars}
    assert bars["all"].left < bars["last loss"].left
    assert bars["last loss"].value == "about +1.8"
    assert bars["layer 0 alone"].value == "no number"


def test_losses_that_are_no_numbers_leave_a_gap():
    broken = replace(RESIDUAL, curve=Curve([0.0, 10.0, 20.0], [4.0, NAN, float("inf")]))
    ((drawn, _),) = Quiz([broken], "model.py", SOURCE).context()["questions"]
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


def test_a_question_may_be_a_text_that_the_cut_model_wrote(tmp_path):
    wrote = Continued(
        "def ",
        [
            Text("the model as it is", "", [(True, "f(x):")], "", "", []),
            Text("the cut model", "", [(True, "f("), (False, "<b>")], "parts", "", []),
        ],
    )
    asked = [
        Question(
            [1], "its loss rises", "-a\n+b\n", bars=[EffectBar("all", 1.0)], surgery="m.py:1:a"
        ),
        Question([1], "its loss rises", "-a\n+b\n", wrote=wrote, surgery="m.py:1:a"),
    ]
    quiz = Quiz(asked, "m.py", ["a", "c", "d"], [2, 3])
    for part in (quiz, worksheet(quiz)):
        text = write_report(tmp_path / "page.html", Page("T", "Q?", [part], [])).read_text()
        assert '<span class="writing-prompt">def </span>f(<mark>&lt;b&gt;</mark>' in text
        assert "the cut model writes" in text and "m.py:1:a" not in text
    texts = {text_of_question(question) for question in shuffled(asked)}
    assert texts == {"", "f(x):f(<b>"}
    page = write_markdown(tmp_path / "page.md", Page("T", "Q?", [quiz], []))
    assert "def f(<b>" in page.read_text()
