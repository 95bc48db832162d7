"""What does each step of cleaning a pile of documents do to the text that a model will learn?

It reads documents of any kind and runs named steps on them: line ends and Unicode, markup,
languages, exact and near duplicates, private data, secrets, lengths, quality, licences, and the
split into what is trained on and what is validated on. It needs what ``pip install
'nanogpt-interp[curate]'`` brings.

    python -m experiments.curate my_notes papers/one.pdf chats.jsonl
    python -m experiments.curate my_notes --without quality private
    python -m experiments.curate --show-pipeline > mine.toml
    python -m experiments.curate my_notes --pipeline mine.toml
    python -m experiments.curate --ablate            each step left out, models trained: minutes

Without a folder it takes a pile that every Python has at hand: its own documentation, and licences
and descriptions of what is installed. The steps stand in a file of TOML in their order, with their
options; a step of your own is a function, ``name = "mine.py:drop_poems"``.

How to read it: each bar is what is left after a step, and names the line of code that took the
rest. A step that takes nothing here may still be right elsewhere; one that takes much deserves a
look at what it took: ``text/histories.parquet`` has a row for each document and step, with the
reason. The text goes to every experiment as ``--text FOLDER``: a model is then validated on
documents that have no near duplicate among those it was trained on.
"""

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from experiments.support.cli import (
    Between,
    Seed,
    Seeds,
    Steps,
    announce,
    console,
    launch,
    print_table,
    run_name,
)
from experiments.support.pages.presenting import present
from experiments.support.record import Experiment, Quoted
from experiments.support.retraining import hash_file
from experiments.support.trainings.executors import (
    Executor,
    at_once,
    executor_of,
    stay_connected,
)
from interp import figures
from interp.report import Figure, Part, Section
from interp.runs import Run, SavedRun, identity_of, write_atomically

try:
    from interp.curation import Curated, Document, Pipeline, Skipped, run_pipeline
    from interp.curation.card import DataCard, make_card
    from interp.curation.card_pages import card_html
    from interp.curation.piles import built_in_pile
    from interp.curation.reading import identify_pile, read_documents
    from interp.curation.reading.documents import AT_MOST
except ModuleNotFoundError as missing:
    sys.exit(f"error: this needs {missing.name}: pip install 'nanogpt-interp[curate]'")

BUILT_IN = "built-in"
TEXT = "text"  # the folder of the text, in the run's
SHOWN = 60  # rows of a table on a page


@dataclass(frozen=True)
class Config:
    """A text made of documents."""

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="PATH")] = ()
    """Folders and files; none takes the built-in pile."""
    pipeline: Path | None = None
    """A file of TOML that names the steps; by default the one that --show-pipeline prints."""
    show_pipeline: bool = False
    """Print the pipeline, with all its options, and end."""
    without: tuple[str, ...] = ()
    """Steps to leave out; with --ablate, what to leave out beside each step alone: the names of
    steps with + between them."""
    field: str = ""
    """Which field of JSON lines holds the text; by default text, content or body."""
    at_most: Annotated[int, Between(1, 10**12)] = AT_MOST
    """Bytes of a document; a larger one is named and skipped."""
    seed: Seed = 0
    """Of the order of the documents in the text. What is validated on is drawn by an option of
    the step split."""
    runs: Path = Path("runs")
    """Where run folders go."""
    name: str = ""
    """The run's name; by default it says what was read."""
    workers: Annotated[int, Between(0, 4096)] = at_once()
    """Documents, and with --ablate trainings, are worked on by so many processes of this machine;
    0 takes this one process."""
    ray: str = ""
    """Work on a Ray cluster instead: its address, or local to start one here."""
    ablate: bool = False
    """Train models on the text without each step too, as experiments.pipeline does; all options
    below are of these trainings."""
    preset: Literal["demo", "laptop", "course"] = "demo"
    """Size of model and training."""
    seeds: Seeds = 5
    """Trainings of each variant, from three on with intervals; the first is --seed."""
    steps: Steps | None = None
    """Steps of each training, if not the preset's; of demo 300."""
    gpus: Annotated[float, Between(0, 1024)] = 0.0
    """The share of a GPU that Ray gives each training."""


@dataclass(frozen=True)
class Given:
    """A pile before it is read: what it is called, the hash of all of it, and its documents."""

    name: str
    sha256: str
    documents: Iterable[Document | Skipped]


