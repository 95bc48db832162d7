"""What was handed in, and does it hold?

A hand-in is a run's folder, or a folder that holds runs, notes in Markdown and ``quiz.json``, which
the page of a run saves. Whatever is wrong with one is a sentence of its row; the others are graded
all the same. Nothing of a hand-in is executed, unless a training is repeated.

    grades = [grade_folder(Path("hand_ins/anna")), grade_folder(Path("hand_ins/ben"))]
    table_of_grades(grades)
"""

import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

import gpt.errors
import interp.errors
from experiments.support.grading.reproducing import (
    faults_of_numbers,
    faults_of_trainings,
    recorded_cuts,
    repeat_training,
    smallest_training,
    source_of_run,
)
from experiments.support.grading.sound import of_store, of_tables, of_weights
from experiments.support.listing import record_of
from experiments.support.pages.joining import quizzes_of
from experiments.support.pages.quoting import quotable_numbers
from experiments.support.pages.views import hash_source, source_sha256
from experiments.support.variants import BASELINE
from gpt.errors import UsageError
from gpt.text import Corpus, load_corpus
from interp.characters import shorten_text, visible
from interp.report.notes import Numbers, inline_tokens, parser, quoted, references
from interp.runs import SavedRun

FILES = 20_000
"""The most files of a hand-in."""
LONG = 2**20
"""The most bytes of notes or of a quiz's score."""
LONGEST = 400  # characters of a remark, which may hold what somebody else wrote
QUIZ = "quiz.json"
EMBEDDED = ("python-docs", "shakespeare")  # texts that a name stands for
TYPED = re.compile(r"(?<![\w.])[+\N{MINUS SIGN}-]?\d+\.\d+(?![\w.]*\d)")
"""A number as prose has it, with a decimal point."""
COLUMNS = ("hand-in", "runs", "cuts", "as recorded", "repeated", "notes", "quiz", "remarks")


@dataclass(frozen=True)
class Grade:
    """What is known of one hand-in; a field is empty where there was nothing to look at.

    Attributes:
        runs: their names.
        cuts: each cut's name, id and lines.
        sound: whether everything that can be computed anew is what the runs recorded.
        repeated: what came of training once more.
        notes, quiz: what was found of them.
        remarks: what is wrong, or is to be known, a sentence each.
        seals: the checksums of the runs' descriptions, to tell the same run handed in twice.
    """

    hand_in: str
    runs: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    sound: bool | None = None
    repeated: str = ""
    notes: str = ""
    quiz: str = ""
    remarks: list[str] = field(default_factory=list)
    seals: list[str] = field(default_factory=list)


