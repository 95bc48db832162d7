"""A sentence that is put into a text to see whether a model learns it by heart.

canary = Canary("The number of the box is ", "4821")
canary.text                # what is planted
canary.count               # 10,000: how many secrets could have stood there
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from interp.errors import UsageError

DIGITS = "0123456789"


@dataclass(frozen=True)
class Canary:
    """A planted sentence, whose secret could as well have been any other of its form.

    Args:
        before: what stands before the secret.
        secret: what was planted.
        symbols: what its characters were drawn from: every string of them that is as long as the
            secret could have stood there.
        among: the secrets that could have stood there, in place of ``symbols``.

    Raises:
        UsageError: nothing before the secret, no secret, one that could not have been drawn;
            a single candidate, or one that is there twice.
    """

    before: str
    secret: str
    symbols: str = DIGITS
    among: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.before or not self.secret:
            raise UsageError(
                "a canary has a secret and something before it, by which it is asked for: not "
                f"{self.before!r} and {self.secret!r}"
            )
        choices: Sequence[str] = self.among or self.symbols
        if len(set(choices)) < len(choices):
            raise UsageError(f"among {shown_choices(choices)} one is there twice")
        possible = self.secret in self.among if self.among else set(self.secret) <= {*self.symbols}
        if not possible:
            raise UsageError(
                f"the secret {self.secret!r} could not have been drawn from "
                f"{shown_choices(choices)}"
            )
        if self.count < 2:
            raise UsageError("a secret that is the only one of its form is none: give more symbols")

    @property
    def text(self) -> str:
        """What is planted."""
        return self.before + self.secret

    @property
    def count(self) -> int:
        """How many secrets could have stood there."""
        return len(self.among) or len(self.symbols) ** len(self.secret)

    @property
    def form(self) -> tuple[str, str, int, tuple[str, ...]]:
        """What canaries have in common whose candidates are the same."""
        length = 0 if self.among else len(self.secret)
        return self.before, "" if self.among else self.symbols, length, self.among

    def candidates(self) -> Iterator[str]:
        """Every secret that could have stood there."""
        if self.among:
            return iter(self.among)
        return map("".join, itertools.product(self.symbols, repeat=len(self.secret)))


def shown_choices(choices: Sequence[str]) -> str:
    shown = choices if isinstance(choices, str) else ", ".join(choices[:8])
    return repr(shown[:60] + "…" * (len(shown) > 60))
