"""What of its training text does a model give back word for word?

    match_writing(write(model, prompts, 200, seeds=range(8)).table(), train, control=val)
    measure_extraction(model, train, val)

The first looks for copies in whatever it writes. The second asks for passages of the text by what
stands before them (Carlini et al. 2023, "Quantifying Memorization"), and for passages of the
validation text beside them: what is continued there too was guessed, not remembered.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from interp.errors import UsageError
from interp.memorising.passages import Passage, ask_passages
from interp.samples import KnownText
from interp.samples.prompts import Coder

TRAIN, VAL, BOTH = "train", "val", "val, also in train"


def match_writing(
    samples: pd.DataFrame,
    train: KnownText | str,
    *,
    control: str = "",
    at_least: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """The longest copy in each text that was written; prompts do not count.

    Args:
        samples: with a column ``text``, what was written without its prompt; others stay.
        train: the training text.
        control: a text that was not trained on. Beside each sample stands what is found in a
            stretch of it that is as long, drawn with ``seed``.
        at_least: the characters that make a copy count in ``copied``.

    Returns:
        The samples with ``longest``, the characters of the longest stretch that stands in the
        training text; ``copy``, the first such stretch, and ``at``, where in the training text it
        stands first; ``copied``, the share of the sample's characters in copies of ``at_least``;
        and with a control ``control_longest control_copied``.

    Raises:
        UsageError: samples without texts; ``at_least`` below 1; a control shorter than a sample.
    """
    if "text" not in samples:
        raise UsageError("the samples have no column 'text': give what write(…).table() gives")
    if at_least < 1:
        raise UsageError(f"at_least is {at_least}; a copy has at least 1 character")
    known = train if isinstance(train, KnownText) else KnownText(train)
    generator = np.random.default_rng(seed)
    rows = []
    for text in samples["text"]:
        longest, start, copied = copies_in(text, known, at_least)
        copy = text[start : start + longest]
        row = {"longest": longest, "copy": copy, "at": known.text.find(copy), "copied": copied}
        if control:
            if len(control) < len(text):
                raise UsageError(
                    f"the control has {len(control)} characters and a sample {len(text)}: give a "
                    "longer text that was not trained on"
                )
            at = int(generator.integers(len(control) - len(text) + 1))
            stretch = control[at : at + len(text)]
            row["control_longest"], _, row["control_copied"] = copies_in(stretch, known, at_least)
        rows.append(row)
    return samples.assign(**pd.DataFrame(rows, index=samples.index))


def copies_in(text: str, known: KnownText, at_least: int) -> tuple[int, int, float]:
    """The longest copy's characters and where it begins, and the share of the text in copies."""
    if not text:
        return 0, 0, 0.0
    lengths = known.longest_matches(text)
    covered = np.zeros(len(text) + 1, dtype=np.int64)
    for at in np.flatnonzero(lengths >= at_least):
        covered[at] += 1
        covered[at + lengths[at]] -= 1
    start = int(lengths.argmax())
    return int(lengths[start]), start, float((covered.cumsum()[:-1] > 0).mean())


def measure_extraction(
    model: nn.Module,
    train: str,
    val: str,
    *,
    before: int = 32,
    length: int = 32,
    passages: int = 100,
    seed: int = 0,
    seeds: Sequence[int] = (),
    temperature: float | int = 1.0,
    tokenizer: Coder | None = None,
    context: int | None = None,
) -> pd.DataFrame:
    """Passages of both texts, each asked for by what stands before it; one row for each.

    Args:
        model: any module from tokens to logits.
        train: the training text.
        val: a text that was not trained on.
        before: characters that the model is given.
        length: characters that it must continue word for word.
        passages: of each text; they do not overlap, and a text that has fewer gives all.
        seed: draws the passages; the same for every model.
        seeds, temperature: of samples, as in ``ask_passages``.
        tokenizer, context: as in ``ask_passages``.

    Returns:
        The columns of ``ask_passages``, whose ``part`` is train, val, or of passages of the
        validation text that the training text holds too ``val, also in train``; and ``at``, where
        in its text the passage begins. ``share_exact`` sums it up.

    Raises:
        UsageError: numbers below 1; a text that is too short for a passage.
    """
    if min(before, length, passages) < 1:
        raise UsageError(
            f"before is {before}, length {length} and passages {passages}: each is at least 1"
        )
    asked: list[Passage] = []
    places: list[int] = []
    for part, text in ((TRAIN, train), (VAL, val)):
        for start in draw_starts(text, before + length, passages, seed, part):
            whole = text[start : start + before + length]
            known = part == VAL and whole in train
            asked.append(Passage(whole[:before], whole[before:], BOTH if known else part))
            places.append(start + before)
    table = ask_passages(
        model,
        asked,
        seeds=seeds,
        temperature=temperature,
        tokenizer=tokenizer,
        context=context,
    )
    return table.assign(at=table["passage"].map(dict(enumerate(places))))


def draw_starts(text: str, width: int, count: int, seed: int, part: str) -> list[int]:
    """Where some of the stretches begin that lie end to end in a text."""
    stretches = len(text) // width
    if not stretches:
        raise UsageError(
            f"the {part} text has {len(text)} characters, and a passage with what stands before it "
            f"{width}: ask for shorter ones"
        )
    chosen = np.random.default_rng(seed).permutation(stretches)[:count]
    return sorted(int(one) * width for one in chosen)
