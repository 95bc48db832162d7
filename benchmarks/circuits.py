"""How fast are exact edges and circuits, against one forward pass each?

    python -m benchmarks.circuits [--rounds 3] [--sample 12] [--threads 2] [--whole]

One process, the same random weights, all candidates in turn within a round. The loops run a random
sample of the questions and are compared by time per question: TransformerLens' own direct path
patching on its bridge (edges from head to head, which are all it has), and a plain forward pass of
our model per edge, with hooks that hand one reader another stream. Before anything is timed the
same questions are asked in double precision, and the benchmark stops where answers differ by more
than 1e-5 of the spread of the effects. ``--whole`` times all edges and the larger tree too.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens.patching import get_act_patch_direct_path
from transformers import GPT2Config

from benchmarks.peers import METRIC, bridge_over
from benchmarks.timing import interleaved, ratio
from gpt import GPT, GPTConfig
from gpt.foreign import from_huggingface
from interp.circuits.edges import measure_edges
from interp.circuits.exhaustive.tree import every_circuit
from interp.circuits.graph import Edge
from interp.circuits.pairs import RunPair, take_pair
from interp.hooking import evaluating

SIZE = GPT2Config(n_layer=6, n_head=6, n_embd=384, vocab_size=65, n_positions=256)
TEXTS = (8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    parser.add_argument("--sample", type=int, default=12, help="questions that the loops run")
    parser.add_argument("--edges", type=int, default=240, help="that are run together")
    parser.add_argument("--threads", type=int, default=0, help="by default torch's own choice")
    parser.add_argument("--whole", action="store_true", help="all edges, and the larger tree")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    clean, corrupted = texts(SIZE.vocab_size)
    ours, bridge = both_models(torch.float64)
    with evaluating(ours):
        exact = take_pair(ours, clean, corrupted, "clean into corrupted")
        check_answers(exact, their_edges(bridge, clean, corrupted), arguments.sample)
    ours, bridge = both_models(torch.float32)
    with evaluating(ours):
        pair = take_pair(ours, clean, corrupted, "clean into corrupted")
        time_edges(pair, their_edges(bridge, clean, corrupted), arguments)
        time_direct(pair, arguments)
        if arguments.whole:
            started = time.perf_counter()
            measure_edges(pair, pair.graph.edges, METRIC)
            print(f"all {len(pair.graph.edges)} open edges: {time.perf_counter() - started:.1f} s")
    for layers in (2, 4) if arguments.whole else (2,):
        time_tree(layers, arguments)


def both_models(dtype: torch.dtype) -> tuple[GPT, Any]:
    """Ours, and TransformerLens' bridge over the same weights."""
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(SIZE).eval()
    with torch.no_grad():
        for weight in theirs.parameters():  # large enough for every part to matter
            weight += 0.02 * torch.randn(weight.shape)
    return from_huggingface(theirs).to(dtype).eval(), bridge_over(theirs.to(dtype))


def texts(vocab: int) -> tuple[Tensor, Tensor]:
    """Clean and corrupted texts that differ from the first token on."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(vocab, TEXTS, generator=generator)
    return clean, torch.randint(vocab, TEXTS, generator=generator)


def their_edges(bridge: Any, clean: Tensor, corrupted: Tensor) -> Callable[[], np.ndarray]:
    """TransformerLens' edges from a head of the last layer but one: as many as there are heads."""
    caches = [bridge.run_with_cache(tokens)[1] for tokens in (clean, corrupted)]

    def theirs() -> np.ndarray:
        with torch.no_grad():
            found = get_act_patch_direct_path(
                *(bridge, corrupted, *caches, lambda logits: METRIC(logits, clean).mean()),
                *(SIZE.n_layer - 2, 0),
                component="v",
                verbose=False,
            )
        return found[-1].double().numpy()

    return theirs


def check_answers(pair: RunPair, theirs: Callable[[], np.ndarray], count: int) -> None:
    """Stops where ours are not TransformerLens', nor those of a pass each."""
    last = SIZE.n_layer - 1
    named = [f"a{last - 1}.h0 -> a{last}.h{head}.v" for head in range(SIZE.n_head)]
    shared = [pair.graph.edge(name) for name in named]
    compare("TransformerLens", measure_edges(pair, shared, METRIC).values.mean(axis=1), theirs())
    sample = random.Random(2).sample(pair.graph.edges, count)
    compare("the loop", measure_edges(pair, sample, METRIC).values, loop(pair, sample))


