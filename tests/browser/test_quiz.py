"""Which line was it: asked, answered and counted, by mouse and by keyboard."""

import itertools

import pytest

from interp.report import Page, write_report
from interp.report.quiz import Curve, EffectBar, Question, Quiz, answer_key, worksheet

SOURCE = ["def forward(x):", "    y = norm(x)", "    x = x + f(y)", "    return x  # </script>"]
CURVE = Curve([0.0, 10.0], [4.0, 3.3])
QUESTIONS = [
    Question(
        [3], "Nothing but frequencies is learned.", "-x = x + f(y)\n+x = f(y)\n", CURVE, CURVE
    ),
    Question(
        [2], "It learns <b>slower</b>.", "-y = norm(x)\n+y = x\n", bars=[EffectBar("last", 0.3)]
    ),
]
QUIZ = Quiz(QUESTIONS, "model.py", SOURCE)


def clean(there):
    return there.said == [] and all(url.startswith(("file:", "data:")) for url in there.asked)


@pytest.fixture
def quiz(opened, tmp_path):
    there = opened(write_report(tmp_path / "quiz.html", Page("Quiz", "Which?", [QUIZ])))
    yield there.page
    assert clean(there)


def verdict(page):
    return page.locator("[data-question].current [data-verdict]").inner_text()


def score(page):
    return page.locator("[data-score]").inner_text()


def choose(page, line):
    page.locator(f"[data-question].current [data-choice][value='{line}']").check()


def right_line(page):
    """Which of the two questions is on the page: that with a curve asks for line 3."""
    return 3 if page.locator("[data-question].current svg").count() else 2


def test_one_question_is_asked_at_a_time(quiz):
    assert quiz.locator("[data-question]:visible").count() == 1
    assert score(quiz) == "Question 1 of 2. Right so far: 0, 0 at the first try."


def test_a_wrong_line_is_said_to_be_wrong_and_a_right_one_why(quiz):
    right = right_line(quiz)
    quiz.locator("[data-line]").nth(3).click()
    quiz.locator("[data-check]").click()
    assert verdict(quiz) == "Not line 4. Look again, take the hint, or have the answer shown."
    quiz.locator("[data-line]").nth(right - 1).click()
    quiz.locator("[data-check]").click()
    assert verdict(quiz) == f"Right: line {right}."
    answer = quiz.locator("[data-question].current [data-answer]").inner_text()
    why = {3: "Nothing but frequencies", 2: "It learns <b>slower</b>."}[right]
    assert f"Line {right}. {why}" in answer
    assert {3: "+x = f(y)", 2: "+y = x"}[right] in answer
    assert score(quiz) == "Question 1 of 2. Right so far: 1, 0 at the first try."


def test_the_list_of_choices_and_the_source_go_together(quiz):
    right = right_line(quiz)
    choose(quiz, right)
    selected = quiz.locator("[data-line][aria-selected=true]")
    assert selected.get_attribute("data-line") == str(right)
    checked = quiz.locator("[data-question].current [data-choice]:checked")
    assert checked.get_attribute("value") == str(right)
    quiz.locator("[data-line]").nth(0).click()
    assert checked.count() == 0  # it is not among the choices


def test_all_of_it_goes_by_keyboard(quiz):
    right = right_line(quiz)
    quiz.locator("[data-line][tabindex='0']").focus()
    quiz.keyboard.press("Home")
    for _ in range(right - 1):
        quiz.keyboard.press("ArrowDown")
    quiz.keyboard.press("Enter")
    assert verdict(quiz) == f"Right: line {right}."
    assert "1 at the first try" in score(quiz)
    quiz.locator("[data-move='1']").focus()
    quiz.keyboard.press("Enter")
    assert score(quiz).startswith("Question 2 of 2.")
    quiz.locator("[data-check]").focus()
    quiz.keyboard.press("Enter")
    assert verdict(quiz) == "Pick a line first."


def test_an_answer_that_was_shown_does_not_count(quiz):
    quiz.locator("[data-reveal]").click()
    choose(quiz, right_line(quiz))
    quiz.locator("[data-check]").click()
    assert "Right so far: 0" in score(quiz)


