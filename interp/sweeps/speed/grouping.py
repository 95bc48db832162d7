"""What is the cheapest exact way to answer many questions about one model and one text?

Trials of one hook point that change nearly the same positions run together, as rows of one batch:
the fewer positions a row recomputes the better, and the fuller a batch the better. The grouping
that costs least is found by dynamic programming over the trials, sorted by the first position that
each one changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from interp.sweeps.speed.components import Components
from interp.sweeps.speed.entries import Entry


@dataclass(frozen=True)
class BatchLimits:
    """How much a device has under way at a time.

    Args:
        rows: tokens.
        setup: what starting one more batch costs, in tokens.
        logits: numbers, when unembedding.
    """

    rows: int
    setup: int
    logits: int


PROCESSOR = BatchLimits(rows=2**11, setup=48, logits=2**22)  # more do not stay in its caches
GPU = BatchLimits(
    rows=2**14, setup=1024, logits=2**25
)  # fewer leave it waiting for the next kernel


def batch_limits(device: torch.device) -> BatchLimits:
    return PROCESSOR if device.type == "cpu" else GPU


@dataclass(frozen=True)
class Group:
    """Trials of one hook point, run as rows of one batch.

    Args:
        trials: which ones.
        span: positions of the residual stream that they change where they enter it.
        examples: how many examples at a time.
        flops: floating-point operations, for all examples.
    """

    entry: Entry
    trials: list[int]
    span: tuple[int, int]
    examples: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """What parts of a forward pass cost, in floating-point operations.

    Args:
        components: the model.
        length: positions of an example.
        reads: the positions that the metric reads.
    """

    components: Components
    length: int
    reads: list[int]
    _wide: tuple[int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        layer = self.components.layers[0]
        d_model, inner = layer.out.weight.shape
        object.__setattr__(self, "_wide", (d_model, inner, layer.W_post.shape[0]))

    def block(self, start: int, reads: list[int] | None = None) -> int:
        """A block on the positions from ``start`` on; only ``reads`` of them leave it."""
        d_model, inner, _ = self._wide
        reads = list(range(start, self.length)) if reads is None else reads
        keys_values = 4 * d_model * inner * (self.length - start)
        queries = (4 * d_model * inner + self._mlp()) * len(reads)
        return keys_values + queries + 4 * inner * sum(read + 1 for read in reads)

    def mlp(self, positions: int) -> int:
        """The MLP."""
        return self._mlp() * positions

    def _mlp(self) -> int:
        d_model, _, d_mlp = self._wide
        return 4 * d_model * d_mlp

    def logits(self, positions: int) -> int:
        vocab, d_model = self.components.unembedding.weight.shape
        return 2 * vocab * d_model * positions

    def forward(self) -> int:
        """A whole forward pass of one example."""
        return len(self.components.layers) * self.block(0) + self.logits(self.length)

    def suffix(self, layer: int, start: int) -> int:
        """Blocks from ``layer`` on and the logits, on the positions from ``start`` on."""
        wanted = [read for read in self.reads if read >= start]
        count = len(self.components.layers)
        whole = max(count - 1 - layer, 0) * self.block(start)
        last = self.block(start, wanted) if layer < count else 0
        return whole + last + self.logits(len(wanted))

    def trial(self, entry: Entry, span: tuple[int, int]) -> int:
        """One example of a trial, from where it enters the residual stream."""
        if entry.stage == "pre":
            return self.suffix(entry.layer, span[0])
        reached = self.reached(entry, span)
        mlp = self.mlp(reached) if entry.stage == "mid" else 0
        return mlp + self.suffix(entry.layer + 1, span[0])

    def reached(self, entry: Entry, span: tuple[int, int]) -> int:
        """How many positions of a span matter: in the last block only those that are read."""
        if entry.stage == "pre" or entry.layer + 1 < len(self.components.layers):
            return span[1] - span[0]
        return len([read for read in self.reads if span[0] <= read < span[1]])

    def matters(self, entry: Entry, span: tuple[int, int]) -> bool:
        """Whether a change of these positions can reach anything that the metric reads."""
        if span[0] >= span[1] or not self.reads:
            return False
        return self.reads[-1] >= span[0] and self.reached(entry, span) > 0


def group_trials(
    entry: Entry,
    spans: Sequence[tuple[int, tuple[int, int]]],
    cost: Cost,
    batch: int,
    most: int,
    limits: BatchLimits,
) -> list[Group]:
    """Trials of one hook point, in groups that cost least together.

    Args:
        spans: each trial and the positions that it changes.
        batch: examples.
        most: trials that may run together whatever their size.
        limits: what the device has under way at a time.
    """
    ordered = sorted(spans, key=lambda pair: pair[1])
    best: list[tuple[float, int]] = [
        (0.0, 0)
    ]  # cost of the first i trials, start of the last group
    for stop in range(1, len(ordered) + 1):
        choices = []
        for start in range(stop - 1, max(stop - 1 - most, -1), -1):
            tokens = (stop - start) * batch * (cost.length - ordered[start][1][0])
            if tokens > limits.rows and stop - start > 1:
                break
            choices.append((best[start][0] + limits.setup + tokens, start))
        best.append(min(choices))
    groups = []
    stop = len(ordered)
    while stop:
        start = best[stop][1]
        members = ordered[start:stop]
        span = (members[0][1][0], max(last for _, (_, last) in members))
        rows = len(members) * (cost.length - span[0])
        groups.append(
            Group(
                entry,
                [trial for trial, _ in members],
                span,
                min(batch, max(1, limits.rows // rows)),
                cost.trial(entry, span) * batch * len(members),
            )
        )
        stop = start
    return groups[::-1]
