"""Runs made by the experiments, put into pages by the command."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments import attention, course, report
from experiments.report import Config, main
from experiments.support.cli import launch
from experiments.support.pages import page_of
from experiments.support.pages.summary import trainings_of
from experiments.support.sampling import writing_parts
from gpt.errors import UsageError
from interp.errors import UsageError as InterpError
from interp.report.map import MapView
from interp.report.quiz import Quiz
from interp.report.source import SourceView
from interp.runs import SavedRun, identity_of
from interp.runs.description import FORMAT
from tests.experiments.spoiling import change_description, change_table

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def course_run(small, runs, text) -> Path:
    return course.main(
        course.Config(
            runs=runs, text=str(text), name="cuts", seeds=2, only=("no_residual",), workers=1
        )
    ).parent


@pytest.fixture(scope="module")
def attention_run(small, runs, text) -> Path:
    return attention.main(
        attention.Config(runs=runs, text=str(text), name="heads", examples=4)
    ).parent


@pytest.fixture
def copied(course_run, tmp_path) -> Path:
    """A copy of the course's run, to be spoilt."""
    return shutil.copytree(course_run, tmp_path / "course" / "cuts")


def saved(*folders):
    return [SavedRun.at(folder) for folder in folders]


def test_an_experiment_ends_with_the_page_that_the_command_makes(course_run, tmp_path):
    again = main(Config(run=(str(course_run),), output=tmp_path / "again.html"))
    assert again.read_bytes() == (course_run / "report.html").read_bytes()


def test_a_page_says_its_findings_from_the_run_s_numbers(course_run):
    page = page_of(saved(course_run))
    row = pd.read_parquet(course_run / "summary.parquet").set_index("variant").loc["no_residual"]
    (sentence,) = [said for said in page.summary if "no_residual" in said]
    assert f"changes the loss by {row['delta']:+.3f} nats" in sentence
    points = trainings_of(pd.read_parquet(course_run / "results.parquet"))
    points = points.loc[points["variant"] == "no_residual", "delta"]
    assert f"2 seeds: {', '.join(f'{point:+.3f}' for point in points)}; no interval" in sentence
    assert "x = x + attn_out → x = attn_out" in sentence
    assert any("Fewer than 3 seeds" in said for said in page.limitations)


def test_runs_of_one_model_are_joined(course_run, attention_run, tmp_path):
    path = main(
        Config(run=("course/cuts", str(attention_run)), runs=course_run.parents[1], output=tmp_path)
    )
    html = path.read_text(encoding="utf-8")
    titles = re.findall(r"<h2 [^>]*>(.*?)</h2>", html)
    assert titles[:5] == [
        "Summary",
        "The source, line by line: model.py",
        "The map of the model",
        "Text of each variant",
        "Attention, head by head",
    ]
    assert titles.index("Which line was it?") > titles.index("How far back they look")
    assert html.count("data-attention ") == 1
    kinds = {type(part) for part in page_of(saved(course_run, attention_run)).parts}
    assert {SourceView, MapView, Quiz} <= kinds
    figures = {path.stem for path in (attention_run / "figures").glob("*.svg")}
    made = html.partition('id="provenance"')[2]
    assert figures and all(figure.replace("_", " ") in made for figure in figures)
    assert made.count('aria-label="Command ') == 2  # one a run


def test_what_two_runs_write_has_two_headings(course_run, tmp_path):
    shutil.copytree(course_run, tmp_path / "again")
    titles = [view.title for view in writing_parts(saved(course_run, tmp_path / "again"))]
    assert titles == [f"Text of each variant: {n}" for n in ("cuts", "again")]


def test_the_effect_of_a_cut_stands_on_every_line_it_cut(course_run):
    (view,) = (p for p in page_of(saved(course_run)).parts if isinstance(p, SourceView))
    (row,) = view.retrained.to_dict("records")
    delta = pd.read_parquet(course_run / "summary.parquet")["delta"].iloc[1]
    assert row["delta"] == delta
    cut = view.lines.set_index("line").loc[list(row["lines"]), "code"]
    assert [code.strip() for code in cut] == ["x = x + attn_out", "x = x + mlp_out"]


def test_the_quiz_asks_for_the_lines_that_were_cut(course_run):
    (quiz,) = (p for p in page_of(saved(course_run)).parts if isinstance(p, Quiz))
    (question,) = quiz.questions
    named = [quiz.source[line - 1].strip() for line in question.lines]
    assert named == ["x = x + attn_out", "x = x + mlp_out"]
    assert question.wrote is None
    curves = pd.read_parquet(course_run / "results.parquet").query(
        "variant == 'no_residual' and split == 'val'"
    )
    assert question.curve.losses == pytest.approx(curves.groupby("step")["loss"].mean().tolist())


