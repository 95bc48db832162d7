"""How fast are exact sweeps, against the tools that one would otherwise use?

    python -m benchmarks.sweeps [--sizes baby small] [--rounds 3] [--device cuda]

One process, the same random weights, all candidates in turn within a round: TransformerLens' own
``patching`` functions and attribution on its bridge, nnsight, plain torch hooks on the Hugging Face
model, a plain loop over our model, and ``interp.sweep``. On the larger size the loops run a random
sample of the cells and are compared by time per cell; ``interp.sweep`` always runs all of them.
Before anything is timed, the same questions are asked in double precision: answers must agree to
1e-5 of the spread of the effects, or the benchmark stops. ``apart`` is by how much of that spread
the timed ones, in single precision, differ from TransformerLens'.
"""

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformer_lens.tools.analysis import attribution_patching
from transformers import GPT2Config

from benchmarks.devices import name_of, parsed, wait_for_gpu
from benchmarks.memory import highest_memory
from benchmarks.peers import METRIC, Peers, Workload
from benchmarks.timing import interleaved, ratio
from interp.attribution import site_scores
from interp.caching import cache
from interp.metrics import loss
from interp.site import sites
from interp.sweep import plan


@dataclass(frozen=True)
class Size:
    """A model's size and the texts of each workload, as (batch, positions)."""

    config: GPT2Config
    ablation: tuple[int, int]
    patching: tuple[int, int]
    sample: int  # cells that a loop runs; 0 means all


def sized(layers: int, heads: int, width: int, vocab: int, context: int) -> GPT2Config:
    return GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, vocab_size=vocab, n_positions=context
    )


SIZES = {
    "baby": Size(sized(6, 6, 384, 65, 256), (32, 256), (8, 64), 0),
    "small": Size(sized(12, 12, 768, 50257, 1024), (8, 64), (8, 16), 12),
}


def workloads(size: Size, device: str) -> list[Workload]:
    generator = torch.Generator().manual_seed(1)

    def drawn(shape: tuple[int, int]) -> Tensor:
        return torch.randint(size.config.vocab_size, shape, generator=generator).to(device)

    layers, heads = range(size.config.n_layer), range(size.config.n_head)
    texts, clean, other = drawn(size.ablation), drawn(size.patching), drawn(size.patching)
    half = size.patching[1] // 2
    shared = torch.cat([clean[:, :half], other[:, half:]], dim=1)
    by_head = list(itertools.product(layers, heads))
    by_pos = list(itertools.product(layers, range(size.patching[1])))
    return [
        Workload("head ablation", "head", by_head, texts, texts, loss),
        Workload("layer x position", "pos", by_pos, other, clean, METRIC),
        Workload("layer x position, half shared", "pos", by_pos, shared, clean, METRIC),
        Workload("head patching", "head", by_head, other, clean, METRIC),
    ]


def agree(name: str, exact: Peers, work: Workload, count: int = 6) -> None:
    """Stop unless every tool gives the same answers, in double precision, on some of the texts."""
    short = replace(work, tokens=work.tokens[:2], clean=work.clean[:2])
    cells = sorted(random.Random(1).sample(work.cells, count))
    answers = {tool: run() for tool, run in exact.tools(short, cells).items()}
    ours = answers.pop("interp.sweep")
    for tool, values in answers.items():
        error = apart(work, cells, values, ours)
        if not error <= 1e-5:
            sys.exit(f"{name}, {work.name}: {tool} differs by {error:.1e} of the spread")


def apart(work: Workload, cells: list[tuple[int, int]], values: Tensor, ours: np.ndarray) -> float:
    """The largest difference between two tools' answers, in spreads of the effects."""
    chosen = [work.cells.index(cell) for cell in cells]
    return float(np.abs(values.double().cpu().numpy() - ours[chosen]).max() / ours.std())


