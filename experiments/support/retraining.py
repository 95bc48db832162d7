"""How do many trainings run side by side, and lose nothing?

A task is one variant with one seed on one text; tasks are independent, and run wherever an executor
takes them. A finished task is recorded at once; one that was interrupted goes on from its last
state; one that another run under the same folder has finished already is taken from there.

    rows = run_all(run, tasks, {corpus.sha256: (data, tokenizer)}, Processes(4))
"""

import hashlib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gpt.model
from experiments.support.devices import device_named
from experiments.support.sampling import SHORT, short_writer, write_samples
from experiments.support.trainings.board import Board
from experiments.support.trainings.executors import Executor, Tell
from experiments.support.trainings.tasks import Task
from gpt import checkpoint
from gpt import train as training
from gpt.errors import DivergedError, UsageError
from gpt.text import CharTokenizer, Data, evaluation_blocks
from interp.runs import Run, identity_of, recorded_elsewhere, write_atomically
from interp.runs.files import note
from interp.status import Status
from interp.surgery import Surgery, edited_module, read_source
from interp.surgery.cutting.modules import edited_name
from interp.surgery.guarding.outcomes import is_the_machines, one_sentence
from interp.surgery.judging import calls_of, sees_the_future

Rows = list[dict[str, Any]]
WRITTEN = "sample"
"""The split under which a training's record keeps what the finished model wrote."""
Texts = Mapping[str, tuple[Data, CharTokenizer]]
"""The texts that tasks name, by their sha256, in tokens."""


def run_all(run: Run, tasks: Sequence[Task], texts: Texts, executor: Executor) -> Rows:
    """Train every task that ``run`` does not hold yet; the rows of all, in the order of tasks.

    Each row is one evaluation on one split, that on ``val`` with what the model then wrote
    (``sample``), and says under ``status`` what became of the variant:
    ``changed`` (it trained), ``leak`` (trained, its earlier logits depend on later tokens),
    ``nonfinite`` or ``error``; see ``train_task``.

    Args:
        texts: holds the text of every task; tasks of several texts run side by side.

    Raises:
        UsageError: a task's text is not there, a training's state is damaged, the disk is full, a
            task's worker keeps dying.
        KeyboardInterrupt: on Ctrl-C, once every worker has saved its training's state.
    """
    if unknown := [task for task in tasks if task.text not in texts]:
        raise UsageError(
            f"{unknown[0].name} is to be trained on a text that is not given: sha256 "
            f"{unknown[0].text[:12]}"
        )
    forget_lost(run, tasks)
    borrow(run, tasks)
    left = {task.identity: task for task in tasks if run.task(task.identity) is None}
    if left:
        train_side_by_side(run, tasks, list(left.values()), texts, executor)
    return [
        {
            "status": Status.UNCHECKED,
            "detail": "",
            **row,
            "variant": task.variant,
            "seed": task.seed,
        }
        for task in tasks
        for row in run.task(task.identity) or []
        if row["split"] != WRITTEN
    ]


def samples_of(run: Run, tasks: Sequence[Task]) -> pd.DataFrame:
    """What the finished models of all tasks wrote: ``variant training seed prompt text detail``, a
    row for each prompt; none of a variant that cannot be trained. A training's seed is that of its
    random numbers too."""
    rows = [
        {"variant": task.variant, "training": task.seed, "seed": task.seed}
        | {name: row[name] for name in ("prompt", "text", "detail")}
        for task in tasks
        for row in run.task(task.identity) or []
        if row["split"] == WRITTEN
    ]
    columns = ["variant", "training", "seed", "prompt", "text", "detail"]
    return pd.DataFrame(rows, columns=columns)


def forget_lost(run: Run, tasks: Sequence[Task]) -> None:
    """Let those be trained again whose weights are no longer what their training made."""
    for task in tasks:
        if task.weights is None or run.task(task.identity) is None:
            continue
        kept = run.task(weights_of(task)) or []
        if kept and kept[0]["sha256"] in ("", hash_file(task.weights)):
            continue
        note(
            f"{task.weights} is missing, or is not what the training of {task.name} made: it is "
            "trained again"
        )
        run.forget(task.identity)


def weights_of(task: Task) -> str:
    """Under what the checksum of a task's weights is recorded; it is empty where none came of it,
    as of a cut that cannot be trained."""
    return identity_of(weights_of=task.identity)


def hash_file(path: Path) -> str:
    """The hash of a file; empty where it is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def record(run: Run, task: Task, rows: Rows) -> None:
    """Keep what came of a training, and beforehand the checksum of its weights."""
    if task.weights is not None:
        made = all(row.get("status") != Status.ERROR for row in rows)
        kept = {"file": task.weights.name, "sha256": hash_file(task.weights) if made else ""}
        run.forget(weights_of(task))  # of a training that was lost
        run.record(weights_of(task), [kept])
    run.record(task.identity, rows)


def borrow(run: Run, tasks: Sequence[Task]) -> None:
    """Record what another run beside this one has finished, with the weights of that training."""
    root = run.folder.parents[1]
    for task in tasks:
        if run.task(task.identity) is not None:
            continue
        kept = dict(recorded_elsewhere(root, weights_of(task))) if task.weights else {}
        for folder, rows in recorded_elsewhere(root, task.identity):
            if task.weights is None or lend(kept.get(folder), folder, task.weights):
                record(run, task, rows)
                break


def lend(kept: Rows | None, folder: Path, target: Path) -> bool:
    """Put another run's weights at ``target``; False where they are not what its training made."""
    if not kept:
        return False
    weights = folder / "models" / kept[0]["file"]
    if not kept[0]["sha256"]:  # none came of it
        return True
    if hash_file(weights) != kept[0]["sha256"]:
        return False
    write_atomically(target, weights.read_bytes())
    return True


