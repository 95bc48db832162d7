"""What does a search in a block know of attention, and how does it try values out?"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from interp.line_hooks.bench import Change, Recording, Region, is_permuted
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


ROWS = ("batch", "pos")


@dataclass
class Search:
    """A search in one block.

    Args:
        region: the block.
        clean: a run of it.
        moved: one in which the first position's stream is another.
        heads: what is found; filled.
    """

    region: Region
    clean: Recording
    moved: Recording
    heads: Heads = field(default_factory=Heads)

    def rows(self, seen: Recording, origin: Origin) -> Tensor:
        return self.region.rows(seen, origin)

    def width(self, origin: Origin) -> int:
        return int(self.rows(self.clean, origin).shape[-1])

    def own_heads(self, origin: Origin) -> int | None:
        """The size of the axis that may be the heads'; None where a value has no such axis."""
        axes, shape = self.region.axes(origin), self.clean.values[origin].shape
        others = [size for axis, size in zip(axes, shape, strict=True) if axis not in ROWS]
        return others[0] if len(others) == 2 else None

    def with_all(self, given: Mapping[Origin, Tensor], stream: Tensor | None = None) -> Recording:
        """What the block makes with these rows in the place of some values."""
        changes: dict[Origin, Change] = {}
        for origin, rows in given.items():
            changes |= self.region.changing(origin, giving_rows(rows))
        return self.region.run(changes, stream)

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


def giving_rows(rows: Tensor) -> Change:
    """Gives these rows, whatever stood there."""
    return lambda _: rows