def main(config: Config) -> Path:
    if config.ablate:
        from experiments.pipeline import main as ablate  # late: it needs what is defined here

        return ablate(config)
    pipeline = chosen_pipeline(config)
    if config.show_pipeline:
        print(pipeline.to_toml(), end="")
        return config.runs
    alone = config.workers < 2 and not config.ray
    executor = None if alone else executor_of(config.workers, config.ray)
    pile = given_pile(config)
    name = config.name or run_name(pile.name, *(f"without-{step}" for step in config.without))
    settings: dict[str, Any] = {
        "pile": {"name": pile.name, "sha256": pile.sha256},
        "steps": {step.name: step.identity for step in pipeline.steps},
        "order": config.seed,
        "field": config.field,
        "at_most": config.at_most,
    }
    with Run.open(config.runs, "curate", name, settings, {"pipeline": pipeline.to_toml()}) as run:
        identity = identity_of(**settings)
        curated = curate_once(run, pipeline, pile, config.seed, identity, executor)
        card = make_card(curated, pile.name)
        run.save_table(table_of_steps(card, pipeline))
        for what, table in tables_of_run(curated, card).items():
            run.save_table(table, what)
        write_atomically(curated.folder / "card.json", json.dumps(asdict(card), indent=1).encode())
        write_atomically(curated.folder / "card.html", card_html(card).encode())
        page = present(run, draw)
    print_table(steps_shown(run.table()).drop(columns="line"))
    console.print(*readings(run), sep="\n", soft_wrap=True, markup=False)
    console.print(f"text    {curated.folder}", soft_wrap=True, markup=False)
    announce(run.folder)
    console.print(
        f"train   python -m experiments.course --text {curated.folder}",
        soft_wrap=True,
        markup=False,
    )
    return page


def chosen_pipeline(config: Config) -> Pipeline:
    return chosen_steps(config).without(*config.without)


def chosen_steps(config: Config) -> Pipeline:
    """The pipeline with all its steps."""
    given = config.pipeline
    return Pipeline.default() if given is None else Pipeline.from_toml(given)


def given_pile(config: Config) -> Given:
    """The files and folders asked for, or the built-in pile."""
    if not config.paths:
        pile = built_in_pile()
        return Given(BUILT_IN, pile.sha256, [*pile.documents, *pile.skipped])
    sha256 = identify_pile(config.paths, [config.runs])
    documents = read_documents(
        config.paths, field=config.field, at_most=config.at_most, leave_out=[config.runs]
    )
    return Given("-".join(path.resolve().name for path in config.paths), sha256, documents)


def curate_once(
    run: Run,
    pipeline: Pipeline,
    pile: Given,
    seed: int,
    identity: str,
    executor: Executor | None = None,
) -> Curated:
    """The text of a run; made, unless it is there as it was made."""
    folder = run.folder / TEXT
    if (rows := run.task(identity)) is not None:
        if all(hash_file(folder / row["file"]) == row["sha256"] for row in rows):
            return Curated(folder)
        run.forget(identity)
    with stay_connected(executor) if executor else nullcontext() as elsewhere:
        curated = run_pipeline(
            pipeline, pile.documents, folder, seed=seed, identity=identity, elsewhere=elsewhere
        )
    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("card."))
    run.record(identity, [{"file": file, "sha256": hash_file(folder / file)} for file in files])
    return curated


def table_of_steps(card: DataCard, pipeline: Pipeline) -> pd.DataFrame:
    """A row for each step in order, with the line of its code."""
    return pd.DataFrame(
        {
            "step": step.name,
            "documents_in": row["in"],
            "documents_out": row["out"],
            "dropped": row["dropped"],
            "changed": row["changed"],
            "masked": sum(
                note["count"] for note in row["notes"] if note["what"] in masked_kinds(card)
            ),
            "characters_in": row["before"],
            "characters_out": row["after"],
            "file": step.file,
            "line": step.line,
            "code": step.code,
        }
        for step, row in zip(pipeline.steps, card.steps, strict=True)
    )


def masked_kinds(card: DataCard) -> set[str]:
    return {row["kind"] for row in card.masked}


