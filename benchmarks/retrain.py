"""How fast is a retraining sweep, against nanoGPT's recipe run one variant after another?

    python -m benchmarks.retrain [--sizes laptop course]
    python -m benchmarks.retrain --sizes course --device cuda --workers 1 2 4 [--compile]

Aggregate tokens per second, all in one run and by turns: the plain recipe with all threads, one
training at a time; our workers, one process and one thread for each core, one training each. On a
GPU the plain recipe is compiled, as nanoGPT's is, and any number of workers share it. First what
ten tasks cost that do nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.devices import name_of, parsed, wait_for_gpu
from benchmarks.plain import PlainGPT, plain_trainer
from benchmarks.timing import interleaved, ratio
from benchmarks.train import our_step
from experiments.support.trainings.executors import Processes, settle
from experiments.support.trainings.tasks import resize_preset
from gpt import GPT
from gpt.speed import compile_model, repeatable, resolve_precision
from gpt.text import CharTokenizer, load_corpus
from gpt.train import PRESETS, Preset


@dataclass(frozen=True)
class Setting:
    """What is trained, and where."""

    size: str
    vocab_size: int
    device: str
    compile: bool

    @property
    def preset(self) -> Preset:
        return resize_preset(PRESETS[self.size], self.vocab_size, None)


def training(setting: Setting, tokens: torch.Tensor, pipe: Any) -> None:
    """A worker: as many steps of our training as are asked for, again and again."""
    settle()
    preset, device = setting.preset, torch.device(setting.device)
    model = GPT(preset.model).to(device).train()
    recipe = replace(
        preset.train,
        precision=resolve_precision(preset.train.precision, preset.model.n_embd, setting.device),
        compile=setting.compile,
    )
    with repeatable(device):
        run = compile_model(model) if setting.compile else None
        step = our_step(model, recipe, tokens.to(device), run)
        while steps := pipe.recv():
            for _ in range(steps):
                step()
            wait_for_gpu()
            pipe.send("done")


def measure(
    setting: Setting, tokens: torch.Tensor, rounds: int, steps: int, workers: list[int]
) -> None:
    preset, config = setting.preset, setting.preset.model
    context = get_context("fork" if setting.device == "cpu" else "spawn")
    pipes = []
    for _ in range(max(workers)):
        ours, theirs = context.Pipe()
        context.Process(target=training, args=(setting, tokens, theirs), daemon=True).start()
        theirs.close()
        pipes.append(ours)

    def side_by_side(count: int) -> None:
        for pipe in pipes[:count]:
            pipe.send(steps)
        for pipe in pipes[:count]:
            pipe.recv()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.bin"
        tokens.to(torch.uint16).numpy().tofile(path)
        plain = PlainGPT(config).to(setting.device).train()
        step = plain_trainer(plain, preset.train, config.block_size, path)

        def one_after_another() -> None:
            for _ in range(steps):
                step()

        candidates: dict[str, Callable[[], object]] = {"one after another": one_after_another}
        for count in workers:
            candidates[f"side by side, {count}"] = partial(side_by_side, count)
        seconds = interleaved(candidates, rounds, warmup=1)
    for pipe in pipes:
        pipe.send(0)
    # the same work: as many steps of as many variants
    each = [1, *workers]
    seconds = {
        name: [second / count for second in times]
        for (name, times), count in zip(seconds.items(), each, strict=True)
    }
    tokens_each = steps * preset.train.batch_size * config.block_size
    for name, times in seconds.items():
        middle, low, high = ratio(seconds, "one after another", name)
        speed = tokens_each / sorted(times)[len(times) // 2]
        spread = f"{low:.2f} to {high:.2f}"
        print(f"{setting.size:<8}{name:<20}{speed:>12,.0f}{middle:>10.2f}{spread:>18}", flush=True)


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
    parser.add_argument("--workers", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--compile", action="store_true", help="compile ours, too")
    arguments = parsed(parser)
    workers, device = arguments.workers, arguments.device
    overhead(max(workers))  # first: no thread of torch's has run yet
    text = load_corpus("python-docs").text
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    print(f"{name_of(device)}; {torch.get_num_threads()} threads one after another")
    print(f"{'size':<8}{'':<20}{'tokens/s':>12}{'ratio':>10}{'middle half':>18}")
    for size in arguments.sizes:
        rounds = arguments.rounds or {"laptop": 10, "course": 3}[size]
        steps = {"laptop": 10, "course": 1}[size] if device == "cpu" else 40
        setting = Setting(size, tokenizer.vocab_size, device, arguments.compile)
        measure(setting, tokens, rounds, steps, workers)


if __name__ == "__main__":
    main()
