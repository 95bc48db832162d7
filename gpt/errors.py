"""The sentences this package answers bad input with."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What was given cannot work. The message is one sentence: what was wrong and what to do."""


class HookNameError(UsageError):
    """A hook was asked for by a name that no hook point bears."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no hook point is called {name!r}; nearest: {nearest(name, known)}")


class HookNeverFiredError(UsageError):
    """A hook was attached, the model ran, and the run never came past the hook point."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The ``count`` real names that look most like ``name``, for the end of an error message."""
    matches = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return ", ".join(matches) or "none, there are none at all"
