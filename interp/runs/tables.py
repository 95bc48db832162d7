"""How does a table come onto the disk, and back only if it is the one that was saved?

As Parquet, which any program reads. In its footer stands a checksum of the whole file that also
covers where the file belongs: a table of another run, or of another name, is not believed.
"""

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from interp.errors import UsageError

KEY = b"interp sha256"
BLANK = hashlib.sha256(b"here stands the checksum of the rest").hexdigest().encode()
"""What stands in the checksum's place while it is computed."""


def as_parquet(table: pd.DataFrame, belongs: str) -> bytes:
    """A table as a Parquet file with its checksum.

    Args:
        table: what ``pandas.DataFrame.to_parquet`` takes; a cell may be a tuple.
        belongs: what the table is, of which run.
    """
    content = io.BytesIO()
    arrow = pa.Table.from_pandas(table)
    with pq.ParquetWriter(content, arrow.schema) as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata({KEY: BLANK})
    blank = content.getvalue()
    return replace_last(blank, BLANK, checksum_of_table(blank, belongs).encode())


def from_parquet(path: Path, belongs: str) -> pd.DataFrame:
    """The table that ``as_parquet`` made.

    Raises:
        UsageError: the file cannot be read, is damaged, or is another table than ``belongs`` says.
    """
    content = path.read_bytes() if path.is_file() else b""
    try:
        kept = stored_checksum(pa.BufferReader(content))
        blank = replace_last(content, kept.encode(), BLANK)
        if checksum_of_table(blank, belongs) != kept:
            raise ValueError("its checksum fails")
        table = pq.read_table(pa.BufferReader(content))
    except (ValueError, OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} is damaged, or not the table that was saved ({reason})") from (
            error
        )
    return with_tuples(table)


def with_tuples(arrow: pa.Table) -> pd.DataFrame:
    """A table whose lists are tuples, as they were when it was saved: pandas makes arrays of them,
    which can neither be compared nor grouped by."""
    table = arrow.to_pandas()
    for field in arrow.schema:
        if pa.types.is_list(field.type):
            cells = [
                cell if cell is None else tuple(cell) for cell in arrow[field.name].to_pylist()
            ]
            table[field.name] = pd.Series(cells, table.index, dtype=object)
    return table


def stored_checksum(file: Any) -> str:
    """The checksum stored in a Parquet file. Raises ``ValueError`` where there is none."""
    found = (pq.read_metadata(file).metadata or {}).get(KEY, b"").decode(errors="replace")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise ValueError("it has no checksum")
    return found


def checksum_of_table(blank: bytes, belongs: str) -> str:
    return hashlib.sha256(belongs.encode() + b"\n" + blank).hexdigest()


def replace_last(content: bytes, old: bytes, new: bytes) -> bytes:
    """The content with the last ``old``, which stands in its footer, as ``new``."""
    before, _, after = content.rpartition(old)
    return before + new + after