def train_side_by_side(
    run: Run, tasks: Sequence[Task], left: Sequence[Task], texts: Texts, executor: Executor
) -> None:
    board = Board([(task.name, task.stop_at or task.train.steps) for task in tasks])
    number = {task.identity: place for place, task in enumerate(tasks)}
    for task in tasks:
        rows = run.task(task.identity)
        if rows is not None:
            board.done(number[task.identity], final_loss(rows), now=False)

    def told(place: int, progress: tuple[int, float, float]) -> None:
        board.told(number[left[place].identity], *progress)
        board.save(run.folder)

    def done(place: int, rows: Rows) -> None:
        record(run, left[place], rows)
        board.done(number[left[place].identity], final_loss(rows))
        board.save(run.folder, at_once=True)

    with board.shown():
        executor.run(train_task, texts, left, told, done)


def final_loss(rows: Rows) -> float:
    return float([row["loss"] for row in rows if row["split"] == "val"][-1])


def train_task(texts: Texts, task: Task, tell: Tell) -> Rows:
    """Train one task; one row for each evaluation and split.

    What an edited source does wrong is a result of it, and a row: an error while it is built or
    trained, a loss that is no number. Whether the trained model sees the future is always tested.

    Raises:
        UsageError: the state is damaged or of another training, or the disk is full.
        KeyboardInterrupt: on Ctrl-C, once the state is saved.
    """
    data, tokenizer = texts[task.text]
    device = device_named("auto")

    def report(progress: training.Progress) -> None:
        if progress.step % 10 == 0 or progress.step in (task.stop_at, progress.steps):
            tell((progress.step, progress.loss, progress.tokens_per_second))

    try:
        module = edited_module(read_source(gpt.model), task.surgery)
        model = module.GPT(module.GPTConfig(**asdict(task.model)), seed=task.seed).to(device)
        try:
            trained = training.train(
                model,
                data,
                task.train,
                seed=task.seed,
                state=task.state,
                stop_at=task.stop_at,
                report=report,
                sample=short_writer(data, tokenizer, task.seed, task.model.block_size, task.train),
            )
        except DivergedError as error:
            trained = error.training
            trained.curve += not_reached(task, trained.curve)
        ahead = model_looks_ahead(model, data)
        written = write_samples(model, data, tokenizer, task.seed, task.model.block_size)
        if (last := trained.curve[-1]).step == task.train.steps and last.val_loss == last.val_loss:
            trained.curve[-1] = replace(last, sample=written[0]["text"][:SHORT])
    except Exception as error:
        if is_the_machines(error):
            raise UsageError(
                f"{task.name} cannot be trained, for the machine has no room left "
                f"({one_sentence(error)}): make room, give it fewer --workers or a smaller "
                "--preset, and start again; what was finished is kept"
            ) from error
        if task.surgery is None or not the_variants_own(error, task.surgery):
            raise
        row = {"step": 0, "split": "val", "loss": float("nan"), "precision": ""}
        return [{**row, "status": Status.ERROR, "detail": one_sentence(error)}]
    if task.weights is not None:
        keep_weights(task, model, tokenizer)
    finite = all(
        loss == loss and abs(loss) != float("inf")
        for evaluation in trained.curve
        for loss in (evaluation.train_loss, evaluation.val_loss)
    )
    status = Status.LEAK if ahead else Status.CHANGED
    evaluated = [
        {
            "step": evaluation.step,
            "split": split,
            "loss": getattr(evaluation, f"{split}_loss"),
            "sample": evaluation.sample if split == "val" else "",
            "precision": trained.precision,
            "status": status if finite else Status.NONFINITE,
            "detail": "earlier logits depend on later tokens" if ahead else "",
        }
        for evaluation in trained.curve
        for split in ("train", "val")
    ]
    return [*evaluated, *({"split": WRITTEN, **row} for row in written)]


def not_reached(task: Task, curve: Sequence[training.Evaluation]) -> list[training.Evaluation]:
    """The evaluations that a training which diverged did not come to, without a loss."""
    last, interval = task.stop_at or task.train.steps, task.train.eval_interval
    steps = [*range(0, last, interval), last][len(curve) :]
    return [training.Evaluation(step, float("nan"), float("nan")) for step in steps]


def the_variants_own(error: Exception, surgery: Surgery) -> bool:
    """Whether it is the edited code that is wrong, not the disk, the memory or the settings."""
    if isinstance(error, UsageError):
        frames = traceback.extract_tb(error.__traceback__)
        return any(frame.filename == edited_name(surgery) for frame in frames)
    # After an error on a GPU the process can compute nothing there any more.
    return not (isinstance(error, (OSError, torch.AcceleratorError)) or is_the_machines(error))


def model_looks_ahead(model: Any, data: Data) -> bool:
    """Whether a model's logits depend on tokens that come later."""
    device = next(model.parameters()).device
    tokens, _ = evaluation_blocks(data.val, model.config.block_size, 4)
    model.eval()
    with torch.no_grad(), calls_of(model) as calls:
        model(tokens.to(device))
    return sees_the_future(model, calls[0])


def keep_weights(task: Task, model: Any, tokenizer: CharTokenizer) -> None:
    assert task.weights is not None
    identity = checkpoint.Identity.of(
        model,
        text=task.text,
        seed=task.seed,
        surgery=task.surgery.id if task.surgery else "",
    )
    checkpoint.save(task.weights, model, identity, tokenizer)