def test_numbers_are_quoted_by_run_or_experiment(course_run, tmp_path, capsys):
    best = pd.read_parquet(course_run / "summary.parquet").set_index("variant")["best"]
    notes = tmp_path / "notes.md"
    notes.write_text(
        "# all variants\nFrom {{ course.none.val_best:.5f }} to "
        "{{ course/cuts.no_residual.val_best:.5f }}, {{ course.config.model.n_layer }} layers.",
        encoding="utf-8",
    )
    path = main(Config(run=(str(course_run),), notes=notes, output=tmp_path / "a.html"))
    said = f"From {best['none']:.5f} to {best['no_residual']:.5f}, 2 layers."
    assert f"All variants</h2>\n<p>{said}</p>" in path.read_text(encoding="utf-8")
    main(Config(run=(str(course_run),), references=True))
    assert f"{{{{ course.none.val_best }}}}  {best['none']:.4f}" in capsys.readouterr().out


def test_a_worksheet_holds_no_answers_and_the_key_does(course_run, tmp_path):
    sheet = main(Config(run=(str(course_run),), worksheet=True, output=tmp_path))
    key = (tmp_path / "answer_key.html").read_text(encoding="utf-8")
    html = sheet.read_text(encoding="utf-8")
    for answer in (
        "x = attn_out<",
        "cut-skip",
        "no_residual",
        "Trained with this cut",
        "data-answers",
    ):
        assert answer not in html.partition("<script>")[0]
    assert "x = attn_out" in key and "Trained with this cut" in key
    words = re.sub(r"<[^>]*>", " ", html.partition("<main")[2].partition("<pre")[0])
    assert not {"189", "195"} & {*re.findall(r"\d+", words)}
    assert html.partition("<pre")[2].count("\n 195  ") == 1  # the source is there, as it is


def test_a_report_for_a_repository_has_its_figures_beside_it(course_run, tmp_path):
    path = main(Config(run=(str(course_run),), format="md", output=tmp_path))
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(links) == len(set(links)) >= 4
    assert all((tmp_path / link).stat().st_size > 500 for link in links)


@pytest.mark.skipif(
    not any(map(shutil.which, ("chromium", "google-chrome"))), reason="no browser to print with"
)
def test_a_pdf_is_printed(attention_run, tmp_path):
    path = main(Config(run=(str(attention_run),), format="pdf", output=tmp_path / "a.pdf"))
    assert path.read_bytes().startswith(b"%PDF")


def test_without_a_browser_a_pdf_is_one_sentence(attention_run, monkeypatch, tmp_path):
    monkeypatch.setattr("interp.report.printing.shutil.which", lambda name: None)
    with pytest.raises(InterpError, match="printed by Chromium or Chrome, and this machine"):
        main(Config(run=(str(attention_run),), format="pdf", output=tmp_path / "a.pdf"))


