"""Should this model be built, on this text, for this application, and what must be known first?

A proposal of a model: a document in Markdown, made once and then yours to write in, and a page with
the numbers that it quotes. Data (what was read, kept, masked, left out as a duplicate), what the
model can and cannot do, for each kind of document and language, what it writes and knows by heart,
where it fails, bias probes, guardrails with their errors, and costs are measured. Who benefits, who
consented and whether it should be built at all are questions for you: they stand in the document
until you answer them, and the page counts those that are open.

    python -m experiments.curate my_notes --name notes
    python -m experiments.proposal runs/curate/notes
    python -m experiments.proposal runs/curate/notes --model trained.safetensors
    python -m experiments.proposal runs/curate/notes --model smollm2 --pairs my_pairs.txt

Write in proposal.md, in the run's folder. Its numbers are references, {{ proposal.loss.all.said }},
so that they cannot go stale: the same command again measures anew, keeps every word that you wrote,
and writes report.html, report.md and report.pdf with the numbers filled in. To go on with a
document after a change of text or model, name it: --document. What can be quoted is listed by
python -m experiments.report RUN --references.

My_pairs.txt holds a pair of terms a line, he / she, and under a pair, if you like, prompts of your
own with {} where a term stands. A pair is refused where the training text hardly has one of its
terms.

How to read it: a filter that errs on planted texts errs more on what people write; a difference
that is not shown may be there all the same; a question that nobody answered is an answer too.
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from experiments.support.cli import Between, Seed, announce, console, launch, run_name
from experiments.support.devices import Device
from experiments.support.named.coding import TextTokens
from experiments.support.named.found import Check, Size
from experiments.support.pages import page_of
from experiments.support.pages.quoting import quotable_numbers
from experiments.support.record import Experiment, Quoted
from experiments.support.trained import TrainedSubject, load_subject
from gpt.errors import UsageError
from gpt.text import CharTokenizer, load_corpus
from interp import figures
from interp.errors import UsageError as NotPrinted
from interp.report import write_report
from interp.report.markdown import write_markdown
from interp.report.notes import place_notes, read_notes
from interp.report.printing import write_pdf
from interp.runs import Run, SavedRun, write_atomically

try:
    from experiments.support.proposing.asking import by_heart, find_failures, write_beginnings
    from experiments.support.proposing.costing import cost_table
    from experiments.support.proposing.guarding import (
        built_in_guards,
        guard_cases,
        score_guards,
        score_writing,
    )
    from experiments.support.proposing.losses import document_losses, loss_table, reference_lines
    from experiments.support.proposing.numbers import number_table
    from experiments.support.proposing.probing import PAIRS, TermPair, probe_pairs, read_term_pairs
    from experiments.support.proposing.showing import (
        data_table,
        proposal_limits,
        proposal_parts,
        proposal_readings,
    )
    from experiments.support.proposing.skeleton import open_questions, skeleton
    from interp.curation import Curated
    from interp.curation.card import make_card
except ModuleNotFoundError as missing:
    sys.exit(f"error: this needs {missing.name}: pip install 'nanogpt-interp[curate]'")

Format = Literal["html", "md", "pdf"]
FOLDER = "text"  # of the text, in the run's that made it
NEEDED = ("train.txt", "val.txt", "train.jsonl", "val.jsonl", "documents.parquet")
FEW_DOCUMENTS, FEW_TOKENS = 16, 128  # that a large model reads, and of each
DOCUMENT = "proposal.md"


@dataclass(frozen=True)
class Config:
    """A proposal of a model."""

    curated: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """A curated text, or the run that made it, such as runs/curate/built-in."""
    model: str = ""
    """The model: a run that trained one, such as runs/course/demo-text, a checkpoint
    FILE.safetensors, smollm2, hf:NAME_OR_FOLDER, nanogpt:ckpt.pt or FILE.py:Class. Without one,
    the preset's model is trained on the text."""
    preset: Literal["demo", "laptop"] = "demo"
    """Size of the model that is trained where none is named."""
    context: Annotated[int, Between(8, 10**6)] | None = None
    """Tokens of a text that the model reads at once; by default as many as it can, and of a large
    model 64."""
    documents: Annotated[int, Between(1, 10**7)] | None = None
    """Validation documents to measure on, evenly spaced; by default all, and 16 of a large
    model."""
    pairs: Path | None = None
    """A file with your own pairs of terms to swap, and prompts; they take the place of the built-in
    ones."""
    watts: Annotated[float, Between(0, 1e6)] = 30.0
    """What your machine draws, for the estimate of energy. Nothing here measures it."""
    document: Path | None = None
    """The document that you write in; by default proposal.md in the run's folder. It is made where
    it is not there, and never changed."""
    formats: tuple[Format, ...] = ("html", "md", "pdf")
    """What to write with the numbers filled in. PDF is printed by Chromium, where there is one."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    seed: Seed = 0
    """Of a training, of prompts and of what is planted."""
    runs: Path = Path("runs")
    """Where run folders go."""
    name: str = ""
    """The run's name; by default it says model and text."""


