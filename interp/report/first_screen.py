"""What does a reader see first? The main figure, the largest findings as a table, and a few words.

first = FirstScreen(
    Figure.saved("Loss while training.", run.figure("learning_curves")),
    [Finding("model.py:189", "x = x + attn_out", damage=CutEffect(1.2, 1.1, 1.3, verdict))],
)
Page(title, question, parts, first=first)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp.report.sections import Figure, shown_figure
from interp.verdicts import Verdict

SENTENCES = 3  # of the summary, beside the table; the others are folded away below it


class CutEffect(NamedTuple):
    """What a cut does to the loss.

    Args:
        delta: with the cut, less without, in nats.
        low, high: its 95 % interval; NaN where it has none.
        verdict: whether that is an effect.
    """

    delta: float
    low: float
    high: float
    verdict: Verdict

    @property
    def interval(self) -> str:
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return f"{self.low:+.3f} to {self.high:+.3f}" if known else str(self.verdict)


class Finding(NamedTuple):
    """What is known of one cut.

    Args:
        line: file and line, such as ``model.py:189``.
        code: what stands there, and what it becomes.
        name: what the cut is called, where it has a name.
        damage: to the trained model.
        cost: the lasting cost, that of training without it.
    """

    line: str
    code: str
    name: str = ""
    damage: CutEffect | None = None
    cost: CutEffect | None = None


@dataclass(frozen=True)
class FirstScreen:
    """The main figure and the largest findings of a page."""

    figure: Figure | None = None
    findings: Sequence[Finding] = ()
    over: str = ""
    """What the intervals are over."""

    def context(self) -> dict[str, Any]:
        return {
            "figure": self.figure and shown_figure(self.figure),
            "findings": self.findings,
            "over": self.over,
            "columns": [
                (name, title)
                for name, title in (("damage", "damage"), ("cost", "lasting cost"))
                if any(getattr(finding, name) for finding in self.findings)
            ],
        }
