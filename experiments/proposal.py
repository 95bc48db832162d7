"""What should be known before a model is built, and what must a person decide?

A proposal of a model for an application: a document in Markdown, made once and then yours to write
in. Its numbers are references, {{ data.whole.documents }}, which are filled in wherever it is
shown; its questions are for a person, and the page counts those that are still open. The same
command again measures anew and keeps every word that you wrote.

    python -m experiments.proposal --curated curate/built-in
    python -m experiments.proposal --curated curate/built-in --trained pipeline/demo-built-in
    python -m experiments.proposal --curated folder --model smollm2 --format pdf
    python -m experiments.proposal --curated folder --references
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.support.cli import Between, Seed, console, launch
from experiments.support.grading.sound import folder_of_run
from experiments.support.proposing.abilities import document_losses, loss_rows, sample_rows
from experiments.support.proposing.costs import cost_rows
from experiments.support.proposing.data import Rows, data_numbers
from experiments.support.proposing.guarding import guard_rows
from experiments.support.proposing.probes import PAIRS, is_read, probe, probe_rows
from experiments.support.proposing.skeleton import open_questions, skeleton_of
from experiments.support.trained import TrainedSubject, load_subject
from gpt.errors import UsageError
from gpt.train import PRESETS
from interp.curation import Curated
from interp.report import Page, write_report
from interp.report.markdown import write_markdown
from interp.report.notes import notes_of, place_notes, references
from interp.report.printing import write_pdf
from interp.report.sections import text_of_cell
from interp.runs import SavedRun, write_atomically

QUESTION = "Should this model be built, on this text, for this application?"
AT_MOST = 200  # validation documents that are read
TEXT = "text"  # the folder of the text, in the run's


@dataclass(frozen=True)
class Config:
    """A proposal."""

    curated: str
    """The folder of a curated text, or of the run that made it, such as curate/built-in."""
    trained: str = ""
    """A run that trained a model on it, such as pipeline/demo-built-in: its first model."""
    model: str = ""
    """The model, if no run trained it: as in experiments.heads. Without either, the small preset's
    is trained on the text."""
    preset: Literal["demo", "laptop"] = "demo"
    """Size of a model that is trained here."""
    probe: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Two terms to swap, ONE/OTHER, beside those that are always tried. Repeat it for several."""
    watts: Annotated[float, Between(0, 1e6)] = 30.0
    """What your machine draws, for the estimate of energy; nothing here measures it."""
    format: Literal["html", "md", "pdf"] = "html"
    """html: one file; md: Markdown with the numbers filled in; pdf: printed by Chromium."""
    references: bool = False
    """List what the document can quote, with the values, and end."""
    title: str = "A model, proposed"
    """The page's heading."""
    output: Path | None = None
    """The folder of the document; by default proposal beside the curated text."""
    runs: Path = Path("runs")
    """Where run folders are."""
    seed: Seed = 0
    """Of samples and prompts."""


def main(config: Config) -> Path:
    pairs = [*PAIRS, *map(pair_of, config.probe)]
    curated = curated_at(config.curated, config.runs)
    if config.trained and config.model:
        raise UsageError("--trained and --model name two models: give one")
    name, recipe = model_of(config)
    subject = load_subject(
        name, text=str(curated.folder), preset=config.preset, seed=config.seed, runs=config.runs
    )
    numbers, refused = measure_numbers(curated, subject, recipe, config, pairs)
    if config.references:
        for reference, value in references(numbers):
            said = f"{{{{ {reference} }}}}  {text_of_cell(value)}"
            console.print(said, markup=False, soft_wrap=True)
        return curated.folder
    folder = config.output or curated.folder.parent / "proposal"
    folder.mkdir(parents=True, exist_ok=True)
    document = folder / "proposal.md"
    if document.exists():
        console.print(f"kept    {document}: what you wrote stays", soft_wrap=True)
    else:
        write_atomically(document, skeleton_of(numbers, refused).encode())
    write_atomically(folder / "numbers.json", json.dumps(numbers, indent=1).encode())
    path = show_document(document, numbers, subject, config)
    questions = open_questions(document.read_text(encoding="utf-8"))
    console.print(f"write in  {document}", soft_wrap=True)
    console.print(f"{len(questions)} questions are open", soft_wrap=True)
    console.print(f"page      [bold]{path}[/bold]", soft_wrap=True)
    return path


