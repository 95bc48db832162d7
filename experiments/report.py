"""How do runs become one page that people read?

The findings of any number of runs in one file that opens offline: a summary, the source with the
effects beside its lines, attention, figures and tables, "Which line was it?", and where it all
comes from.

    python -m experiments.report course/demo-python-docs lines/demo-python-docs-model
    python -m experiments.report runs/course/demo-python-docs --notes notes.md --title "Week 3"
    python -m experiments.report course/demo-python-docs --references
    python -m experiments.report course/demo-python-docs --worksheet
    python -m experiments.report --grade hand_ins/*

Notes are your own prose in Markdown, without HTML. A heading of the first or second level names a
place: a part's title (or Summary, Limitations, Provenance) puts the prose at the beginning of that
part; any other heading makes a part of its own where it stands, after the part named before it.
Numbers are quoted by reference, {{ course.no_residual.val_best:.2f }}: run or experiment, row,
column, and if wanted a format; --references lists them all, and one that names nothing is an error.

With --grade the folders are hand-ins: a run's folder, or one that holds runs, notes and quiz.json,
which a page's quiz saves. grades.csv and grades.html say which cuts were made, and whether the
numbers follow from the source, diffs, recipes and seeds that the runs keep: identities are computed
anew, and tables compared with what was recorded of each training. Nothing of a hand-in is executed,
but by --repeat. Checksums find what was edited; who computes them anew can forge numbers, which
--repeat finds, and who edits quiz.json the score, which nothing finds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.support.cli import console, launch, print_table, refuse_options
from experiments.support.grading import brief_table, grade_all, plain_cell, table_of_grades
from experiments.support.grading.sound import folder_of_run
from experiments.support.pages import page_of, require_finished
from experiments.support.pages.joining import quizzes_of
from experiments.support.pages.quoting import quotable_numbers
from gpt.errors import UsageError
from interp.characters import visible
from interp.report import Page, Section, write_report
from interp.report.markdown import write_markdown
from interp.report.notes import place_notes, read_notes, references
from interp.report.printing import write_pdf
from interp.report.quiz import answer_key, worksheet
from interp.report.sections import text_of_cell
from interp.report.sheets import write_csv
from interp.runs import SavedRun

HOW_TO_READ = (
    "As recorded: every table, row and weights file is the one that the run wrote, and every "
    "training has the identity that its source, diff, recipe, text and seed give. A checksum can "
    "be computed anew by who knows how, and a quiz's score is a file that anybody can edit: a "
    "training that was repeated is the only proof."
)

IDLE = {
    "grade": ("notes", "format", "worksheet", "references"),
    "references": ("title", "notes", "format", "worksheet", "output"),
    "worksheet": ("notes", "format"),
}
"""Options that have no effect with another."""


@dataclass(frozen=True)
class Config:
    """A report of runs."""

    run: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders of runs, or their names under --runs: course/demo-python-docs. With --grade, folders
    of hand-ins."""
    runs: Path = Path("runs")
    """Where run folders are."""
    title: str = ""
    """The page's heading; by default what the runs are of."""
    notes: Path | None = None
    """Your own prose, a Markdown file."""
    format: Literal["html", "md", "pdf"] = "html"
    """html: one file; md: report.md and a folder of figures, for a repository; pdf: printed by the
    Chromium of this machine."""
    worksheet: bool = False
    """Write worksheet.html, which holds no answers, and answer_key.html instead."""
    references: bool = False
    """List what notes can quote, with the values, and end."""
    grade: bool = False
    """Grade hand-ins: a table on the terminal, grades.csv and grades.html."""
    repeat: bool = False
    """With --grade: train the smallest training of each hand-in once more. This executes the code
    that was handed in, with all the rights that you have."""
    text: str = ""
    """With --repeat: the text of the trainings, where it is a file."""
    output: Path | None = None
    """Where to write: a file, or with --worksheet, --grade and md a folder; by default beside the
    first run's tables, and with --grade here."""


def main(config: Config) -> Path:
    if not config.run:
        raise UsageError("no run is given: name folders such as runs/course/demo-python-docs")
    for way, idle in IDLE.items():
        if getattr(config, way):
            refuse_options(config, idle, f"has no effect with --{way}")
    if config.grade:
        if config.text and not config.repeat:
            raise UsageError("--text is for --repeat, which trains once more: leave it out")
        return grade(config)
    if config.repeat or config.text:
        raise UsageError("--repeat and --text are for --grade, which looks at hand-ins")
    runs = [SavedRun.at(folder_of_run(name, config.runs)) for name in dict.fromkeys(config.run)]
    for run in runs:
        require_finished(run)
    if config.references:
        for reference, value in references(quotable_numbers(runs)):
            console.print(
                f"{{{{ {reference} }}}}  {text_of_cell(value)}", markup=False, soft_wrap=True
            )
        return runs[0].folder
    if config.worksheet:
        return worksheets(runs, config)
    page = page_of(runs, config.title)
    if config.notes is not None:
        page = place_notes(page, read_notes(config.notes, quotable_numbers(runs)))
    path = save_page(page, config, runs[0].folder)
    console.print(f"report  [bold]{path}[/bold]", soft_wrap=True)
    return path


def grade(config: Config) -> Path:
    """What hand-ins hold, and whether it can be relied on."""
    grades = grade_all(
        [Path(name) for name in dict.fromkeys(config.run)],
        repeat=config.repeat,
        text=config.text,
        tell=lambda name: console.print(f"grading {visible(name)}", markup=False),
    )
    print_table(brief_table(grades))
    for one in grades:
        for remark in one.remarks:
            said = plain_cell(f"{one.hand_in}: {remark}")
            console.print(said, soft_wrap=True, markup=False)
    folder, table = config.output or Path(), table_of_grades(grades)
    question = "What was handed in, and do its numbers follow from what it says was done?"
    shown = Section("Hand-ins", HOW_TO_READ, table=table)
    write_report(folder / "grades.html", Page(config.title or "Grades", question, [shown]))
    path = write_csv(folder / "grades.csv", table)
    console.print(f"table   {path}", soft_wrap=True)
    console.print(f"report  [bold]{folder / 'grades.html'}[/bold]", soft_wrap=True)
    return path


def save_page(page: Page, config: Config, folder: Path) -> Path:
    """The page in the format asked for."""
    if config.format == "md":
        return write_markdown((config.output or folder) / "report.md", page)
    path = config.output or folder / f"report.{config.format}"
    if path.is_dir():
        path = path / f"report.{config.format}"
    return write_pdf(path, page) if config.format == "pdf" else write_report(path, page)


def worksheets(runs: list[SavedRun], config: Config) -> Path:
    """The questions for a class, and the answers for who teaches it."""
    quizzes = quizzes_of(runs)
    if not quizzes:
        raise UsageError(
            "these runs hold no questions: give a run of course, retrain or lines, whose cuts are "
            "of lines"
        )
    folder, question = config.output or runs[0].folder, "What did each cut do, and where was it?"
    title = config.title or quizzes[0].title
    for name, made_of in (("worksheet", worksheet), ("answer_key", answer_key)):
        # where the runs come from would tell which lines were cut
        page = Page(title, question, [made_of(quiz) for quiz in quizzes])
        path = write_report(folder / f"{name}.html", page)
        console.print(f"{name:<10} [bold]{path}[/bold]", soft_wrap=True)
    return folder / "worksheet.html"


if __name__ == "__main__":
    launch(main, Config)