def compare(name: str, size: Size, peers: Peers, exact: Peers, work: Workload, rounds: int) -> None:
    agree(name, exact, work)
    cells = work.cells
    if size.sample:
        cells = sorted(random.Random(0).sample(cells, size.sample))
    answers: dict[str, Any] = {}

    def keep(tool: str, run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: answers.update({tool: run()})

    tools = peers.tools(work, cells)
    runs = {tool: keep(tool, run) for tool, run in tools.items()}
    seconds = interleaved(runs, rounds, warmup=0 if peers.device == "cpu" else 1)
    error = apart(work, cells, answers["TransformerLens"], answers["interp.sweep"])
    scale = len(work.cells) / len(cells)
    seconds = {
        tool: [second * (1 if tool == "interp.sweep" else scale) for second in times]
        for tool, times in seconds.items()
    }
    planned = plan(
        peers.ours, work.tokens, peers.questions(work), work.metric, metric_tokens=work.clean
    )
    assert planned.flops and planned.loop_flops
    floor = planned.loop_flops / planned.flops
    middle = statistics.median(seconds["interp.sweep"])
    share = planned.flops / middle / peak(peers.device)
    row = "".join(
        f"{ratio(seconds, tool, 'interp.sweep')[0]:>10.1f}"
        for tool in tools
        if tool != "interp.sweep"
    )
    print(
        f"{name:<6}{work.name:<31}{middle:>8.2f}{row}{floor:>8.1f}{share:>7.0%}{error:>10.0e}",
        flush=True,
    )


def peak(device: str, rounds: int = 5) -> float:
    """Floating-point operations per second of a large matrix product."""
    size = 2048 if device == "cpu" else 8192
    a, b = torch.randn(2, size, size, device=device)
    times = []
    for _ in range(rounds):
        wait_for_gpu()
        started = time.perf_counter()
        a @ b
        wait_for_gpu()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def attributed(name: str, size: Size, peers: Peers, exact: Peers, rounds: int) -> None:
    """The nodes that TransformerLens scores: embeddings, heads and MLPs, at every position."""
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randint(size.config.vocab_size, (2, *size.patching), generator=generator)
    clean, other = drawn.to(peers.device)
    where = [
        site
        for pattern, parts in (
            ("hook_embed", ["pos"]),
            ("blocks.*.attn.hook_z", ["pos", "head"]),
            ("blocks.*.hook_mlp_out", ["pos"]),
        )
        for site in sites(peers.ours, pattern, each=parts, tokens=clean)
    ]

    def theirs(peers: Peers) -> dict[tuple, float]:
        def difference(logits: Tensor) -> Tensor:
            return (logits[:, -1, 3] - logits[:, -1, 5]).sum()

        result = attribution_patching.attribution_patch(peers.bridge, clean, other, difference)
        return {
            (node.hook_name, node.position, node.head): score
            for node, score in result.node_scores.items()
        }

    def ours(peers: Peers) -> np.ndarray:
        return site_scores(peers.ours, clean, other, METRIC, where).mean(axis=1)

    scores, found = ours(exact), theirs(exact)
    published = np.array([found[site.hook, site.pos, site.head] for site in where])
    error = np.abs(scores - published).max() / scores.std()
    if not (len(found) == len(where) and error <= 1e-5):
        sys.exit(f"{name}, attribution: differs by {error:.1e} of the spread")
    seconds = interleaved(
        {"TransformerLens": partial(theirs, peers), "ours": partial(ours, peers)}, rounds
    )
    middle = ratio(seconds, "TransformerLens", "ours")[0]
    fastest = statistics.median(seconds["ours"])
    workload = f"attribution, {len(where)} nodes"
    print(f"{name:<6}{workload:<31}{fastest:>8.2f}{middle:>10.1f}", flush=True)


def cached(name: str, size: Size, peers: Peers, rounds: int) -> None:
    """Everything that our model has hook points for, under both tools; then without what only
    explicit attention computes, which our model then leaves to the fused kernel."""
    tokens = torch.randint(size.config.vocab_size, size.ablation).to(peers.device)
    everything = [name for name in peers.ours.hook_dict if not name.endswith("hook_result")]
    fused = [name for name in everything if not name.endswith(("attn_scores", "pattern"))]

    def theirs(names: list[str]) -> None:
        with torch.no_grad():
            peers.bridge.run_with_cache(tokens, names_filter=names)

    for label, names in (("cached", everything), ("cached but scores, pattern", fused)):
        tools = {
            "TransformerLens": partial(theirs, names),
            "ours": partial(cache, peers.ours, tokens, names),
        }
        seconds = interleaved(tools, rounds)
        middle = ratio(seconds, "TransformerLens", "ours")[0]
        print(f"{name:<6}{label:<31}{statistics.median(seconds['ours']):>8.2f}{middle:>10.1f}")
        memory = {tool: highest_memory(run, peers.device) for tool, run in tools.items()}
        print(
            f"{name:<6}{'  its peak memory, GB':<31}{memory['ours'] / 1e9:>8.2f}"
            f"{memory['TransformerLens'] / memory['ours']:>10.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    parser.add_argument("--only", default="", help="workloads whose name begins so")
    parser.add_argument("--threads", type=int, default=0, help="by default torch's own choice")
    parser.add_argument("--sample", type=int, help="cells that the loops run; 0 means all")
    arguments = parsed(parser)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    print(f"{name_of(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    columns = ("TL", "hooks", "nnsight", "invokes", "loop")
    print(
        f"{'size':<6}{'workload':<31}{'seconds':>8}"
        + "".join(f"{column:>10}" for column in columns)
        + f"{'floor':>8}{'peak':>7}{'apart':>10}"
    )
    for name in arguments.sizes:
        size = SIZES[name]
        if arguments.sample is not None:
            size = replace(size, sample=arguments.sample)
        peers = Peers(size.config, device)
        exact = Peers(size.config, device, torch.float64)
        for work in workloads(size, device):
            if work.name.startswith(arguments.only):
                compare(name, size, peers, exact, work, arguments.rounds)
        if "attribution".startswith(arguments.only):
            attributed(name, size, peers, exact, max(arguments.rounds, 3))
        if "cached".startswith(arguments.only) and name == "baby":
            cached(name, size, peers, max(arguments.rounds, 3))


if __name__ == "__main__":
    main()
