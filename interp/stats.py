"""How sure can we be of an effect?

Functions on plain arrays. Values hold one number per example, or per seed, along the last axis;
axes before it are the rows of a sweep, and every function answers all rows at once.

    delta = ablated_loss - clean_loss                 # [site example], paired by example
    mean, low, high = bootstrap_interval(delta)       # each [site]
    p = adjust(sign_flip_p(delta), method="holm")     # [site], corrected for the whole sweep
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import special

from interp.errors import NonFiniteError, UsageError

UNEVEN = 50.0
"""Times the middle value, from which on the largest would hide all others."""
SHOWS = 0.01
"""Nats; smaller effects are not those to be seen beside large ones."""
Values = float | ArrayLike
Numbers = float | Float[np.ndarray, "..."]

CELLS_AT_ONCE = 2**22  # of float64, 32 MiB: what any resampling here holds in memory


class Interval(NamedTuple):
    """A mean and its confidence interval, one per row; floats where there is one row."""

    mean: Numbers
    low: Numbers
    high: Numbers


class Difference(NamedTuple):
    """A difference of two means, its confidence interval, and the p-value of there being none."""

    difference: Numbers
    low: Numbers
    high: Numbers
    p: Numbers


def bootstrap_interval(
    values: Values, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The mean of many examples, with its bootstrap interval.

    Pass paired differences (ablated minus clean, example by example) for the interval of an
    effect. The interval is bias-corrected and accelerated (Efron 1987), what
    ``scipy.stats.bootstrap`` calls BCa; written as one matrix product, because a sweep has
    thousands of rows. All rows see the same resamples, so a row's interval does not depend on
    which others are beside it.

    Raises:
        UsageError: fewer than two examples, a confidence outside 0 to 1, no resamples.
        NonFiniteError: a NaN or an infinity among the values.
    """
    rows, shape = as_rows(values, at_least=2)
    check_confidence(confidence)
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}; it must be at least 1")
    mean = rows.mean(axis=1)
    deviations = rows - mean[:, None]
    low, high = np.empty_like(mean), np.empty_like(mean)
    for part in chunks(len(rows), CELLS_AT_ONCE // resamples):
        draws = np.concatenate(
            [
                deviations[part] @ counts.T
                for counts in resample_counts(rows.shape[1], resamples, seed)
            ],
            axis=1,
        )
        draws = np.sort(draws / rows.shape[1], axis=1)
        low[part], high[part] = bca_ends(draws, deviations[part], confidence)
    return Interval(*(restore_shape(column, shape) for column in (mean, mean + low, mean + high)))


def t_interval(values: Values, confidence: float = 0.95) -> Interval:
    """The mean of few seeds, with Student's t interval.

    Examples:
        >>> mean, low, high = t_interval([1.905, 1.924, 1.921])
        >>> print(f"{mean:.3f} ({low:.3f} to {high:.3f})")
        1.917 (1.891 to 1.942)

    Raises:
        UsageError: fewer than two seeds (one run has no spread), a confidence outside 0 to 1.
        NonFiniteError: a NaN or an infinity among the values.
    """
    rows, shape = as_rows(values, at_least=2)
    check_confidence(confidence)
    mean = rows.mean(axis=1)
    error = rows.std(axis=1, ddof=1) / np.sqrt(rows.shape[1])
    reach = error * special.stdtrit(rows.shape[1] - 1, (1 + confidence) / 2)
    return Interval(
        *(restore_shape(column, shape) for column in (mean, mean - reach, mean + reach))
    )


def share_interval(count: int, total: int, confidence: float = 0.95) -> Interval:
    """The share of yes among yes-or-no answers, with Wilson's interval (1927).

    It holds for few answers and near 0 and 1, where none has been seen yet too.

    Examples:
        >>> share, low, high = share_interval(0, 20)
        >>> print(f"{share:.2f} ({low:.2f} to {high:.2f})")
        0.00 (0.00 to 0.16)

    Raises:
        UsageError: no answers, more or fewer yes than there can be, a confidence outside 0 to 1.
    """
    check_confidence(confidence)
    if total < 1 or not 0 <= count <= total:
        raise UsageError(f"{count} of {total} is no share: it takes 1 answer or more")
    z, share = float(special.ndtri((1 + confidence) / 2)), count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total)
    reach *= float(np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2))
    low = 0.0 if count == 0 else middle - reach
    return Interval(share, low, 1.0 if count == total else middle + reach)