def test_a_hint_names_the_function_and_is_counted_at_the_end(quiz):
    assert quiz.locator("[data-question].current [data-hint]").inner_text() == ""
    quiz.locator("[data-hint-asked]").click()
    hint = quiz.locator("[data-question].current [data-hint]").inner_text()
    assert hint == "Hint: It is in forward."
    choose(quiz, right_line(quiz))
    quiz.locator("[data-check]").click()
    assert not quiz.locator("[data-end]").is_visible()
    quiz.locator("[data-move='1']").click()
    assert quiz.locator("[data-question].current [data-hint]").inner_text() == ""
    quiz.locator("[data-reveal]").click()
    end = "All 2 are answered: you found 1 (1 at the first try, 1 with a hint) and had 1 shown."
    assert quiz.locator("[data-end]").inner_text() == end
    quiz.locator("[data-again]").click()
    assert not quiz.locator("[data-end]").is_visible()
    assert quiz.locator("[data-question].current [data-hint]").inner_text() == ""


def test_showing_the_answer_scrolls_to_the_line_and_marks_it(opened, tmp_path):
    source = ["def forward(x):", *(f"    x = x + {number}" for number in range(120))]
    question = Question([100], "Why not.", "-x\n+y\n", bars=[EffectBar("all", 0.5)])
    quiz = Quiz([question], "model.py", source, choices=range(2, 100))
    there = opened(write_report(tmp_path / "quiz.html", Page("Quiz", "Which?", [quiz])))
    page = there.page
    row = page.locator("[data-line='100']")
    assert page.locator("[data-answer-line]").count() == 0
    page.locator("[data-source]").evaluate("box => { box.scrollTop = 0; }")
    page.locator("[data-reveal]").click()
    assert page.locator("[data-answer-line]").get_attribute("data-line") == "100"
    inside = """row => {
        const box = row.closest("[data-source]").getBoundingClientRect();
        const own = row.getBoundingClientRect();
        return own.top >= box.top && own.bottom <= box.bottom && own.bottom <= innerHeight;
    }"""
    assert row.evaluate(inside)
    page.locator("[data-again]").click()
    assert page.locator("[data-answer-line]").count() == 0
    assert clean(there)


def test_the_names_of_levels_are_not_struck_through_by_a_curve(opened, tmp_path):
    levels = [("trigram", 3.3), ("bigram", 3.31), ("unigram", 3.9)]
    question = Question([2], "Why not.", "-x\n+y\n", CURVE, CURVE, levels)
    quiz = Quiz([question], "model.py", SOURCE)
    page = opened(write_report(tmp_path / "quiz.html", Page("Quiz", "Which?", [quiz]))).page
    boxes = {
        one["name"]: one["box"]
        for one in page.locator(".quiz-curves text").evaluate_all(
            "all => all.map(e => ({name: e.textContent, box: e.getBoundingClientRect().toJSON()}))"
        )
    }
    curve = page.locator("polyline.cut").bounding_box()
    names = sorted((boxes[name] for name, _ in levels), key=lambda box: box["top"])
    assert all(box["left"] > curve["x"] + curve["width"] for box in names)
    assert all(one["bottom"] <= other["top"] + 2 for one, other in itertools.pairwise(names))
    frame = page.locator(".quiz-curves").bounding_box()
    assert all(box["right"] <= frame["x"] + frame["width"] for box in names)


def test_the_score_is_kept_over_a_reload_until_it_is_begun_again(quiz):
    choose(quiz, right_line(quiz))
    quiz.locator("[data-check]").click()
    quiz.reload()
    assert score(quiz) == "Question 2 of 2. Right so far: 1, 1 at the first try."
    quiz.locator("[data-again]").click()
    assert score(quiz) == "Question 1 of 2. Right so far: 0, 0 at the first try."
    quiz.reload()
    assert "Right so far: 0" in score(quiz)


def test_without_storage_it_works_for_as_long_as_the_page_is_open(browser, tmp_path):
    path = write_report(tmp_path / "quiz.html", Page("Quiz", "Which?", [QUIZ]))
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no storage') }})"
    )
    page, said = context.new_page(), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    choose(page, right_line(page))
    page.locator("[data-check]").click()
    assert "Right so far: 1" in score(page)
    assert said == []
    context.close()


def test_worksheet_and_key_open_and_only_the_key_says_why(opened, tmp_path):
    texts = []
    for part in (worksheet(QUIZ), answer_key(QUIZ)):
        there = opened(write_report(tmp_path / "sheet.html", Page("Sheet", "Which?", [part])))
        assert there.page.locator("article:visible").count() == 2
        texts.append(there.page.locator("main").inner_text())
        assert clean(there)
    sheet, key = texts
    assert "Nothing but frequencies" in key and "Nothing but frequencies" not in sheet
    assert "What gives it away" in sheet
    assert "return x  # </script>" in sheet