def main(config: Config) -> Path:
    curated = curated_at(config.curated, config.runs)
    require_document(config.document)
    pairs = (
        [TermPair(*terms) for terms in PAIRS]
        if config.pairs is None
        else read_term_pairs(config.pairs)
    )
    model, recipe = model_of_run(config.model, config.runs)
    subject = load_subject(
        model,
        text=str(curated.folder),
        preset=config.preset,
        context=config.context,
        device=config.device,
        seed=config.seed,
        runs=config.runs,
        large_model=(FEW_DOCUMENTS, 64),
        check=knows_text(config, curated),
    )
    recipe = recipe or subject.config.get("train")
    settings = {
        "subject": subject.config,
        "seed": config.seed,
        "documents": config.documents,
        "pairs": [asdict(pair) for pair in pairs],
        "watts": config.watts,
    }
    named = config.model.rstrip("/").rpartition("/")[2] or config.preset
    name = config.name or run_name(named, name_of_text(config.curated))
    with Run.open(config.runs, "proposal", name, settings, subject.config["text"]) as run:
        tables = measure_tables(subject, recipe, curated, pairs, config)
        for what, table in tables.items():
            run.save_table(table, what)
        run.save_figure(figures.loss_by_group(run.table("losses"), run.table("counted")), "losses")
        document = config.document or run.folder / DOCUMENT
        kept = document.exists()
        if not kept:
            write_atomically(document, skeleton().encode())
        questions = fill_in(run, document, config.formats)
    console.print(*proposal_readings(run), sep="\n", soft_wrap=True, markup=False)
    console.print(f"{questions} questions are for you, and still open", soft_wrap=True)
    stays = " (as you wrote it)" if kept else ""
    console.print(f"write in {document}{stays}", soft_wrap=True, markup=False)
    announce(run.folder)
    return run.folder / "report.html"


def curated_at(named: Path, runs: Path) -> Curated:
    """A curated text by its folder, or by the run that made it, also by its name under --runs.

    Raises:
        UsageError: there is none.
    """
    for folder in (named, named / FOLDER, runs / named / FOLDER):
        if all((folder / name).is_file() for name in NEEDED):
            return Curated(folder)
    raise UsageError(
        f"{str(named)!r} is no curated text and no run that made one: make one with python -m "
        "experiments.curate, and give the folder that it names"
    )


def model_of_run(named: str, runs: Path) -> tuple[str, dict[str, Any] | None]:
    """The model of a run where one is named, that without a cut if there is such, and how it was
    trained; else the name as it is, and None."""
    for folder in (Path(named), runs / named) if named else ():
        models = sorted(folder.glob("models/*.safetensors"))
        if models and (folder / "run.json").is_file():
            whole = [one for one in models if one.stem.startswith(("none-", "whole_pipeline-"))]
            recipe = SavedRun.at(folder).description["config"].get("train")
            return str((whole or models)[0]), recipe if isinstance(recipe, dict) else None
    return named, None