def grade_all(
    paths: Sequence[Path],
    repeat: bool = False,
    text: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> list[Grade]:
    """A grade for each hand-in.

    Args:
        repeat: train the smallest training of each once more, which runs its edited code.
        text: the text that they were trained on, where it is a file.
        tell: is told which hand-in is looked at.
    """
    names = [path.name or str(path) for path in paths]
    names = [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]
    grades = []
    for name, path in zip(names, paths, strict=True):
        tell(name)
        grades.append(replace(grade_folder(path, repeat, text), hand_in=name))
    return [with_doubles(grade, grades) for grade in grades]


def with_doubles(grade: Grade, grades: Sequence[Grade]) -> Grade:
    """A grade, and who else handed in the same run."""
    others = [
        other.hand_in for other in grades if other is not grade and {*other.seals} & {*grade.seals}
    ]
    if not others:
        return grade
    said = f"the same run, started at the same second, is in {', '.join(others)}"
    return replace(grade, remarks=[*grade.remarks, said])


def grade_folder(path: Path, repeat: bool = False, text: str = "") -> Grade:
    """The grade of one hand-in, whatever it holds."""
    try:
        files = files_of(path)
    except (UsageError, OSError) as error:
        return Grade(path.name, remarks=[str(error)])
    folders = [file.parent for file in files if file.name == "run.json"]
    grade = Grade(path.name)
    runs: list[SavedRun] = []
    for folder in folders:
        remarks: list[str] = []
        with remarking(remarks, str(folder.relative_to(path.parent))):
            run = SavedRun.at(folder)
            runs.append(run)
            graded = grade_run(run)
            grade = replace(
                grade,
                runs=[*grade.runs, *graded.runs],
                cuts=[*grade.cuts, *graded.cuts],
                sound=graded.sound is not False and grade.sound is not False,
                remarks=[*grade.remarks, *graded.remarks],
                seals=[*grade.seals, *graded.seals],
            )
        if remarks:
            grade = replace(grade, sound=False, remarks=[*grade.remarks, *remarks])
    if not folders:
        grade.remarks.append("it holds no run: no folder in it has a run.json")
    notes, quiz, repeated = "none", "none", ""
    with remarking(grade.remarks, "the notes"):
        notes = graded_notes(files, runs, grade.remarks)
    with remarking(grade.remarks, QUIZ):
        quiz = graded_quiz(files, runs)
    if repeat and runs:
        repeated = "no"
        with remarking(grade.remarks, "repeating a training"):
            repeated = graded_repetition(runs, text, grade.remarks)
    return replace(grade, notes=notes, quiz=quiz, repeated=repeated)


@contextmanager
def remarking(remarks: list[str], what: str) -> Iterator[None]:
    """Whatever goes wrong within the block is a remark: a hand-in may hold anything, and must not
    keep the others from being graded."""
    try:
        yield
    except Exception as error:
        said = str(error).partition("\n")[0].partition(": start the run's command")[0]
        if not isinstance(error, (gpt.errors.UsageError, interp.errors.UsageError)):
            said = f"it does not hold what it must ({type(error).__name__}: {said})"
        remarks.append(shorten_text(f"{what}: {said}", LONGEST))


def files_of(path: Path) -> list[Path]:
    """The files of a hand-in, in order.

    Raises:
        UsageError: it is no folder, or holds something else than files and folders.
    """
    if not path.exists():
        raise UsageError("there is no such folder")
    if not path.is_dir():
        packed = path.is_file() and (
            zipfile.is_zipfile(path) or path.suffix in (".gz", ".tar", ".tgz", ".7z", ".rar")
        )
        raise UsageError(
            "it is packed: unpack it into a folder" if packed else "it is a file, not a folder"
        )
    found: list[Path] = []
    for folder, inner, names in os.walk(path):
        inner.sort()
        for name in sorted([*names, *inner]):
            file = Path(folder) / name
            kind = file.lstat().st_mode
            if stat.S_ISLNK(kind):
                raise UsageError(
                    f"{file.relative_to(path)} is a link: hand in the files themselves"
                )
            if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
                raise UsageError(f"{file.relative_to(path)} is neither a file nor a folder")
            if stat.S_ISREG(kind):
                found.append(file)
        if len(found) > FILES:
            raise UsageError(
                f"it holds more than {FILES} files: hand in the run's folder and notes"
            )
    if not found:
        raise UsageError("it is empty")
    return found


def grade_run(run: SavedRun) -> Grade:
    """What is known of one run."""
    record, description = record_of(run), run.description
    name = f"{record.name}/{description['name']}"
    tables = [one for one in of_tables(run) if one.fault]
    tables_hold = not tables
    wrong = [*tables, *(one for one in (of_store(run), *of_weights(run)) if one.fault)]
    faults = [
        one.fault.replace(f"{run.folder}/", "")
        if one.file in one.fault
        else f"{one.file}: {one.fault}"
        for one in wrong
    ]
    cuts = [f"{variant} (not trained)" for variant in description["config"].get("cuts", {})]
    if tables_hold and record.trains_cuts:
        with remarking(faults, "its cuts"):
            cuts = [
                f"{variant} ({cut.id}): {cut.label}"
                for variant, cut in recorded_cuts(run).items()
                if variant != BASELINE
            ]
            with remarking(faults, "its trainings"):
                faults += faults_of_trainings(run)
    elif tables_hold and record.cuts_lines:
        with remarking(faults, "its numbers"):
            faults += faults_of_numbers(run)
    said = [f"{name}: {fault}" for fault in faults]
    if record.trains_cuts and not faults and hash_source(source_of_run(run)) != source_sha256():
        said.append(f"{name}: its gpt/model.py is another than the one here, also without its cuts")
    return Grade("", [name], cuts, not faults, remarks=said, seals=[description["sha256"]])


def graded_notes(files: Sequence[Path], runs: Sequence[SavedRun], remarks: list[str]) -> str:
    """Which numbers the notes quote, and whether these exist."""
    notes = [file for file in files if file.suffix == ".md" and file.name != "report.md"]
    if not notes:
        return "none"
    numbers: Numbers = {}
    with remarking(remarks, "numbers to quote"):
        numbers = quotable_numbers(runs)
    known = [float(value) for _, value in references(numbers) if can_be_float(value)]
    by_reference, typed, unknown = 0, 0, list[str]()
    for file in notes:
        for kind, text, where in quotations(file):
            if kind == "reference":
                by_reference += 1
                with remarking(remarks, "notes"):
                    quoted(text, numbers, where)
                continue
            typed += 1
            if not any(is_rounded(text, value) for value in known):
                unknown.append(text)
    if unknown:
        shown = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if unknown[6:] else "")
        remarks.append(f"notes: typed by hand, and no number that can be quoted: {shown}")
    return f"{by_reference} by reference, {typed} typed"


