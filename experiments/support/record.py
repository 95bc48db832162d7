"""What is an experiment, to everything that is not its own file?

    EXPERIMENT = Experiment(name="heads", title="Heads", main=main, config=Config, parts=parts)

Each file of ``experiments`` that makes runs ends with such a record. The command line, the pages
and the numbers that prose can quote ask the record alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from interp.report import Part
from interp.runs import SavedRun


@dataclass(frozen=True)
class Quoted:
    """Which numbers prose can quote.

    Args:
        table: the table that they are in.
        row: the columns that name a row of it.
        select: takes the rows that can be quoted; all of them by default.
    """

    table: str
    row: tuple[str, ...]
    select: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table


@dataclass(frozen=True)
class Experiment:
    """One question, how it is answered, and what its run tells.

    Args:
        name: as it is typed.
        title: what its page is called.
        main: answers it, and returns the path of the page.
        config: the options; a dataclass.
        parts: what the page shows, from a saved run alone.
        effects: a table to rank, beside those of other runs (``pages.telling``).
        readings: sentences, where there are no effects to rank.
        limits: what its numbers leave open, where there is more to say than of any run.
        quoted: which numbers prose can quote.
        rank: where it is told on a page of several runs: the whole before its parts.
        trains_cuts: whether its variants were cut before they were trained.
        cuts_lines: whether it shows what lines of source do.
        chosen_head: layer and head of the pattern that a page shows first.
        shows_attention: whether patterns it has kept are those of the model under study.
        writing: the heading of what its variants write.
        original: what their texts are compared with, where that is not the model as it is.
    """

    name: str
    title: str
    main: Callable[[Any], Path]
    config: type
    parts: Callable[[SavedRun], list[Part]]
    quoted: Quoted
    effects: Callable[[SavedRun], pd.DataFrame] | None = None
    readings: Callable[[SavedRun], list[str]] | None = None
    limits: Callable[[SavedRun], list[str]] | None = None
    rank: int = 50
    trains_cuts: bool = False
    cuts_lines: bool = False
    chosen_head: Callable[[SavedRun], tuple[int, int]] | None = None
    shows_attention: bool = True
    writing: str = "Text of each variant"
    original: str = ""
