"""Which values of a model have a name in the field, and is it so?

A value is named as in TransformerLens where a run shows that it is what the name says, and a change
of it confirms that: never by what a class or a variable is called.
"""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from interp.line_hooks.adding import ATTN_OUT, MLP_OUT, RESID_MID, find_sums
from interp.line_hooks.attending import PATTERN, SCORES, find_heads
from interp.line_hooks.bench import Bench, is_close, noise_like
from interp.line_hooks.blocks import StreamBlock, find_blocks, noting_calls
from interp.line_hooks.feeding import find_neurons
from interp.line_hooks.finding import Call, FoundValue, Origin, changed_alike, tokens_among

TEXTS, POSITIONS = 1, 4  # of the runs that show what a value is


@dataclass(frozen=True)
class Named:
    """A value with a name in the field.

    Args:
        origin: where it is made.
        axes: what its axes are; () where they are as was seen before.
        heads: how many heads its last axis holds, where they have no axis of their own.
    """

    origin: Origin
    axes: tuple[str, ...] = ()
    heads: int | None = None


@dataclass
class Naming:
    """What was found.

    Args:
        named: values by their name in the field.
        unsure: for names that no value has, a sentence.
        blocks: the paths of the model's blocks.
    """

    named: dict[str, Named] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)

    def explain(self) -> str:
        """What was found, a line for each kind of value, and what was not, with the reason."""
        lines = []
        if self.blocks:
            ends = dict.fromkeys([self.blocks[0], self.blocks[-1]])
            lines.append(f"{len(self.blocks)} blocks: {' to '.join(ends)}")
        for name, numbers in in_blocks(self.named).items():
            lines.append(f"{name}: {self.among(numbers)}")
        for name, numbers in in_blocks(self.unsure).items():
            reasons = dict.fromkeys(
                sentence for each, sentence in self.unsure.items() if kind_of_name(each) == name
            )
            lines.append(f"no {name}: {'; '.join(reasons)} ({self.among(numbers)})")
        return "\n".join(lines)

    def among(self, numbers: Sequence[int]) -> str:
        """In which blocks something is."""
        if not numbers:
            return "outside the blocks"
        every = list(numbers) == list(range(len(self.blocks)))
        return "every block" if every else f"blocks {', '.join(map(str, numbers))}"


def kind_of_name(name: str) -> str:
    """A name without its block: ``attn.hook_z``."""
    return re.sub(r"^blocks\.\d+\.", "", name)


def in_blocks(names: Collection[str]) -> dict[str, list[int]]:
    """For each name without its block, the blocks in which it is."""
    found: dict[str, list[int]] = {}
    for name in names:
        number = re.match(r"blocks\.(\d+)\.", name)
        found.setdefault(kind_of_name(name), []).extend([int(number[1])] if number else [])
    return found


def name_values(
    model: nn.Module,
    found: Collection[FoundValue],
    inputs: Sequence[Any],
    options: Mapping[str, Any],
) -> Naming:
    """The values of a model that have a name in the field.

    Args:
        model: the model; left as it was.
        found: its values.
        inputs, options: what to call it with.
    """
    try:
        return name_in_run(model, found, *cut_short(inputs, options))
    except Exception:  # a model may take texts of one length alone
        try:
            return name_in_run(model, found, inputs, options)
        except Exception as error:
            why = f"a run in which values are changed fails: {type(error).__name__}: {error}"
            return Naming(unsure={"blocks.*": " ".join(why.split())})


def name_in_run(
    model: nn.Module, found: Collection[FoundValue], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Naming:
    """The values with a name in the field, as runs of these inputs show them."""
    bench = Bench(model, found)
    if "use_cache" in inspect.signature(model.forward).parameters:
        kwargs = {**kwargs, "use_cache": False}  # else a block called again finds its own keys
    naming = Naming()
    with bench.set_up():
        with bench.noting_makers(), noting_calls(bench) as calls:
            bench.record(lambda: model(*args, **kwargs), {})
        blocks = find_blocks(model, calls)
        if isinstance(blocks, str):
            naming.unsure["blocks.*"] = blocks
            return naming
        naming.blocks = [block.path for block in blocks]
        for number, block in enumerate(blocks):
            name_in_block(naming, bench, number, block)
    return naming


def name_in_block(naming: Naming, bench: Bench, number: int, block: StreamBlock) -> None:
    """Names what is in a block."""
    prefix = f"blocks.{number}."
    if block.input is not None:
        naming.named[f"{prefix}hook_resid_pre"] = Named(block.input)
    else:
        naming.unsure[f"{prefix}hook_resid_pre"] = "no line of the model's own makes it"
    naming.named[f"{prefix}hook_resid_post"] = Named(block.output)
    alone = block.region(bench, block.stream)
    if not is_close(alone.run().returned, block.returned):
        naming.unsure[f"{prefix}*"] = "a block that is called again returns something else"
        return
    region = block.region(bench, block.stream + noise_like(block.stream, seed=0, size=0.5))
    sums = find_sums(region)
    parts = {ATTN_OUT: sums.attention, MLP_OUT: sums.mlp, RESID_MID: sums.mid}
    for name, origin in parts.items():
        if origin is not None:
            naming.named[prefix + name] = Named(origin)
    why = dict(sums.why)
    if sums.attention is None:
        why["attn.*"] = "what attention adds to the stream is not known"
    else:
        heads = find_heads(region, sums.clean, sums.moved, sums.attention)
        why |= heads.why
        for name, origin in heads.made.items():
            naming.named[prefix + name] = with_heads(bench, name, origin, heads.count.get(name))
    if sums.mlp is None:
        why["mlp.*"] = "what the MLP adds to the stream is not known"
    else:
        neurons = find_neurons(region, sums.clean, sums.mlp)
        why |= neurons.why
        naming.named |= {prefix + name: Named(origin) for name, origin in neurons.made.items()}
    naming.unsure |= {prefix + name: sentence for name, sentence in why.items()}


def with_heads(bench: Bench, name: str, origin: Origin, count: int | None) -> Named:
    """A value of attention, with the axis of its heads."""
    axes = bench.found[origin].axes
    if name in (SCORES, PATTERN):
        return Named(origin, ("batch", "head", "pos", "key"))
    if len(axes) == 3:
        return Named(origin, ("batch", "pos", "head", "neuron"), count)
    named = [axis for axis in axes if axis not in ("batch", "pos")]
    kinds = dict(zip(named, ("head", "neuron"), strict=True))
    return Named(origin, tuple(kinds.get(axis, axis) for axis in axes))


def cut_short(inputs: Sequence[Any], options: Mapping[str, Any]) -> Call:
    """What a model is called with, of one text and few positions."""
    tokens = tokens_among(inputs, options)
    if tokens is None:
        return inputs, options
    at = [position % tokens.shape[1] for position in range(POSITIONS)]
    return changed_alike(inputs, options, lambda x: x[:TEXTS, at])
