"""Which texts ask for a circuit, of which model?

task = from_templates(config)       # capitals, ioi: pairs that align in the model's tokens
task = brackets(config)             # a small model that is trained for a moment
find, judge = in_halves(task)       # what is found on some pairs is judged on others
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.support.circuits.templates import TEMPLATES, choose_aligned
from experiments.support.cli import run_name
from experiments.support.devices import device_named
from experiments.support.named.checkpoints import opened
from experiments.support.named.coding import TextTokens
from experiments.support.named.found import Size
from experiments.support.named.kinds import Kind, kind_of
from experiments.support.pairs import PairTask, check_pairs, task_of_pairs
from experiments.support.trained import StudyOptions, find_subject
from experiments.support.trainings.brackets import (
    BracketRecipe,
    brackets_model,
    swapped_brackets,
)
from gpt.errors import UsageError
from gpt.text import CharTokenizer
from interp.metrics import Metric, logit_difference
from interp.runs import identity_of

OF_TEMPLATES = 32  # pairs
OF_BRACKETS = 64
FIND, JUDGE, BOTH = "to find with", "to judge by", "to find with and judge by"
LEAST = 6
"""Pairs, from which half are kept to judge by."""


def answer_lead(task: PairTask) -> Metric:
    """The logit of the answer less that of the wrong one, at the last position."""
    return logit_difference(task.answer, task.wrong)


def uses(count: int) -> list[str]:
    """What each of so many pairs is for: every other one to find with, the rest to judge by; few
    are for both."""
    if count < LEAST:
        return [BOTH] * count
    return [FIND if number % 2 == 0 else JUDGE for number in range(count)]


def in_halves(task: PairTask) -> tuple[PairTask, PairTask]:
    """The pairs to find with, and those to judge by."""
    used = uses(len(task.clean))
    halves = ([n for n, use in enumerate(used) if use in (one, BOTH)] for one in (FIND, JUDGE))
    find, judge = (take_pairs(task, rows) for rows in halves)
    return find, judge


def take_pairs(task: PairTask, rows: Sequence[int]) -> PairTask:
    """Some pairs of a task."""
    at = torch.tensor([*rows], device=task.clean.device)
    parts = {name: getattr(task, name)[at] for name in ("clean", "corrupted", "answer", "wrong")}
    return replace(task, **parts)


@torch.no_grad()
def metric_after(task: PairTask) -> tuple[Tensor, Tensor]:
    """The metric of each pair after its clean text, and after the corrupted one."""
    metric = answer_lead(task)
    clean, corrupted = (
        metric(task.model(tokens), task.clean).double().cpu()
        for tokens in (task.clean, task.corrupted)
    )
    return clean, corrupted


def require_difference(task: PairTask, replaced_by: str) -> None:
    """Raises ``UsageError`` where the texts of the pairs make no difference to the model, or there
    are too few to draw another."""
    for half in in_halves(task):
        clean, corrupted = (float(values.mean()) for values in metric_after(half))
        if abs(clean - corrupted) <= 1e-6 * max(abs(clean), abs(corrupted)):
            raise UsageError(
                f"the answer is {clean:.6g} nats above the wrong one after the clean and after the "
                "corrupted texts: there is no difference that a circuit could carry; give other "
                "answers or pairs"
            )
        if replaced_by == "resample" and len(half.clean) < 2:
            raise UsageError(
                "--replaced-by is resample, and there is one pair: no other text can be drawn; "
                "take corrupted or mean, or give more pairs"
            )


def from_templates(name: str, config: StudyOptions) -> PairTask:
    """Pairs that templates make and that align in the model's tokens, of which it answers both.

    Raises:
        UsageError: as ``find_subject``; too few pairs align, or are answered.
    """
    made = TEMPLATES[name](config.seed)
    count = config.examples or OF_TEMPLATES

    def check(size: Size, tokenizer: TextTokens) -> None:
        held = min(size.context, config.context or size.context)
        check_pairs(
            choose_aligned(made, tokenizer, count).pairs, replace(size, context=held), tokenizer
        )

    subject = find_subject(replace(config, model=config.model or "smollm2", examples=None), check)
    chosen = choose_aligned(made, subject.tokenizer, count)
    task = task_of_pairs(subject, chosen.pairs, name)
    rows = answered(task)
    if len(rows) < 2:
        raise UsageError(
            f"this model answers {len(rows)} of {len(chosen.pairs)} pairs of the task {name}: "
            "there is no circuit for what it does not do; name another model"
        )
    task = take_pairs(task, rows)
    told = f"{chosen.told} The model answers both texts of {len(rows)} of these, which are studied."
    pairs = identity_of(pairs=[task.config["pairs"][row] for row in rows])[:16]
    asked = {"task": name, "seed": config.seed, "chosen": told, "pairs": pairs}
    return replace(task, config=task.config | asked)


def answered(task: PairTask) -> list[int]:
    """The pairs of which the model prefers the right token after either text."""
    clean, corrupted = metric_after(task)
    return [int(row) for row in ((clean > 0) & (corrupted < 0)).nonzero()]


def brackets(config: Any) -> PairTask:
    """Strings at whose end a bracket is to be closed, and a model that was trained on such, or the
    checkpoint."""
    device, recipe = device_named(config.device), BracketRecipe()
    block, label = recipe.block_size, "brackets"
    if config.model:
        if kind_of(config.model) is not Kind.CHECKPOINT:
            raise UsageError(
                "the task brackets is for models of characters, FILE.safetensors: give this one "
                "pairs of its own by --pairs"
            )
        model, tokenizer, about = opened(Path(config.model))
        block, label = model.config.block_size, run_name(label, Path(config.model).stem)
    if config.length > block:
        raise UsageError(f"--length is {config.length}, and this model's block holds {block}")
    count = config.examples or OF_BRACKETS
    found = swapped_brackets(recipe, config.length, count, config.seed)
    if not config.model:
        model, tokenizer, about = brackets_model(recipe, config.seed, config.runs, device)
    own = CharTokenizer(recipe.letters)
    clean, corrupted = (
        torch.stack([tokenizer.encode(own.decode(row)) for row in part]).to(device)
        for part in found[:2]
    )
    answer, wrong = (tokenizer.encode(own.decode(part)).to(device) for part in found[2:])
    if config.dtype != "auto":
        model = model.to(getattr(torch, config.dtype))
    asked = {
        "task": "brackets",
        "dtype": config.dtype,
        "model": about,
        "length": config.length,
        "examples": count,
        "seed": config.seed,
    }
    return PairTask(model.to(device), tokenizer, clean, corrupted, answer, wrong, asked, label)