def told(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_run_is_one_sentence_with_the_nearest(course_run):
    with pytest.raises(UsageError) as error:
        main(Config(run=("course/cut",), runs=course_run.parents[1]))
    assert "nearest" in told(error) and "course/cuts" in told(error)
    with pytest.raises(UsageError, match="there are no runs"):
        main(Config(run=("course/cut",), runs=course_run / "nowhere"))
    with pytest.raises(UsageError, match="no run is given"):
        main(Config(run=()))


def test_an_unfinished_run_is_one_sentence_with_its_command(copied):
    (copied / "results.parquet").unlink()
    with pytest.raises(UsageError) as error:
        main(Config(run=(str(copied),)))
    assert "is not finished" in told(error)
    assert json.loads((copied / "run.json").read_bytes())["command"] in told(error)


def test_a_run_of_another_version_is_one_sentence_with_its_command(copied):
    description = json.loads((copied / "run.json").read_bytes())
    for made, which in ((FORMAT - 1, "an older"), (FORMAT + 1, "a newer")):
        (copied / "run.json").write_text(json.dumps(description | {"format": made}))
        with pytest.raises(InterpError) as error:
            main(Config(run=(str(copied),)))
        assert f"is a run of {which} version (its format is {made}, and this" in told(error)
        assert told(error).endswith(description["command"])


def test_what_a_page_reads_of_a_run_has_a_format(course_run):
    """Where this fails, older runs lack what pages read: raise ``FORMAT`` with the columns here."""
    run = SavedRun.at(course_run)
    read = ("results", "summary", "samples", "text_measures", "source", "architecture", "patterns")
    columns = {name: sorted(map(str, run.table(name))) for name in read}
    assert (FORMAT, identity_of(columns=columns)[:12]) == (2, "fca728846fc4")


def test_what_is_wrong_in_our_own_code_is_not_called_another_version(copied):
    change_table(copied, "summary", lambda summary: summary.drop(columns=["status"]))
    with pytest.raises(KeyError):
        main(Config(run=(str(copied),)))


def test_a_table_that_is_not_what_the_run_saved_is_one_sentence_with_its_command(copied):
    summary = pd.read_parquet(copied / "summary.parquet")
    command = json.loads((copied / "run.json").read_bytes())["command"]
    for spoil in (
        lambda path: summary.assign(delta=0.0).to_parquet(path),
        lambda path: path.write_bytes((copied / "results.parquet").read_bytes()),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
    ):
        spoil(copied / "summary.parquet")
        with pytest.raises(InterpError) as error:
            main(Config(run=(str(copied),)))
        assert "summary.parquet is damaged, or not the table that was saved" in told(error)
        assert told(error).endswith(command)


def test_runs_of_different_texts_carry_a_warning(copied, attention_run, tmp_path):
    other = {"name": "other.txt", "sha256": "0" * 64}
    change_description(copied, lambda run: run | {"config": run["config"] | {"text": other}})
    page = page_of(saved(copied, attention_run))
    assert page.summary[0].startswith("Careful: these runs read different texts, ")
    assert page.limitations[0] == page.summary[0]


@pytest.fixture
def of_another_source(copied) -> Path:
    """The run as it would be of a source with a line more at its top, and other code in it."""

    def moved(source):
        more = source.head(1).assign(line=0, code="# a line more")
        whole = pd.concat([more, source], ignore_index=True)
        code = whole["code"].str.replace("x + mlp_out", "x + 0.5 * mlp_out")
        return whole.assign(line=whole["line"] + 1, code=code)

    def shifted(table):
        lines = table["lines"].map(lambda lines: tuple(line + 1 for line in lines))
        numbered = {"line": table["line"] + 1} if "line" in table else {}
        label = table["label"].str.replace("x + mlp_out", "x + 0.5 * mlp_out")
        return table.assign(lines=lines, label=label, **numbered)

    change_table(copied, "source", moved)
    change_table(copied, "results", shifted)
    change_table(
        copied, "summary", lambda t: shifted(t).assign(delta=t["delta"] + 1, last=t["last"] + 1)
    )
    change_description(
        copied,
        lambda run: (
            run | {"name": "other", "provenance": run["provenance"] | {"source_sha256": "0"}}
        ),
    )
    return copied.rename(copied.with_name("other"))


def test_effects_never_stand_beside_another_source(of_another_source, course_run):
    runs = saved(course_run, of_another_source)
    page = page_of(runs)
    views = [part for part in page.parts if isinstance(part, SourceView)]
    assert [set(view.lines["file"]) for view in views] == [{"cuts/model.py"}, {"other/model.py"}]
    for view, run, code in zip(
        views, runs, ("x = x + mlp_out", "x = x + 0.5 * mlp_out"), strict=True
    ):
        (row,) = view.retrained.to_dict("records")
        assert row["delta"] == run.table("summary")["delta"].iloc[1]
        cut = view.lines.set_index("line").loc[list(row["lines"]), "code"]
        assert [line.strip() for line in cut] == ["x = x + attn_out", code]
        assert set(view.trainings["delta"]) == set(
            view.trainings["value"]
            - view.trainings.loc[view.trainings["surgery"] == "", "value"].mean()
        )
    shown = [row for view in views for file in view.context()["files"] for row in file["rows"]]
    anchors = [row["anchor"] for row in shown]
    assert len(anchors) == len(set(anchors)) == sum(len(view.lines) for view in views)
    commands = [view.command for view in views]
    assert commands[0] and not commands[1]  # of a source that is not here, an id names another line
    assert "called after a run of its source" in page.summary[0]


def test_a_place_leads_to_the_line_of_its_own_source(of_another_source, course_run, tmp_path):
    path = main(Config(run=(str(course_run), str(of_another_source)), output=tmp_path / "a.html"))
    html = path.read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    links = dict(re.findall(r'<a href="#([^"]+)">((?:cuts|other)/model\.py:\d+)</a>', html))
    assert links and all(
        anchor.endswith(f"L{place.rpartition(':')[2]}") for anchor, place in links.items()
    )
    assert all(anchor.startswith(place.partition("/")[0]) for anchor, place in links.items())
    assert {"cuts", "other"} == {place.partition("/")[0] for place in links.values()}
    assert not re.findall(
        r"(?<![\w./-])model\.py:\d",
        html.partition('id="provenance"')[0].partition("<main")[2].partition('class="source"')[0],
    )
    titles = re.findall(r"<h2 [^>]*>(.*?)</h2>", html)
    assert len(titles) == len(set(titles)) and "Which line was it?: other" in titles


def test_a_worksheet_asks_of_each_source(of_another_source, course_run, tmp_path):
    run = (str(course_run), str(of_another_source))
    sheet = main(Config(run=run, worksheet=True, output=tmp_path)).read_text(encoding="utf-8")
    assert len(re.findall(r"<h2 [^>]*>Which line was it\?", sheet)) == 2


def test_a_run_without_page_is_named(copied):
    change_description(copied, lambda run: run | {"experiment": "report"})
    with pytest.raises(UsageError, match="an experiment 'report' that has no page"):
        main(Config(run=(str(copied),)))


def test_a_reference_to_nothing_ends_the_command_with_one_sentence(course_run, tmp_path, capsys):
    notes = tmp_path / "notes.md"
    notes.write_text("{{ course.no_residul.val_best }}", encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        launch(report.main, Config, [str(course_run), "--notes", str(notes)])
    assert exit_.value.code == 2
    answer = capsys.readouterr().err
    assert re.fullmatch(r"error: notes\.md, line 1: .*course\.no_residual\.val_best.*\n", answer)
