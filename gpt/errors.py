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
    """A hook was asked for by a name that no hook point has."""

    def __init__(self, name: str, known: Iterable[str], why: str | None = None) -> None:
        why = why or f"nearest: {nearest(name, known)}"
        super().__init__(f"no hook point is called {name!r}; {why}")


class HookNeverFiredError(UsageError):
    """A hook was attached, the model ran, and the run never reached the hook point."""


def check_config(config: Any) -> None:
    """Raises ``UsageError`` where the sizes of a ``GPTConfig`` do not fit together."""
    for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}; it must be at least 1")
    if config.n_embd % config.n_head != 0:
        raise UsageError(
            f"n_embd ({config.n_embd}) is not divisible by n_head ({config.n_head}): "
            f"every head takes an equal share of the residual stream"
        )
    if not 0 <= config.dropout < 1:
        raise UsageError(f"dropout is {config.dropout}; it must be at least 0 and below 1")


def check_choice(name: str, given: Any, choices: Sequence[Any]) -> None:
    """Raises ``UsageError`` where an argument is none of the values that it can have."""
    if given not in choices:
        known = ", ".join(map(repr, choices))
        raise UsageError(f"{name} is {given!r}; it must be one of {known}")


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The ``count`` real names that look most like ``name``, for the end of an error message."""
    matches = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return ", ".join(matches) or "none, there are none at all"
