"""Which lines of a block make q and k, before and after positions are turned into them?

A change of q moves z at its own position alone, one of k at later ones. All of q, or of k, has been
found where nothing but v still moves z when it is zero. A turn of q and k by the same angles must
leave z as it is; and positions are turned into them where the same stream at all positions makes
products that depend on how far apart two positions are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from interp.line_hooks.bench import (
    Recording,
    at_position,
    is_close,
    is_permuted,
    is_unchanged,
    noise_like,
    tolerance_of,
)
from interp.line_hooks.searching import ROT_K, ROT_Q, K, Q, Search, V, Z
from interp.line_hooks.values import Origin


@dataclass(kw_only=True)
class KeySearch(Search):
    """The search for q and k.

    Args:
        z, v: where these are made.
    """

    z: Origin
    v: Origin

    def find(self, before: list[Origin]) -> None:
        """Where q and k are made, before and after positions are turned into them."""
        count = self.heads.count
        heads, few = count[Z], count[V]
        kinds: dict[str, list[Origin]] = {"q": [], "k": [], "v": []}
        for origin in before:
            kind = self.kind_of(origin)
            if kind == "v" and self.width(origin) != self.width(self.v):
                continue
            if kind == "v" or (kind and self.is_whole(origin)):
                kinds[kind].append(origin)
        self.name_cluster(V, kinds["v"][0] if kinds["v"] else self.v, before)
        sizes = [self.width(each) / heads for each in kinds["q"][-1:]]
        for kind, number in (("q", heads), ("k", few)):
            kinds[kind] = [each for each in kinds[kind] if [self.width(each) / number] == sizes]
        if not kinds["q"] or not kinds["k"]:
            why = "no value was seen that is all of q or k, of which the pattern is made"
            self.heads.why |= dict.fromkeys((Q, K, ROT_Q, ROT_K), why)
            return
        count |= {Q: heads, ROT_Q: heads, K: few, ROT_K: few}
        last_q, last_k = self.last(kinds["q"], heads), self.last(kinds["k"], few)
        if not self.turns_together(last_q, last_k):
            why = "a turn of q and k together does not leave z as it is"
            self.heads.why |= dict.fromkeys((Q, K, ROT_Q, ROT_K), why)
            return
        same = self.region.run(stream=self.clean.stream[:, :1].expand_as(self.clean.stream))
        for name, group in ((Q, kinds["q"]), (K, kinds["k"])):
            apart = [each for each in group if is_alike(self.rows(same, each))]
            if apart:
                self.name_cluster(name, apart[0], apart)
            else:
                self.heads.why[name] = "where it is whole, positions are in it already"
        if self.turns_by_place(same, last_q, last_k):
            self.heads.made |= {ROT_Q: last_q, ROT_K: last_k}
        else:
            why = "nothing turns q and k by their positions"
            self.heads.why |= dict.fromkeys((ROT_Q, ROT_K), why)

    def last(self, origins: list[Origin], heads: int) -> Origin:
        """The last of some values, or one with the same numbers that has an axis of heads."""
        end = self.rows(self.clean, origins[-1])
        for origin in reversed(origins):
            same = is_permuted(self.rows(self.clean, origin), end)
            if same and self.own_heads(origin) == heads:
                return origin
        return origins[-1]

    def kind_of(self, origin: Origin) -> str:
        """What a value is for attention, as a change of it at the second position shows: q moves z
        there alone, k the pattern at later ones, and v what is looked at."""
        delta = noise_like(self.rows(self.clean, origin), seed=7)
        seen = self.region.with_rows(origin, at_position(1, delta))
        changes = self.rows(seen, self.z)
        clean = self.rows(self.clean, self.z)
        if is_unchanged(changes, clean):
            return ""
        v, moved = (self.rows(run, self.v) for run in (self.clean, seen))
        if origin == self.v or not is_unchanged(moved, v):
            twice = self.region.with_rows(origin, at_position(1, 2 * delta))
            linear = is_close(self.rows(twice, self.z) - clean, 2 * (changes - clean), clean)
            return "v" if linear else ""
        return "q" if is_unchanged(changes[:, 2:], clean[:, 2:]) else "k"

    def is_whole(self, origin: Origin) -> bool:
        """Whether a value is all of q, or of k: where it is zero, and v is as it was, no other
        stream makes another z. Where a copy of v is zero, z is too."""
        zero = torch.zeros_like(self.rows(self.clean, origin))
        given = {origin: zero, self.v: self.rows(self.clean, self.v)}
        runs = [self.with_all(given, stream) for stream in (self.clean.stream, self.moved.stream)]
        one, other = (self.rows(seen, self.z) for seen in runs)
        return is_unchanged(one, other) and bool(one.any())

    def turns_together(self, q: Origin, k: Origin, alone: bool = True) -> bool:
        """Whether a turn of q and k, the same in each group of heads, leaves z as it is; and one of
        q ``alone`` does not, where that is asked."""
        few, heads = self.heads.count[K], self.heads.count[Q]
        queries, keys = (self.rows(self.clean, each) for each in (q, k))
        generator = torch.Generator().manual_seed(11)
        size = keys.shape[-1] // few
        drawn = torch.randn(few, size, size, generator=generator, dtype=torch.float64)
        turn = torch.linalg.qr(drawn).Q.to(keys)
        each = turn.repeat_interleave(heads // few, dim=0).to(queries)
        # of ordinary size: where a model's own are large, rounding is too
        given = {q: drawn_like(queries, seed=14), k: drawn_like(keys, seed=15)}
        other = {q: turned(each)(given[q]), k: turned(turn)(given[k])}
        clean = self.rows(self.with_all(given), self.z)
        if not is_unchanged(self.rows(self.with_all(other), self.z), clean):
            return False
        if not alone or size == 1:
            return True
        return not is_unchanged(self.rows(self.with_all({**given, q: other[q]}), self.z), clean)

    def turns_by_place(self, same: Recording, q: Origin, k: Origin) -> bool:
        """Whether positions are turned into q and k: each head's products then depend on how far
        apart two positions are, and on nothing else.

        Args:
            same: a run in which the stream is the same at all positions.
            q, k: the last value of each.
        """
        few = self.heads.count[K]
        queries = self.rows(same, q).unflatten(-1, (self.heads.count[Q], -1)).double()
        keys = self.rows(same, k).unflatten(-1, (few, -1)).double()
        keys = keys.repeat_interleave(queries.shape[2] // few, dim=2)
        products = torch.einsum("bphd,bkhd->bhpk", queries, keys)
        size = products.abs().amax()
        allowed = tolerance_of(self.rows(same, q)) * 10 * size
        for distance in range(1 - products.shape[-1], products.shape[-1]):
            along = products.diagonal(distance, -2, -1)
            if bool(((along - along[..., :1]).abs() > allowed).any()):
                return False
        return bool(((products[..., :1] - products).abs() > 1e-3 * size).any())


def is_alike(rows: Tensor) -> bool:
    """Whether all positions hold the same."""
    return is_close(rows, rows[:, :1].expand_as(rows))


def drawn_like(rows: Tensor, seed: int) -> Tensor:
    """Random rows of ordinary size."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows.shape, generator=generator).to(rows)


def turned(turn: Tensor) -> Callable[[Tensor], Tensor]:
    """Turns rows of heads, each by its own matrix [head d_head d_head]."""
    return partial(turn_rows, turn)


def turn_rows(turn: Tensor, rows: Tensor) -> Tensor:
    heads = rows.unflatten(-1, (len(turn), -1))
    return torch.einsum("bphd,hde->bphe", heads, turn).flatten(2)