def tables_of_run(curated: Curated, card: DataCard) -> dict[str, pd.DataFrame]:
    """What the page shows beside the steps."""
    notes = [
        {"step": step["step"], "what": note["what"], "count": note["count"]}
        | {"documents": note["documents"]}
        for step in card.steps
        for note in step["notes"]
    ]
    reasons = [
        {"step": step["step"], "reason": row["reason"], "documents": row["count"]}
        for step in card.steps
        for row in step["reasons"]
    ]
    kinds = [
        {"of": what, **row}
        for what in ("kinds", "languages", "licences")
        for row in getattr(card, what)
    ]
    return {
        "notes": pd.DataFrame(notes, columns=["step", "what", "count", "documents"]),
        "reasons": pd.DataFrame(reasons, columns=["step", "reason", "documents"]),
        "kept": pd.DataFrame(kinds, columns=["of", "name", "documents", "characters", "share"]),
        "split": pd.DataFrame(card.split),
        "skipped": curated.skipped,
    }


def steps_shown(table: pd.DataFrame) -> pd.DataFrame:
    """The steps for a terminal or a page."""
    return pd.DataFrame(
        {
            "step": table["step"],
            "documents": table["documents_out"],
            "dropped": table["dropped"],
            "changed": table["changed"],
            "masked": table["masked"],
            "characters": table["characters_out"],
            "taken": table["characters_in"] - table["characters_out"],
            "line": [
                f"{Path(file).name}:{line}"
                for file, line in zip(table["file"].astype(str), table["line"], strict=True)
            ],
        }
    )


def draw(run: Run) -> None:
    """Figures, from the saved tables alone."""
    run.save_figure(figures.characters_by_step(run.table()), "steps")


def readings(run: SavedRun) -> list[str]:
    """What came in, what is left, which step took most, what was masked."""
    table, split, skipped = run.table(), run.table("split"), run.table("skipped")
    first, last = table.iloc[0], table.iloc[-1]
    share = last["characters_out"] / max(1, first["characters_in"])
    parts = {row.part: row for row in split.itertuples()}
    said = [
        f"{first['documents_in']} documents of {first['characters_in']:,} characters came in; "
        f"{last['documents_out']} of {last['characters_out']:,} are kept ({share:.1%}), of which "
        f"{parts['val'].documents} of {parts['val'].characters:,} are validated on."
    ]
    rows = table.to_dict("records")
    most = max(rows, key=lambda row: row["characters_in"] - row["characters_out"])
    if (taken := most["characters_in"] - most["characters_out"]) > 0:
        said.append(
            f"{most['step']} takes most: dropped {most['dropped']}, changed {most['changed']}, "
            f"{taken:,} characters fewer ({Path(most['file']).name}:{most['line']})."
        )
    idle = [str(row["step"]) for row in rows if not row["dropped"] and not row["changed"]]
    idle = [step for step in idle if step not in ("licences", "split")]
    if idle:
        said.append(f"Nothing to do in this pile for {', '.join(idle)}.")
    if table["masked"].sum():
        said.append(f"{table['masked'].sum()} strings that look private were masked.")
    if len(skipped):
        one = skipped.iloc[0]
        said.append(
            f"{len(skipped)} could not be read, such as {one['source']}, which {one['reason']}."
        )
    return said


def parts(run: SavedRun) -> list[Part]:
    """What the page shows, from saved tables and figures alone."""
    table = run.table()
    sections: list[Part] = [
        Section(
            "What each step did",
            figures=[
                Figure.saved(
                    "Characters left after each step, with the line of the step's function.",
                    run.figure("steps"),
                )
            ],
            table=steps_shown(table),
            saved=table,
        )
    ]
    for name, title in (
        ("reasons", "Why documents were left out"),
        ("notes", "What was changed, and how often"),
        ("kept", "What is kept"),
        ("split", "What is trained on, and what is validated on"),
        ("skipped", "What could not be read"),
    ):
        rows = run.table(name)
        if len(rows):
            more = f"The first {SHOWN} of {len(rows)}." if len(rows) > SHOWN else ""
            sections.append(Section(title, text=more, table=rows.head(SHOWN), saved=rows))
    return sections


def limits(run: SavedRun) -> list[str]:
    return [
        "What a finder does not find is not masked, and no program can say whether a text may be "
        "used: look at what was kept.",
        "What a step does for a model's loss is not seen here: --ablate trains on the text with "
        "and without it.",
    ]


EXPERIMENT = Experiment(
    name="curate",
    title="What a pipeline does to its documents",
    main=main,
    config=Config,
    parts=parts,
    quoted=Quoted("results", ("step",)),
    readings=readings,
    limits=limits,
    rank=90,
)

if __name__ == "__main__":
    launch(main, Config)