def quotations(file: Path) -> Iterator[tuple[str, str, str]]:
    """The references and the typed numbers of notes, with where they stand."""
    for line, token in inline_tokens(parser().parse(visible(read_small(file).decode()))):
        where = f"{file.name}, line {line}"
        if token.type == "reference":
            yield "reference", token.content, where
        elif token.type == "text":
            yield from (("typed", number, where) for number in TYPED.findall(token.content))


def can_be_float(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_rounded(text: str, value: float) -> bool:
    """Whether a typed number is a value, or its size, to the digits that were typed."""
    digits = len(text.partition(".")[2])
    typed = abs(float(text.replace("\N{MINUS SIGN}", "-")))
    return abs(typed - abs(value)) <= 0.5000001 * 10**-digits


def graded_quiz(files: Sequence[Path], runs: Sequence[SavedRun]) -> str:
    """The score that a page saved. It is a file of the student's: whoever edits it, edits it."""
    kept = [file for file in files if file.name == QUIZ]
    if not kept:
        return "none"
    score = json.loads(read_small(kept[0]))
    records = score["questions"]
    if not all(
        type(one["tries"]) is int
        and all(type(one[key]) is bool for key in ("right", "shown", "hinted"))
        for one in records
    ):
        raise UsageError("it is not what a page saves")
    asked = [quiz for some in ([[run] for run in runs] + [[*runs]]) for quiz in quizzes_of(some)]
    if (score["quiz"], len(records)) not in {(one.name, len(one.questions)) for one in asked}:
        return "of a page of other runs"
    right = [one for one in records if one["right"]]
    first = sum(one["tries"] == 1 for one in right)
    hinted = sum(one["hinted"] for one in right)
    return f"{len(right)} of {len(records)}: {first} at the first try, {hinted} with a hint"


def graded_repetition(runs: Sequence[SavedRun], text: str, remarks: list[str]) -> str:
    """What came of repeating the smallest training."""
    kept = [run for run in runs if record_of(run).trains_cuts]
    training = smallest_training(kept)
    if training is None:
        raise UsageError("no training that is recorded can be repeated")
    named = {
        run.description["config"]["text"]["name"]
        for run in kept
        if run.description["config"]["text"]["sha256"] == training.text
    }
    corpora: list[Corpus] = [
        load_corpus(one) for one in [text, *(one for one in EMBEDDED if one in named)] if one
    ]
    if not corpora:
        raise UsageError("it was trained on a file: give that, --text FILE")
    fitting = [corpus for corpus in corpora if corpus.sha256 == training.text]
    repetition = repeat_training(training, [*fitting, corpora[0]][0])
    if not repetition.is_same:
        remarks.append(f"it does not repeat: {repetition.said}")
    return ("yes: " if repetition.is_same else "NO: ") + repetition.said


def read_small(file: Path) -> bytes:
    if file.stat().st_size > LONG:
        raise UsageError(f"{file.name} is longer than {LONG} bytes")
    return file.read_bytes()


def table_of_grades(grades: Sequence[Grade]) -> pd.DataFrame:
    """A row for each hand-in, all text, on one line and without anything that acts."""
    rows = [
        (
            grade.hand_in,
            ", ".join(grade.runs),
            "; ".join(grade.cuts),
            {None: "", True: "yes", False: "NO"}[grade.sound],
            grade.repeated,
            grade.notes,
            grade.quiz,
            "; ".join(grade.remarks),
        )
        for grade in grades
    ]
    return pd.DataFrame([[plain_cell(cell) for cell in row] for row in rows], columns=[*COLUMNS])


def plain_cell(text: str) -> str:
    return visible(" ".join(text.split()))


def brief_table(grades: Sequence[Grade]) -> pd.DataFrame:
    """The same for a terminal: names of cuts alone, remarks as a count."""
    table = table_of_grades(grades).drop(columns=["runs"])
    table["cuts"] = [
        ", ".join(plain_cell(shorten_text(cut.partition(" ")[0], 40)) for cut in grade.cuts)
        for grade in grades
    ]
    table["repeated"] = [grade.repeated.partition(":")[0] for grade in grades]
    table["remarks"] = [str(len(grade.remarks) or "") for grade in grades]
    return table.loc[:, (table != "").any()]
