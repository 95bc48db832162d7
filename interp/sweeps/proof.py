"""Does a model do with its parts what its anatomy says, or was it edited, subclassed, or different?

A wrong fast path would be worse than a slow one. Before a sweep relies on the anatomy, or on
``start_at_layer``, the model itself is run beside it: every block on inputs far from the clean
ones, with noise at every hook point that the sweep is about, on a suffix of the positions, with
other rows in the batch; and the whole model from the first changed layer to the logits. What
disagrees is not used.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.interventions import Zero, cache
from interp.sites import Site, axes_of, hooked
from interp.sweeps.anatomy import Anatomy, NotRecognisedError
from interp.sweeps.cells import Cell, Change
from interp.sweeps.entries import Entry

SHORT = 24  # positions are enough to see a block
INSIDE = ("hook_resid_mid", "hook_mlp_out", "attn.hook_q", "attn.hook_k", "attn.hook_v")


def prove(
    model: Any, anatomy: Anatomy, tokens: Int[Tensor, "batch pos"], entries: Sequence[Entry]
) -> None:
    """Run the model and its anatomy side by side, from the first entry on.

    Raises:
        NotRecognisedError: they disagree; the message says where.
    """
    points, count = model.hook_dict, len(anatomy.layers)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(count)]
    names += [f"blocks.{layer}.{kind}" for layer in range(count) for kind in INSIDE]
    if missing := [name for name in names if name not in points]:
        raise NotRecognisedError(f"it has no hook point {missing[0]}")
    tokens = tokens[:1]
    clean = cache(model, tokens, names)
    first = min(entry.layer for entry in entries)
    for layer in range(first, count):
        x = clean[f"blocks.{layer}.hook_resid_pre"][:, :SHORT]
        here = {entry.kind: entry for entry in entries if entry.layer == layer}
        x = noisy(x, layer)
        prove_block(model, anatomy, layer, torch.cat([x, 10 * x]), list(here.values()))
    entering = f"blocks.{first}.hook_resid_pre"
    x = noisy(clean[entering], -1)
    with hooked([(points[entering], lambda value, hook: x)]):
        logits = model(tokens)
    ours = x
    for part in anatomy.layers[first:]:
        ours = part.forward(ours)
    agree(anatomy.logits(ours), logits, "the blocks after one another, and the logits")
    for entry in entries:
        if entry.kind in ("hook_embed", "hook_pos_embed"):
            prove_embedding(model, tokens, entry)


def prove_block(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    x: Float[Tensor, "row pos d_model"],
    entries: list[Entry],
) -> None:
    """One block beside its anatomy, on every row."""
    block, part, points = model.blocks[layer], anatomy.layers[layer], model.hook_dict
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        return lambda value, hook: kept.update({name: value.clone()})

    names = [f"blocks.{layer}.{kind}" for kind in (*INSIDE, "attn.hook_z")]
    names += [entry.hook for entry in entries if entry.hook.startswith("blocks")]
    with hooked([(points[name], keeping(name)) for name in dict.fromkeys(names)]):
        after = block(x)
    if missing := [name for name in names if name not in kept]:
        raise NotRecognisedError(f"a run does not come past {missing[0]}")
    where = f"block {layer}"
    agree(part.forward(torch.cat([noisy(x, 1), x]))[len(x) :], after, where)
    half = x.shape[1] // 2
    if half:
        keys, values = (kept[f"blocks.{layer}.attn.hook_{kind}"] for kind in "kv")
        prefix = keys.transpose(1, 2)[:, :, :half], values.transpose(1, 2)[:, :, :half]
        agree(part.forward(x[:, half:], prefix), after[:, half:], f"{where}, from the middle on")
    for entry in entries:
        if entry.hook not in kept:
            continue
        value = kept[entry.hook]
        noise = noisy(value, 2) - value
        axis = axes_of((entry.hook,), value.ndim).index("pos")
        noise.narrow(axis, 0, half).zero_()
        with hooked([(points[entry.hook], lambda value, hook, noise=noise: value + noise)]):
            changed = block(x)
        change = Change(tuple(slice(None) for _ in value.shape), noise, noise.numel(), axis)
        cell = [Cell(entry.hook, (Site(entry.hook),), Zero(), (entry.hook,))]
        (into,) = entry.into(part, cell, [change], kept, value.shape, slice(None), (0, x.shape[1]))
        ours = after + into
        if entry.stage == "pre":
            ours = part.forward(x + into)
        elif entry.stage == "mid":
            ours = part.feed(kept[f"blocks.{layer}.hook_resid_mid"] + into)
        agree(ours, changed, f"an intervention on {entry.hook}")
        agree(changed[:, :half], after[:, :half], f"causality after {entry.hook}")


def prove_embedding(model: Any, tokens: Int[Tensor, "1 pos"], entry: Entry) -> None:
    entering = "blocks.0.hook_resid_pre"
    clean = cache(model, tokens, [entry.hook, entering])
    if clean[entry.hook].shape != clean[entering].shape:
        raise NotRecognisedError(f"{entry.hook} is not as wide as the residual stream")
    new = noisy(clean[entry.hook], 3)
    with hooked([(model.hook_dict[entry.hook], lambda value, hook: new)]):
        changed = cache(model, tokens, entering)
    agree(
        clean[entering] + new - clean[entry.hook],
        changed[entering],
        f"an intervention on {entry.hook}",
    )


def prove_start(model: Any, tokens: Int[Tensor, "batch pos"], layer: int) -> None:
    """Run the model from a layer on, beside a whole run that is given the same residual stream.

    Raises:
        NotRecognisedError: it cannot, or gives something else.
    """
    entering = f"blocks.{layer}.hook_resid_pre"
    if entering not in model.hook_dict:
        raise NotRecognisedError(f"it has no hook point {entering}")
    tokens = tokens[:1]
    x = noisy(cache(model, tokens, entering)[entering], layer)
    with hooked([(model.hook_dict[entering], lambda value, hook: x)]):
        whole = model(tokens)
    try:
        started = model(torch.cat([noisy(x, -1), x]), start_at_layer=layer)
    except Exception as error:  # whatever a model answers to an argument it does not know
        raise NotRecognisedError(f"it does not take start_at_layer ({error})") from error
    agree(started[1:], whole, f"a run from layer {layer} on")


def noisy(x: Tensor, seed: int) -> Tensor:
    """A value with as much noise as it has of itself."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    noise = torch.randn(x.shape, generator=generator).to(x)
    return x + (x.std() + 0.1) * noise


def agree(ours: Any, theirs: Any, what: str) -> None:
    """Nothing where two results are the same, row by row, to the precision of their type."""
    if not isinstance(theirs, Tensor) or ours.shape != theirs.shape:
        raise NotRecognisedError(f"{what} does not come out in the expected shape")
    if not theirs.numel():
        return
    tolerance = torch.finfo(theirs.dtype).eps ** 0.5 * theirs.abs().flatten(1).amax(dim=1)
    if not ((ours - theirs).abs().flatten(1).amax(dim=1) <= tolerance).all():
        raise NotRecognisedError(f"{what} does something else than its parts say")


def watched_by(model: Any) -> str | None:
    """A module of the model that somebody hooked; its hooks would see rows of other runs."""
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        hooks = (
            *(module._forward_hooks, module._forward_pre_hooks),
            *(module._backward_hooks, module._backward_pre_hooks),
        )
        if any(hooks):
            return name or type(module).__name__
    return None
