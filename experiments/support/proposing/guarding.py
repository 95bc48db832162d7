"""How often does a filter stop what it should not, and let through what it should stop?

    guard_rows(seed=1)      # on prompts whose truth is known, and on which nothing was tuned

| filter  | stops                                            | held-out prompts                  |
|---------|--------------------------------------------------|-----------------------------------|
| private | a prompt in which the finders see private text  | planted letters, and what looks so|
| foreign | a prompt that the model predicts worse than 95 % | beginnings of validation          |
|         | of the beginnings of training documents          | documents; the same, shuffled     |
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.support.proposing.abilities import text_losses
from experiments.support.proposing.data import Rows
from experiments.support.trained import TrainedSubject
from interp.curation import Document
from interp.curation.planted import plant_documents
from interp.stats import share_interval
from interp.texts.finding import find_private

AROUND = 30  # characters on each side of a planted string
PROMPT = 120  # characters of a beginning
QUANTILE = 0.95
CALIBRATED = 60  # training documents whose beginnings give the limit


def private_filter(seed: int) -> dict[str, Any]:
    """False positives and negatives of the finders, on prompts cut out of planted documents."""
    wanted, harmless = list[str](), list[str]()
    for document in plant_documents(seed, size=4):
        for found, spans in ((wanted, document.spans), (harmless, document.harmless)):
            found += [
                document.text[max(0, span.start - AROUND) : span.stop + AROUND] for span in spans
            ]
    private = {prompt for prompt in wanted if find_private(prompt)}
    missed = len(wanted) - sum(prompt in private for prompt in wanted)
    clean = [prompt for prompt in harmless if prompt not in wanted]
    stopped = sum(bool(find_private(prompt)) for prompt in clean)
    return errors_of(stopped, len(clean), missed, len(wanted))


def foreign_filter(
    subject: TrainedSubject,
    train: Sequence[Document],
    held_out: Sequence[Document],
    seed: int,
) -> dict[str, Any]:
    """The same of a limit on the loss of a prompt, set on training documents alone."""
    known = [loss_of_prompt(subject, one.text[:PROMPT]) for one in train[:CALIBRATED]]
    limit = float(np.quantile(known, QUANTILE))
    generator = np.random.default_rng(seed)
    prompts = [one.text[:PROMPT] for one in held_out if len(one.text) >= PROMPT]
    shuffled = ["".join(generator.permutation([*prompt])) for prompt in prompts]
    stopped = sum(loss_of_prompt(subject, prompt) > limit for prompt in prompts)
    missed = sum(loss_of_prompt(subject, prompt) <= limit for prompt in shuffled)
    return {"limit": limit} | errors_of(stopped, len(prompts), missed, len(shuffled))


def loss_of_prompt(subject: TrainedSubject, prompt: str) -> float:
    losses, _ = text_losses(subject, prompt)
    return float(np.mean(losses))


def errors_of(stopped: int, harmless: int, missed: int, wanted: int) -> dict[str, Any]:
    """Shares of false positives and negatives, with Wilson's intervals."""
    row: dict[str, Any] = {"harmless": harmless, "wanted": wanted}
    for name, count, total in (
        ("false_positives", stopped, harmless),
        ("false_negatives", missed, wanted),
    ):
        row[name] = "not measured: no such prompt"
        if total:
            share, low, high = share_interval(count, total)
            row[name] = (
                f"{count} of {total}, {100 * share:.1f} % "
                f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
            )
    return row


def guard_rows(
    subject: TrainedSubject, train: Sequence[Document], held_out: Sequence[Document], seed: int
) -> Rows:
    """Both filters, ready to be quoted."""
    return {
        "private": private_filter(seed + 1000),  # other documents than tests and scores are of
        "foreign": foreign_filter(subject, train, held_out, seed),
    }
