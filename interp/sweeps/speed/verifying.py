"""Does a model use its components as a sweep expects, or was it edited, subclassed, or different?

A wrong fast path would be worse than a slow one. Before a sweep relies on the components, or on
``start_at_layer``, the model itself is run beside it: every block on inputs far from the clean
ones, with noise at every hook point that the sweep is about, on a suffix of the positions, with
other rows in the batch; and the whole model, on every text, from the first changed layer to the
logits. What disagrees is not used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from interp.caching import cache
from interp.deciding import Decisions
from interp.hooking import OwnHook, attach_hooks
from interp.interventions import Zero
from interp.logits import found_in
from interp.site import EMBEDDINGS, Site, axes_of, stopping
from interp.sweeps.running import batch_slices, clean_values
from interp.sweeps.speed.components import Components, Layer, NotRecognisedError, attend
from interp.sweeps.speed.entries import PROJECTIONS, Entry
from interp.sweeps.trials import Change, Trial

ENDS = ("hook_resid_pre", "hook_resid_post")
SHORT = 24  # positions are enough to see a block
INSIDE = ("hook_resid_mid", "hook_mlp_out", "attn.hook_q", "attn.hook_k", "attn.hook_v")


def verify_components(
    model: Any, components: Components, tokens: Int[Tensor, "batch pos"], entries: Sequence[Entry]
) -> None:
    """Run the model beside its components, from the first entry on.

    Raises:
        NotRecognisedError: they disagree, or one of them does not run so; the message says where.
    """
    try:
        verify_blocks(model, components, tokens, entries)
        verify_texts(model, components, tokens, entries)
        for entry in entries:
            if entry.kind in EMBEDDINGS:
                verify_embedding(model, tokens, entry)
    except NotRecognisedError:
        raise
    except Exception as error:  # whatever a part answers that expects the whole model around it
        raise NotRecognisedError(f"its parts do not run alone ({error})") from error


def verify_blocks(
    model: Any, components: Components, tokens: Int[Tensor, "batch pos"], entries: Sequence[Entry]
) -> None:
    """Every block, alone, beside its components, on what the first text makes of it."""
    points, count = model.hook_dict, len(components.layers)
    names = [f"blocks.{layer}.{kind}" for layer in range(count) for kind in (*ENDS, *INSIDE)]
    if missing := [name for name in names if name not in points]:
        raise NotRecognisedError(f"it has no hook point {missing[0]}")
    first = min(entry.layer for entry in entries)
    entering = [f"blocks.{layer}.hook_resid_pre" for layer in range(first, count)]
    clean = cache(model, tokens[:1], entering)
    for layer in range(first, count):
        x = clean[f"blocks.{layer}.hook_resid_pre"][:, :SHORT]
        here = {entry.kind: entry for entry in entries if entry.layer == layer}
        x = add_noise(x, layer)
        verify_block(model, components, layer, torch.cat([x, 10 * x]), list(here.values()))


def verify_texts(
    model: Any, components: Components, tokens: Int[Tensor, "batch pos"], entries: Sequence[Entry]
) -> None:
    """The whole model on all texts, beside the components of every block and of the logits.

    A model may treat texts differently: by documents packed into one, by padding, by experts
    chosen by the token. So every text is seen: every other one as it is, the rest with noise
    wherever the sweep will change something.
    """
    first, count = min(entry.layer for entry in entries), len(components.layers)
    changed = {(entry.layer, entry.kind) for entry in entries if entry.kind not in EMBEDDINGS}
    changed.add((first, "hook_resid_pre"))
    entering = f"blocks.{first}.hook_resid_pre"
    alone = clean_values(model, tokens, [entering])[entering]
    stream: list[Tensor] = [alone]  # entering the block that runs
    noise: dict[str, Tensor] = {}  # within it
    calling = [False]  # the parts, which may reach hook points too
    decisions = Decisions()
    noisy_ones = slice(None, None, 2)

    def shared(value: Tensor, seed: int) -> Float[Tensor, "1 ..."]:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, *value.shape[1:], generator=generator)
        return (value.std() + 0.1) * noise.to(value)

    def of_rows(noise: Tensor, rows: slice) -> Tensor:
        here = torch.arange(len(tokens), device=noise.device)[rows] % 2 == 0
        return noise * here.view(-1, *[1] * (noise.ndim - 1))

    def compared(layer: int, after: Tensor) -> None:
        calling[0] = True
        for rows in batch_slices(
            tokens
        ):  # backwards: a part must not know which text is in which row
            there = {kind: of_rows(each, rows).flip(0) for kind, each in noise.items()}
            ours = run_perturbed(components.layers[layer], stream[0][rows].flip(0), there).flip(0)
            check_same_everywhere(ours, after[rows], f"block {layer}")
        calling[0] = False

    def watching(layer: int, kind: str) -> Callable[..., Tensor | None]:
        def watch(value: Tensor, hook: Any) -> Tensor | None:
            if calling[0]:
                return None
            with decisions.resting():
                return changed_here(layer, kind, value)

        return watch

    def changed_here(layer: int, kind: str, value: Tensor) -> Tensor | None:
        if kind == "hook_resid_pre":
            if layer == first:
                check_same_everywhere(alone, value, "a run of fewer texts")
            stream[0] = value.clone()
            noise.clear()
        if kind == "hook_resid_post":
            compared(layer, value)
        if (layer, kind) in changed:
            noise[kind] = shared(value, layer)
            value = value.clone()
            value[noisy_ones] += noise[kind]
            decisions.follow(value)
        if kind == "hook_resid_post":
            stream[0] = value.clone()
        return value if (layer, kind) in changed else None

    pairs = [
        (model.hook_dict[f"blocks.{layer}.{kind}"], watching(layer, kind))
        for layer in range(first, count)
        for kind in {*ENDS, *(kind for where, kind in changed if where == layer)}
    ]
    with attach_hooks(pairs), decisions:
        logits = found_in(model(tokens))
    if decisions.found:
        raise NotRecognisedError(decisions.sentence)
    for rows in batch_slices(tokens, logits.shape[-1]):
        check_same_everywhere(
            components.logits(stream[0][rows]), logits[rows], "what gives the logits"
        )


def run_perturbed(
    part: Layer, x: Float[Tensor, "row pos d_model"], noise: Mapping[str, Tensor]
) -> Float[Tensor, "row pos d_model"]:
    """The residual stream after a block, with noise at some of its hook points."""

    def at(kind: str, value: Tensor) -> Tensor:
        return value + noise[kind] if kind in noise else value

    x = at("hook_resid_pre", x)
    parts = part.split(part.qkv(part.ln1(at("hook_attn_in", x))), 3)  # each [row head pos d_head]
    q, k, v = (
        at(kind, each.transpose(1, 2)).transpose(1, 2)
        for kind, each in zip(PROJECTIONS, parts, strict=True)
    )
    if "attn.hook_pattern" in noise:
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        future = torch.ones_like(scores, dtype=torch.bool).triu(1)
        z = at("attn.hook_pattern", scores.masked_fill(future, -torch.inf).softmax(dim=-1)) @ v
    else:
        z = attend(q, k, v, list(range(x.shape[1])))
    out = part.out(at("attn.hook_z", z.transpose(1, 2)).flatten(2))
    if "attn.hook_result" in noise:
        out = out + noise["attn.hook_result"].sum(dim=2)
    x = at("hook_resid_mid", x + at("hook_attn_out", out))
    out = part.mlp(part.ln2(at("hook_mlp_in", x)))
    if "mlp.hook_post" in noise:
        out = out + noise["mlp.hook_post"] @ part.W_post
    return x + at("hook_mlp_out", out)


def verify_block(
    model: Any,
    components: Components,
    layer: int,
    x: Float[Tensor, "row pos d_model"],
    entries: list[Entry],
) -> None:
    """One block beside its components, on every row."""
    block, part, points = model.blocks[layer], components.layers[layer], model.hook_dict
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        return lambda value, hook: kept.update({name: value.clone()})

    names = [f"blocks.{layer}.{kind}" for kind in (*INSIDE, "attn.hook_z")]
    names += [name for entry in entries for name in entry.needs]
    names += [entry.hook for entry in entries if entry.hook.startswith("blocks")]
    with attach_hooks([(points[name], keeping(name)) for name in dict.fromkeys(names)]):
        after = block(x)
    if missing := [name for name in names if name not in kept]:
        raise NotRecognisedError(f"a run does not reach {missing[0]}")
    where = f"block {layer}"
    check_same(part.forward(torch.cat([add_noise(x, 1), x]))[len(x) :], after, where)
    half = x.shape[1] // 2
    if half:
        keys, values = (kept[f"blocks.{layer}.attn.hook_{kind}"] for kind in "kv")
        prefix = keys.transpose(1, 2)[:, :, :half], values.transpose(1, 2)[:, :, :half]
        check_same(
            part.forward(x[:, half:], prefix), after[:, half:], f"{where}, from the middle on"
        )
    for entry in entries:
        if entry.hook not in kept:
            continue
        value = kept[entry.hook]
        noise = add_noise(value, 2) - value
        axis = axes_of((entry.hook,), value.ndim).index("pos")
        noise.narrow(axis, 0, half).zero_()
        with attach_hooks([(points[entry.hook], lambda value, hook, noise=noise: value + noise)]):
            changed = block(x)
        change = Change(tuple(slice(None) for _ in value.shape), noise, noise.numel(), axis)
        trial = [Trial(entry.hook, (Site(entry.hook),), Zero(), (entry.hook,))]
        (delta,) = entry.residual_delta(
            part, trial, [change], kept, value.shape, slice(None), (0, x.shape[1])
        )
        ours = after + delta
        if entry.stage == "pre":
            ours = part.forward(x + delta)
        elif entry.stage == "mid":
            ours = part.add_mlp(kept[f"blocks.{layer}.hook_resid_mid"] + delta)
        check_same(ours, changed, f"an intervention on {entry.hook}")
        check_same(changed[:, :half], after[:, :half], f"causality after {entry.hook}")


def verify_embedding(model: Any, tokens: Int[Tensor, "batch pos"], entry: Entry) -> None:
    entering = "blocks.0.hook_resid_pre"
    short = stopping(model, [entering])
    clean = cache(model, tokens, [entry.hook, entering], **short)
    if clean[entry.hook].shape != clean[entering].shape:
        raise NotRecognisedError(f"{entry.hook} is not as wide as the residual stream")
    new = add_noise(clean[entry.hook], 3)
    with attach_hooks([(model.hook_dict[entry.hook], lambda value, hook: new.clone())]):
        changed = cache(model, tokens, entering, **short)
    check_same_everywhere(
        clean[entering] + new - clean[entry.hook],
        changed[entering],
        f"an intervention on {entry.hook}",
    )


def add_noise(x: Tensor, seed: int) -> Tensor:
    """A value with as much noise as it has of itself."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    noise = torch.randn(x.shape, generator=generator).to(x)
    return x + (x.std() + 0.1) * noise


