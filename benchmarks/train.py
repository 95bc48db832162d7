"""How fast does the model train, against nanoGPT's own recipe written plainly in torch?

    python -m benchmarks.train [--sizes laptop course]

Tokens per second of one step (batch, forward, backward, clip, update), all in one run and in turn:
the plain recipe; ours in float32 and bfloat16; ours compiled. Then our step at other batch sizes.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.plain import PlainGPT, plain_trainer
from benchmarks.timing import interleaved, ratio
from gpt import GPT, GPTConfig
from gpt.speed import autocast_to, compile_model, masks_for
from gpt.text import CharTokenizer, batch, load_corpus
from gpt.train import PRESETS, TrainConfig, descend, make_optimizer, update


def our_step(
    model: GPT, config: TrainConfig, tokens: torch.Tensor, run: Callable | None = None
) -> Callable[[], None]:
    """One step as ``gpt.train.train`` makes it."""
    optimizer = make_optimizer(model, config)
    precision = "float32" if config.precision == "auto" else config.precision
    autocast = autocast_to(precision, tokens.device)
    masks = masks_for(model, compile=run is not None)
    run = model if run is None else run
    count = iter(range(10**9))

    def step() -> None:
        x, y = batch(
            tokens,
            batch_size=config.batch_size,
            block_size=model.config.block_size,
            seed=0,
            step=next(count),
        )
        descend(run, x, y, autocast, masks)
        update(model, optimizer, config)

    return step


def measure(size: str, tokens: torch.Tensor, vocab_size: int, rounds: int) -> None:
    preset = PRESETS[size]
    model: GPTConfig = replace(preset.model, vocab_size=vocab_size)
    train = preset.train
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.bin"
        tokens.to(torch.uint16).numpy().tofile(path)
        plain = PlainGPT(model)
        hooked = GPT(model)
        candidates = {
            "nanoGPT's recipe": plain_trainer(plain, train, model.block_size, path),
            "ours, float32": our_step(GPT(model), train, tokens),
            "ours, bfloat16": our_step(GPT(model), replace(train, precision="bfloat16"), tokens),
            "ours, compiled": our_step(hooked, train, tokens, compile_model(hooked)),
        }
        seconds = interleaved(candidates, rounds)
    per_step = train.batch_size * model.block_size
    report(size, seconds, per_step, "nanoGPT's recipe")
    batches = {
        f"batch {n}": our_step(GPT(model), replace(train, batch_size=n), tokens)
        for n in (train.batch_size // 2, train.batch_size, train.batch_size * 2)
    }
    seconds = interleaved(batches, max(rounds // 2, 3))
    for name, times in seconds.items():
        tokens_each = int(name.split()[1]) * model.block_size
        print(f"{size:<8}{name:<20}{tokens_each / sorted(times)[len(times) // 2]:>12,.0f}")


def report(size: str, seconds: dict[str, list[float]], tokens: int, reference: str) -> None:
    for name, times in seconds.items():
        middle, low, high = ratio(seconds, reference, name)
        speed = tokens / sorted(times)[len(times) // 2]
        spread = f"{low:.2f} to {high:.2f}"
        print(f"{size:<8}{name:<20}{speed:>12,.0f}{middle:>10.2f}{spread:>18}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["laptop", "course"])
    parser.add_argument("--rounds", type=int, default=0, help="by default 40 laptop, 5 course")
    arguments = parser.parse_args()
    text = load_corpus("python-docs").text
    tokenizer = CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    print(f"{torch.get_num_threads()} threads")
    print(f"{'size':<8}{'':<20}{'tokens/s':>12}{'ratio':>10}{'middle half':>18}")
    for size in arguments.sizes:
        rounds = arguments.rounds or {"laptop": 40, "course": 5}[size]
        measure(size, tokens, tokenizer.vocab_size, rounds)


if __name__ == "__main__":
    main()
