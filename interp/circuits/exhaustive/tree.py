"""Every circuit of parts of a small model, as a tree over its layers.

    lattice = every_circuit(model, clean, corrupted, metric)    # 2 x 4 heads and 2 MLPs: 1,024
    lattice.smallest(within=0.1)

A part that is out says what replaces it. What circuits have in common up to a layer is run once: a
node of the tree is what the parts before a layer did, and its branches are the choices in it. The
last layer runs at the positions that the metric reads alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.exhaustive.lattice import CircuitLattice
from interp.circuits.graph import Writer
from interp.circuits.pairs import check_pair
from interp.circuits.running import Replacement, replacements
from interp.circuits.shown import apply_mlp, read_out
from interp.errors import UsageError
from interp.hooking import evaluating
from interp.metrics import Metric
from interp.site import Model
from interp.sweeps.speed.scoring import Score, UnforeseenReadError, measure_carried, prepare_score
from interp.threads import quickest_threads

MOST = 22  # parts whose every choice is run
TOKENS = 2**13  # that run at a time


def every_circuit(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    *,
    parts: Sequence[str] | None = None,
    replaced_by: Replacement = "corrupted",
    seed: int = 0,
) -> CircuitLattice:
    """The metric of every choice of parts, with all others saying what replaces them.

    Args:
        model, clean, corrupted, metric, replaced_by, seed: as for ``run_circuits``.
        parts: heads and MLPs that are in or out, as they are written: ``a1.h2``, ``m0``. All others
            are in. By default all heads and MLPs. The embedding is always in.

    Raises:
        UsageError: what ``run_circuits`` raises; more than 22 parts.
    """
    check_pair(clean, corrupted)
    with evaluating(model), quickest_threads(model) as ask_threads:
        run = take_apart(model, clean)
        source = take_apart(model, corrupted, like=run)
        every = [each for each in run.graph.writers if each.layer is not None]
        chosen = every if parts is None else [run.graph.writer(each) for each in parts]
        free = [each for each in every if each in set(chosen)]
        if fixed := [str(each) for each in chosen if each not in free]:
            raise UsageError(f"{fixed[0]} is always in: give heads and MLPs")
        if not 0 < len(free) <= MOST:
            raise UsageError(
                f"{len(free)} parts are 2 to the power of {len(free)} circuits; give 1 to {MOST} "
                "of them by parts="
            )
        rest = replacements(source, replaced_by, seed)
        try:
            values = CircuitTree(run, rest, free, metric, ask_threads).values()
        except UnforeseenReadError:  # a metric that reads where its logits tell it to
            tree = CircuitTree(run, rest, free, metric, ask_threads, reads_all=True)
            values = tree.values()
    return CircuitLattice(tuple(map(str, free)), values)


@dataclass(frozen=True)
class Branch:
    """Streams that enter a layer, each of its own circuits.

    Args:
        numbers: of each, which parts before the layer are in, as bits.
        streams: what enters the layer.
    """

    numbers: Int[Tensor, "node"]
    streams: Float[Tensor, "node batch pos d_model"]


class CircuitTree:
    """The tree of all choices.

    Args:
        run: of the whole model.
        rest: what each writer says where it is out.
        free: the parts that are in or out.
        ask_threads: called now and then, to choose the number of threads anew.
        reads_all: whether the metric may read all positions, whatever it reads of the clean logits.
    """

    def __init__(
        self,
        run: SummedRun,
        rest: dict[Writer, Tensor],
        free: Sequence[Writer],
        metric: Metric,
        ask_threads: Callable[[], None],
        reads_all: bool = False,
    ) -> None:
        self.run, self.rest, self.blocks = run, rest, run.blocks
        self.ask_threads = ask_threads
        self.bits = {writer: number for number, writer in enumerate(free)}
        self.layers = run.blocks.shown
        tokens = self.blocks.tokens
        unembed = self.blocks.blocks.unembed
        vocab = unembed(self.blocks.last[:, :1]).shape[-1]
        everywhere = list(range(tokens.shape[1])) if reads_all else None
        self.score: Score = prepare_score(
            *(metric, tokens, unembed, vocab, self.blocks.last, everywhere)
        )
        self.found = np.empty((2 ** len(free), len(tokens)))

    def values(self) -> Float[np.ndarray, "circuit batch"]:
        """The metric of each circuit; bit i of its number says whether part i is in."""
        root = Branch(torch.zeros(1, dtype=torch.long), self.blocks.entering[0][None])
        self.descend(0, root)
        return self.found

    def descend(self, layer: int, branch: Branch) -> None:
        """Everything that follows from the streams that enter a layer."""
        if layer == len(self.run.graph.layers):
            self.measure(branch)
            return
        last = layer + 1 == len(self.run.graph.layers)
        at = self.score.reads if last and self.layers else list(range(branch.streams.shape[2]))
        choices = 2 ** sum(writer.layer == layer for writer in self.bits)
        wide = len(at) * choices if last else branch.streams.shape[2] * choices
        step = max(1, TOKENS // (branch.streams.shape[1] * max(wide, branch.streams.shape[2])))
        parts = zip(branch.numbers.split(step), branch.streams.split(step), strict=True)
        for numbers, streams in parts:
            self.ask_threads()
            self.descend(layer + 1, self.grow(layer, Branch(numbers, streams), at))

    def grow(self, layer: int, branch: Branch, at: list[int]) -> Branch:
        """The streams behind a layer, for every choice of its parts, at some positions."""
        graph, x = self.run.graph, branch.streams
        parts, here = graph.layers[layer], x[:, :, at]
        numbers, grown = branch.numbers[:, None], here[:, None]  # [node choice ...]
        if parts.heads:
            writers = graph.attention_writers(layer)
            now = self.heads(layer, x, at)  # [node writer batch some d_model]
            gone = torch.stack([self.rest[writer][:, at] for writer in writers])
            choices, bits = self.choices(writers, x)
            constant = self.constant(layer)[:, at]
            spread = gone.sum(dim=0) + constant
            less = (now - gone).flatten(2)
            grown = grown + (choices @ less).unflatten(2, gone.shape[1:]) + spread
            numbers = numbers + bits
        if parts.mlp:
            (writer,) = graph.mlp_writers(layer)
            read = here[:, None] if parts.parallel else grown
            choices, bits = self.choices([writer], x)
            made = self.mlp(layer, read.flatten(0, 1), at).unflatten(0, read.shape[:2])
            both = [grown + (made if kept else self.rest[writer][:, at]) for kept in choices[:, 0]]
            grown = torch.stack(both, dim=2).flatten(1, 2)
            numbers = (numbers[:, :, None] + bits).flatten(1)
        return Branch(numbers.flatten(), grown.flatten(0, 1))

    def choices(self, writers: Sequence[Writer], like: Tensor) -> tuple[Tensor, Tensor]:
        """All choices of some parts, [choice writer] of 0 and 1, and their bits [choice]."""
        free = [number for number, writer in enumerate(writers) if writer in self.bits]
        chosen = torch.ones(2 ** len(free), len(writers), dtype=torch.long)
        bits = torch.zeros(len(chosen), dtype=torch.long)
        for place, number in enumerate(free):
            chosen[:, number] = torch.arange(len(chosen)) >> place & 1
            bits += chosen[:, number] << self.bits[writers[number]]
        return chosen.to(like), bits

    def constant(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """What attention adds that no head writes."""
        written = [self.run.written[each] for each in self.run.graph.attention_writers(layer)]
        return self.blocks.values[layer]["attn"] - torch.stack(written).sum(dim=0)

    def heads(
        self, layer: int, x: Float[Tensor, "node batch pos d_model"], at: list[int]
    ) -> Float[Tensor, "node writer batch some d_model"]:
        """What each attention writer of a layer adds."""
        W_O = self.run.maps[layer]
        if W_O is None:
            return self.blocks.of_streams(layer, x, ["attn"])["attn"][:, None, :, at]
        if self.layers is None:
            z = self.blocks.of_streams(layer, x, ["z"])["z"][:, :, at]
        else:
            z = read_out(self.layers[layer], x.flatten(0, 1), at).unflatten(0, x.shape[:2])
        return torch.einsum("nbphd,hdm->nhbpm", z, W_O)

    def mlp(
        self, layer: int, x: Float[Tensor, "node batch some d_model"], at: list[int]
    ) -> Float[Tensor, "node batch some d_model"]:
        """What the MLP of a layer adds."""
        if self.layers is None:
            return self.blocks.of_streams(layer, x, ["mlp"])["mlp"]
        return apply_mlp(self.layers[layer], x)

    def measure(self, branch: Branch) -> None:
        """The metric of the circuits whose streams these are."""
        reads, streams = self.score.reads, branch.streams
        if streams.shape[2] != len(reads):
            streams = streams[:, :, reads]

        def carried(examples: slice) -> tuple[Tensor, list[int]]:
            return streams[:, examples].flatten(0, 1), reads

        values = measure_carried(self.score, len(streams), streams.shape[1], carried)
        self.found[branch.numbers.numpy()] = values.double().cpu().numpy()
