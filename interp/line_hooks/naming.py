"""Which values of a model have a name in the field, and is it so?

A value is named as in TransformerLens where a run shows that it is what the name says, and a change
of it confirms that: never by what a class or a variable is called.
"""

import inspect
import re
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp.line_hooks.adding import ATTN_OUT, MLP_OUT, RESID_MID, find_sums
from interp.line_hooks.attending import find_heads
from interp.line_hooks.bench import Bench, is_close, noise_like
from interp.line_hooks.blocks import StreamBlock, find_blocks, noting_calls
from interp.line_hooks.confirming import Expected, is_confirmed
from interp.line_hooks.ends import name_embeddings, name_end
from interp.line_hooks.feeding import find_neurons
from interp.line_hooks.finding import Call, FoundValue, changed_alike, tokens_among
from interp.line_hooks.hiding import MASK
from interp.line_hooks.norming import NOT_READ, name_norms, name_norms_behind
from interp.line_hooks.searching import PATTERN, SCORES
from interp.line_hooks.values import Origin
from interp.tracing import written_in

TEXTS, POSITIONS = 1, 4  # of the runs that show what a value is


@dataclass(frozen=True)
class FieldName:
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

    named: dict[str, FieldName] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    blocks: list[str] = field(default_factory=list)

    def explain(self) -> str:
        """Which names were found in which blocks, and which were not, with the reason."""
        lines = []
        if self.blocks:
            ends = dict.fromkeys([self.blocks[0], self.blocks[-1]])
            lines.append(f"{len(self.blocks)} blocks: {' to '.join(ends)}")
        found: dict[str, list[str]] = {}
        for name, numbers in in_blocks(self.named).items():
            found.setdefault(self.among(numbers), []).append(name)
        lines += [f"{where}: {', '.join(names)}" for where, names in found.items()]
        missing: dict[tuple[str, str], list[str]] = {}
        for why in dict.fromkeys(self.unsure.values()):
            names = [name for name, sentence in self.unsure.items() if sentence == why]
            for name, numbers in in_blocks(names).items():
                missing.setdefault((why, self.among(numbers)), []).append(name)
        for (why, where), names in missing.items():
            lines.append(f"no {', '.join(names)} ({where}): {why}")
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
            return Naming(unsure={"blocks.*": where_it_stopped(error)})


def where_it_stopped(error: Exception) -> str:
    """A sentence on a run with changed values that did not end."""
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(written_in(last.filename)).name}:{last.lineno}"
    return f"the model does not run with some of its values changed: it stops at {where}"


