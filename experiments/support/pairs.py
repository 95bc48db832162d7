"""Which pairs of texts are patched into each other, and can a model read them?

pairs = read_pairs(Path("pairs.csv"))    # columns clean, corrupted, answer, wrong
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from experiments.support.cli import run_name
from experiments.support.named.coding import TextTokens, special_before, split_shown, token_after
from experiments.support.named.found import Size
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from gpt.text import CharTokenizer
from interp.runs import identity_of
from interp.site import Model


class Pair(NamedTuple):
    """A clean text and a corrupted one, and what should follow each; empty where it is asked of
    the model."""

    clean: str
    corrupted: str
    answer: str
    wrong: str


@dataclass(frozen=True)
class PairTask:
    """Pairs of texts in tokens, and the answers to each."""

    model: Model
    tokenizer: TextTokens
    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    answer: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    config: dict[str, Any]
    label: str


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


def check_texts(pairs: Sequence[Pair]) -> None:
    """Raises ``UsageError`` where the two texts of a pair are the same."""
    for pair in pairs:
        if pair.clean == pair.corrupted:
            raise UsageError(f"{pair.clean!r} is both clean and corrupted: nothing differs")


def check_pairs(pairs: Sequence[Pair], size: Size, tokenizer: TextTokens) -> None:
    """Raises ``UsageError`` where the model cannot read a pair, or its two texts, or several pairs,
    are not of as many tokens each."""
    before = len(special_before(tokenizer))
    for pair in pairs:
        clean, corrupted = (tokenizer.encode(text) for text in (pair.clean, pair.corrupted))
        if len(clean) != len(corrupted):
            raise UsageError(
                f"{told_of(tokenizer, pair.clean)} and {told_of(tokenizer, pair.corrupted)}: "
                "patching needs pairs of as many tokens, position for position"
            )
        if len(clean) + before > size.context:
            raise UsageError(
                f"{told_of(tokenizer, pair.clean)}; this model takes up to {size.context} at a time"
            )
        for name, text, after in (
            ("answer", pair.answer, pair.clean),
            ("wrong", pair.wrong, pair.corrupted),
        ):
            if text and token_after(tokenizer, after, text) is None:
                raise UsageError(f"--{name}: {told_of(tokenizer, text)}; it must be one token")
        if pair.answer and pair.answer == pair.wrong:
            raise UsageError(
                f"what should follow {pair.clean!r} and {pair.corrupted!r} is {pair.answer!r} both "
                "times: there is nothing to compare"
            )
    lengths = {len(tokenizer.encode(pair.clean)): pair.clean for pair in pairs}
    if len(lengths) > 1:
        shortest, longest = (told_of(tokenizer, lengths[end(lengths)]) for end in (min, max))
        raise UsageError(
            f"{shortest} and {longest}: the pairs of one file must be of as many tokens, so that "
            "their positions can be compared"
        )


def told_of(tokenizer: TextTokens, text: str) -> str:
    """A text with how many tokens it is, and which where that is no matter of course."""
    count = len(tokenizer.encode(text))
    if isinstance(tokenizer, CharTokenizer):
        return f"{text!r} has {count} character{'s' * (count != 1)}"
    return f"{text!r} has {count} token{'s' * (count != 1)} ({split_shown(tokenizer, text)})"


def task_of_pairs(subject: TrainedSubject, pairs: Sequence[Pair], made_of: str = "") -> PairTask:
    """Pairs for a model of text; answers that are left out are what it predicts.

    Args:
        made_of: what the run is called after, beside the model; by default a hash of the pairs.

    Raises:
        UsageError: an answer that is the same after both texts.
    """
    model, tokenizer = subject.model, subject.tokenizer
    device = subject.data.val.device
    clean, corrupted = (
        subject.with_special(torch.stack([tokenizer.encode(text) for text in texts])).to(device)
        for texts in ([pair.clean for pair in pairs], [pair.corrupted for pair in pairs])
    )

    def token(text: str, answer: str, tokens: Int[Tensor, "pos"]) -> int:
        named = token_after(tokenizer, text, answer) if answer else None
        return predict_token(model, tokens) if named is None else named

    answers = [
        [token(pair.clean, pair.answer, own), token(pair.corrupted, pair.wrong, other)]
        for pair, own, other in zip(pairs, clean, corrupted, strict=True)
    ]
    for pair, (answer, wrong) in zip(pairs, answers, strict=True):
        if answer == wrong:
            (same,) = tokenizer.names(torch.tensor([answer]))
            raise UsageError(
                f"the answer to {pair.clean!r} and to {pair.corrupted!r} is {same!r} both times: "
                "say with --answer and --wrong which two tokens to compare"
            )
    settings = {
        "task": "pairs",
        "subject": subject.config,
        "pairs": [pair._asdict() for pair in pairs],
    }
    answer, wrong = torch.tensor(answers, device=device).T
    label = run_name(subject.label, made_of or identity_of(pairs=settings["pairs"])[:8])
    return PairTask(model, tokenizer, clean, corrupted, answer, wrong, settings, label)


@torch.no_grad()
def predict_token(model: Model, tokens: Int[Tensor, "pos"]) -> int:
    """The likeliest next token."""
    return int(model(tokens[None])[0, -1].argmax())
