"""What does the metric say, when logits come a few rows and a few positions at a time?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import NonFiniteError, UsageError
from interp.logits import ReadLogits, Reads
from interp.metrics import Metric, measure
from interp.sweeps.speed.grouping import batch_limits

Unembed = Callable[[Tensor], Tensor]
"""From the residual stream [row pos d_model] to logits [row pos vocab]."""

Carry = Callable[[slice], tuple[Tensor, list[int]]]


class UnforeseenReadError(Exception):
    """A metric read a position that it did not read of the clean logits."""


@dataclass(frozen=True)
class Score:
    """A metric, and what it made of the clean logits.

    Args:
        unembed: the logits that the model makes of what leaves its last block.
        reads: the positions that it reads.
        clean: the clean logits there, [batch read vocab].
        baseline: the metric of them.
        by_example: whether it looks at every example alone, so that some of them can be scored
            without the others.
    """

    metric: Metric
    tokens: Tensor
    unembed: Unembed
    reads: list[int]
    clean: Tensor
    baseline: Tensor
    by_example: bool

    def of(self, logits: Float[Tensor, "row read vocab"], example: Tensor) -> Tensor:
        """The metric of rows, given which example each is of."""
        return score_logits(self.metric, logits, self.tokens[example], self.reads)


def score_logits(
    metric: Metric, logits: Float[Tensor, "row read vocab"], tokens: Tensor, reads: list[int]
) -> Float[Tensor, "row"]:
    """A metric of logits at the positions that it reads.

    Raises:
        UsageError: the metric does not give one number per example.
        NonFiniteError: it gives a NaN or an infinity.
        UnforeseenReadError: it reads another position.
    """
    length = tokens.shape[1]
    if len(reads) == length:
        return check_scores(measure(metric, logits, tokens), len(tokens))
    columns = {position: column for column, position in enumerate(reads)}

    def at(positions: list[int]) -> Tensor:
        try:
            chosen = [columns[position] for position in positions]
        except KeyError as error:
            raise UnforeseenReadError from error
        if chosen == list(range(len(reads))):
            return logits.detach()  # a tensor of its own, as dispatch asks for
        return logits[:, chosen]

    shape = (len(logits), length, logits.shape[2])
    return check_scores(measure(metric, ReadLogits(shape, logits, at), tokens), len(tokens))


def check_scores(value: Any, batch: int, finite: bool = True) -> Float[Tensor, "row"]:
    """A metric's numbers, one for each example, in single precision at least.

    Args:
        finite: whether they have to be.

    Raises:
        UsageError: they are something else.
        NonFiniteError: one is a NaN or an infinity.
    """
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError, RuntimeError):
            kind = type(value).__name__
            raise UsageError(
                f"the metric gives {kind}; it must give one number for each example"
            ) from None
    if value.shape != (batch,) or value.is_complex():
        found = f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
        raise UsageError(f"the metric gives {found}; it must give one number for each example")
    exactly = torch.float32 if value.dtype == torch.bool or value.itemsize < 4 else torch.float64
    value = value.to(value.dtype if value.dtype in (torch.float32, torch.float64) else exactly)
    if finite and not torch.isfinite(value).all():
        raise NonFiniteError("the metric is not a finite number for some example")
    return value


def prepare_score(
    metric: Metric,
    tokens: Tensor,
    unembed: Unembed,
    vocab: int,
    final: Float[Tensor, "batch pos d_model"],
    reads: list[int] | None = None,
) -> Score:
    """A metric read off the clean run.

    Args:
        tokens: what the metric is given.
        unembed: from the residual stream to the logits.
        vocab: how many logits a position has.
        final: the residual stream that leaves the last block.
        reads: the positions to hold ready; by default what the metric turns out to read.

    Raises:
        UsageError, NonFiniteError: as ``score_logits``.
    """
    batch, length, _ = final.shape

    def compute(positions: list[int]) -> Tensor:
        return logits_in_parts(final[:, positions], unembed, vocab)

    if reads is None:
        noted = Reads()
        probe = ReadLogits((batch, length, vocab), compute([0])[:1], noted.noting(compute))
        try:
            measure(metric, probe, tokens)
            reads = sorted(noted.positions)
        except Exception:  # what is wrong, or fails with a tensor of this kind alone, fails below
            reads = list(range(length))
    clean = compute(reads)
    if clean.is_inference():  # whose changes torch does not count
        metric = copy_for(metric)
    before = None if clean.is_inference() else clean._version
    baseline = score_logits(metric, clean, tokens, reads)
    if before is not None and clean._version != before:
        metric, reads = copy_for(metric), list(range(length))
        clean = compute(reads)
        baseline = score_logits(metric, clean, tokens, reads)
    alone = is_per_example(metric, clean, tokens, reads)
    return Score(metric, tokens, unembed, reads, clean, baseline, alone)


def copy_for(metric: Metric) -> Metric:
    """A metric that may write into its logits, given copies, since others read them too."""
    return lambda logits, tokens: metric(logits.clone(), tokens)


def logits_in_parts(
    x: Float[Tensor, "row pos d_model"], logits: Unembed, vocab: int
) -> Float[Tensor, "row pos vocab"]:
    """Logits, no more of them at a time than suits the device."""
    row, pos, _ = x.shape
    rows = max(1, batch_limits(x.device).logits // max(1, pos * vocab))
    if rows >= row:
        return logits(x)
    dtype = torch.promote_types(x.dtype, torch.float32)
    whole = x.new_empty(row, pos, vocab, dtype=dtype)
    for part in range(0, row, rows):
        whole[part : part + rows] = logits(x[part : part + rows])
    return whole


def is_per_example(metric: Metric, logits: Tensor, tokens: Tensor, reads: list[int]) -> bool:
    """Whether a metric gives each example the same number whatever stands beside it.

    Seen by asking again, with the examples in reverse, in pieces, and repeated. A metric that
    holds something of each example in order, as answers or a baseline, does not pass.
    """
    batch = len(tokens)
    whole = score_logits(metric, logits, tokens, reads)
    if batch == 1:
        logits, tokens, whole = (torch.cat([each, each]) for each in (logits, tokens, whole))
        batch = 2
    orders = [torch.arange(batch - 1, -1, -1), torch.arange(batch // 2), torch.tensor([batch - 1])]
    orders += [torch.cat([orders[1], orders[1]])]
    for order in orders:
        try:
            again = score_logits(metric, logits[order], tokens[order], reads)
        except UnforeseenReadError:
            raise
        except Exception:  # whatever a metric raises over fewer examples, it needs them all
            return False
        if not torch.allclose(again, whole[order], rtol=1e-5, atol=1e-6 * float(whole.abs().max())):
            return False
    return True


def measure_carried(
    score: Score, trials: int, step: int, carry: Carry
) -> Float[Tensor, "trial batch"]:
    """The metric of trials that are carried to the last block, some examples at a time.

    Args:
        trials: how many.
        step: how many examples at a time.
        carry: from some examples to the residual stream behind the last block, a row for each trial
            and example, of the read positions that are new; and which these are.
    """
    batch = len(score.tokens)
    measured: list[Tensor] = []
    finish = score_rows if score.by_example else group_logits
    for begin in range(0, batch, step):
        examples = slice(begin, min(begin + step, batch))
        x, fresh = carry(examples)
        measured.append(finish(x, fresh, score, examples).unflatten(0, (trials, -1)))
        del x
    together = measured[0] if len(measured) == 1 else torch.cat(measured, dim=1)
    if score.by_example:
        return together
    everyone = torch.arange(batch, device=score.tokens.device)
    return torch.stack([score.of(logits, everyone) for logits in together])


def score_rows(
    x: Float[Tensor, "row fresh d_model"],
    fresh: list[int],
    score: Score,
    examples: slice,
) -> Float[Tensor, "row"]:
    """The metric row by row, with no more logits under way than suit the device."""
    batch = len(score.tokens[examples])
    example = example_numbers(examples, score, len(x) // batch)
    rows = max(1, batch_limits(x.device).logits // (len(score.reads) * score.clean.shape[2]))
    scores = []
    for begin in range(0, len(x), rows):
        chosen = example[begin : begin + rows]
        logits = fill_in_clean(score.unembed(x[begin : begin + rows]), fresh, score, chosen)
        scores.append(score.of(logits, chosen))
    return torch.cat(scores)


def example_numbers(examples: slice, score: Score, times: int) -> Int[Tensor, "row"]:
    """Which example each row is of, where rows are some examples again and again."""
    first, last, _ = examples.indices(len(score.tokens))
    return torch.arange(first, last, device=score.tokens.device).repeat(times)


def group_logits(
    x: Float[Tensor, "row fresh d_model"],
    fresh: list[int],
    score: Score,
    examples: slice,
) -> Float[Tensor, "row read vocab"]:
    batch = len(score.tokens[examples])
    example = example_numbers(examples, score, len(x) // batch)
    logits = logits_in_parts(x, score.unembed, score.clean.shape[2])
    return fill_in_clean(logits, fresh, score, example)


def fill_in_clean(
    logits: Float[Tensor, "row fresh vocab"], fresh: list[int], score: Score, example: Tensor
) -> Float[Tensor, "row read vocab"]:
    """New logits among the clean ones of the positions that nothing reached."""
    if len(fresh) == len(score.reads):
        return logits
    whole = score.clean[example]
    whole[:, [score.reads.index(position) for position in fresh]] = logits
    return whole
