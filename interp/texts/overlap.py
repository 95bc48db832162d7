"""How much of the validation text can a model know by heart?

Every window of the validation text that stands word for word in the training text, exactly: windows
are numbered by doubling (Karp, Miller and Rosenberg 1972), so that two have one number if and only
if they are the same string. No hash can collide.

    overlap = shared_passages(train, val, at_least=50)
    overlap.share, overlap.longest
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from interp.errors import UsageError

Names = Int[np.ndarray, "_"]  # one number for each window
NOT_SHARED = -1


@dataclass(frozen=True)
class Overlap:
    """What a validation text shares with a training text.

    Attributes:
        characters: of the validation text that lie in a shared passage.
        share: of its characters, 0 to 1.
        longest: the length of the longest shared passage, in characters; 0 where there is none.
        stretches: start and stop of each stretch of the validation text that shared passages cover,
            in characters. Passages that overlap or touch make one stretch.
    """

    characters: int
    share: float
    longest: int
    stretches: list[tuple[int, int]]


def shared_passages(train: str, val: str, at_least: int = 50) -> Overlap:
    """The passages of ``val`` of ``at_least`` characters or more that are also in ``train``.

    Raises:
        UsageError: ``at_least`` below 1.
    """
    if at_least < 1:
        raise UsageError(f"at_least is {at_least}; a passage has at least 1 character")
    names, width = extend_names((codes(train), codes(val)), None), 1
    while width < at_least:
        longer = min(width, at_least - width)
        names, width = extend_names(names, longer), width + longer
    stretches = stretches_of(np.flatnonzero(names[1] != NOT_SHARED), at_least)
    characters = sum(stop - start for start, stop in stretches)
    longest = longest_from(names, width) if stretches else 0
    return Overlap(characters, characters / max(1, len(val)), longest, stretches)


def codes(text: str) -> Names:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
        np.int64
    )


def extend_names(names: tuple[Names, Names], longer: int | None) -> tuple[Names, Names]:
    """Names for the windows of both texts, ``longer`` characters wider than those named; windows
    that are not in both texts are called ``NOT_SHARED``. With None the names are only compared."""
    most = 1 + max((int(part.max()) for part in names if len(part)), default=0)

    def keys(part: Names) -> Names:
        if longer is None:
            return part
        head, tail = part[: max(0, len(part) - longer)], part[longer:]
        missing = (head == NOT_SHARED) | (tail == NOT_SHARED)
        return np.where(missing, NOT_SHARED, head * most + tail)

    train, val = (keys(part) for part in names)
    common = np.intersect1d(train[train != NOT_SHARED], val[val != NOT_SHARED])

    def renamed(part: Names) -> Names:
        if len(common) == 0:
            return np.full(len(part), NOT_SHARED)
        place = np.searchsorted(common, part).clip(max=len(common) - 1)
        return np.where(common[place] == part, place, NOT_SHARED)

    return renamed(train), renamed(val)


def any_shared(names: tuple[Names, Names]) -> bool:
    return bool((names[1] != NOT_SHARED).any())


def longest_from(names: tuple[Names, Names], width: int) -> int:
    """The length of the longest shared passage, where windows of ``width`` are named and some are
    shared: doubled while it goes on, then halved."""
    step = width
    while any_shared(longer := extend_names(names, step)):
        names, width, step = longer, width + step, width + step
    while step > 1:
        step = (step + 1) // 2
        if any_shared(longer := extend_names(names, step)):
            names, width = longer, width + step
    return width


def stretches_of(starts: Sequence[int] | Names, width: int) -> list[tuple[int, int]]:
    """Windows of one width, as the stretches that they cover together."""
    found: list[tuple[int, int]] = []
    for start in map(int, starts):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], start + width
        else:
            found.append((start, start + width))
    return found
