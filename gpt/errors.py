"""The sentences this package answers bad input with."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class UsageError(ValueError):
    """What was given cannot work. The message is one sentence: what was wrong and what to do."""


class DivergedError(UsageError):
    """A training came upon a number that is not finite, and stopped.

    Attributes:
        step: how many updates had been made.
        training: the training until there. All its evaluations are finite.
    """

    def __init__(self, sentence: str, step: int = 0, training: Any = None) -> None:
        super().__init__(sentence)
        self.step, self.training = step, training


class HookNameError(UsageError):
    """A hook was asked for by a name that no hook point bears."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no hook point is called {name!r}; nearest: {nearest(name, known)}")


class HookNeverFiredError(UsageError):
    """A hook was attached, the model ran, and the run never came past the hook point."""


def check_choice(name: str, given: Any, choices: Sequence[Any]) -> None:
    """Raises ``UsageError`` where an argument is none of the values that it can have."""
    if given not in choices:
        known = ", ".join(map(repr, choices))
        raise UsageError(f"{name} is {given!r}; it must be one of {known}")


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The ``count`` real names that look most like ``name``, for the end of an error message."""
    matches = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return ", ".join(matches) or "none, there are none at all"