def check_same_everywhere(
    ours: Float[Tensor, "row pos width"], theirs: Float[Tensor, "row pos width"], what: str
) -> None:
    """Nothing where two results are the same at every position, to the precision of their type.

    Each position is held against its own size: what a mask does to a few of them must not pass as
    little beside the others.
    """
    if ours.shape != theirs.shape:
        raise NotRecognisedError(f"{what} does not come out in the expected shape")
    eps = max(torch.finfo(each.dtype).eps for each in (ours, theirs))
    apart, size = (ours - theirs).float().norm(dim=-1), theirs.float().norm(dim=-1)
    if not (apart <= max(4 * eps, eps**0.5 / 4) * size).all():
        raise NotRecognisedError(f"{what} does something else than its parts say")


def check_same(ours: Any, theirs: Any, what: str) -> None:
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
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    points = getattr(model, "hook_dict", None) or {}  # a view's are no modules of it
    for name, module in {**points, **modules}.items():
        hooks = (
            *(module._forward_hooks, module._forward_pre_hooks),
            *(module._backward_hooks, module._backward_pre_hooks),
        )
        found = [hook for table in hooks for hook in table.values()]
        if not isinstance(module, HookPoint):  # an open block follows its runs, and changes none
            found = [hook for hook in found if not isinstance(hook, OwnHook)]
        if found:
            return name or type(module).__name__
    return None
