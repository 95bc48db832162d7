"""Which lines of a block make z, q, k, v, the scores and the pattern, and which axis is the head?

Each is found by what a change of it does. Ones added to v at one position show the pattern in z,
the same along a head and another for each head; with that pattern, v must make z. A turn of q and k
by the same angles must leave z as it is; noise in one head's z must move what attention returns
linearly, and at its own position alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from interp.line_hooks.bench import (
    Recording,
    Region,
    at_position,
    change_rows,
    in_rows,
    is_close,
    is_far,
    is_permuted,
    is_unchanged,
    noise_like,
)
from interp.line_hooks.mapping import linear_map_of
from interp.line_hooks.values import Origin

Z, Q, K, V = "attn.hook_z", "attn.hook_q", "attn.hook_k", "attn.hook_v"
ROT_Q, ROT_K = "attn.hook_rot_q", "attn.hook_rot_k"
SCORES, PATTERN = "attn.hook_attn_scores", "attn.hook_pattern"
OF_HEADS = (Z, V, Q, K)


@dataclass
class Heads:
    """What attention is made of.

    Args:
        made: where each value is made, by its name in the field.
        why: for each that is not known, a sentence.
        count: how many heads a value has.
        projected: where a linear map of z is made.
    """

    made: dict[str, Origin] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    projected: Origin | None = None


def find_heads(region: Region, clean: Recording, moved: Recording, attention: Origin) -> Heads:
    """What the attention of a block is made of.

    Args:
        region: the block.
        clean: a run of it.
        moved: one in which the first position's stream is another.
        attention: where is made what attention adds to the stream.
    """
    return Finder(region, clean, moved, attention).find()


@dataclass
class Finder:
    """The search in one block."""

    region: Region
    clean: Recording
    moved: Recording
    attention: Origin
    heads: Heads = field(default_factory=Heads)

    def find(self) -> Heads:
        """Everything that can be confirmed."""
        order = list(self.clean.values)
        end = order.index(self.attention)
        chosen = [each for each in self.region.chosen(self.clean) if order.index(each) <= end]
        mixing = [each for each in chosen if self.mixes(each)]
        for number, z in enumerate(mixing[:8]):
            before = [each for each in chosen if order.index(each) < order.index(z)]
            apart = [each for each in before if not self.mixes(each)]
            found = self.find_values(z, apart)
            if found is None:
                continue
            projected = linear_map_of(self.region, self.clean, z, mixing[number + 1 :])
            self.heads.projected = projected
            if projected is not None:
                self.name_cluster(Z, z, [*mixing[number:]])
                self.find_keys(z, apart, *found)
                self.find_pattern(z, *found)
                return self.heads
        why = "no value was seen to be a pattern's mean of others, head by head"
        names = (*OF_HEADS, ROT_Q, ROT_K, SCORES, PATTERN)
        self.heads.why |= dict.fromkeys(names, why)
        return self.heads

    def rows(self, seen: Recording, origin: Origin) -> Tensor:
        return self.region.rows(seen, origin)

    def mixes(self, origin: Origin) -> bool:
        one, other = self.rows(self.clean, origin), self.moved.values.get(origin)
        if other is None:
            return False
        return not is_unchanged(one[:, 1:], in_rows(other, self.region.axes(origin))[:, 1:])

    def own_heads(self, origin: Origin) -> int | None:
        """The size of the axis that may be the heads'; None where a value has no such axis."""
        axes, shape = self.region.axes(origin), self.clean.values[origin].shape
        others = [size for axis, size in zip(axes, shape, strict=True) if axis not in ROWS]
        return others[0] if len(others) == 2 else None

    def find_values(self, z: Origin, before: list[Origin]) -> tuple[Origin, Tensor, int] | None:
        """Where v is made, the pattern [batch head pos key], and how many heads v has."""
        rows = self.rows(self.clean, z)
        for v in reversed(before):
            width = self.rows(self.clean, v).shape[-1]
            if width > rows.shape[-1] or rows.shape[-1] % width:
                continue
            seen = self.region.with_rows(
                v, at_position(0, torch.ones_like(self.rows(self.clean, v)))
            )
            heads = heads_shown(self.rows(seen, z) - rows, self.own_heads(z), rows)
            if heads is None or (width * heads) % rows.shape[-1]:
                continue
            few = width * heads // rows.shape[-1]
            if few and heads % few == 0:
                v, few = self.before_repeating(v, before, heads, few)
                pattern = self.pattern_of(z, v, heads, few)
                # heads that look at all alike cannot be told apart where they have no axis
                if self.own_heads(z) is None and is_even(pattern):
                    continue
                if self.is_mean(z, v, pattern, few):
                    self.heads.count |= {Z: heads, V: few}
                    return v, pattern, few
        return None

    def before_repeating(
        self, v: Origin, before: list[Origin], heads: int, few: int
    ) -> tuple[Origin, int]:
        """The v that a group of heads shares, where a line repeats it for each of them; and how
        many heads it has."""
        repeated = self.rows(self.clean, v)
        size = repeated.shape[-1] // few
        for origin in before[: before.index(v)] if few == heads else []:
            rows = self.rows(self.clean, origin)
            groups, rest = divmod(rows.shape[-1], size)
            if rest or not groups or groups == few or few % groups:
                continue
            each = rows.unflatten(-1, (groups, size)).repeat_interleave(few // groups, dim=2)
            if torch.equal(each.flatten(2), repeated):
                return origin, groups
        return v, few

    def pattern_of(self, z: Origin, v: Origin, heads: int, few: int) -> Tensor:
        """The pattern [batch head pos key], as ones added to v show it in z: at each position to
        numbers of its own, where a head has enough for all."""
        clean, rows = self.rows(self.clean, z), self.rows(self.clean, v)
        length, size = rows.shape[1], rows.shape[-1] // few
        shares = torch.arange(size, device=rows.device) % length
        together = size >= length
        shown = torch.zeros(*rows.shape[:2], heads, length).to(rows)
        for keys in [range(length)] if together else [[key] for key in range(length)]:
            ones = torch.zeros_like(rows).unflatten(-1, (few, size))
            for key in keys:
                ones[:, key] = (shares == key).to(rows) if together else 1.0
            seen = self.region.with_rows(v, lambda value: value + ones.flatten(2))  # noqa: B023
            change = (self.rows(seen, z) - clean).unflatten(-1, (heads, -1))
            for key in keys:
                among = shares == key if together else slice(None)
                shown[..., key] = change[..., among].mean(-1)
        return shown.transpose(1, 2)

    def is_mean(self, z: Origin, v: Origin, pattern: Tensor, few: int) -> bool:
        """Whether z is what the pattern makes of v, with grouped heads of v repeated."""
        values = self.rows(self.clean, v).unflatten(-1, (few, -1))
        values = values.repeat_interleave(pattern.shape[1] // few, dim=2)
        expected = torch.einsum("bhpk,bkhd->bphd", pattern, values).flatten(2)
        return is_close(expected, self.rows(self.clean, z), values.abs().amax(1, True).flatten(2))

    def name_cluster(self, name: str, origin: Origin, among: list[Origin]) -> None:
        """Names a value, or one with the same numbers that has an axis of heads."""
        rows = self.rows(self.clean, origin)
        same = [
            each
            for each in among
            if is_permuted(self.rows(self.clean, each), rows)
            and self.own_heads(each) == self.heads.count[name]
        ]
        self.heads.made[name] = same[0] if same else origin

    def find_keys(
        self, z: Origin, before: list[Origin], v: Origin, pattern: Tensor, few: int
    ) -> None:
        """Where q and k are made, before and after positions are turned into them."""
        heads, count = self.heads.count[Z], self.heads.count
        width = {"q": self.rows(self.clean, z).shape[-1], "k": self.rows(self.clean, v).shape[-1]}
        kinds: dict[str, list[Origin]] = {"q": [], "k": [], "v": []}
        for origin in before:
            size = self.rows(self.clean, origin).shape[-1]
            if size not in width.values():
                continue
            kind = self.kind_of(z, v, origin)
            if kind in kinds and size == width["q" if kind == "q" else "k"]:
                kinds[kind].append(origin)
        first_v = kinds["v"][0] if kinds["v"] else v
        self.name_cluster(V, first_v, before)
        if not kinds["q"] or not kinds["k"]:
            why = "no value was seen that moves the pattern as q or k does"
            self.heads.why |= dict.fromkeys((Q, K, ROT_Q, ROT_K), why)
            return
        count |= {Q: heads, ROT_Q: heads, K: few, ROT_K: few}
        last_q, last_k = self.last(kinds["q"], heads), self.last(kinds["k"], few)
        if not self.turns_together(z, last_q, last_k):
            why = "a turn of q and k together does not leave z as it is"
            self.heads.why |= dict.fromkeys((Q, K, ROT_Q, ROT_K), why)
            return
        for name, rotated, group, last in (
            (Q, ROT_Q, kinds["q"], last_q),
            (K, ROT_K, kinds["k"], last_k),
        ):
            self.name_cluster(name, group[0], group)
            first = self.rows(self.clean, group[0])
            if not is_permuted(first, self.rows(self.clean, last)):
                self.heads.made[rotated] = last

    def last(self, origins: list[Origin], heads: int) -> Origin:
        """The last of some values, or one with the same numbers that has an axis of heads."""
        end = self.rows(self.clean, origins[-1])
        for origin in reversed(origins):
            same = is_permuted(self.rows(self.clean, origin), end)
            if same and self.own_heads(origin) == heads:
                return origin
        return origins[-1]

    def kind_of(self, z: Origin, v: Origin, origin: Origin) -> str:
        """What a value is for attention, as a change of it at the second position shows: q moves z
        there alone, k the pattern at later ones, and v what is looked at."""
        delta = noise_like(self.rows(self.clean, origin), seed=7)
        seen = self.region.with_rows(origin, at_position(1, delta))
        changes = self.rows(seen, z)
        clean = self.rows(self.clean, z)
        if is_unchanged(changes, clean):
            return ""
        if origin == v or not is_unchanged(self.rows(seen, v), self.rows(self.clean, v)):
            twice = self.region.with_rows(origin, at_position(1, 2 * delta))
            linear = is_close(self.rows(twice, z) - clean, 2 * (changes - clean), clean)
            return "v" if linear else ""
        return "q" if is_unchanged(changes[:, 2:], clean[:, 2:]) else "k"

    def turns_together(self, z: Origin, q: Origin, k: Origin, alone: bool = True) -> bool:
        """Whether a turn of q and k, the same in each group of heads, leaves z as it is; and one of
        q ``alone`` does not, where that is asked."""
        few, heads = self.heads.count[K], self.heads.count[Q]
        keys = self.rows(self.clean, k)
        generator = torch.Generator().manual_seed(11)
        size = keys.shape[-1] // few
        drawn = torch.randn(few, size, size, generator=generator, dtype=torch.float64)
        turn = torch.linalg.qr(drawn).Q.to(keys)
        each = turn.repeat_interleave(heads // few, dim=0)
        changes = {
            q: lambda value: change_rows(self.region.axes(q), turned(each), value),
            k: lambda value: change_rows(self.region.axes(k), turned(turn), value),
        }
        clean = self.rows(self.clean, z)
        if not is_unchanged(self.rows(self.region.run(changes), z), clean):
            return False
        if not alone or size == 1:
            return True
        return not is_unchanged(self.rows(self.region.run({q: changes[q]}), z), clean)

    def find_pattern(self, z: Origin, v: Origin, pattern: Tensor, few: int) -> None:
        """Where the pattern is made, and the scores that it is a softmax of."""
        order = list(self.clean.values)
        squares = [
            origin
            for origin in order[: order.index(z)]
            if self.region.axes(origin)[2:] == ("pos", "key")
            and self.region.axes(origin)[0] == "batch"
            and self.clean.values[origin].shape == pattern.shape
        ]
        for origin in reversed(squares):
            value = self.clean.values[origin]
            if is_close(value, pattern) and self.moves_alike(z, v, origin, few):
                self.heads.made[PATTERN] = origin
                break
        made = self.heads.made.get(PATTERN)
        if made is None:
            line = self.region.bench.found[z].source
            why = (
                f"{Path(line.file).name}:{line.line} is attention in one call: it makes no pattern"
            )
            config = getattr(self.region.bench.model, "config", None)
            if getattr(config, "_attn_implementation", "eager") != "eager":
                why += '; load the model with attn_implementation="eager" to see one'
            self.heads.why |= dict.fromkeys((SCORES, PATTERN), why)
            return
        for origin in reversed(squares[: squares.index(made)]):
            softmax = self.clean.values[origin].softmax(-1)
            if is_close(softmax, pattern) and self.is_softmax(origin, made):
                self.heads.made[SCORES] = origin
                return
        self.heads.why[SCORES] = "no value was seen whose softmax is the pattern"

    def is_softmax(self, scores: Origin, pattern: Origin) -> bool:
        """Whether the pattern is the scores' softmax, with these changed too."""
        delta = noise_like(self.clean.values[scores].clamp(min=-1e2), seed=13)
        seen = self.region.run({scores: lambda value: value + delta})
        return is_close(seen.values[scores].softmax(-1), seen.values[pattern])

    def moves_alike(self, z: Origin, v: Origin, pattern: Origin, few: int) -> bool:
        """Whether a change of one head's pattern changes that head's z, by as much of v."""
        delta = torch.zeros_like(self.clean.values[pattern])
        delta[:, -1] = noise_like(delta[:, -1] + 1, seed=12)
        seen = self.region.run({pattern: lambda value: value + delta})
        values = self.rows(self.clean, v).unflatten(-1, (few, -1))
        values = values.repeat_interleave(delta.shape[1] // few, dim=2)
        expected = torch.einsum("bhpk,bkhd->bphd", delta, values).flatten(2)
        clean = self.rows(self.clean, z)
        return is_close(self.rows(seen, z) - clean, expected, clean)


ROWS = ("batch", "pos")


def heads_shown(change: Tensor, own: int | None, base: Tensor) -> int | None:
    """How many heads a value has, from the change that ones in v make: the same along a head.

    Args:
        change: of the value, as rows.
        own: the size of its axis that may be the heads'; None where it has none, and the least
            number of heads is taken.
        base: the value.

    Returns:
        None where the change is of another kind.
    """
    size = change.shape[-1]
    if not is_far(change, base):
        return None
    for heads in [own] if own else [each for each in range(1, size + 1) if size % each == 0]:
        along = change.unflatten(-1, (heads, -1))
        even = along.mean(-1, keepdim=True).expand_as(along)
        if is_close(along.flatten(2), even.flatten(2), base):
            return heads
    return None


def is_even(pattern: Tensor) -> bool:
    """Whether some head looks at all that it can see alike, at the last position."""
    last = pattern[:, :, -1]
    seen = last > 1e-6
    most = last.amax(-1)
    least = last.masked_fill(~seen, torch.inf).amin(-1)
    return bool(((most - least < 1e-4 * most) & (seen.sum(-1) > 1)).any())


def turned(turn: Tensor) -> Callable[[Tensor], Tensor]:
    """Turns rows of heads, each by its own matrix [head d_head d_head]."""

    def change(rows: Tensor) -> Tensor:
        heads = rows.unflatten(-1, (len(turn), -1))
        return torch.einsum("bphd,hde->bphe", heads, turn).flatten(2)

    return change