def time_edges(pair: RunPair, theirs: Callable[[], np.ndarray], arguments: Any) -> None:
    """Open edges, all kinds; beside them one pass each, and TransformerLens' on those it has."""
    edges = list(pair.graph.edges)
    random.Random(0).shuffle(edges)
    some = edges[: arguments.edges]
    sample = some[: arguments.sample]
    between = [e for e in edges if e.writer.kind == "head" and e.reader.kind in ("q", "k", "v")]
    seconds = interleaved(
        {
            "ours": partial(measure_edges, pair, some, METRIC),
            "ours, head to head": partial(measure_edges, pair, between[: len(some)], METRIC),
            "loop": partial(loop, pair, sample),
            "TransformerLens": theirs,
        },
        arguments.rounds,
        warmup=1,
    )
    counts = {"ours": len(some), "loop": len(sample), "TransformerLens": SIZE.n_head}
    counts["ours, head to head"] = len(some)
    tell("an open edge", seconds, counts, "loop", "ours")
    tell("from head to head", seconds, counts, "TransformerLens", "ours, head to head")


def time_direct(pair: RunPair, arguments: Any) -> None:
    """Direct effects of all pairs, beside a pass for each of some."""
    edges = pair.graph.edges
    sample = random.Random(1).sample(edges, arguments.sample)
    seconds = interleaved(
        {
            "ours": partial(measure_edges, pair, edges, METRIC, "direct"),
            "loop": partial(loop, pair, sample),
        },
        arguments.rounds,
        warmup=1,
    )
    counts = {"ours": len(edges), "loop": len(sample)}
    tell("a direct edge", seconds, counts, "loop", "ours")


def time_tree(layers: int, arguments: Any) -> None:
    """Every circuit of heads and MLPs, beside a pass for each of some."""
    config = GPTConfig(block_size=64, vocab_size=65, n_layer=layers, n_head=4, n_embd=128)
    model = GPT(config).eval()
    clean, corrupted = texts(config.vocab_size)

    def passes() -> None:
        with torch.no_grad():
            for _ in range(arguments.sample):
                model(clean)

    candidates: dict[str, Callable[[], object]] = {
        "ours": partial(every_circuit, model, clean, corrupted, METRIC),
        "loop": passes,
    }
    seconds = interleaved(candidates, arguments.rounds if layers == 2 else 2, warmup=layers == 2)
    counts = {"ours": 2 ** (5 * layers), "loop": arguments.sample}
    tell(f"a circuit of {layers} x 4 heads", seconds, counts, "loop", "ours")


def loop(pair: RunPair, edges: Sequence[Edge]) -> np.ndarray:
    """A forward pass for each edge, in which one reader is handed another stream."""
    model, values = pair.model, []
    assert isinstance(model, GPT)
    for edge in edges:
        delta, reader = pair.deltas[edge.writer], edge.reader
        with torch.no_grad():
            handles = hook_reader(model, reader.kind, reader.layer, reader.head, delta)
            values.append(METRIC(model(pair.tokens), pair.metric_tokens))
            for handle in handles:
                handle.remove()
    return torch.stack(values).double().numpy()


def hook_reader(
    model: GPT, kind: str, layer: int | None, head: int | None, delta: Tensor
) -> list[Any]:
    """Hooks of torch by which one reader sees the stream with something added."""

    def add(module: Any, args: Any) -> Any:
        return (args[0] + delta,)

    if layer is None:
        return [model.ln_final.register_forward_pre_hook(add)]
    block: Any = model.blocks[layer]
    if kind == "mlp":
        return [block.ln2.register_forward_pre_hook(add)]
    held: list[Tensor] = []
    projection = {"q": block.attn.query, "k": block.attn.key, "v": block.attn.value}[kind]
    assert head is not None
    part = slice(head * block.attn.d_head, (head + 1) * block.attn.d_head)

    def normalize(module: Any, args: Any, output: Tensor) -> None:
        held.append(type(module).forward(module, args[0] + delta))

    def project(module: Any, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        bias = None if module.bias is None else module.bias[part]
        output[..., part] = torch.nn.functional.linear(held[0], module.weight[part], bias)
        return output

    return [
        block.ln1.register_forward_hook(normalize),
        projection.register_forward_hook(project),
    ]


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Stops where answers are not the same."""
    spread = ours.std()
    error = np.abs(ours - theirs).max() / spread
    if not error <= 1e-5:
        sys.exit(f"{name} differs by {error:.1e} of the spread")
    print(f"as {name}, but for {error:.1e} of the spread")


def tell(
    what: str, seconds: dict[str, list[float]], counts: dict[str, int], slow: str, fast: str
) -> None:
    """A line: what one question costs, and how many times that the loop's costs."""
    each = {name: [second / counts[name] for second in seconds[name]] for name in (slow, fast)}
    middle, low, high = ratio(each, slow, fast)
    mine = statistics.median(each[fast])
    print(
        f"{what}: {1000 * mine:.3g} ms ({counts[fast]} in {counts[fast] * mine:.2f} s); {slow} "
        f"takes {middle:.1f} times as long ({low:.1f} to {high:.1f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
