"""How does a table become a file for a spreadsheet, that it shows and does not compute?

write_csv(Path("grades.csv"), table)
"""

import csv
import io
import re
from pathlib import Path

import pandas as pd

from interp.characters import visible
from interp.report.sections import all_of
from interp.runs import write_atomically

COMPUTED = re.compile(r"[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write all rows and all digits of a table, every cell quoted: other countries' spreadsheets
    part cells at other signs. Raises ``UsageError`` where it cannot be written."""
    written = io.StringIO()
    rows = [[inert(visible(text)) for text in row] for row in all_of(table)]
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(rows)
    return write_atomically(path, written.getvalue().encode())


def inert(text: str) -> str:
    """A cell that a spreadsheet would compute, after an apostrophe: then it stays text."""
    return f"'{text}" if COMPUTED.match(text) and not NUMBER.fullmatch(text) else text
