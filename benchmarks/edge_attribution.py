"""How fast are gradients at every edge, beside the usual way with hooks?

    python -m benchmarks.edge_attribution [--rounds 3] [--layers 12] [--threads 2] [--sample]

Edge attribution patching of a random model of GPT-2 small's shape, 32,491 edges. The EAP-IG
package is on no index that pip knows, and the model class that it needs is gone from
TransformerLens 4. So the other side is a loop that is written here and does the same work with
hooks of TransformerLens: a run of the corrupted text, one of the clean text for its logits, and one
with a graph, in which every query, key and value has a copy of the stream of its own and hooks
multiply gradients with what the writers before them write. Its weights take no gradients here,
which the package's do: that spares it much of its backward pass. Ours finds out the model's parts
anew each time.

Before anything is timed both are run in double precision on three layers, and the benchmark stops
where scores differ by more than 1e-5 of their spread. Memory is what each takes at most while it
scores. ``--sample`` runs three layers on few texts.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.circuits import compare
from benchmarks.memory import highest_memory
from benchmarks.peers import METRIC, bridge_over
from benchmarks.timing import interleaved, ratio
from gpt import GPT
from gpt.foreign import from_huggingface
from interp.circuits.finding.estimating import EdgeEstimate
from interp.hooking import evaluating

HEADS, WIDTH, VOCAB = 12, 768, 50_257


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="at least 2")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--texts", type=int, nargs=2, default=(8, 16), help="how many, how long")
    parser.add_argument("--threads", type=int, default=0, help="by default torch's own choice")
    parser.add_argument("--sample", action="store_true", help="3 layers, 4 texts of 8")
    arguments = parser.parse_args()
    layers, shape = arguments.layers, tuple(arguments.texts)
    if arguments.sample:
        layers, shape = 3, (4, 8)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    ways = both_ways(3, (2, 8), torch.float64)
    compare("the loop with hooks", ways["ours"](), ways["loop"]())
    ways = both_ways(layers, shape)
    seconds = interleaved(ways, arguments.rounds, warmup=1)
    middle, low, high = ratio(seconds, "loop", "ours")
    print(
        f"EAP of {layers} layers x {HEADS} heads, {shape[0]} texts of {shape[1]}: "
        f"{statistics.median(seconds['ours']):.2f} s; the loop takes {middle:.2f} times as long "
        f"({low:.2f} to {high:.2f})",
        flush=True,
    )
    for name, way in ways.items():
        print(f"{name}: {highest_memory(way, 'cpu') / 2**20:.0f} MiB more at most", flush=True)


def both_ways(
    layers: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], np.ndarray]]:
    """Ours and the loop, on the same weights and texts."""
    torch.manual_seed(0)
    size = GPT2Config(n_layer=layers, n_head=HEADS, n_embd=WIDTH, vocab_size=VOCAB, n_positions=64)
    theirs = GPT2LMHeadModel(size).eval()
    ours = from_huggingface(theirs).to(dtype).eval()
    bridge = bridge_over(theirs.to(dtype))
    for weight in bridge.parameters():
        weight.requires_grad_(False)
    bridge.set_use_attn_result(True)
    bridge.set_use_split_qkv_input(True)
    bridge.set_use_hook_mlp_in(True)
    generator = torch.Generator().manual_seed(1)
    clean, corrupted = (torch.randint(VOCAB, shape, generator=generator) for _ in range(2))
    return {
        "ours": partial(score_ours, ours, clean, corrupted),
        "loop": partial(score_with_hooks, bridge, clean, corrupted, layers),
    }


def score_ours(model: GPT, clean: Tensor, corrupted: Tensor) -> np.ndarray:
    with evaluating(model):
        estimate = EdgeEstimate(model, clean, corrupted, METRIC)
        return estimate.scores(estimate.graph.edges).mean(axis=1)


def score_with_hooks(bridge: Any, clean: Tensor, corrupted: Tensor, layers: int) -> np.ndarray:
    """The same scores in the same order, with hooks at every writer and reader."""
    writers = 1 + layers * (HEADS + 1)
    dtype = next(bridge.parameters()).dtype
    deltas = torch.zeros(*clean.shape, writers, WIDTH, dtype=dtype)
    found: list[np.ndarray] = []

    def adding(at: slice, sign: int) -> Callable[..., None]:
        def add(value: Tensor, hook: Any) -> None:
            value = value.detach()
            deltas[:, :, at] += sign * (value if value.ndim == 4 else value[:, :, None])

        return add

    def multiplying(count: int) -> Callable[..., None]:
        def multiply(gradient: Tensor, hook: Any) -> None:
            gradient = gradient.detach()
            gradient = gradient if gradient.ndim == 4 else gradient[:, :, None]
            product = torch.einsum("bpwd,bprd->rw", deltas[:, :, :count], gradient)
            found.append(product.flatten().double().numpy() / len(clean))

        return multiply

    def at_writers(sign: int) -> list[tuple[str, Callable[..., None]]]:
        hooks = [("hook_embed", adding(slice(0, 1), sign))]
        for layer in range(layers):
            begin = 1 + layer * (HEADS + 1)
            heads, mlp = slice(begin, begin + HEADS), slice(begin + HEADS, begin + HEADS + 1)
            hooks.append((f"blocks.{layer}.attn.hook_result", adding(heads, sign)))
            hooks.append((f"blocks.{layer}.hook_mlp_out", adding(mlp, sign)))
        return hooks

    at_readers = [(f"blocks.{layers - 1}.hook_resid_post", multiplying(writers))]
    for layer in reversed(range(layers)):  # as the backward pass comes to them
        before = 1 + layer * (HEADS + 1)
        at_readers.append((f"blocks.{layer}.hook_mlp_in", multiplying(before + HEADS)))
        for kind in "vkq":
            at_readers.append((f"blocks.{layer}.attn.hook_{kind}_input", multiplying(before)))

    def begin_graph(value: Tensor, hook: Any) -> Tensor:
        return value.detach().requires_grad_()

    with torch.no_grad():
        with bridge.hooks(fwd_hooks=at_writers(1)):
            bridge(corrupted)
        bridge(clean)  # for metrics that want its logits
    hooks = [*at_writers(-1), ("hook_embed", begin_graph)]
    with bridge.hooks(fwd_hooks=hooks, bwd_hooks=at_readers):
        METRIC(bridge(clean), clean).sum().backward()
    return np.concatenate(found[::-1])


if __name__ == "__main__":
    main()
