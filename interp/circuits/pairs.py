"""Which run is patched, and from which one do values come?

pair = take_pair(model, clean, corrupted)
pair.deltas[pair.graph.writer("a1.h2")]    # what it adds in the corrupted run, less here
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.graph import Graph, Writer
from interp.circuits.rounding import tolerance_for
from interp.errors import UsageError
from interp.site import Model, Site

Direction = Literal["corrupted into clean", "clean into corrupted"]


@dataclass(frozen=True)
class RunPair:
    """A run that is patched, and one from which values come.

    Args:
        patched: the run that is patched.
        metric_tokens: what the metric is given.
        deltas: what each writer adds in the other run, less what it adds in the patched one.
    """

    model: Model
    patched: SummedRun
    metric_tokens: Int[Tensor, "batch pos"]
    deltas: dict[Writer, Float[Tensor, "batch pos d_model"]]

    @property
    def graph(self) -> Graph:
        return self.patched.graph

    @property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        return self.patched.blocks.tokens

    @property
    def end(self) -> str:
        """The hook point that the logits read."""
        return f"blocks.{len(self.graph.layers) - 1}.hook_resid_post"

    def end_at(self, pos: int | None) -> Site:
        """The same, or one position of it."""
        return Site(self.end, pos=pos)


def take_pair(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    direction: Direction = "corrupted into clean",
    split_embed: bool = False,
) -> RunPair:
    """Both runs, as sums. Raises what ``edge_effects`` raises before it patches anything."""
    into, other = order_pair(clean, corrupted, direction)
    patched = take_apart(model, into, split_embed=split_embed)
    source = take_apart(model, other, split_embed=split_embed, like=patched)
    alike = (clean == corrupted).long().cumprod(dim=1).bool()[:, :, None]  # texts that begin alike
    deltas = {}
    for writer, value in source.written.items():
        delta = value - patched.written[writer]
        if float((delta * alike).abs().max()) <= tolerance_for(value):
            delta = delta.where(~alike, 0)
        deltas[writer] = delta
    return RunPair(model, patched, clean, deltas)


def order_pair(clean: Tensor, corrupted: Tensor, direction: Direction) -> tuple[Tensor, Tensor]:
    """The texts of the run that is patched, and of the other one.

    Raises:
        UsageError: no such direction; what ``check_pair`` raises.
    """
    if direction not in get_args(Direction):
        raise UsageError(
            f"direction is {direction!r}; it must be 'corrupted into clean' or 'clean into "
            "corrupted'"
        )
    check_pair(clean, corrupted)
    return (clean, corrupted) if direction == "corrupted into clean" else (corrupted, clean)


def check_pair(clean: Int[Tensor, "batch pos"], corrupted: Int[Tensor, "..."]) -> None:
    """Raises ``UsageError`` where texts are no pairs, or the same ones."""
    if clean.shape != corrupted.shape:
        raise UsageError(
            f"clean is {list(clean.shape)} tokens and corrupted {list(corrupted.shape)}: edges are "
            "patched between pairs of equal length, position for position"
        )
    if torch.equal(clean, corrupted):
        raise UsageError("clean and corrupted are the same texts: no edge differs between them")
