"""What does a cell of a table say, for a page?"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

Row = dict[str, Any]


def with_text_keys(row: Mapping[Any, Any]) -> Row:
    return {str(name): value for name, value in row.items()}


def number_at(row: Mapping[Any, Any], name: str) -> float:
    value = row.get(name)
    return float("nan") if empty(value) else float(str(value))


def empty(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def signed(value: float) -> str:
    """A difference with its sign, to three decimals."""
    if not np.isfinite(value):
        return ""
    return "0" if value == 0 else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def touched_lines(row: Mapping[Any, Any]) -> list[int]:
    """Every line that a surgery touches."""
    touched = row.get("lines")
    return [int(line) for line in (touched if np.iterable(touched) else [row["line"]])]


def without(lines: Sequence[int]) -> str:
    """What was trained, where these lines were cut."""
    return "trained without it" if len(lines) == 1 else f"trained without {join_numbers(lines)}"


def join_numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"


def diff_of(diff: Any, before: str, after: str) -> list[tuple[str, str]]:
    """An edit's lines, each with what becomes of it: ``-``, ``+`` or blank."""
    if isinstance(diff, str) and diff:
        lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++", "@@"))]
        if not lines:
            return []
        codes = textwrap.dedent("\n".join(line[1:] for line in lines)).split("\n")
        return [(line[:1], code) for line, code in zip(lines, codes, strict=True)]
    if not before and not after:
        return []
    return [("-", before), ("+", after or "(nothing)")]


def shown_name(file: str, names: Sequence[str]) -> str:
    """Which of the files that a page shows, by their names there, is this one, which may be given
    with its whole path, and with the edits that were made in it; empty where none is."""
    path = PurePath(file.partition(":")[0])
    ending = [
        name for name in names if path.parts[-len(PurePath(name).parts) :] == PurePath(name).parts
    ]
    alike = [name for name in names if PurePath(name).name == path.name]
    return next(iter([*ending, *alike]), "")
