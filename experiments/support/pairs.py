"""Which pairs of texts are patched into each other, and can a model read them?

pairs = read_pairs(Path("pairs.csv"))    # columns clean, corrupted, answer, wrong
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gpt.errors import UsageError
from gpt.model import GPTConfig
from gpt.text import CharTokenizer


class Pair(NamedTuple):
    """A clean text and a corrupted one, and what should follow each; empty where it is asked of
    the model."""

    clean: str
    corrupted: str
    answer: str
    wrong: str


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a CSV file. Raises ``UsageError`` where it is none."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a CSV file of pairs: {error}") from error
    if not {"clean", "corrupted"} <= {*table} or table.empty:
        raise UsageError(
            f"{path} must have columns clean and corrupted (answer and wrong if wanted) and a row "
            f"for each pair; it has {len(table)} rows of {', '.join(map(str, table))}"
        )
    rows = table.reindex(columns=list(Pair._fields), fill_value="")
    return [Pair(*row) for row in rows.itertuples(index=False)]


def check_lengths(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        if len(pair.clean) != len(pair.corrupted):
            raise UsageError(
                f"{pair.clean!r} has {len(pair.clean)} characters and {pair.corrupted!r} "
                f"{len(pair.corrupted)}: patching needs pairs of equal length, character for "
                "character"
            )
        if pair.clean == pair.corrupted:
            raise UsageError(f"{pair.clean!r} is both clean and corrupted: nothing differs")
    lengths = sorted({len(pair.clean) for pair in pairs})
    if len(lengths) > 1:
        raise UsageError(
            f"the pairs are {lengths[0]} to {lengths[-1]} characters long; those of one file must "
            "be of one length, so that their positions can be compared"
        )


def check_pairs(pairs: Sequence[Pair], size: GPTConfig, tokenizer: CharTokenizer) -> None:
    """Raises ``UsageError`` where the model cannot read a pair."""
    for pair in pairs:
        if len(pair.clean) > size.block_size:
            raise UsageError(
                f"{pair.clean!r} has {len(pair.clean)} characters; this model takes up to "
                f"{size.block_size} at a time"
            )
        for name, text in (("answer", pair.answer), ("wrong", pair.wrong)):
            if text and len(text) != 1:
                raise UsageError(f"--{name} is {text!r}; it must be one character")
        for text in pair:
            tokenizer.encode(text)
        if pair.answer and pair.answer == pair.wrong:
            raise UsageError(
                f"what should follow {pair.clean!r} and {pair.corrupted!r} is {pair.answer!r} both "
                "times: there is nothing to compare"
            )