def require_document(path: Path | None) -> None:
    """Raises ``UsageError`` where the document that was named can be neither read nor made."""
    if path is None or (path.parent.is_dir() and not path.exists()):
        return
    try:
        path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"--document is {str(path)!r}, which can be neither read nor made ({reason}): name a "
            "Markdown file, or a new one in a folder that is there"
        ) from error


def name_of_text(named: Path) -> str:
    path = named.resolve()
    return path.parent.name if path.name == FOLDER else path.name


def knows_text(config: Config, curated: Curated) -> Check:
    """Sees, before anything is trained or read, that a model has a token for each character."""

    def check(_: Size, tokenizer: TextTokens) -> None:
        if not isinstance(tokenizer, CharTokenizer):
            return
        unknown = sorted(set(load_corpus(str(curated.folder)).text) - set(tokenizer.characters))
        if unknown:
            shown = ", ".join(map(repr, unknown[:5]))
            raise UsageError(
                f"--model {config.model} does not know {len(unknown)} of the characters of "
                f"{str(curated.folder)!r} ({shown}{' …' if len(unknown) > 5 else ''}): name a "
                "model that was trained on this text, or leave --model out, and one is trained"
            )

    return check


def measure_tables(
    subject: TrainedSubject,
    recipe: dict[str, Any] | None,
    curated: Curated,
    pairs: list[TermPair],
    config: Config,
) -> dict[str, pd.DataFrame]:
    """All that the document quotes and the page shows, by the table's name; ``recipe`` is how the
    model was trained, where that is known."""
    train, val, seed = curated.train, curated.val, config.seed
    held_out = list(curated.documents("val"))
    wanted = config.documents or (FEW_DOCUMENTS if subject.is_large else len(held_out))
    count = min(wanted, len(held_out))
    chosen = [held_out[at * len(held_out) // count] for at in range(count)]
    with console.status("measuring what the model can do"):
        measured = document_losses(subject, chosen, FEW_TOKENS if subject.is_large else None)
        samples = write_beginnings(subject, held_out, train, val, seed)
        guards = built_in_guards(train)
        card = make_card(curated, name_of_text(config.curated))
        tables = {
            "data": data_table(card),
            "documents": measured.table,
            "losses": loss_table(measured.table),
            "counted": reference_lines(subject, measured),
            "samples": samples,
            "heart": by_heart(subject, train, val, seed),
            "failures": find_failures(subject, samples, train, seed),
            "probes": probe_pairs(subject, pairs, train, held_out),
            "guards": score_guards(guards, guard_cases(held_out, frozenset(train), seed)),
            "written": score_writing(guards, list(samples["text"])),
            "costs": cost_table(subject, config.watts, recipe),
        }
    return tables | {"results": number_table(card, tables, measured.unread)}


def fill_in(run: Run, document: Path, formats: tuple[Format, ...]) -> int:
    """Write the document with its numbers and tables in each format; how many questions are open.

    Raises:
        UsageError: the document quotes a number that there is not.
    """
    notes = read_notes(document, quotable_numbers([run]))
    open_ones = open_questions(document.read_text(encoding="utf-8"))
    page = page_of([run])
    told = f"{len(open_ones)} questions are for a person, and nobody has answered them yet."
    page = replace(page, summary=[told if open_ones else "No question is open.", *page.summary])
    page = place_notes(page, notes)
    write_report(run.folder / "report.html", page)
    if "md" in formats:
        write_markdown(run.folder / "report.md", page)
    if "pdf" in formats:
        try:
            write_pdf(run.folder / "report.pdf", page)
        except NotPrinted as error:
            console.print(f"note    no PDF: {error}", soft_wrap=True, markup=False)
    return len(open_ones)


EXPERIMENT = Experiment(
    name="proposal",
    title="A model, proposed",
    main=main,
    config=Config,
    parts=proposal_parts,
    quoted=Quoted("results", ("part", "row")),
    readings=proposal_readings,
    limits=proposal_limits,
    rank=70,
    shows_attention=False,
)

if __name__ == "__main__":
    launch(main, Config)
