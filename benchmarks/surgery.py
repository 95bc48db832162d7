"""What does surgery cost beside what it looks at?

    python -m benchmarks.surgery

Enumerating every cut of a model file, by its syntax alone and with what a run has seen of it; and a
cut on a trained model, beyond the evaluation that it is for, against that evaluation.
"""

import time
from collections.abc import Callable

import torch

import gpt.model
from gpt import GPT
from gpt.train import PRESETS
from interp import surgery
from interp.surgery.cutting import performing
from interp.surgery.judging import Call
from interp.surgery.judging.axes import find_axes
from interp.surgery.operators import finding, propose
from interp.surgery.running.observing import Observations, observing
from interp.surgery.source import syntax


def milliseconds(run: Callable[[], object], rounds: int = 20) -> float:
    """The median of ``rounds``."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> None:
    torch.set_num_threads(1)
    source = surgery.read_source(gpt.model)
    lines = source.text.count("\n")

    def from_syntax() -> object:
        syntax.parse.cache_clear()
        finding.enumerate_surgeries.cache_clear()
        return surgery.enumerate_surgeries(source)

    ours = milliseconds(from_syntax)
    count = len(surgery.enumerate_surgeries(source))
    print(f"{source.file}, {lines} lines")
    print(f"enumerate by syntax        {ours:8.1f} ms   {count} surgeries (must be below 100)")
    preset = PRESETS["laptop"]
    model = GPT(preset.model).eval()
    tokens = torch.randint(preset.model.vocab_size, (12, preset.model.block_size))
    noted = Observations(source)
    with observing(noted, "judge"):
        logits = model(tokens)
    noted.axes = find_axes(source, model, Call((tokens,), {}, logits))
    tree = syntax.parse(source)
    typed = finding.surgeries_of(source, propose(tree, noted))
    took = milliseconds(lambda: finding.surgeries_of(source, propose(tree, noted)), rounds=5)
    print(f"enumerate what ran         {took:8.1f} ms   {len(typed)} surgeries")

    cut = surgery.find(source, "bypass-call", qualname="MLP.forward", target="gelu")
    everywhere, alone = cut, surgery.at_layers(cut, [2])
    for name, made in (("all layers", everywhere), ("one layer", alone)):

        def operate(made: surgery.Surgery = made) -> None:
            with performing.perform(made, model):
                pass

        print(f"make and undo, {name:<11} {milliseconds(operate, 50):8.2f} ms   (must be below 5)")
    evaluation = milliseconds(lambda: model(tokens))
    print(f"an evaluation              {evaluation:8.2f} ms   (laptop size, 12 texts)")


if __name__ == "__main__":
    main()
