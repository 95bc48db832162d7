import json
from pathlib import Path

import pytest

from experiments.proposal import Config, main
from experiments.support.cli import launch
from experiments.support.proposing.guarding import errors_of
from experiments.support.proposing.skeleton import QUESTION, open_questions
from interp.curation import Pipeline, make_document, run_pipeline
from interp.curation.card import make_card
from tests.experiments.support.curating.piles import small_pile

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    words = "Windows does this, and Linux does that; he says so, on Windows as on Linux.\n"
    own = [make_document(f"own/{n}.txt", f"Part {n}. {words * (n + 3)}") for n in range(12)]
    pipeline = Pipeline.default().without("near_duplicates", "quality")
    folder = tmp_path_factory.mktemp("pile") / "text"
    return run_pipeline(
        pipeline.with_options("split", by="document"), [*small_pile(), *own], folder
    )


@pytest.fixture(scope="module")
def page(small, curated, tmp_path_factory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    return main(Config(curated=str(curated.folder), runs=runs))


@pytest.fixture
def numbers(page):
    return json.loads((page.parent / "numbers.json").read_bytes())


def test_numbers_are_filled_in_by_reference_and_are_those_of_the_card(page, curated, numbers):
    card = make_card(curated, "text")
    document = (page.parent / "proposal.md").read_text(encoding="utf-8")
    shown = page.read_text(encoding="utf-8")
    assert "{{ data.whole.documents }}" in document
    assert "{{ data" not in shown
    assert numbers["data"]["whole"] == card.size["kept"]
    assert f"{card.size['kept']['characters']:,} characters are kept" in shown
    masked = sum(one["count"] for one in card.masked)
    assert numbers["data"]["private"]["masked"] == masked > 0


def test_questions_for_a_person_stay_questions_until_somebody_answers(page):
    document = (page.parent / "proposal.md").read_text(encoding="utf-8")
    shown = page.read_text(encoding="utf-8")
    questions = open_questions(document)
    assert len(questions) > 10
    assert f"{len(questions)} questions are for a person, and still open." in shown
    assert all(question.replace("'", "&#39;") in shown for question in questions)


def test_what_a_person_wrote_is_kept_and_an_answered_question_is_no_longer_open(
    page, curated, tmp_path
):
    own = tmp_path / "proposal.md"
    document = (page.parent / "proposal.md").read_text(encoding="utf-8")
    line = next(line for line in document.splitlines() if QUESTION in line)
    answered = document.replace(line, "It drafts replies, {{ model.loss.all.documents }} of them.")
    own.write_text(answered, encoding="utf-8")
    runs = page.parents[2] / "runs"
    again = main(Config(curated=str(curated.folder), output=tmp_path, runs=runs))
    assert own.read_text(encoding="utf-8") == answered
    shown = again.read_text(encoding="utf-8")
    count = json.loads((tmp_path / "numbers.json").read_bytes())["model"]["loss.all"]["documents"]
    assert f"It drafts replies, {count} of them." in shown
    still_open = len(open_questions(document)) - 1
    assert f"{still_open} questions are for a person, and still open." in shown


def test_a_pair_of_terms_that_the_text_hardly_holds_is_refused_in_a_sentence(page, numbers):
    shown = page.read_text(encoding="utf-8")
    assert "stands 0 times in the training text, fewer than 20" in shown
    asked = {row for row in numbers["model"] if row.startswith("probe.")}
    assert asked == {"probe.Windows/Linux"}


def test_a_filters_errors_have_wilsons_intervals():
    row = errors_of(0, 20, 3, 12)
    assert row["false_positives"] == "0 of 20, 0.0 % (95 % interval 0.0 to 16.1 %)"
    assert row["false_negatives"].startswith("3 of 12, 25.0 %")
    assert errors_of(0, 0, 0, 1)["false_positives"].startswith("not measured")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--curated", "nowhere"], "'nowhere' is no curated text and no run of one"),
        (["--curated", "CURATED", "--probe", "he"], "--probe is 'he'; write two terms"),
        (["--curated", "CURATED", "--trained", "a", "--model", "b"], "name two models: give one"),
    ],
)
def test_bad_input_is_one_sentence(capsys, curated, arguments, sentence):
    given = [str(curated.folder) if one == "CURATED" else one for one in arguments]
    with pytest.raises(SystemExit) as exit_:
        launch(main, Config, given)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
