"""What does a model write, what of it does it know by heart, and where does it fail?

    samples = write_beginnings(subject, documents, train, val, seed=0)
    by_heart(subject, train, val, seed=0)
    find_failures(subject, samples, documents, seed=0)

Each failure is counted on prompts, beside a control where something else could look like it: a
share with Wilson's interval.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.named.coding import special_before
from experiments.support.proposing.guarding import OTHER_SIGNS, stops_repetition
from experiments.support.proposing.probing import is_read
from experiments.support.trained import TrainedSubject
from gpt.errors import UsageError
from interp.curation import Document
from interp.memorising import (
    Passage,
    ask_passages,
    match_writing,
    measure_extraction,
    share_exact,
)
from interp.samples import KnownText, write
from interp.stats import share_interval

PROMPT, WRITTEN = 32, 200  # characters, tokens
PROMPTS = 8
FEW, SHORT = 2, 40  # prompts and tokens, of a large model
PASSAGES, FEW_PASSAGES = 60, 10
COPIED = 50  # characters that make a copy
MADE_UP, LETTERS = 40, 8  # words that nobody has written, and letters of each
TEMPERATURES = (0.0, 1.0)


def write_beginnings(
    subject: TrainedSubject,
    documents: Sequence[Document],
    train: str,
    val: str,
    seed: int,
) -> pd.DataFrame:
    """What the model writes after the beginnings of documents that it was not trained on:
    ``temperature prompt seed text n``, and the copies of ``interp.memorising.match_writing``.

    Raises:
        UsageError: no document has a beginning that it can read.
    """
    prompts = list(dict.fromkeys(prompts_from(subject, documents)))
    if not prompts:
        raise UsageError("no validation document has a beginning that the model can read")
    count, length = (FEW, SHORT) if subject.is_large else (PROMPTS, WRITTEN)
    prompts = [prompts[at * len(prompts) // count] for at in range(min(count, len(prompts)))]
    before = special_before(subject.tokenizer)
    coded = [subject.tokenizer.encode(prompt)[: subject.context - 1] for prompt in prompts]
    tables = []
    for temperature in TEMPERATURES:
        written = write(
            subject.inner,
            [subject.with_special(one[None].to(subject.data.val.device))[0] for one in coded]
            if len(before)
            else coded,
            length,
            seeds=(seed,),
            temperature=temperature,
            tokenizer=subject.tokenizer,
            context=None if subject.is_large else subject.context,
        )
        tables.append(written.table().assign(temperature=temperature))
    table = pd.concat(tables, ignore_index=True)
    control = val if len(val) >= table["text"].str.len().max() else ""
    return match_writing(table, KnownText(train), control=control, at_least=COPIED, seed=seed)


def prompts_from(subject: TrainedSubject, documents: Iterable[Document]) -> Iterable[str]:
    for document in documents:
        prompt = document.text.lstrip()[:PROMPT]
        if len(prompt) == PROMPT and is_read(subject, prompt):
            yield prompt


def by_heart(subject: TrainedSubject, train: str, val: str, seed: int) -> pd.DataFrame:
    """Passages that the model continues word for word, of the training text and, as a control, of
    the validation text; as ``interp.memorising.share_exact`` gives them."""
    before = min(32, subject.context // 2)
    table = measure_extraction(
        subject.inner,
        train,
        val,
        before=before,
        length=before,
        passages=FEW_PASSAGES if subject.is_large else PASSAGES,
        seed=seed,
        tokenizer=subject.tokenizer,
        context=subject.context,
    )
    return share_exact(table)


def find_failures(
    subject: TrainedSubject, samples: pd.DataFrame, train: str, seed: int
) -> pd.DataFrame:
    """``failure count n share ci_low ci_high control how``; ``control`` is a share too, missing
    where there is none."""
    rows = []
    for temperature, own in samples.groupby("temperature"):
        loops = sum(map(stops_repetition, own["text"]))
        which = "the likeliest text" if temperature == 0 else "a sample"
        rows.append(failure(f"{which} ends in a loop", loops, len(own), np.nan, "three times over"))
    copies = int((samples["longest"] >= COPIED).sum())
    control = np.nan
    if "control_longest" in samples:
        control = float((samples["control_longest"] >= COPIED).mean())
    rows.append(
        failure(
            "copies the training text",
            copies,
            len(samples),
            control,
            f"{COPIED} characters or more; control: validation text of that length",
        )
    )
    rows += [repeats_words(subject, train, seed)]
    unread = [sign for sign in dict.fromkeys(OTHER_SIGNS) if not is_read(subject, sign)]
    signs = len(dict.fromkeys(OTHER_SIGNS))
    rows.append(
        failure("cannot read a sign", len(unread), signs, np.nan, "of other scripts, currencies …")
    )
    return pd.DataFrame(rows)


def repeats_words(subject: TrainedSubject, train: str, seed: int) -> dict[str, Any]:
    """Whether it fails to write a made-up word on that stands twice before; the control has
    another word there."""
    generator = np.random.default_rng(seed)
    letters = [
        one for one in "abcdefghijklmnopqrstuvwxyz" if one in train and is_read(subject, one)
    ]
    if len(letters) < 2:
        raise UsageError("the training text has fewer than two of the letters a to z")
    words = ["".join(generator.choice(letters, LETTERS)) for _ in range(MADE_UP)]
    half = LETTERS // 2
    asked = [Passage(f"{word} {word} {word[:half]}", word[half:], "word") for word in words]
    others = [*words[1:], words[0]]
    asked += [
        Passage(f"{other} {other} {word[:half]}", word[half:], "control")
        for word, other in zip(words, others, strict=True)
    ]
    found = share_exact(
        ask_passages(subject.inner, asked, tokenizer=subject.tokenizer, context=subject.context)
    )
    by_part = {row["part"]: row for row in found.to_dict("records")}
    failed = MADE_UP - int(by_part["word"]["exact"])
    return failure(
        "does not repeat a made-up word",
        failed,
        MADE_UP,
        1 - float(by_part["control"]["share"]),
        "that stands twice in the prompt; control: another word stands there",
    )


def failure(what: str, count: int, n: int, control: float, how: str) -> dict[str, Any]:
    share, low, high = share_interval(count, n)
    ends = {"share": share, "ci_low": low, "ci_high": high}
    return {"failure": what, "count": count, "n": n, **ends, "control": control, "how": how}