def name_in_run(
    model: nn.Module, found: Collection[FoundValue], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Naming:
    """The values with a name in the field, as runs of these inputs show them."""
    tokens = tokens_among(args, kwargs)
    bench = Bench(model, found, texts=1 if tokens is None else len(tokens))
    if "use_cache" in inspect.signature(model.forward).parameters:
        kwargs = {**kwargs, "use_cache": False}  # else a block called again finds its own keys
    naming = Naming()

    def run() -> Any:
        return model(*args, **kwargs)

    with bench.set_up():
        with bench.noting_makers(), noting_calls(bench) as calls:
            clean, _ = bench.record(run, {})
        blocks = find_blocks(model, calls)
        if isinstance(blocks, str):
            naming.unsure["blocks.*"] = blocks
            return naming
        naming.blocks = [block.path for block in blocks]
        searched: dict[type, FoundBlock] = {}
        for number, block in enumerate(blocks):
            prefix = f"blocks.{number}."
            if block.input is not None:
                naming.named[f"{prefix}hook_resid_pre"] = FieldName(block.input)
            else:
                naming.unsure[f"{prefix}hook_resid_pre"] = "no line of the model's own makes it"
            naming.named[f"{prefix}hook_resid_post"] = FieldName(block.output)
            in_block = same_names(bench, block, searched.get(type(block.module)))
            if in_block is None:
                in_block = search_block(bench, block)
            searched.setdefault(type(block.module), in_block)
            names = in_block.expected
            for name, origin in names.made.items():
                named = with_heads(bench, name, origin, names.heads.get(name))
                naming.named[prefix + name] = named
            naming.unsure |= {prefix + name: why for name, why in in_block.why.items()}
        ends = name_embeddings(bench, blocks[0], args, kwargs)
        ends |= name_end(bench, blocks[-1], run, clean)
        naming.named |= {name: FieldName(origin) for name, origin in ends.items()}
    return naming


@dataclass
class FoundBlock:
    """What was found in a block.

    Args:
        path: of the block.
        expected: the values with a name; in another block of its class the same are expected.
        why: for each name that no value has, a sentence.
    """

    path: str
    expected: Expected
    why: Mapping[str, str]


def search_block(bench: Bench, block: StreamBlock) -> FoundBlock:
    """The values of a block that have a name in the field."""
    made: dict[str, Origin] = {}
    why: dict[str, str] = {}
    expected = Expected(made, {})
    if not is_close(block.region(bench, block.stream).run().returned, block.returned):
        why["*"] = "a block that is called again returns something else"
        return FoundBlock(block.path, expected, why)
    # with noise: texts may repeat a token, and what it makes is then equal at several positions
    region = block.region(bench, block.stream + noise_like(block.stream, seed=0, size=0.5))
    sums = find_sums(region)
    why |= sums.why
    parts = {ATTN_OUT: sums.attention, MLP_OUT: sums.mlp, RESID_MID: sums.mid}
    made |= {name: origin for name, origin in parts.items() if origin is not None}
    heads = find_heads(region, sums.clean, sums.moved, sums.attention)
    made |= heads.made
    why |= heads.why
    expected.heads, expected.projected = heads.count, heads.projected
    if sums.mlp is None:
        why["mlp.*"] = "what the MLP adds to the stream is not known"
    else:
        neurons = find_neurons(region, sums.clean, sums.mlp)
        made |= neurons.made
        why |= neurons.why
        expected.mapped = neurons.mapped
    norms, why_not = name_norms(region, sums.clean, sums.attention, sums.mlp, sums.mid)
    ends = (expected.projected, sums.attention), (expected.mapped, sums.mlp)
    behind, why_not_behind = name_norms_behind(region, sums.clean, ends)
    if behind:  # then there is often none before
        after = f"{NOT_READ}; what it makes goes through one: ln1_post, ln2_post"
        why_not = {name: after if said == NOT_READ else said for name, said in why_not.items()}
    made |= norms | behind
    why |= why_not | why_not_behind
    return FoundBlock(block.path, expected, why)


def same_names(bench: Bench, block: StreamBlock, other: FoundBlock | None) -> FoundBlock | None:
    """What was found in a block of the same class, where this one confirms it."""
    if other is None or "*" in other.why:
        return None

    def here(origin: Origin) -> Origin:
        return origin._replace(path=block.path + origin.path.removeprefix(other.path))

    known = other.expected
    made = {name: here(origin) for name, origin in known.made.items()}
    projected, mapped = (each and here(each) for each in (known.projected, known.mapped))
    expected = Expected(made, known.heads, projected, mapped)
    for name, origin in made.items():
        found = bench.found.get(origin)
        if found is None or found.axes != bench.found[known.made[name]].axes:
            return None
    if not is_confirmed(block.region(bench, block.stream), block.returned, expected):
        return None
    return FoundBlock(block.path, expected, other.why)


def with_heads(bench: Bench, name: str, origin: Origin, count: int | None) -> FieldName:
    """A value, with the axis of its heads where it has one."""
    axes = bench.found[origin].axes
    if name in (SCORES, PATTERN):
        return FieldName(origin, ("batch", "head", "pos", "key"))
    others = [axis for axis in axes if axis not in ("batch", "pos")]
    if count is None or (len(others) == 1 and axes[:2] != ("batch", "pos")) or len(others) > 2:
        return FieldName(origin)
    if len(others) == 1:
        return FieldName(origin, ("batch", "pos", "head", "neuron"), count)
    kinds = dict(zip(others, ("head", "neuron"), strict=True))
    return FieldName(origin, tuple(kinds.get(axis, axis) for axis in axes))


def cut_short(inputs: Sequence[Any], options: Mapping[str, Any]) -> Call:
    """What a model is called with, of one text and few positions: such as hold no padding."""
    tokens = tokens_among(inputs, options)
    if tokens is None:
        return inputs, options
    mask = options.get(MASK)
    masked = isinstance(mask, Tensor) and mask.shape == tokens.shape
    count = min(POSITIONS, tokens.shape[1])
    row, start = least_padded(tokens, mask if masked else None, count)
    at = [start + position % count for position in range(POSITIONS)]
    return changed_alike(inputs, options, lambda x: x[row : row + TEXTS, at])


def least_padded(tokens: Tensor, mask: Tensor | None, count: int) -> tuple[int, int]:
    """The text, and the position from which on some positions of it hold no padding: which is
    hidden by a mask, or one token several times in succession."""
    shown = torch.ones_like(tokens) if mask is None else (mask != 0).long()
    changes = (tokens.diff(dim=1) != 0).long()
    changes = nn.functional.pad(changes, (1, 1), value=1)  # the ends of a text are changes too
    single = shown * (1 + changes[:, :-1] * changes[:, 1:])
    row = int(single.sum(1).argmax())
    return row, int(single[row].unfold(0, count, 1).sum(-1).argmax())
