"""Which values stand before a model's blocks, and which behind them?

The embedding of a token is the same wherever the token stands, that of a position whatever stands
there, and both are added to the stream as they are. Behind the last block are the stream's norm and
what the logits are a linear map of.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from interp.line_hooks.bench import Bench, Change, Recording, is_close, noise_like
from interp.line_hooks.blocks import StreamBlock
from interp.line_hooks.finding import changed_alike, tokens_among
from interp.line_hooks.norming import LARGE, find_norm
from interp.line_hooks.values import Origin


class ReachedError(Exception):
    """The first block was reached: what comes after is of no interest."""


def name_embeddings(
    bench: Bench, first: StreamBlock, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Origin]:
    """Where tokens and positions are embedded, by name."""
    tokens = tokens_among(args, kwargs)
    if tokens is None:
        return {}
    numbers = torch.arange(tokens.shape[1]).to(tokens).expand_as(tokens)

    def stream_of(
        ids: Tensor, changes: Mapping[Origin, Change]
    ) -> tuple[dict[Origin, Tensor], Tensor]:
        held: list[Tensor] = []

        def stop(module: nn.Module, given: Any, options: Any) -> None:
            found = given[first.key] if isinstance(first.key, int) else options[first.key]
            held.append(found.clone())
            raise ReachedError

        handle = first.module.register_forward_pre_hook(stop, with_kwargs=True)
        same = changed_alike(args, kwargs, lambda x: ids if x is tokens else x)

        def run() -> None:
            with suppress(ReachedError):
                bench.model(*same[0], **same[1])

        try:
            values, _ = bench.record(run, changes)
        finally:
            handle.remove()
        return values, held[0]

    clean, stream = stream_of(numbers, {})
    turned, _ = stream_of(numbers.flip(1), {})
    made: dict[str, Origin] = {}
    for origin, value in clean.items():
        if origin not in turned or value.shape[-2:] != stream.shape[-2:] or not value.any():
            continue
        of_token = torch.equal(turned[origin].flip(-2), value) and value.shape == stream.shape
        of_place = torch.equal(turned[origin], value)
        name = "hook_embed" if of_token else "hook_pos_embed" if of_place else ""
        if not name or name in made:
            continue
        delta = noise_like(value, seed=51)
        _, moved = stream_of(numbers, {origin: partial(torch.add, delta)})
        if is_close(moved - stream, delta.expand_as(stream), stream):
            made[name] = origin
    return made


def name_end(
    bench: Bench, last: StreamBlock, run: Callable[[], Any], clean: dict[Origin, Tensor]
) -> dict[str, Origin]:
    """What comes after the last block, by name.

    Args:
        run: the model.
        clean: what it makes.
    """
    order = list(clean)
    after = [
        origin
        for origin in order[order.index(last.output) + 1 :]
        if origin not in bench.again and bench.found[origin].axes[:2] == ("batch", "pos")
    ]
    wide = [each for each in after if clean[each].shape == last.returned.shape]
    made: dict[str, Origin] = {}
    values, _ = bench.record(run, {last.output: lambda value: LARGE * value})
    stream = values[last.output]
    big = Recording(values, stream, stream)
    plain, norm = find_norm(big, stream, [each for each in wide if each in values])
    if plain is not None:
        made["ln_final.hook_normalized"] = plain
    if norm is not None:
        made["ln_final.hook_out"] = norm
    if wide:
        read = wide[-1]
        delta = noise_like(clean[read], seed=52)
        up, _ = bench.record(run, {read: lambda value: value + delta})
        down, _ = bench.record(run, {read: lambda value: value - delta})
        for out in after[after.index(read) + 1 :]:
            moved = up[out] - clean[out]
            if not is_close(up[out], clean[out]) and is_close(
                moved, clean[out] - down[out], up[out]
            ):
                made["unembed.hook_in"], made["unembed.hook_out"] = read, out
                break
    return made
