"""How do many trainings run side by side, and lose nothing?

A task is one variant with one seed. Each runs in a worker process of its own with one thread, which
on small models beats one process with all threads, and makes the numbers independent of how many
workers there are. A finished task is recorded at once; one that was interrupted goes on from its
last state.
"""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import gpt.model
from experiments.cli import console
from gpt import checkpoint
from gpt import train as training
from gpt.model import GPTConfig
from gpt.text import CharTokenizer, Data
from gpt.train import TrainConfig
from interp.runs import Run, identity_of
from interp.surgery import Surgery, edited_module, read_source

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """One variant to train with one seed."""

    variant: str
    surgery: Surgery | None
    seed: int
    model: GPTConfig
    train: TrainConfig
    text: str
    state: Path
    weights: Path | None

    @property
    def identity(self) -> str:
        """What decides the result: source with surgery, recipe, text and seed."""
        source = self.surgery.text if self.surgery else read_source(gpt.model).text
        return identity_of(
            source=source,
            model=asdict(self.model),
            train=asdict(self.train),
            text=self.text,
            seed=self.seed,
        )


def run_all(
    run: Run, tasks: Sequence[Task], data: Data, tokenizer: CharTokenizer, workers: int
) -> Rows:
    """Train every task that ``run`` does not hold yet; the rows of all, in the order of tasks.

    Raises:
        UsageError: a training's state is damaged, or the disk is full.
        KeyboardInterrupt: on Ctrl-C, once every worker has saved its training's state.
    """
    left = [task for task in tasks if run.task(task.identity) is None]
    if left:
        train_side_by_side(run, left, data, tokenizer, min(workers, len(left)))
    return [row for task in tasks for row in run.task(task.identity) or []]


def train_side_by_side(
    run: Run, tasks: Sequence[Task], data: Data, tokenizer: CharTokenizer, workers: int
) -> None:
    context = multiprocessing.get_context("spawn")
    news: Queue[tuple[str, int, float]] = context.Queue()
    pool = ProcessPoolExecutor(workers, context, prepare, (news, data, tokenizer))
    names = {task.identity: f"{task.variant} seed {task.seed}" for task in tasks}
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        steps = sum(task.train.steps for task in tasks)
        total = progress.add_task(f"{len(tasks)} trainings", total=steps, loss="")
        bars = {
            key: progress.add_task(name, total=tasks[0].train.steps, visible=False, loss="")
            for key, name in names.items()
        }
        try:
            with ignoring_interrupts():  # workers inherit it; a training listens between its steps
                pending = {pool.submit(perform, task): task for task in tasks}
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                while not news.empty():
                    identity, step, loss = news.get()
                    progress.update(
                        bars[identity], completed=step, visible=True, loss=f"loss {loss:.3f}"
                    )
                    at = sum(progress.tasks[bar].completed for bar in bars.values())
                    progress.update(total, completed=at)
                for future in done:
                    task = pending.pop(future)
                    run.record(task.identity, future.result())
                    progress.update(bars[task.identity], visible=False, completed=task.train.steps)
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


_shared: dict[str, Any] = {}


def prepare(news: "Queue[tuple[str, int, float]]", data: Data, tokenizer: CharTokenizer) -> None:
    """Make a worker process ready: what all its tasks share arrives once."""
    torch.set_num_threads(1)
    _shared.update(news=news, data=data, tokenizer=tokenizer)


def perform(task: Task) -> Rows:
    """Train one task in this worker process; one row for each evaluation and split."""
    module = edited_module(read_source(gpt.model), task.surgery)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = module.GPT(module.GPTConfig(**asdict(task.model)), seed=task.seed).to(device)

    def tell(progress: training.Progress) -> None:
        if progress.step % 10 == 0 or progress.step == progress.steps:
            _shared["news"].put((task.identity, progress.step, progress.loss))

    trained = training.train(
        model, _shared["data"], task.train, seed=task.seed, state=task.state, report=tell
    )
    if task.weights is not None:
        identity = checkpoint.Identity.of(
            model,
            text=task.text,
            seed=task.seed,
            surgery=task.surgery.id if task.surgery else "",
        )
        checkpoint.save(task.weights, model, identity, _shared["tokenizer"])
    return [
        {
            "variant": task.variant,
            "seed": task.seed,
            "step": evaluation.step,
            "split": split,
            "loss": getattr(evaluation, f"{split}_loss"),
            "precision": trained.precision,
        }
        for evaluation in trained.curve
        for split in ("train", "val")
    ]
