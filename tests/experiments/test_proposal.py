"""A proposal of a model: its numbers are those measured, its questions and words are a person's."""

import re

import pytest

from experiments import proposal
from experiments.support.cli import launch
from experiments.support.pages.quoting import quotable_numbers
from experiments.support.proposing.losses import predict_tokens
from experiments.support.proposing.skeleton import QUESTION, open_questions, skeleton
from experiments.support.trained import load_subject
from gpt.text import ngram_entropy
from interp.curation.card import make_card
from interp.report.notes import REFERENCE
from interp.runs import Run, SavedRun
from interp.stats import share_interval
from tests.experiments.support.proposing.material import curate_pages

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def curated(tmp_path_factory):
    return curate_pages(tmp_path_factory.mktemp("pages") / "text")


@pytest.fixture(scope="module")
def propose(small, curated, runs):
    def run(*arguments):
        given = [str(curated.folder), "--formats", "html", "md", "--runs", str(runs)]
        launch(proposal.main, proposal.Config, [*given, *map(str, arguments)])
        return runs / "proposal"

    return run


@pytest.fixture(scope="module")
def first(propose):
    """The run of a first proposal, as it was written."""
    return SavedRun.at(propose("--name", "first") / "first")


@pytest.fixture(scope="module")
def numbers(first):
    return quotable_numbers([first])["proposal"]


def test_every_number_of_the_document_is_that_of_the_table(first, numbers):
    document = (first.folder / "proposal.md").read_text(encoding="utf-8")
    assert document == skeleton()
    shown = (first.folder / "report.md").read_text(encoding="utf-8").replace("\\", "")
    said = first.table().set_index(["part", "row"])["said"]
    quoted = REFERENCE.findall(document)
    assert len(quoted) > 30
    for reference in quoted:
        part, row = re.fullmatch(r"proposal\.(\w+)\.(.+)\.said", reference).groups()
        assert numbers[f"{part}.{row}"]["said"] == said[part, row]
        assert said[part, row] in shown
    assert "{{" not in shown
    assert "{{" not in (first.folder / "report.html").read_text(encoding="utf-8")


def test_numbers_are_those_of_an_independent_computation(numbers, first, curated, runs):
    card = make_card(curated, "text")
    assert numbers["data.documents kept"]["value"] == len(list(curated.documents()))
    assert numbers["data.strings masked"]["value"] == sum(row["count"] for row in card.masked) == 4
    subject = load_subject("", text=str(curated.folder), runs=runs)
    read = [subject.tokenizer.encode(one.text) for one in curated.documents("val")]
    losses = [predict_tokens(subject, tokens) for tokens in read]
    loss = sum(map(float, (one.sum() for one in losses))) / sum(map(len, losses))
    assert numbers["loss.all"]["value"] == pytest.approx(loss, abs=1e-9)
    assert numbers["loss.all"]["said"].startswith(f"{loss:.3f} (")
    whole = subject.tokenizer.encode("".join(one.text for one in curated.documents("val")))
    bigrams = ngram_entropy(subject.data.train, whole, 2)
    assert numbers["loss.bigram"]["value"] == pytest.approx(bigrams)
    heart = first.table("heart").set_index("part").loc["train"]
    share, low, high = share_interval(int(heart["exact"]), int(heart["n"]))
    assert numbers["heart.train"]["said"] == f"{share:.1%} ({low:.1%} to {high:.1%})"
    assert numbers["cost.parameters"]["value"] == sum(p.numel() for p in subject.inner.parameters())


def test_what_a_person_wrote_stays_and_numbers_are_refreshed(first, propose, tmp_path, capsys):
    own = tmp_path / "mine.md"
    asked = skeleton()
    line = next(line for line in asked.splitlines() if QUESTION in line)
    answer = "For our <b>library</b>: {{ proposal.loss.all.value:.5f }} nats."
    own.write_text(asked.replace(line, answer), encoding="utf-8")
    capsys.readouterr()
    folder = propose("--document", own, "--seed", 1, "--name", "second") / "second"
    said = capsys.readouterr().out
    assert own.read_text(encoding="utf-8") == asked.replace(line, answer)
    assert f"{len(open_questions(asked)) - 1} questions are for you, and still open" in said
    again = SavedRun.at(folder)
    before, after = (
        run.table().set_index(["part", "row"])["value"]["loss", "all"] for run in (first, again)
    )
    assert before != after
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"For our &lt;b&gt;library&lt;/b&gt;: {after:.5f} nats." in page
    assert line.partition(QUESTION)[2].strip() not in page
    assert f"{len(open_questions(asked)) - 1} questions are for a person" in page


def test_a_refused_pair_is_a_sentence_of_the_page_and_no_number(first, numbers):
    page = (first.folder / "report.html").read_text(encoding="utf-8")
    assert "stands 0 times in the training text, fewer than 10" in page
    assert {row for row in numbers if row.startswith("probe.man")} == set()
    assert "probe.he / she, what follows" in numbers


def test_a_reference_that_names_nothing_is_said_and_the_tables_are_kept(
    propose, first, tmp_path, capsys, monkeypatch
):
    names = (path.stem for path in first.folder.glob("*.parquet"))
    measured = {name: first.table(name) for name in names}
    monkeypatch.setattr(proposal, "measure_tables", lambda *_: measured)
    own = tmp_path / "mine.md"
    own.write_text("# Data\n\n{{ proposal.loss.al.said }}\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        propose("--document", own, "--name", "third")
    error = capsys.readouterr().err
    assert "mine.md, line 3: {{ proposal.loss.al.said }} is no number of these runs" in error
    assert "proposal.loss.all" in error
    assert SavedRun.at(first.folder.parent / "third").holds("results")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["NOWHERE"], "is no curated text and no run that made one"),
        (["CURATED", "--pairs", "NOWHERE"], "cannot be read"),
        (["CURATED", "--document", "NOWHERE/a.md"], "can be neither read nor made"),
        (["CURATED", "--model", "NOWHERE.safetensors"], "NOWHERE.safetensors"),
        (["CURATED", "--watts", "-1"], "--watts is -1"),
    ],
)
def test_bad_input_is_one_sentence(refused, curated, arguments, sentence):
    given = [str(curated.folder) if one == "CURATED" else one for one in arguments]
    assert sentence in refused(proposal.main, proposal.Config, *given)


def test_a_model_of_other_characters_is_refused_before_anything_is_done(
    refused, text, tmp_path, curated
):
    subject = load_subject("", text=str(text), runs=tmp_path / "others")
    assert subject.tokenizer.vocab_size
    model = next((tmp_path / "others" / "models").glob("*.safetensors"))
    said = refused(proposal.main, proposal.Config, str(curated.folder), "--model", str(model))
    assert "does not know 1 of the characters of" in said
    assert "'é'" in said


def test_a_run_is_named_for_its_model_without_a_cut_and_for_its_recipe(tmp_path):
    recipe = {"steps": 60, "batch_size": 8}
    with Run.open(tmp_path, "course", "ours", {"train": recipe}) as run:
        models = run.folder / "models"
    models.mkdir()
    for name in ("a_cut-0", "none-0", "none-1"):
        (models / f"{name}.safetensors").write_bytes(b"")
    expected = str(models / "none-0.safetensors"), recipe
    assert proposal.model_of_run("course/ours", tmp_path) == expected
    assert proposal.model_of_run(str(run.folder), tmp_path / "runs") == expected
    assert proposal.model_of_run("smollm2", tmp_path) == ("smollm2", None)
    assert proposal.model_of_run("", tmp_path) == ("", None)
