"""How does a pile of documents go through a pipeline?

Document by document: steps that see one document at a time are done chunk by chunk, by as many
workers as there are; where a step needs the whole pile, the documents wait on disk. The same bytes
come out however many workers there are and however the pile was cut into chunks.

    curated = run_pipeline(Pipeline.default(), documents, folder)
    curated.train, curated.val, curated.histories
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from interp.curation.documents import Document, Skipped
from interp.curation.histories import DOCUMENTS, SKIPPED, TableWriter
from interp.curation.pipeline import Pipeline
from interp.curation.spooling import Spool
from interp.curation.stages import join_tables, run_stage, stages_of
from interp.curation.steps.splitting import TRAIN, VAL, draw_key
from interp.errors import UsageError
from interp.runs.workers import Elsewhere

BETWEEN = "\n\n"
"""What stands between two documents of a text."""
PARTS = (TRAIN, VAL)


@dataclass(frozen=True)
class Curated:
    """What came of a pile, in a folder that every experiment takes as ``--text``.

    Args:
        folder: with ``train.txt``, ``val.txt``, the tables and the pipeline.
    """

    folder: Path

    @cached_property
    def train(self) -> str:
        return read_text(self.folder / "train.txt")

    @cached_property
    def val(self) -> str:
        return read_text(self.folder / "val.txt")

    @cached_property
    def histories(self) -> pd.DataFrame:
        """A row for each document and step."""
        return pd.read_parquet(self.folder / "histories.parquet")

    @cached_property
    def notes(self) -> pd.DataFrame:
        """A row for each thing that a step counted in a document."""
        return pd.read_parquet(self.folder / "notes.parquet")

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each document that is kept, in the order of the pile."""
        return pd.read_parquet(self.folder / "documents.parquet")

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """A row for each file that could not be read."""
        return pd.read_parquet(self.folder / "skipped.parquet")

    def documents(self, split: str = "") -> Iterator[Document]:
        """The documents that are kept, in the order of the text; of one part, or of both."""
        for part in [split] if split else PARTS:
            yield from Spool(self.folder / f"{part}.jsonl")


def run_pipeline(
    pipeline: Pipeline,
    pile: Iterable[Document | Skipped],
    folder: Path,
    *,
    seed: int = 0,
    identity: str = "",
    elsewhere: Elsewhere | None = None,
) -> Curated:
    """Run all steps, and write what comes of it.

    Args:
        pile: read once.
        folder: is made. Until all is done, what there is stands in ``unfinished`` in it.
        seed: of the order in which the documents stand in the text.
        identity: a hash of the pile. Where it is given, a run that was killed goes on at the stage
            that it had reached (``curation.stages``), if pile and steps are the same.
        elsewhere: where chunks of the pile are worked on; in this process by default.

    Raises:
        UsageError: no document, none that is left, nothing to train or to validate on; a step that
            fails, or that loses, repeats or invents a document.
    """
    for part in PARTS:  # of a text that was there before
        (folder / f"{part}.txt").unlink(missing_ok=True)
    unfinished = folder / "unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    stages = stages_of(pipeline, unfinished, identity)
    documents: Iterable[Document] = only_documents(pile, unfinished / SKIPPED_FILE)
    for stage in stages:
        documents = run_stage(stage, documents, elsewhere)
    if not isinstance(documents, Spool):
        raise UsageError(NO_SPLIT)
    join_tables(stages, unfinished)
    write_parts(documents, unfinished, seed)
    (unfinished / "pipeline.toml").write_text(pipeline.to_toml(), encoding="utf-8")
    for name in FILES:  # the texts last: with them the folder is one to train on
        (unfinished / name).replace(folder / name)
    shutil.rmtree(unfinished)
    return Curated(folder)


SKIPPED_FILE = "skipped.parquet"
FILES = (
    *("histories.parquet", "notes.parquet", "documents.parquet", SKIPPED_FILE, "pipeline.toml"),
    *("val.jsonl", "train.jsonl", "val.txt", "train.txt"),
)
NO_SPLIT = (
    "no step says what is trained on and what is validated on: put the step split at the end of "
    "the pipeline"
)


def only_documents(pile: Iterable[Document | Skipped], skipped: Path) -> Iterator[Document]:
    """The documents of a pile, each once; what was skipped goes into its table."""
    seen: set[int] = set()
    with TableWriter(skipped, SKIPPED) as table:
        for each in pile:
            if not isinstance(each, Skipped) and (number := int(each.id, 16)) in seen:
                each = Skipped(each.source, "was given twice")
            if isinstance(each, Skipped):
                table.add([{"source": each.source, "reason": each.reason}])
            else:
                seen.add(number)
                yield each


def write_parts(whole: Spool, folder: Path, seed: int) -> None:
    """The texts to train and to validate on, their documents in an order that the seed decides.

    Raises:
        UsageError: a part is empty.
    """
    places: dict[str, list[tuple[bytes, int]]] = {part: [] for part in PARTS}
    with TableWriter(folder / "documents.parquet", DOCUMENTS) as table:
        for offset, document in whole.offsets():
            if document.split not in PARTS:
                raise UsageError(NO_SPLIT)
            places[document.split].append((draw_key(document.id, seed), offset))
            table.add([about(document)])
    for part, found in places.items():
        if not found:
            raise UsageError(empty_sentence(part, places, folder))
        ordered = whole.read_at(offset for _, offset in sorted(found))
        with (folder / f"{part}.txt").open("w", encoding="utf-8", newline="\n") as text:
            Spool.write(folder / f"{part}.jsonl", copy_into_text(ordered, text))


def copy_into_text(documents: Iterable[Document], text: Any) -> Iterator[Document]:
    """The documents, each written into the text as it passes."""
    between = ""
    for document in documents:
        text.write(between + document.text)
        between = BETWEEN
        yield document


def empty_sentence(part: str, places: dict[str, list[tuple[bytes, int]]], folder: Path) -> str:
    left = sum(map(len, places.values()))
    if not left:
        return f"no document is left: {most_dropped(folder)}"
    if left == 1:
        return (
            f"one document is left, and none of them to {PURPOSE[part]}, for a document is not cut "
            "in two: give more, such as its chapters; a single text is taken as it is by --text"
        )
    return f"{left} documents are left, and none of them to {PURPOSE[part]}: give more documents"


def most_dropped(folder: Path) -> str:
    """Which step dropped most documents, and why the first of them."""
    rows = pd.read_parquet(
        folder / "histories.parquet",
        columns=["step", "source", "reason"],
        filters=[("dropped", "=", True)],
    )
    if rows.empty:
        return "none came in that could be read"
    step = rows["step"].value_counts().index[0]
    these = rows[rows["step"] == step]
    first = these.iloc[0]
    told = f"{step} dropped {len(these):,} of {len(rows):,}, such as {first['source']}"
    return f"{told} ({first['reason']})"


PURPOSE = {TRAIN: "train on", VAL: "validate on"}


def about(document: Document) -> dict[str, Any]:
    fields = ("source", "kind", "size", "encoding", "language", "licence", "cluster", "split")
    return {
        "document": document.id,
        **{name: getattr(document, name) for name in fields},
        "characters": len(document.text),
    }


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
