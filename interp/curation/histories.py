"""What did each step do to each document?

Two tables on disk, written while the pipeline runs: ``histories``, a row for each document and
step, and ``notes``, a row for each thing that a step counted in a document.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interp.curation.documents import Document

HISTORIES = pa.schema(
    [
        ("document", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("step", pa.string()),
        ("order", pa.int32()),
        ("characters_before", pa.int64()),
        ("characters_after", pa.int64()),
        ("changed", pa.bool_()),
        ("dropped", pa.bool_()),
        ("reason", pa.string()),
    ]
)
NOTES = pa.schema(
    [
        ("document", pa.string()),
        ("step", pa.string()),
        ("what", pa.string()),
        ("count", pa.int64()),
    ]
)
DOCUMENTS = pa.schema(
    [
        ("document", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("size", pa.int64()),
        ("encoding", pa.string()),
        ("language", pa.string()),
        ("licence", pa.string()),
        ("cluster", pa.string()),
        ("split", pa.string()),
        ("characters", pa.int64()),
    ]
)
SKIPPED = pa.schema([("source", pa.string()), ("reason", pa.string())])
BUFFERED = 20_000  # rows in memory


class TableWriter:
    """Rows into a Parquet file, without keeping them."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.writer = pq.ParquetWriter(path, schema)
        self.rows: list[Mapping[str, Any]] = []

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()
        self.writer.close()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += rows
        if len(self.rows) >= BUFFERED:
            self.flush()

    def flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema))
        self.rows = []


def history_row(before: Document, after: Document, step: str, order: int) -> dict[str, Any]:
    """What a step did to a document; a document that was dropped has no characters after it."""
    return {
        "document": before.id,
        "source": before.source,
        "kind": before.kind,
        "step": step,
        "order": order,
        "characters_before": len(before.text),
        "characters_after": 0 if after.dropped else len(after.text),
        "changed": after.text != before.text,
        "dropped": bool(after.dropped),
        "reason": after.dropped,
    }


def note_rows(after: Document, step: str) -> list[dict[str, Any]]:
    return [
        {"document": after.id, "step": step, "what": note.what, "count": int(note.count)}
        for note in after.notes
    ]
