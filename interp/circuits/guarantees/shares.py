"""How sure is a share of a gap, when both vary over texts?

    gains = values - nothing          # [size text], what a circuit has beyond one with no edges
    gap = whole - nothing             # [text], what the whole model has
    share_intervals(gains, gap)       # of the ratio of their means, by size

The shares of all sizes come from the same resamples of the texts, gap included, so that what
follows from several of them, as an area does, has its interval too.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from interp.errors import UsageError
from interp.stats import bca_ends, resample_counts
from interp.verdicts import FEWEST

Shares = Float[np.ndarray, "size draw"]
Follows = Callable[[Shares], Float[np.ndarray, "row draw"]]
"""What follows from the shares of all sizes, each draw by itself."""


def share_intervals(
    gains: Float[np.ndarray, "size text"],
    gap: Float[np.ndarray, "text"],
    follows: Follows = lambda shares: shares,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """``mean(gains) / mean(gap)``, or what follows from it, with its bootstrap interval over texts.

    The interval is bias-corrected and accelerated, as ``interp.stats.bootstrap_interval`` makes it
    of a mean; the acceleration comes from leaving out one text at a time.

    Returns:
        The values, and the low and the high ends. Ends are NaN where there are fewer than three
        texts, and where some resample has a gap of none or of the other sign: a share of that is
        no number that an interval could be about.

    Raises:
        UsageError: a mean gap of zero.
    """
    count = len(gap)
    if gap.mean() == 0:
        raise UsageError(
            "the gap is zero on average over these texts, and nothing is a share of it"
        )
    value = follows((gains.mean(axis=1) / gap.mean())[:, None])[:, 0]
    missing = np.full(len(value), np.nan)
    if count < FEWEST:
        return value, missing, missing
    draws = []
    for counts in resample_counts(count, resamples, seed):
        gaps = counts @ gap / count
        if (gaps * np.sign(gap.mean()) <= 0).any():
            return value, missing, missing
        draws.append(follows(gains @ counts.T / count / gaps))
    left = (count * gap.mean() - gap) / (count - 1)  # the mean without each text
    if (left * np.sign(gap.mean()) <= 0).any():
        return value, missing, missing
    without = (gains.sum(axis=1, keepdims=True) - gains) / (count - 1)
    jackknife = follows(without / left)
    influence = jackknife.mean(axis=1, keepdims=True) - jackknife
    apart = np.sort(np.concatenate(draws, axis=1) - value[:, None], axis=1)
    apart[np.abs(apart) <= 1e-12 * np.maximum(1, np.abs(value))[:, None]] = 0  # that is rounding
    low, high = bca_ends(apart, influence, confidence)
    return value, value + low, value + high
