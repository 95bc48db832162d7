"""How does every experiment talk to the person who starts it?

if __name__ == "__main__":
    launch(main, Config)
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

import gpt.errors
import interp.errors
from experiments.cards import card_beside
from gpt.text import load_corpus

console = Console(highlight=False)


@dataclass(frozen=True)
class Options:
    """What all experiments share."""

    runs: Path = Path("runs")
    """Where run folders go."""
    name: str = ""
    """The run's name; by default it says preset and text."""
    text: str = "python-docs"
    """The text: python-docs (needs no download), shakespeare, or the path of a UTF-8 file."""
    seed: int = 0
    """Of weights and batches; with several seeds, the first."""


def launch(main: Callable[[Any], Any], config_type: type, argv: list[str] | None = None) -> None:
    """Parse the command line, run ``main``, and answer bad input with one sentence.

    What should be known of a text is said first; beside a run that read it lies its data card
    afterwards. Exit status 2 after bad input, 130 after Ctrl-C.
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
        corpus = load_corpus(config.text) if isinstance(config, Options) else None
        for note in corpus.notes if corpus else ():
            console.print(f"note    {note}", soft_wrap=True, markup=False)
        page = main(config)
        if corpus and isinstance(page, Path):
            card = card_beside(page.parent, corpus, config.runs)
            if card is not None:
                console.print(f"text    {card}", soft_wrap=True)
    except (gpt.errors.UsageError, interp.errors.UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def announce(folder: Path, *, table: str = "results.parquet", page: str = "report.html") -> None:
    """Say where everything is."""
    console.print(f"table   {folder / table}", soft_wrap=True)
    console.print(f"figures {folder / 'figures'}", soft_wrap=True)
    console.print(f"report  [bold]{folder / page}[/bold]", soft_wrap=True)


Preset = Annotated[str, tyro.conf.arg(metavar="demo|laptop|course")]
