"""Which steps of a pipeline can be done together, where, and what is kept of them when a run dies?

Steps in a row that see one document at a time are one stage: chunks of the pile go through all of
them, in any process. A step that needs the whole pile is a stage by itself. What a stage leaves is
kept until the run has ended: one that was killed goes on at the stage that it had reached.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from interp.curation.documents import Document
from interp.curation.histories import HISTORIES, NOTES, TableWriter, history_row, note_rows
from interp.curation.pipeline import Pipeline, Step
from interp.curation.spooling import Spool
from interp.errors import UsageError
from interp.runs.workers import Elsewhere

CHUNK = 64  # documents that go to a worker at a time
CHUNK_CHARACTERS = 1_000_000  # or fewer, where they are long
WINDOW = 32  # chunks that are shared out at a time: what workers return is in memory
TABLES = {"histories": HISTORIES, "notes": NOTES}
Rows = list[dict[str, Any]]
Done = tuple[list[Document], Rows, Rows]


@dataclass(frozen=True)
class PipelineStage:
    """Steps that are done together.

    Args:
        steps: each with its place in the pipeline.
        folder: where its files go.
        identity: of all that decides what it leaves; empty where nobody says what the pile is.
    """

    steps: tuple[tuple[int, Step], ...]
    folder: Path
    identity: str

    @property
    def whole_pile(self) -> bool:
        return self.steps[0][1].whole_pile

    def path(self, name: str) -> Path:
        return self.folder / f"{name}_{self.steps[0][0]}"

    @property
    def is_done(self) -> bool:
        mark = self.path("done")
        return bool(self.identity) and mark.is_file() and mark.read_text() == self.identity


def stages_of(pipeline: Pipeline, folder: Path, pile: str) -> list[PipelineStage]:
    """The stages of a pipeline on a pile of this identity."""
    stages, before = [], pile
    for number, group in groupby(
        enumerate(pipeline.steps), key=lambda each: each[0] if each[1].whole_pile else -1
    ):
        steps = tuple(group)
        if pile:
            said = json.dumps([before, number, *(step.identity for _, step in steps)])
            before = hashlib.sha256(said.encode()).hexdigest()
        stages.append(PipelineStage(steps, folder, before))
    return stages


def run_stage(
    stage: PipelineStage, documents: Iterable[Document], elsewhere: Elsewhere | None
) -> Spool:
    """Do a stage, unless it was done: the documents that it keeps."""
    if stage.is_done:
        return Spool(stage.path("kept"))
    if stage.whole_pile and not isinstance(documents, Spool):
        documents = Spool.write(stage.path("before"), documents)
    with ExitStack() as stack:
        histories, notes = (
            stack.enter_context(TableWriter(stage.path(name), schema))
            for name, schema in TABLES.items()
        )

        def recorded() -> Iterator[Document]:
            for kept, rows, counted in done_parts(stage, documents, elsewhere):
                histories.add(rows)
                notes.add(counted)
                yield from kept

        spool = Spool.write(stage.path("kept"), recorded())
    stage.path("done").write_text(stage.identity)
    return spool


def done_parts(
    stage: PipelineStage, documents: Iterable[Document], elsewhere: Elsewhere | None
) -> Iterator[Done]:
    """What the stage makes of the pile, part by part and in order."""
    if stage.whole_pile:
        order, step = stage.steps[0]
        for before, after in pairs(step, documents):
            kept = [] if after.dropped else [replace(after, notes=())]
            rows = [history_row(before, after, step.name, order)]
            yield kept, rows, note_rows(after, step.name)
        return
    chunks = document_chunks(documents)
    for first in islice(chunks, 1):  # here: workers that are forked then have what steps load
        yield pass_through(stage.steps, first)
    while window := list(islice(chunks, 1 if elsewhere is None else WINDOW)):
        if elsewhere is None or len(window) == 1:
            yield from (pass_through(stage.steps, chunk) for chunk in window)
            continue
        made: dict[int, Done] = {}
        elsewhere.run(pass_through, stage.steps, window, lambda *_: None, made.__setitem__)
        yield from (made[number] for number in range(len(window)))


def pass_through(
    steps: Sequence[tuple[int, Step]], chunk: list[Document], tell: object = None
) -> Done:
    """A chunk through steps that see one document at a time; rows document by document."""
    histories: dict[str, Rows] = {document.id: [] for document in chunk}
    notes: dict[str, Rows] = {document.id: [] for document in chunk}
    for order, step in steps:
        kept = []
        for before, after in pairs(step, chunk):
            histories[before.id].append(history_row(before, after, step.name, order))
            notes[before.id] += note_rows(after, step.name)
            if not after.dropped:
                kept.append(replace(after, notes=()))
        chunk = kept
    rows = [row for document in histories.values() for row in document]
    return chunk, rows, [row for document in notes.values() for row in document]


def document_chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text)
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def pairs(step: Step, documents: Iterable[Document]) -> Iterator[tuple[Document, Document]]:
    """Each document before a step and after it.

    Raises:
        UsageError: the step failed, or it did not yield each document once and in order.
    """
    try:
        answered = iter(step.function(documents, **step.options))
    except UsageError:
        raise
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


def join_tables(stages: Sequence[PipelineStage], folder: Path) -> None:
    """The rows of all stages, in the order of the steps, in one table each."""
    for name, schema in TABLES.items():
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for stage in stages:
                for batch in pq.ParquetFile(stage.path(name)).iter_batches():
                    writer.write_batch(batch)