def pair_of(text: str) -> tuple[str, str]:
    """Two terms."""
    one, slash, other = text.partition("/")
    if not (slash and one.strip() and other.strip()) or one.strip() == other.strip():
        raise UsageError(f"--probe is {text!r}; write two terms, as in --probe he/she")
    return one.strip(), other.strip()


def curated_at(named: str, runs: Path) -> Curated:
    """A curated text, by its folder or by its run. Raises ``UsageError`` where there is none."""
    tried = [Path(named), Path(named) / TEXT, runs / named / TEXT]
    for folder in tried:
        if all((folder / name).is_file() for name in ("train.txt", "val.txt", "histories.parquet")):
            return Curated(folder)
    raise UsageError(
        f"{named!r} is no curated text and no run of one: make one with python -m "
        "experiments.curate, and give the folder that it names"
    )


def model_of(config: Config) -> tuple[str, dict[str, Any] | None]:
    """What the model is called on a command line, and how it was trained, where that is known."""
    if config.model:
        return config.model, None
    if not config.trained:
        recipe = PRESETS[config.preset].train
        return "", {"steps": recipe.steps, "batch_size": recipe.batch_size}
    run = SavedRun.at(folder_of_run(config.trained, config.runs))
    models = sorted((run.folder / "models").glob("*.safetensors"))
    whole = [path for path in models if path.stem.startswith(("whole_pipeline-", "none-"))]
    if not models:
        raise UsageError(f"{run.folder} keeps no trained model: give a run of course or curate")
    return str((whole or models)[0]), run.description["config"].get("train")


def measure_numbers(
    curated: Curated,
    subject: TrainedSubject,
    recipe: dict[str, Any] | None,
    config: Config,
    pairs: list[tuple[str, str]],
) -> tuple[dict[str, Rows], list[str]]:
    """All that the document can quote, and the probes that were refused, a sentence each."""
    every = list(curated.documents("val"))[:AT_MOST]
    held_out = [one for one in every if is_read(subject, one.text)] or every
    train = list(curated.documents("train"))
    losses = document_losses(subject, held_out)
    probes = [probe(subject, one, other, curated.train, held_out) for one, other in pairs]
    model: Rows = {
        **loss_rows(losses),
        "unread": {"documents": len(every) - len(losses)},
        **sample_rows(subject, held_out, curated.train, config.seed),
        **probe_rows(probes),
    }
    numbers = {
        "data": data_numbers(curated),
        "model": model,
        "guard": guard_rows(subject, train, held_out, config.seed),
        "cost": cost_rows(subject, recipe, config.watts),
    }
    refused = [f"{row['pair']}: {row['refused']}." for row in probes if row["refused"]]
    return numbers, refused


def show_document(
    document: Path, numbers: Mapping[str, Rows], subject: TrainedSubject, config: Config
) -> Path:
    """The document with its numbers filled in, in the format asked for."""
    text = document.read_text(encoding="utf-8")
    questions = open_questions(text)
    page = Page(
        config.title,
        QUESTION,
        [],
        provenance=[
            {
                "name": "proposal",
                "curated": config.curated,
                "model": subject.label,
                "text_sha256": subject.config["text"]["sha256"],
                "weights": subject.config["weights"],
            }
        ],
        summary=[
            f"{len(questions)} questions are for a person, and still open."
            if questions
            else "No question is open."
        ],
        limitations=questions,
    )
    page = place_notes(page, notes_of(text, numbers, document))
    if config.format == "md":
        return write_markdown(document.parent / "filled.md", page)
    path = document.with_suffix(f".{config.format}")
    return write_pdf(path, page) if config.format == "pdf" else write_report(path, page)


if __name__ == "__main__":
    launch(main, Config)
