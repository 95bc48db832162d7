"""How are a run's figures and its page made no more often than needed?

    page = present(run, draw)

A finished run whose command is started again has the same tables, so its figures and its page would
be the same to the last byte: they stay as they are. They are made anew where anything has changed
that they are made of: a table, the code, a version, a font, what was asked to be drawn; and where
one of the files is not as it was written.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.support.keeping import hash_code
from experiments.support.pages import write_page
from interp.figures.fonts import SANS
from interp.runs import Run, identity_of
from interp.runs.description import packages
from interp.runs.files import write_atomically

PRESENTED = "presented.json"


def present(run: Run, draw: Callable[..., None], *given: Any) -> Path:
    """Draw a run's figures and write its page, each where it is not there already.

    Args:
        run: with all its tables saved.
        draw: is called with the run and ``given``; draws from the run's tables and these alone.
    """
    path, page = run.folder / PRESENTED, run.folder / "report.html"
    before = read_record(path)
    of = identity_of(
        tables=hashes_of(run.folder.glob("*.parquet")),
        code=hash_code(),
        packages=packages(),
        fonts=SANS,
        given=given,
    )
    figures = run.folder / "figures"
    if before.get("of") != of or before.get("figures") != hashes_of(figures.glob("*")):
        draw(run, *given)
    drawn = hashes_of(figures.glob("*"))
    page_of = identity_of(figures=drawn, of=of, description=run.description)
    if before.get("page_of") != page_of or before.get("page") != hashes_of([page]):
        write_page(run)
    now = {"of": of, "figures": drawn, "page_of": page_of, "page": hashes_of([page])}
    if now != before:
        write_atomically(path, json.dumps(now, indent=1).encode())
    return page


def read_record(path: Path) -> dict[str, Any]:
    """What was presented last; empty where that cannot be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def hashes_of(paths: Iterable[Path]) -> dict[str, str]:
    """The sha256 of every file that is there, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }
