"""Which lines of a block make z, q, k, v, the scores and the pattern, and which axis is the head?

Each is found by what a change of it does. Ones added to v at one position show the pattern in z,
the same along a head and another for each head; with that pattern, v must make z. A turn of q and k
by the same angles must leave z as it is; noise in one head's z must move what attention returns
linearly, and at its own position alone.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from interp.line_hooks.bench import (
    Recording,
    Region,
    at_position,
    in_rows,
    is_close,
    is_far,
    is_unchanged,
    noise_like,
    tolerance_of,
)
from interp.line_hooks.keys import KeySearch
from interp.line_hooks.mapping import linear_map_of
from interp.line_hooks.searching import (
    OF_HEADS,
    PATTERN,
    ROT_K,
    ROT_Q,
    SCORES,
    Heads,
    Search,
    V,
    Z,
)
from interp.line_hooks.values import Origin


def find_heads(
    region: Region, clean: Recording, moved: Recording, attention: Origin | None
) -> Heads:
    """What the attention of a block is made of.

    Args:
        region: the block.
        clean: a run of it.
        moved: one in which the first position's stream is another.
        attention: where is made what attention adds to the stream; None where that is not known.
    """
    return HeadSearch(region, clean, moved, attention=attention).find()


@dataclass(kw_only=True)
class HeadSearch(Search):
    """The search in one block.

    Args:
        attention: where is made what attention adds to the stream; None where that is not known.
    """

    attention: Origin | None

    def find(self) -> Heads:
        """Everything that can be confirmed."""
        order = list(self.clean.values)
        end = len(order) if self.attention is None else order.index(self.attention)
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
                search = KeySearch(self.region, self.clean, self.moved, self.heads, z=z, v=found[0])
                search.find(apart)
                self.find_pattern(z, *found)
                return self.heads
        why = "no value was seen to be a pattern's mean of others, head by head"
        names = (*OF_HEADS, ROT_Q, ROT_K, SCORES, PATTERN)
        self.heads.why |= dict.fromkeys(names, why)
        return self.heads

    def mixes(self, origin: Origin) -> bool:
        one, other = self.rows(self.clean, origin), self.moved.values.get(origin)
        if other is None:
            return False
        return not is_unchanged(one[:, 1:], in_rows(other, self.region.axes(origin))[:, 1:])

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
            if is_close(softmax, pattern, tolerance=SINGLE) and self.is_softmax(origin, made):
                self.heads.made[SCORES] = origin
                return
        self.heads.why[SCORES] = (
            "no line holds what the pattern is the softmax of: a mask may be added within that call"
        )

    def is_softmax(self, scores: Origin, pattern: Origin) -> bool:
        """Whether the pattern is the scores' softmax, with these changed too."""
        delta = noise_like(self.clean.values[scores].clamp(min=-1e2), seed=13)
        seen = self.region.run({scores: lambda value: value + delta})
        softmax, made = seen.values[scores].softmax(-1), seen.values[pattern]
        return is_close(softmax, made.to(softmax), tolerance=max(SINGLE, tolerance_of(made)))

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


SINGLE = 3e-4  # many models make the softmax in single precision, whatever the rest is in


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
