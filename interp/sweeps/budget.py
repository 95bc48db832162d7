"""How much memory does a sweep need, and how is it made to fit into what it may hold?

Numbers of bytes are what the sweep holds at its peak, beside the model and the plain loop's own
needs.
"""

from collections.abc import Mapping
from itertools import product

import torch

from interp.errors import UsageError
from interp.sweeps.request import FastPath, Request
from interp.sweeps.speed.components import Components
from interp.sweeps.speed.entries import Entry

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_memory(memory: str | int | None, device: torch.device) -> int:
    """A budget such as "2GiB" in bytes; by default that, or a quarter of what a GPU has free.

    Raises:
        UsageError: it reads like no amount of memory.
    """
    if memory is None:
        memory = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else "2GiB"
    if isinstance(memory, int):
        return memory
    number, unit = memory[:-3].strip(), memory[-3:]
    if unit not in UNITS or not number.replace(".", "", 1).isdigit():
        raise UsageError(f"memory is {memory!r}; write it like 512MiB or 2GiB")
    return int(float(number) * UNITS[unit])


def fit_fast_path(
    request: Request, components: Components, entries: Mapping[int, Entry]
) -> FastPath:
    """The fastest way to answer the entries' trials within the budget.

    What is given up where memory is short: first the weights that are held a second time, in the
    order that is fastest; then the clean keys and values.

    Raises:
        UsageError: not even one layer's trials fit.
    """
    for keeps_prefixes, held in product((True, False), (components.in_order(), components)):
        path = FastPath(held, entries, keeps_prefixes, rounds=())
        rounds, most = divide_into_rounds(request, path)
        if most <= request.memory:
            return FastPath(held, entries, keeps_prefixes, rounds)
    raise UsageError(
        f"memory is {request.memory / 2**20:.0f} MiB; one layer of this sweep needs "
        f"{most / 2**20:.0f} MiB: give more, or fewer texts at a time"
    )


def divide_into_rounds(request: Request, path: FastPath) -> tuple[list[list[int]], int]:
    """The trials in rounds, layer by layer, each as large as fits; and the bytes of the largest."""
    base = working_bytes(request, path)
    rounds: list[list[int]] = []
    names: set[str] = set()
    changes = most = 0
    for trial in sorted(path.entries, key=lambda trial: path.entries[trial].layer):
        wider = names.union(path.clean_names([trial]))
        own = change_bytes(request, path, trial)
        if rounds and base + changes + own + clean_bytes(request, path, wider) <= request.memory:
            rounds[-1].append(trial)
            names, changes = wider, changes + own
        else:
            rounds.append([trial])
            names, changes = set(path.clean_names([trial])), own
        most = max(most, base + changes + clean_bytes(request, path, names))
    return rounds, most


def least_bytes(request: Request, path: FastPath) -> int:
    """What the trials of the fast path need where they go one by one."""
    one_by_one = [
        change_bytes(request, path, trial)
        + clean_bytes(request, path, set(path.clean_names([trial])))
        for trial in path.entries
    ]
    return working_bytes(request, path) + max(one_by_one, default=0)


def clean_bytes(request: Request, path: FastPath, names: set[str]) -> int:
    """Memory of clean values, by the names of their hook points."""
    each = request.tokens.numel() * itemsize(path)
    return sum(numbers_per_token(request, path, name) for name in names) * each


def change_bytes(request: Request, path: FastPath, trial: int) -> int:
    """Memory of what a trial changes."""
    site = request.trials[trial].site
    tokens = request.batch if site.pos is not None else request.tokens.numel()
    width = numbers_per_token(request, path, site.hook)
    if site.head is not None:
        width //= path.components.layers[0].heads
    if site.neuron is not None:
        width = 1
    return tokens * width * itemsize(path)


def working_bytes(request: Request, path: FastPath) -> int:
    """Memory of what is under way: a batch of rows, their logits, the clean ones and the metric's
    own copies, a hook point's value while an intervention makes another of it, and weights in
    another order."""
    layer, tokens = path.components.layers[0], request.tokens.numel()
    d_model, inner = layer.out.weight.shape
    vocab = len(path.components.unembedding.weight)
    rows = max(request.limits.rows, request.length)
    batch = rows * (6 * d_model + 6 * inner + 3 * len(layer.W_post))
    keys = rows * min(request.length, 16) * 2 * inner  # where rows are short, prefixes are long
    widest = max(numbers_per_token(request, path, entry.hook) for entry in path.entries.values())
    making = 3 * tokens * widest
    logits = 4 * tokens * vocab + 3 * min(request.limits.logits, rows * vocab)
    return (batch + keys + making + logits) * itemsize(path) + path.components.own_bytes


def numbers_per_token(request: Request, path: FastPath, name: str) -> int:
    """Numbers that a hook point carries for each token."""
    layer = path.components.layers[0]
    d_model, inner = layer.out.weight.shape
    if name.endswith("hook_pattern"):
        return layer.heads * request.length
    if name.endswith("hook_result"):
        return layer.heads * d_model
    if ".attn." in name:
        return inner
    return len(layer.W_post) if name.endswith("mlp.hook_post") else d_model


def itemsize(path: FastPath) -> int:
    """Bytes of one number."""
    return path.components.unembedding.weight.element_size()
