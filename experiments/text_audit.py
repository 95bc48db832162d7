"""What is in a text, and what should one know before a model is trained on it?

Its size and symbols, lines and passages that come twice, above all across the border between the
training and the validation text, strings that look like somebody's address, number or key, and its
languages: a data card, as a page and as JSON. It needs what ``pip install 'nanogpt-interp[texts]'``
brings.

    python -m experiments.text_audit shakespeare
    python -m experiments.text_audit my_chats.txt --regions DE FR

How to read it: a passage that stands on both sides of the border can be answered from memory, so a
low validation loss proves nothing there. What looks private is shown masked, by line: look it up in
the text. A search that finds nothing has not proved that there is nothing; and no program can say
whether you may use the text.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from experiments.support.cli import Between, console, launch, run_name
from gpt.text import load_corpus
from interp.runs import Run

try:
    from experiments.support.pages.cards import CARD, audit_corpus, save_card
    from interp.texts import TextAudit
    from interp.texts.card import percent
    from interp.texts.finding import REGIONS
except ModuleNotFoundError as missing:
    sys.exit(f"error: this needs {missing.name}: pip install 'nanogpt-interp[texts]'")


@dataclass(frozen=True)
class Config:
    """A data card of a text."""

    text: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """python-docs, shakespeare, the path of a UTF-8 file, or of a folder with train.txt and
    val.txt."""
    at_least: Annotated[int, Between(1, 10**7)] = 50
    """Characters that make a passage count as shared by the training and the validation text."""
    regions: tuple[str, ...] = REGIONS
    """Countries whose telephone numbers are sought without their country code too."""
    runs: Path = Path("runs")
    """Where run folders go."""
    name: str = ""
    """The run's name; by default the text's."""


def main(config: Config) -> Path:
    corpus = load_corpus(config.text)
    audit = audit_corpus(corpus, config.runs, config.at_least, config.regions)
    name = config.name or run_name(corpus.name)
    settings = {
        "text": {"name": corpus.name, "sha256": corpus.sha256},
        "at_least": config.at_least,
        "regions": config.regions,
    }
    with Run.open(config.runs, "text_audit", name, settings, {"method": audit.method}) as run:
        run.save_table(found(audit))
        page = save_card(run.folder, corpus, audit)
    console.print(*corpus.notes, *card_lines(audit), sep="\n", soft_wrap=True, markup=False)
    console.print(f"json    {run.folder / CARD}.json", soft_wrap=True)
    console.print(f"card    [bold]{page}[/bold]", soft_wrap=True)
    return page


def found(audit: TextAudit) -> pd.DataFrame:
    """One row per kind of string that looks private: how many, and how many different ones."""
    return pd.DataFrame(audit.findings)[["kind", "count", "distinct"]]


def card_lines(audit: TextAudit) -> list[str]:
    """The card in a few lines."""
    shared, size = audit.overlap, audit.size
    private = [f"{row['kind']}: {row['count']}" for row in audit.findings if row["count"]]
    languages = [f"{name} {percent(share)}" for name, share in audit.languages.items()]
    passages = f"passages of {shared['at_least']} characters or more"
    overlap = (
        f"{percent(shared['share'])} of the validation text lie in {passages} that are also in "
        f"the training text; the longest has {shared['longest']}"
        if shared["stretches"]
        else f"no {passages} are in both the training and the validation text"
    )
    return [
        f"{size['characters']} characters, {len(audit.symbols)} different ones, "
        f"{sum(bool(row['unusual']) for row in audit.symbols)} of them unusual",
        overlap,
        f"{percent(audit.lines['share'])} of the lines repeat an earlier one",
        f"looks private: {', '.join(private) or 'nothing'}",
        f"languages: {', '.join(languages)}",
    ]


if __name__ == "__main__":
    launch(main, Config)
