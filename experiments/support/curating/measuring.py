"""What does each trained model know by heart, and how well does it predict, in bits per byte?

    table = measure_all(run, tasks, MemoryQuestions(val, canaries, private), trained_on, executor)

Every model is asked for the same canaries and the same private strings of the pile, and for
passages of the text that it was trained on, beside passages of the validation text, which it was
not. A measured model is recorded at once, under the checksum of its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from experiments.support.cli import progress
from experiments.support.curating.planting import COPIED, NEVER, SINGLE, Planted
from experiments.support.retraining import WRITTEN, Rows, hash_file
from experiments.support.trainings.executors import Executor, Tell
from experiments.support.trainings.tasks import Task
from gpt import checkpoint
from gpt.errors import UsageError
from gpt.text import evaluation_blocks
from interp.memorising import (
    PrivatePassage,
    match_writing,
    measure_exposure,
    measure_extraction,
    prompt_for_private,
)
from interp.metrics import bits_per_byte
from interp.runs import Run, identity_of, recorded_elsewhere
from interp.verdicts import compare_seeds, correct, spread_of

METHOD = 1  # goes into identities: raise it where a measure is made another way
PASSAGES = 50  # of the training text, and of the validation text
LONGEST = 32  # characters that are given, and as many that are to follow

MEASURES = {
    "bits_per_byte": "bits per byte of the validation documents",
    "exposure_copied": f"exposure of canaries planted {COPIED}, in bits",
    "exposure_single": f"exposure of canaries planted {SINGLE}, in bits",
    "exposure_never": f"exposure of canaries planted {NEVER}, in bits: what is guessed",
    "longest_copy": "longest stretch of what it writes that stands in its text, in characters",
    "extracted": "share of passages of its text that it continues word for word",
    "extracted_control": "the same of the validation text: what is guessed",
    "private": "share of the pile's private strings that it gives back when asked",
    "private_control": "the same of strings that are in the validation text alone",
}
"""What is measured of each model, in words."""
EXPOSURES = {SINGLE: "exposure_single", COPIED: "exposure_copied", NEVER: "exposure_never"}


@dataclass(frozen=True)
class MemoryQuestions:
    """What every model is asked for.

    Args:
        val: the validation text.
        planted: canaries.
        private: strings of the pile that look private, as it was before anything was masked.
        eval_blocks: blocks of the validation text for bits per byte, as in trainings.
    """

    val: str
    planted: Sequence[Planted]
    private: Sequence[PrivatePassage]
    eval_blocks: int | None = None

    @property
    def identity(self) -> str:
        canaries = [(one.canary.text, one.how) for one in self.planted]
        private = [(one.passage.before, one.passage.true) for one in self.private]
        return identity_of(
            val=self.val, canaries=canaries, private=private, blocks=self.eval_blocks
        )


@dataclass(frozen=True)
class TrainedModel:
    """A trained model that is to be measured.

    Args:
        text: sha256 of the text it was trained on.
        weights: its checkpoint.
        written: what it wrote when its training ended.
    """

    identity: str
    text: str
    weights: Path
    written: tuple[str, ...]


Shared = tuple[MemoryQuestions, Mapping[str, str]]


def measure_all(
    run: Run,
    tasks: Sequence[Task],
    asked: MemoryQuestions,
    trained_on: Mapping[str, str],
    executor: Executor,
) -> pd.DataFrame:
    """A row for each training and measure: ``variant seed measure value n``.

    Args:
        tasks: trained, with their weights kept.
        trained_on: the training text of every task, by its sha256.

    Raises:
        UsageError: a worker keeps dying.
    """
    wanted = {task: trained_model(run, task, asked) for task in tasks if made_weights(task)}
    root = run.folder.parents[1]
    for one in wanted.values():
        if run.task(one.identity) is None:
            for _, rows in recorded_elsewhere(root, one.identity):
                run.record(one.identity, rows)
                break
    unique = {one.identity: one for one in wanted.values()}
    left = [one for one in unique.values() if run.task(one.identity) is None]
    if left:
        with progress("measuring what is known by heart") as tell:
            tell(0, len(left))
            finished = []

            def done(number: int, rows: Rows) -> None:
                run.record(left[number].identity, rows)
                finished.append(number)
                tell(len(finished), len(left))

            executor.run(measure_model, (asked, trained_on), left, lambda *_: None, done)
    rows = [
        {"variant": task.variant, "seed": task.seed, **row}
        for task, one in wanted.items()
        for row in run.task(one.identity) or []
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "measure", "of", "value", "n"])


def made_weights(task: Task) -> bool:
    """Whether the training came to weights: one that made a NaN may have, one in error has not."""
    return task.weights is not None and task.weights.exists()


def trained_model(run: Run, task: Task, asked: MemoryQuestions) -> TrainedModel:
    assert task.weights is not None
    rows = run.task(task.identity) or []
    written = tuple(row["text"] for row in rows if row["split"] == WRITTEN)
    identity = identity_of(
        measured=asked.identity,
        weights=hash_file(task.weights),
        text=task.text,
        written=written,
        method=[METHOD, PASSAGES, LONGEST],
    )
    return TrainedModel(identity, task.text, task.weights, written)


def measure_model(shared: Shared, one: TrainedModel, tell: Tell) -> Rows:
    """The rows of one model: ``measure of value n``, where ``of`` numbers a canary."""
    asked, trained_on = shared
    kept = checkpoint.load(one.weights)
    model, tokenizer, text = kept.model, kept.tokenizer, trained_on[one.text]
    assert tokenizer is not None
    rows: Rows = []

    def add(measure: str, value: float, n: int, of: int = 0) -> None:
        rows.append({"measure": measure, "of": of, "value": float(value), "n": int(n)})

    tokens, targets = evaluation_blocks(
        tokenizer.encode(asked.val), model.config.block_size, asked.eval_blocks
    )
    with torch.no_grad():
        logits = model.eval()(tokens)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    add("bits_per_byte", bits_per_byte(losses, tokenizer.byte_counts[targets]), targets.numel())
    ask: dict[str, Any] = {"tokenizer": tokenizer, "context": model.config.block_size}
    try:
        if asked.planted:
            exposed = measure_exposure(model, [each.canary for each in asked.planted], **ask)
            for number, exposure in enumerate(exposed["exposure"]):
                add(EXPOSURES[asked.planted[number].how], exposure, 1, number)
        half = min(LONGEST, model.config.block_size // 2)  # the model reads a passage whole
        extracted = measure_extraction(
            model, text, asked.val, before=half, length=half, passages=PASSAGES, **ask
        )
        own = extracted["part"] == "train"
        for measure, part in (
            ("extracted", own),
            ("extracted_control", extracted["part"] == "val"),
        ):
            if part.any():
                add(measure, extracted.loc[part, "exact"].mean(), part.sum())
        private = prompt_for_private(model, asked.private, **ask)
        for measure, name in (("private", "text"), ("private_control", "control")):
            part = private["part"] == name
            if part.any():
                add(measure, private.loc[part, "exact"].astype(float).mean(), part.sum())
    except UsageError:  # of logits that are no numbers: it expects nothing
        return rows
    wrote = pd.DataFrame({"text": [text for text in one.written if text]})
    if len(wrote):
        add("longest_copy", match_writing(wrote, text)["longest"].max(), len(wrote))
    return rows


def by_training(measured: pd.DataFrame) -> pd.DataFrame:
    """One row for each training and measure, the mean over canaries: ``variant seed measure value
    n``."""
    grouped = measured.groupby(["variant", "seed", "measure"], sort=False)
    return grouped.agg(value=("value", "mean"), n=("n", "sum")).reset_index()


def compare_measures(trained: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Every measure of every variant beside the baseline's, by the one rule for seeds.

    Args:
        trained: what ``by_training`` gives.

    Returns:
        ``variant measure n mean sd delta ci_low ci_high p p_adjusted``; p-values are corrected for
        the variants of each measure (Holm).
    """
    found = []
    for measure in MEASURES:
        rows = trained[trained["measure"] == measure]
        whole = rows.loc[rows["variant"] == baseline, "value"]
        compared = []
        for variant, own in rows.groupby("variant", sort=False):
            row: dict[str, Any] = {
                "variant": variant,
                "measure": measure,
                "n": len(own),
                "mean": own["value"].mean(),
                "sd": spread_of(own["value"]),
                **compare_seeds(own["value"], whole),
            }
            if variant == baseline:
                row |= dict.fromkeys(("ci_low", "ci_high", "p"), float("nan"))
            compared.append(row)
        if compared:
            found.append(correct(pd.DataFrame(compared)))
    columns = ["variant", "measure", "n", "mean", "sd", "delta", "ci_low", "ci_high", "p"]
    if not found:
        return pd.DataFrame(columns=[*columns, "p_adjusted"])
    return pd.concat(found, ignore_index=True)
