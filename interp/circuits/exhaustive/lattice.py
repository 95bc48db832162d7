"""What follows from the values of all circuits, exactly?

lattice.smallest(within=0.1)       # the fewest parts that give the model's value but for 10 %
lattice.minimal(within=0.1)        # every circuit that does and loses it with any part fewer
lattice.completeness(["a0.h1"])    # how a circuit and the model differ, whatever is cut in both
lattice.shapley()                  # each part's share, over all orders of adding parts
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from interp.errors import UsageError, nearest
from interp.verdicts import intervals_over_texts


@dataclass(frozen=True, eq=False)
class CircuitLattice:
    """The metric of every choice of some parts of a model.

    Args:
        parts: that are in or out, as they are written.
        values: of each circuit; bit i of its number says whether part i is in.
    """

    parts: tuple[str, ...]
    values: Float[np.ndarray, "circuit batch"]

    @cached_property
    def means(self) -> Float[np.ndarray, "circuit"]:
        """Each circuit's mean over texts."""
        return self.values.mean(axis=1)

    @cached_property
    def sizes(self) -> Int[np.ndarray, "circuit"]:
        """How many parts each circuit has."""
        return np.bitwise_count(np.arange(len(self.values))).astype(int)

    @property
    def gap(self) -> float:
        """The mean with all parts, less that with none."""
        return float(self.means[-1] - self.means[0])

    def number(self, parts: Sequence[str]) -> int:
        """The number of the circuit of these parts. Raises ``UsageError`` for another part."""
        for part in parts:
            if part not in self.parts:
                raise UsageError(
                    f"{part!r} is none of the parts that were in or out; nearest: "
                    f"{nearest(part, self.parts)}"
                )
        return sum(1 << self.parts.index(part) for part in set(parts))

    def names(self, number: int) -> tuple[str, ...]:
        """The parts of a circuit."""
        return tuple(part for bit, part in enumerate(self.parts) if number >> bit & 1)

    def value(self, parts: Sequence[str]) -> Float[np.ndarray, "batch"]:
        """The metric of the circuit of these parts, text by text."""
        return self.values[self.number(parts)]

    def is_within(self, within: float) -> Bool[np.ndarray, "circuit"]:
        """Which circuits give what all parts give, but for a share of the gap to none.

        Raises:
            UsageError: a negative share; no gap.
        """
        if not within >= 0:
            raise UsageError(f"within is {within!r}; it must be a share of the gap, at least 0")
        if abs(self.gap) <= 1e-6 * np.abs(self.means).max():
            raise UsageError(
                f"the metric is {self.means[-1]:.6g} with all parts and with none, so that no "
                "circuit can be more or less like the model"
            )
        return np.abs(self.means - self.means[-1]) <= within * abs(self.gap)

    def smallest(self, within: float = 0.1) -> pd.DataFrame:
        """The circuits of the fewest parts that are within a share of the model.

        Returns:
            One row per such circuit: its ``parts``, their ``size``, its ``value`` (the mean over
            texts) and ``faithfulness``, where 0 is no part and 1 all.
        """
        fits = self.is_within(within)
        fewest = self.sizes[fits].min()
        return self.told(np.flatnonzero(fits & (self.sizes == fewest)))

    def minimal(self, within: float = 0.1) -> pd.DataFrame:
        """Every circuit within a share of the model that has no smaller one like that inside it.

        More than one row says that the circuit is not unique. Returns what ``smallest`` does.
        """
        fits = self.is_within(within)
        holds = fits.copy()  # whether it, or any circuit inside it, fits
        for bit in range(len(self.parts)):
            without, with_ = halves(holds, bit)
            with_ |= without
        inside = np.zeros_like(fits)  # whether a smaller one does
        for bit in range(len(self.parts)):
            without, _ = halves(holds, bit)
            _, with_ = halves(inside, bit)
            with_ |= without
        return self.told(np.flatnonzero(fits & ~inside))

    def told(self, numbers: Int[np.ndarray, "some"]) -> pd.DataFrame:
        ordered = sorted(map(int, numbers), key=lambda each: (self.sizes[each], each))
        table = pd.DataFrame({"parts": [self.names(each) for each in ordered]})
        table["size"] = self.sizes[ordered]
        table["value"] = self.means[ordered]
        table["faithfulness"] = (table["value"] - self.means[0]) / self.gap
        return table

    def completeness(self, parts: Sequence[str]) -> pd.DataFrame:
        """A circuit beside the model, with the same parts cut from both: every choice of them.

        Returns:
            One row per choice of the circuit's parts: which are ``cut``; ``circuit`` and ``model``,
            what is left of either; their ``difference`` in units of the gap; largest first. A
            complete circuit differs nowhere (Wang et al. 2022).
        """
        own = self.number(parts)
        cuts = np.fromiter(subsets_of(own), dtype=int)
        everything = len(self.values) - 1
        table = pd.DataFrame({"cut": [self.names(int(cut)) for cut in cuts]})
        table["circuit"] = self.means[own & ~cuts]
        table["model"] = self.means[everything & ~cuts]
        table["difference"] = (table["circuit"] - table["model"]) / self.gap
        order = np.argsort(-table["difference"].abs().to_numpy(), kind="stable")
        return table.iloc[order].reset_index(drop=True)

    def shapley(self) -> pd.DataFrame:
        """Each part's share of the gap: what it adds, on average over all orders of adding parts.

        Shares of all parts sum to the gap, and parts that do the same have the same.

        Returns:
            One row per part: ``part``, ``value`` (the mean over texts) with its interval and
            ``p_adjusted``, ``n``.
        """
        count = len(self.parts)
        weights = np.array([1 / (count * math.comb(count - 1, size)) for size in range(count)])
        found = []
        for bit in range(count):
            without, with_ = halves(self.values, bit)
            size, _ = halves(self.sizes, bit)
            found.append(np.tensordot(weights[size], with_ - without, axes=size.ndim))
        shares = np.stack(found)
        table = pd.DataFrame({"part": self.parts, "value": shares.mean(axis=1)})
        return table.assign(**intervals_over_texts(shares), n=shares.shape[1])

    def interactions(self) -> pd.DataFrame:
        """What two parts do together beyond what each does alone, on average over what else is in:
        Shapley's interaction index. Positive: each needs the other; negative: either will do.

        Returns:
            One row per pair: ``part``, ``other``, ``value``.
        """
        count, rows = len(self.parts), []
        weights = np.array(
            [1 / ((count - 1) * math.comb(count - 2, size)) for size in range(max(0, count - 1))]
        )
        for one in range(count):
            lone, both = halves(self.means, one)
            size, _ = halves(self.sizes, one)
            gain = (both - lone).reshape(-1)  # of the circuits without it
            size = size.reshape(-1)
            for other in range(one + 1, count):
                without, with_ = halves(gain, other - 1)
                rest, _ = halves(size, other - 1)
                value = float((weights[rest] * (with_ - without)).sum())
                rows.append({"part": self.parts[one], "other": self.parts[other], "value": value})
        return pd.DataFrame(rows, columns=["part", "other", "value"])


def halves(values: np.ndarray, bit: int) -> tuple[np.ndarray, np.ndarray]:
    """Views of the values of circuits without and with a part, in the same order."""
    apart = values.reshape(-1, 2, 1 << bit, *values.shape[1:])
    return apart[:, 0], apart[:, 1]


def subsets_of(number: int) -> Iterator[int]:
    """Every choice of a number's bits, from none on."""
    found = 0
    while True:
        yield found
        if found == number:
            return
        found = (found - number) & number