def t_test(differences: Values, confidence: float = 0.95) -> Difference:
    """The mean of paired differences with Student's t interval, and the p-value of a mean of zero.

    Raises:
        UsageError: fewer than two differences, a confidence outside 0 to 1.
        NonFiniteError: a NaN or an infinity among them.
    """
    rows, shape = as_rows(differences, at_least=2)
    mean, low, high = t_interval(rows, confidence)
    error = rows.std(axis=1, ddof=1) / np.sqrt(rows.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0, 0.0, mean / error)
    p = 2 * special.stdtr(rows.shape[1] - 1, -np.abs(t))
    return Difference(
        *(restore_shape(np.asarray(column), shape) for column in (mean, low, high, p))
    )


def difference_of_means(a: Values, b: Values, confidence: float = 0.95) -> Difference:
    """``mean(a) - mean(b)`` of unpaired seeds, by Welch's t test: unequal spreads, unequal counts.

    Where neither side varies at all, the interval has no width and p is 1 if the means are equal,
    else 0.

    Raises:
        UsageError: fewer than two seeds on a side, different rows, a confidence outside 0 to 1.
        NonFiniteError: a NaN or an infinity among the values.
    """
    rows_a, shape = as_rows(a, at_least=2)
    rows_b, shape_b = as_rows(b, at_least=2)
    check_confidence(confidence)
    if shape != shape_b:
        raise UsageError(
            f"a has rows of shape {shape} and b {shape_b}; they must be equal, "
            "only the number of seeds may differ"
        )
    difference = rows_a.mean(axis=1) - rows_b.mean(axis=1)
    squares_a = rows_a.var(axis=1, ddof=1) / rows_a.shape[1]
    squares_b = rows_b.var(axis=1, ddof=1) / rows_b.shape[1]
    squares = squares_a + squares_b
    with np.errstate(divide="ignore", invalid="ignore"):
        df = squares**2 / (
            squares_a**2 / (rows_a.shape[1] - 1) + squares_b**2 / (rows_b.shape[1] - 1)
        )
        df = np.where(squares > 0, df, 1.0)
        t = np.where(difference == 0, 0.0, difference / np.sqrt(squares))
    p = 2 * special.stdtr(df, -np.abs(t))
    reach = np.sqrt(squares) * special.stdtrit(df, (1 + confidence) / 2)
    columns = (difference, difference - reach, difference + reach, p)
    return Difference(*(restore_shape(column, shape) for column in columns))


