"""What do gradients say of every edge, text by text?"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.attribution import differentiable
from interp.blocks.calling import BlockCall
from interp.circuits.contributions import take_apart
from interp.circuits.finding.gradients import GradientRun
from interp.circuits.finding.texts import TextsRun, read_texts, texts_in_parts
from interp.circuits.graph import Edge, Graph
from interp.circuits.pairs import Direction, order_pair
from interp.metrics import Metric, measure
from interp.site import Model
from interp.sweeps.speed.scoring import check_scores

SHOWING = 2  # texts on which a model shows its parts

Products = Float[Tensor, "batch writer reader"]


class EdgeEstimate:
    """Scores of edges by gradients.

    Args:
        model, clean, corrupted, metric, direction, split_embed: as for ``score_edges``.

    Attributes:
        graph: of the model.
        ends: once there are scores, the metric's mean in the run that is patched and in the other.

    Raises:
        UsageError: what ``edge_effects`` raises before it patches anything; a model made in
            inference mode.
    """

    def __init__(
        self,
        model: Model,
        clean: Int[Tensor, "batch pos"],
        corrupted: Int[Tensor, "..."],
        metric: Metric,
        direction: Direction = "corrupted into clean",
        split_embed: bool = False,
    ) -> None:
        with differentiable(model):
            clean, corrupted = clean.clone(), corrupted.clone()  # inference mode's have no graph
            self.into, self.other = order_pair(clean, corrupted, direction)
            self.metric, self.metric_tokens = metric, clean
            self.run = take_apart(model, self.into[:SHOWING], split_embed=split_embed)
        self.ends = (float("nan"), float("nan"))

    @property
    def graph(self) -> Graph:
        return self.run.graph

    def scores(
        self, edges: Sequence[Edge], method: str = "EAP", steps: int = 5
    ) -> Float[np.ndarray, "edge batch"]:
        """The scores of some edges, text by text, as ``score_edges`` explains them."""
        with differentiable(self.run.blocks.model):
            return self._scores(edges, method, steps)

    def _scores(
        self, edges: Sequence[Edge], method: str, steps: int
    ) -> Float[np.ndarray, "edge batch"]:
        writers = {writer: number for number, writer in enumerate(self.graph.writers)}
        readers = {reader: number for number, reader in enumerate(self.graph.readers)}
        rows = [writers[edge.writer] for edge in edges]
        columns = [readers[edge.reader] for edge in edges]
        found, ends = [], []

        def first(texts: slice) -> tuple[Tensor, Tensor]:
            made = read_texts(self.run, self.into[texts]).logits
            return made, self.metric_tokens[texts]

        for texts in texts_in_parts(self.run, self.metric, len(self.into), first):
            here = read_texts(self.run, self.into[texts])
            there = read_texts(self.run, self.other[texts])
            ends.append([self.measure(each.logits, texts) for each in (here, there)])
            deltas = there.written.sub_(here.written)
            run = GradientRun(self.run, self.calls(texts), self.metric, self.metric_tokens[texts])
            products = WAYS[method](run, here, deltas, steps)
            found.append(products[:, rows, columns].T.double().cpu())
        self.ends = tuple(np.concatenate(ends, axis=1).mean(axis=1).tolist())
        return torch.cat(found, dim=1).numpy()

    def measure(
        self, logits: Float[Tensor, "batch pos vocab"], texts: slice
    ) -> Float[np.ndarray, "batch"]:
        """The metric of some texts' own logits."""
        tokens = self.metric_tokens[texts]
        value = check_scores(measure(self.metric, logits, tokens), len(tokens))
        return value.double().cpu().numpy()

    def calls(self, texts: slice) -> Sequence[BlockCall]:
        """How the model calls its blocks on some texts: as on those that showed its parts, where it
        hands them nothing for each text."""
        known = self.run.blocks.calls
        if any(call.by_example for call in known):
            return self.run.blocks.blocks.calls(self.into[texts])
        return known


def at_the_text(
    run: GradientRun, here: TextsRun, deltas: Float[Tensor, "batch writer pos d_model"], steps: int
) -> Products:
    """By the gradient in the run that is patched."""
    return run.products(here.entering[0], deltas, expected=here.entering[-1])


def between_embeddings(
    run: GradientRun, here: TextsRun, deltas: Float[Tensor, "batch writer pos d_model"], steps: int
) -> Products:
    """By the mean gradient in runs whose embeddings lie between."""
    run.check(here.entering[0], here.entering[-1])
    moved = deltas[:, : len(run.graph.embeddings)].sum(dim=1)
    ways = [here.entering[0] + share * moved for share in shares_of(steps)]
    return torch.stack([run.products(stream, deltas) for stream in ways]).mean(dim=0)


def between_activations(
    run: GradientRun, here: TextsRun, deltas: Float[Tensor, "batch writer pos d_model"], steps: int
) -> Products:
    """By the mean gradient in runs where what a writer and those beside it write lies between: of
    each writer in runs of its own."""
    run.check(here.entering[0], here.entering[-1])
    found: list[Tensor] = []
    number = 0
    for layer, kind, count in writers_by_place(run.graph):
        theirs = slice(number, number + count)
        number += count
        moved, own = deltas[:, theirs].sum(dim=1), torch.zeros_like(deltas)
        own[:, theirs] = deltas[:, theirs]
        made = []
        for share in shares_of(steps):
            if kind == "attn":
                attn = here.attn[layer] + share * moved
                some = run.products(here.entering[layer], own, begin=layer, attn=attn)
            else:
                stream = here.entering[layer + 1] + share * moved
                some = run.products(stream, own, begin=layer + 1)
            made.append(some[:, theirs])
        found.append(torch.stack(made).mean(dim=0))
    return torch.cat(found, dim=1)


def writers_by_place(graph: Graph) -> Iterator[tuple[int, str, int]]:
    """Writers that write at the same place, in the order of writers: the layer, -1 of embeddings;
    what they are; how many there are."""
    yield -1, "embed", len(graph.embeddings)
    for layer in range(len(graph.layers)):
        if heads := len(graph.attention_writers(layer)):
            yield layer, "attn", heads
        if graph.mlp_writers(layer):
            yield layer, "mlp", 1


def shares_of(steps: int) -> Iterator[float]:
    """The middles of so many equal parts of the way."""
    return ((step + 0.5) / steps for step in range(steps))


WAYS: Mapping[str, Callable[..., Products]] = {
    "EAP": at_the_text,
    "EAP-IG inputs": between_embeddings,
    "EAP-IG activations": between_activations,
}
