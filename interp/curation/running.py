"""How does a pile of documents go through a pipeline?

Document by document: steps that see one document at a time are done chunk by chunk, by as many
workers as there are; where a step needs the whole pile, the documents wait on disk. The same bytes
come out however many workers there are and however the pile was cut into chunks.

    curated = run_pipeline(Pipeline.default(), documents, folder)
    curated.train, curated.val, curated.histories
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from interp.curation.documents import Document, Skipped
from interp.curation.histories import (
    DOCUMENTS,
    HISTORIES,
    NOTES,
    SKIPPED,
    TableWriter,
    history_row,
    note_rows,
)
from interp.curation.pipeline import Pipeline, Step
from interp.curation.spooling import Spool
from interp.curation.steps.splitting import TRAIN, VAL, draw_key
from interp.errors import UsageError

CHUNK = 64  # documents that go to a worker at a time
BETWEEN = "\n\n"
"""What stands between two documents of a text."""
PARTS = (TRAIN, VAL)
Rows = list[dict[str, Any]]


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
) -> Curated:
    """Run all steps, and write what comes of it.

    Args:
        pile: read once.
        folder: is made.
        seed: of the order in which the documents stand in the text.

    Raises:
        UsageError: no document, none that is left, nothing to train or to validate on; a step that
            fails, or that loses, repeats or invents a document.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        tables = Tables(
            *(
                stack.enter_context(TableWriter(folder / f"{name}.parquet", schema))
                for name, schema in (
                    ("histories", HISTORIES),
                    ("notes", NOTES),
                    ("documents", DOCUMENTS),
                    ("skipped", SKIPPED),
                )
            )
        )
        documents: Iterable[Document] = only_documents(pile, tables)
        for order, step in enumerate(pipeline.steps):
            if step.whole_pile:
                documents = Spool.write(folder / f"before_{order}.jsonl", documents)
            documents = perform_step(step, order, documents, tables)
        whole = Spool.write(folder / "kept.jsonl", documents)
        write_parts(whole, folder, seed, tables)
    for path in [*folder.glob("before_*.jsonl"), whole.path]:
        path.unlink()
    (folder / "pipeline.toml").write_text(pipeline.to_toml(), encoding="utf-8")
    return Curated(folder)


@dataclass(frozen=True)
class Tables:
    """Where the rows go."""

    histories: TableWriter
    notes: TableWriter
    documents: TableWriter
    skipped: TableWriter


def only_documents(pile: Iterable[Document | Skipped], tables: Tables) -> Iterator[Document]:
    """The documents of a pile, each once; what was skipped goes into its table."""
    seen: set[int] = set()
    for each in pile:
        if not isinstance(each, Skipped) and (number := int(each.id, 16)) in seen:
            each = Skipped(each.source, "was given twice")
        if isinstance(each, Skipped):
            tables.skipped.add([{"source": each.source, "reason": each.reason}])
        else:
            seen.add(number)
            yield each


def perform_step(
    step: Step, order: int, documents: Iterable[Document], tables: Tables
) -> Iterator[Document]:
    """One step on all documents: those that it keeps. What it did goes into the tables."""
    parts = [documents] if step.whole_pile else document_chunks(documents)
    for part in parts:
        for before, after in pairs(step, part):
            tables.histories.add([history_row(before, after, step.name, order)])
            tables.notes.add(note_rows(after, step.name))
            if not after.dropped:
                yield replace(after, notes=())


def document_chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    remaining = iter(documents)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def pairs(step: Step, documents: Iterable[Document]) -> Iterator[tuple[Document, Document]]:
    """Each document before a step and after it.

    Raises:
        UsageError: the step failed, or it did not yield each document once and in order.
    """
    try:
        answered = iter(step.function(documents, **step.options))
    except Exception as error:
        raise failed(step, "", error) from error
    for before in documents:
        try:
            after = next(answered, None)
        except UsageError:
            raise
        except Exception as error:
            raise failed(step, before.source, error) from error
        if after is None or after.id != before.id:
            got = "nothing" if after is None else after.source
            raise UsageError(
                f"the step {step.name!r} ({step.file}:{step.line}) yields {got!r} where "
                f"{before.source!r} is due: a step yields every document it is given, once and in "
                "order; one to leave out as document.drop(reason)"
            )
        yield before, after
    if (after := next(answered, None)) is not None:
        raise UsageError(
            f"the step {step.name!r} ({step.file}:{step.line}) yields {after.source!r} when all "
            "documents have been: it may not make new ones"
        )


def failed(step: Step, source: str, error: Exception) -> UsageError:
    at = f" at the document {source!r}" if source else ""
    return UsageError(
        f"the step {step.name!r} ({step.file}:{step.line}) fails{at}: "
        f"{type(error).__name__}: {error}"
    )


def write_parts(whole: Spool, folder: Path, seed: int, tables: Tables) -> None:
    """The texts to train and to validate on, their documents in an order that the seed decides.

    Raises:
        UsageError: a part is empty.
    """
    places: dict[str, list[tuple[bytes, int]]] = {part: [] for part in PARTS}
    for offset, document in whole.offsets():
        if document.split not in PARTS:
            raise UsageError(
                "no step says what is trained on and what is validated on: put the step split at "
                "the end of the pipeline"
            )
        places[document.split].append((draw_key(document.id, seed), offset))
        tables.documents.add([about(document)])
    for part, found in places.items():
        if not found:
            raise UsageError(empty_sentence(part, places))
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


def empty_sentence(part: str, places: dict[str, list[tuple[bytes, int]]]) -> str:
    left = sum(map(len, places.values()))
    if not left:
        return "no document is left: histories.parquet says at which step each was dropped, and why"
    return f"{left} documents are left, and none of them to {PURPOSE[part]}: give more documents"


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