def sign_flip_p(values: Values, resamples: int = 10_000, seed: int = 0) -> Numbers:
    """The two-sided p-value that paired differences are symmetric about zero.

    Under that hypothesis each difference could as well have had the other sign; p is the share of
    sign patterns whose mean is at least as far from zero as the one seen. Few examples (14 for the
    default ``resamples``) take every pattern and p is exact; more take ``resamples`` random
    patterns and the one seen, so that p is never 0 (Phipson and Smyth 2010). No p is below one
    pattern's share, and correcting for many rows multiplies that too: give a sweep of m rows
    ``resamples`` well above 20 m, and more than log2(40 m) examples.

    Raises:
        UsageError: no examples, no resamples.
        NonFiniteError: a NaN or an infinity among the values.
    """
    rows, shape = as_rows(values, at_least=1)
    if resamples < 1:
        raise UsageError(f"resamples is {resamples}; it must be at least 1")
    examples = rows.shape[1]
    exact = 2 ** (examples - 1) <= resamples
    seen = np.abs(rows.sum(axis=1, keepdims=True))
    rounding = 1e-12 * np.abs(rows).sum(axis=1, keepdims=True)
    counted = np.zeros(len(rows), dtype=int)
    patterns = 2 ** (examples - 1) if exact else resamples
    for part in chunks(len(rows), CELLS_AT_ONCE // patterns):
        blocks = every_sign(examples) if exact else random_signs(examples, resamples, seed)
        for signs in blocks:
            flipped = np.abs(rows[part] @ signs.T)
            counted[part] += (flipped >= seen[part] - rounding[part]).sum(axis=1)
    p = counted / patterns if exact else (counted + 1) / (patterns + 1)
    return restore_shape(p, shape)


def adjust(p: Values, method: Literal["holm", "bh"] = "holm") -> Numbers:
    """P-values corrected for having looked at all of them, in the shape they came in.

    Examples:
        >>> adjust([0.01, 0.02, 0.2]).round(3)
        array([0.03, 0.04, 0.2 ])

    Args:
        p: the p-values of a whole sweep, of any shape.
        method: "holm" bounds the chance of one false finding among all (Holm 1979); "bh" bounds
            the share of false ones among the findings (Benjamini and Hochberg 1995).

    Raises:
        UsageError: a p-value outside 0 to 1 (NaN is outside), an unknown method.
    """
    p = np.asarray(p, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p-values must be between 0 and 1; leave out tests that were not made")
    if method == "bh":
        from scipy import stats  # late: it takes a second, and this is seldom asked for

        return restore_shape(stats.false_discovery_control(p.ravel(), method="bh"), p.shape)
    if method == "holm":
        order = p.argsort(axis=None)
        stepped = p.ravel()[order] * np.arange(p.size, 0, -1)
        adjusted = np.empty(p.size)
        adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
        return restore_shape(adjusted, p.shape)
    raise UsageError(f"method is {method!r}; it must be 'holm' or 'bh'")


def minimum_detectable_effect(
    sd: Values, n_seeds: int, power: float = 0.8, alpha: float = 0.05
) -> Numbers:
    """The smallest difference of two means that ``n_seeds`` runs on each side would usually find.

    Examples:
        >>> [round(minimum_detectable_effect(0.01, seeds), 3) for seeds in (2, 3, 5, 10)]
        [0.057, 0.031, 0.02, 0.013]

    Args:
        sd: the standard deviation from seed to seed, in the metric's units.
        n_seeds: runs on each side.
        power: the chance to find it.
        alpha: the level of the two-sided t test.

    Raises:
        UsageError: fewer than two seeds, a negative spread, power not above alpha or not below 1.
    """
    sd = np.asarray(sd, dtype=np.float64)
    if n_seeds < 2:
        raise UsageError(f"n_seeds is {n_seeds}; one run has no spread, it takes at least 2")
    if not 0 < alpha < power < 1:
        raise UsageError(f"alpha ({alpha}) and power ({power}) must satisfy 0 < alpha < power < 1")
    if not (sd >= 0).all():
        raise UsageError("a standard deviation must be a number of at least 0")
    df = 2 * (n_seeds - 1)
    critical = special.stdtrit(df, 1 - alpha / 2)

    def excess(shift: float) -> float:
        missed = special.nctdtr(df, shift, critical) - special.nctdtr(df, shift, -critical)
        return float(1 - missed - power)

    upper = 1.0
    while excess(upper) < 0:  # by small steps: far out the noncentral t loses its digits
        upper += 1.0
    from scipy import optimize  # late, as above

    shift = optimize.brentq(excess, upper - 1.0, upper)
    return restore_shape(shift * np.sqrt(2 / n_seeds) * sd.ravel(), sd.shape)


def as_rows(
    values: Values, at_least: int
) -> tuple[Float[np.ndarray, "row example"], tuple[int, ...]]:
    """Values as a matrix, and the shape that its rows stand for."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < at_least:
        count = array.shape[-1] if array.ndim else "no"
        raise UsageError(f"values have {count} examples on their last axis; it takes {at_least}")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise NonFiniteError(f"values{list(first)} is {array[first]}; leave such rows out")
    return array.reshape(-1, array.shape[-1]), array.shape[:-1]


def restore_shape(column: Float[np.ndarray, "row"], shape: tuple[int, ...]) -> Numbers:
    return column.reshape(shape) if shape else float(column[0])


def check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95")


def chunks(total: int, size: int) -> Iterator[slice]:
    size = max(size, 1)
    return (slice(start, start + size) for start in range(0, total, size))


def resample_counts(
    examples: int, resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "draw example"]]:
    """How often each example is drawn in each bootstrap resample, some resamples at a time."""
    generator = np.random.default_rng(seed)
    for part in chunks(resamples, CELLS_AT_ONCE // examples):
        draws = len(range(*part.indices(resamples)))
        chosen = generator.integers(examples, size=(draws, examples))
        chosen += examples * np.arange(draws)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=draws * examples)
        yield counts.reshape(draws, examples).astype(np.float64)


def bca_ends(
    draws: Float[np.ndarray, "row draw"],
    deviations: Float[np.ndarray, "row example"],
    confidence: float,
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """Both ends of the interval around 0, from the sorted means of resampled deviations."""
    count = draws.shape[1]
    # Of few examples many resamples have the very mean of all: rounding must not put them aside.
    zero = 1e-12 * np.abs(deviations).max(axis=1, keepdims=True)
    below = ((draws < -zero).sum(axis=1) + (draws <= zero).sum(axis=1)) / (2 * count)
    bias = special.ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count))
    squares = (deviations**2).sum(axis=1)
    cubes = (deviations**3).sum(axis=1)
    acceleration = np.divide(
        cubes, 6 * squares**1.5, out=np.zeros_like(cubes), where=squares**1.5 > 0
    )

    def end(probability: float) -> Float[np.ndarray, "row"]:
        step = bias + special.ndtri(probability)
        level = special.ndtr(bias + step / (1 - acceleration * step))
        place = level * (count - 1)
        left = np.floor(place).astype(int)
        right = np.minimum(left + 1, count - 1)
        rows = np.arange(len(draws))
        return draws[rows, left] + (place - left) * (draws[rows, right] - draws[rows, left])

    return end((1 - confidence) / 2), end((1 + confidence) / 2)


def every_sign(examples: int) -> Iterator[Float[np.ndarray, "pattern example"]]:
    """Every sign pattern that keeps the first sign; the others mirror them."""
    for part in chunks(2 ** (examples - 1), CELLS_AT_ONCE // examples):
        codes = np.arange(*part.indices(2 ** (examples - 1)))
        bits = (codes[:, None] >> np.arange(examples)) & 1
        yield 1.0 - 2.0 * np.roll(bits, 1, axis=1)


def random_signs(
    examples: int, resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "pattern example"]]:
    generator = np.random.default_rng(seed)
    for part in chunks(resamples, CELLS_AT_ONCE // examples):
        patterns = len(range(*part.indices(resamples)))
        yield generator.choice((-1.0, 1.0), size=(patterns, examples))


def linear_up_to(values: Values) -> float | None:
    """Up to where a scale should be linear, and logarithmic beyond, so that the largest value does
    not hide the others: a power of ten; None where one that is linear throughout shows them all.

    Examples:
        >>> linear_up_to([1.0, 2.0, 3.0]) is None
        True
        >>> linear_up_to([0.5, 2.0, 4.0, 490.0])
        1.0
    """
    sizes = np.abs(np.asarray(values, dtype=float))
    sizes = sizes[np.isfinite(sizes) & (sizes > SHOWS)]
    if not sizes.size or sizes.max() <= UNEVEN * np.median(sizes):
        return None
    return float(10.0 ** np.floor(np.log10(np.median(sizes))))
