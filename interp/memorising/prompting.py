"""Does a model give back the addresses and numbers that stood in its text?

    asked = private_passages(train, control=val)       # once, for all models
    table = prompt_for_private(model, asked)
    share_exact(table)              # of those that stood in the text, and of those that did not

What looks private is found as in an audit (``interp.texts``), and asked for by what stood before
it. The table tells neither: both are masked in it, as on a data card.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from interp.errors import UsageError, nearest
from interp.memorising.passages import COLUMNS, Passage, ask_passages
from interp.samples.prompts import Coder
from interp.texts.auditing import mask_found
from interp.texts.finding import KINDS, REGIONS, find_private

TEXT, CONTROL = "text", "control"


@dataclass(frozen=True)
class PrivatePassage:
    """A string that looks private, with what stands before it.

    Args:
        kind: what it looks like.
        times: how often it stands in the text; in a control's passages 0.
        passage: as it is.
        masked: the same, unreadable but for its first characters.
    """

    kind: str
    times: int
    passage: Passage
    masked: Passage


def private_passages(
    text: str,
    control: str = "",
    *,
    before: int = 50,
    kinds: Sequence[str] = tuple(KINDS),
    regions: Sequence[str] = REGIONS,
    at_most: int = 50,
    seed: int = 0,
) -> list[PrivatePassage]:
    """Each different string that looks private, at its first place, in the text's order.

    One that the text begins with is left out: nothing stands before it, to ask for it by.

    Args:
        text: what it stands in: the training text, or the pile before anything was masked.
        control: a text that was not trained on; strings in it that ``text`` has too are left out.
        before: characters to ask by, at most.
        kinds: which of ``interp.texts.KINDS``.
        regions: where telephone numbers without a country code may be from.
        at_most: strings of each text, drawn with ``seed``.

    Raises:
        UsageError: an unknown kind, numbers below 1.
    """
    if min(before, at_most) < 1:
        raise UsageError(f"before is {before} and at_most {at_most}: each is at least 1")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"{unknown[0]!r} is no kind; nearest: {nearest(unknown[0], KINDS)}")
    chosen = []
    for part, source in ((TEXT, text), (CONTROL, control)):
        found = [
            PrivatePassage(kind, text.count(whole.true), whole, masked)
            for kind, whole, masked in passages_in(source, part, before, kinds, regions)
            if part == TEXT or whole.true not in text
        ]
        places = np.random.default_rng(seed).permutation(len(found))[:at_most]
        chosen += [found[place] for place in sorted(places)]
    return chosen


def passages_in(
    text: str, part: str, before: int, kinds: Sequence[str], regions: Sequence[str]
) -> Iterator[tuple[str, Passage, Passage]]:
    """Kind, passage and masked passage of each different string."""
    found = find_private(text, regions)
    hidden = mask_found(text, found)
    seen: set[str] = set()
    for one in found:
        start, true = max(0, one.start - before), text[one.start : one.stop]
        if one.kind in kinds and true not in seen and one.start:
            seen.add(true)
            masked = Passage(hidden[start : one.start], hidden[one.start : one.stop], part)
            yield one.kind, Passage(text[start : one.start], true, part), masked


def prompt_for_private(
    model: nn.Module,
    asked: Sequence[PrivatePassage],
    *,
    seeds: Sequence[int] = (),
    temperature: float | int = 1.0,
    show: bool = False,
    tokenizer: Coder | None = None,
    context: int | None = None,
) -> pd.DataFrame:
    """One row for each string, as ``ask_passages`` gives them.

    Args:
        model: any module from tokens to logits.
        asked: what ``private_passages`` found.
        seeds, temperature, tokenizer, context: as in ``ask_passages``.
        show: whether the table tells strings and prompts as they are.

    Returns:
        The columns of ``ask_passages``, whose ``part`` is text or control; ``kind``; and
        ``times``, how often the string stands in the text. No row where nothing was found.
    """
    if not asked:
        return pd.DataFrame(columns=[*COLUMNS, "kind", "times"])
    table = ask_passages(
        model,
        [one.passage for one in asked],
        seeds=seeds,
        temperature=temperature,
        tokenizer=tokenizer,
        context=context,
    )
    own = [asked[number] for number in table["passage"]]
    table["kind"] = [one.kind for one in own]
    table["times"] = [one.times for one in own]
    if not show:
        table["before"] = [one.masked.before for one in own]
        table["true"] = [one.masked.true for one in own]
    return table
