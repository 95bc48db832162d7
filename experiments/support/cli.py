"""How does every experiment talk to the person who starts it?

if __name__ == "__main__":
    launch(main, Config)
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pandas as pd
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import gpt.errors
import interp.errors
from gpt.text import load_corpus
from interp.runs.run import require_name

console = Console(highlight=False)
LONGEST_NAME = 80  # characters, where a name is made of what was asked for


@dataclass(frozen=True)
class Between:
    """Which numbers an option takes, as part of its type: ``Annotated[int, Between(1, 100)]``."""

    least: float
    most: float


Seed = Annotated[int, Between(0, 2**32 - 1)]
Seeds = Annotated[int, Between(1, 10_000)]
Steps = Annotated[int, Between(1, 10**9)]
Texts = Annotated[int, Between(1, 10**7)]
Examples = Annotated[int, Between(2, 100_000)]
Workers = Annotated[int, Between(1, 4096)]


@dataclass(frozen=True)
class Options:
    """What all experiments share."""

    runs: Path = Path("runs")
    """Where run folders go."""
    name: str = ""
    """The run's name; by default it says preset and text."""
    text: str = "python-docs"
    """The text: python-docs (needs no download), shakespeare, the path of a UTF-8 file, or of a
    folder with train.txt and val.txt, as experiments.curate makes it."""
    seed: Seed = 0
    """Of weights and batches; with several seeds, the first."""


def launch(main: Callable[[Any], Any], config_type: type, argv: list[str] | None = None) -> None:
    """Parse the command line, run ``main``, and answer bad input with one sentence.

    What should be known of a text is said first. Exit status 2 after bad input, 130 after Ctrl-C.
    """
    module = sys.modules[main.__module__]
    config: Any = tyro.cli(
        config_type,
        prog=f"python -m {(module.__spec__.name if module.__spec__ else main.__module__)}",
        description=module.__doc__,
        args=argv,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        check_options(config)
        for note in load_corpus(config.text).notes if isinstance(config, Options) else ():
            console.print(f"note    {note}", soft_wrap=True, markup=False)
        main(config)
    except (gpt.errors.UsageError, interp.errors.UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def check_options(config: Any) -> None:
    """See that every option is a number it can be, and that the name can name a folder.

    Raises:
        UsageError: the first that is not.
    """
    for field, kind in get_type_hints(type(config), include_extras=True).items():
        given = getattr(config, field)
        for value in given if isinstance(given, tuple) else (given,):
            for allowed in bounds(kind):
                if value is not None and not allowed.least <= value <= allowed.most:  # or NaN
                    raise gpt.errors.UsageError(
                        f"--{field.replace('_', '-')} is {value}; it must be from "
                        f"{allowed.least:.10g} to {allowed.most:.10g}"
                    )
    if getattr(config, "name", ""):
        require_name(config.name)
    if hasattr(config, "runs"):
        require_writable(config.runs)


def refuse_options(config: Any, names: Iterable[str], reason: str) -> None:
    """See that none of some options was given, where they would have no effect.

    Args:
        config: what was asked for; an option was given where it is not its default.
        names: the options that have no effect here, as the fields of the config are called.
        reason: why, as the rest of a sentence that begins with the option.

    Raises:
        UsageError: the first that was.
    """
    for field in fields(config):
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        if field.name in names and getattr(config, field.name) != default:
            raise gpt.errors.UsageError(f"--{field.name.replace('_', '-')} {reason}: leave it out")


def require_writable(folder: Path) -> None:
    """Raises ``UsageError`` where nothing can be written under a folder, there or not yet."""
    reason = ""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            reason = f"{there} is no folder"
        elif not os.access(there, os.W_OK | os.X_OK):
            reason = f"{there} is not to be written"
    except OSError as error:  # a name that is too long
        reason = str(error.strerror)
    if reason:
        raise gpt.errors.UsageError(f"--runs is {str(folder)[:200]!r}: {reason}; name another")


def bounds(kind: Any) -> list[Between]:
    """The bounds in a type, also where they stand in a part of it."""
    if get_origin(kind) is Annotated:
        return [part for part in kind.__metadata__ if isinstance(part, Between)]
    return [found for part in get_args(kind) for found in bounds(part)]


def run_name(*parts: object) -> str:
    """A run's name made of what was asked for, such as the name of a file: what a folder's name
    cannot hold is an underscore there; what is too long ends in a hash of the whole."""
    whole = "-".join(map(str, parts))
    name = re.sub(r"[^\w.-]+", "_", whole).lstrip(".-") or "_"
    if len(name) <= LONGEST_NAME and len(name.encode()) <= 2 * LONGEST_NAME:
        return name
    kept = name.encode()[:LONGEST_NAME].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def announce(folder: Path, *, table: str = "results.parquet", page: str = "report.html") -> None:
    """Say where everything is."""
    console.print(f"table   {folder / table}", soft_wrap=True)
    console.print(f"figures {folder / 'figures'}", soft_wrap=True)
    console.print(f"report  [bold]{folder / page}[/bold]", soft_wrap=True)


Preset = Annotated[str, tyro.conf.arg(metavar="demo|laptop|course")]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, and what tells it how much is done, of how much."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def print_table(table: pd.DataFrame) -> None:
    """A table on the terminal: what does not fit its width goes on below, in its own column."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in table:
        drawn.add_column(Text(str(name)), overflow="fold")
    for row in table.itertuples(index=False):
        drawn.add_row(*(Text(str(cell)) for cell in row))
    console.print(drawn)
