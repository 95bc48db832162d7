"""How fast is a retraining sweep, against nanoGPT's recipe run one variant after another?

    python -m benchmarks.retrain [--sizes laptop course]

Aggregate tokens per second, both in one run and by turns: the plain recipe with all threads, one
training at a time; our workers, one process and one thread for each core, one training each. Then
what ten tasks cost that do nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.plain import PlainGPT, plain_trainer
from benchmarks.timing import interleaved, ratio
from benchmarks.train import our_step
from experiments.executors import Processes, settle
from gpt import GPT
from gpt.text import CharTokenizer, load_corpus
from gpt.train import PRESETS, resolve_precision


def training(tokens: torch.Tensor, size: str, vocab_size: int, pipe: Any) -> None:
    """A worker: as many steps of our training as are asked for, again and again."""
    settle()
    preset = PRESETS[size]
    model = GPT(replace(preset.model, vocab_size=vocab_size)).train()
    recipe = replace(preset.train, precision=resolve_precision(preset.train, model))
    step = our_step(model, recipe, tokens)
    while steps := pipe.recv():
        for _ in range(steps):
            step()
        pipe.send("done")


def measure(
    size: str, tokens: torch.Tensor, vocab_size: int, rounds: int, steps: int, workers: int
) -> None:
    preset = PRESETS[size]
    config = replace(preset.model, vocab_size=vocab_size)
    context = get_context("fork")
    pipes = []
    for _ in range(workers):
        ours, theirs = context.Pipe()
        context.Process(
            target=training, args=(tokens, size, vocab_size, theirs), daemon=True
        ).start()
        pipes.append(ours)

    def side_by_side() -> None:
        for pipe in pipes:
            pipe.send(steps)
        for pipe in pipes:
            pipe.recv()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.bin"
        tokens.to(torch.uint16).numpy().tofile(path)
        step = plain_trainer(PlainGPT(config).train(), preset.train, config.block_size, path)

        def one_after_another() -> None:  # the same work: as many steps of as many variants
            for _ in range(steps * workers):
                step()

        candidates: dict[str, Callable[[], object]] = {
            "one after another": one_after_another,
            "side by side": side_by_side,
        }
        seconds = interleaved(candidates, rounds, warmup=1)
    for pipe in pipes:
        pipe.send(0)
    count = steps * workers * preset.train.batch_size * config.block_size
    for name, times in seconds.items():
        middle, low, high = ratio(seconds, "one after another", name)
        speed = count / sorted(times)[len(times) // 2]
        print(f"{size:<8}{name:<20}{speed:>12,.0f}{middle:>10.2f}{f'{low:.2f} to {high:.2f}':>18}")


def nothing(shared: Any, task: int, tell: Callable[[Any], None]) -> int:
    return task


def overhead(workers: int) -> None:
    started = time.perf_counter()
    done: list[int] = []
    executor = Processes(workers)
    executor.run(nothing, None, range(10), lambda *_: None, lambda _, n: done.append(n))
    assert sorted(done) == list(range(10))
    print(f"ten tasks that do nothing, {workers} workers: {time.perf_counter() - started:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["laptop", "course"])
    parser.add_argument("--rounds", type=int, default=0, help="by default 10 laptop, 3 course")
    parser.add_argument("--workers", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    overhead(arguments.workers)  # first: no thread of torch's has run yet
    text = load_corpus("python-docs").text
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    print(f"{arguments.workers} workers; {torch.get_num_threads()} threads one after another")
    print(f"{'size':<8}{'':<20}{'tokens/s':>12}{'ratio':>10}{'middle half':>18}")
    for size in arguments.sizes:
        rounds = arguments.rounds or {"laptop": 10, "course": 3}[size]
        steps = {"laptop": 10, "course": 1}[size]
        measure(size, tokens, tokenizer.vocab_size, rounds, steps, arguments.workers)


if __name__ == "__main__":
    main()
