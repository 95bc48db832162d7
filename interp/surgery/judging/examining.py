"""What does judging the model as it is once more tell of the judge, and of the model?

examined = examine(model, judge, baseline)
examined.notes(baseline)   # sentences that a reader must know
"""

from dataclasses import dataclass

import numpy as np
from torch import nn

from interp.errors import SurgeryError
from interp.surgery.judging import (
    Judge,
    Judgement,
    gives_every_position,
    judge_model,
    sees_the_future,
    takes_positions_first,
)
from interp.surgery.judging.rows import FLOAT_NOISE, close, largest_difference


@dataclass(frozen=True)
class Examined:
    """What was found when the model as it is was judged again.

    Attributes:
        is_finite: whether the judge's values are.
        repeats: whether it came to the same, with the same random numbers.
        again: to what it came, in the judge's units.
        other_draws: to what it comes with other random numbers.
        positions_first: whether the model takes [pos batch].
        leaks: whether earlier logits depend on later tokens.
    """

    is_finite: bool
    repeats: bool
    again: float
    other_draws: float
    positions_first: bool
    leaks: bool

    def notes(self, baseline: Judgement) -> tuple[str, ...]:
        """A sentence for each thing that a reader must know.

        Raises:
            SurgeryError: nothing can be compared with this baseline, and why.
        """
        self.check(baseline)
        value, said = baseline.values.mean(), []
        if not close(self.other_draws, value):
            said.append(
                f"Judging draws random numbers: with others the loss of the model as it is is "
                f"{self.other_draws:.6g}, not {value:.6g}. Every cut is judged with the same "
                "ones; a cut that draws more or fewer gets others after it."
            )
        if self.leaks:
            said.append(
                "The model as it is sees the future: its earlier logits depend on later tokens. "
                "So no cut is called a leak, and its loss does not measure how well it predicts."
            )
        if not gives_every_position(baseline.calls[0]):
            said.append(
                "The model does not give logits for every token: whether a cut lets it see the "
                "future is not tested."
            )
        return tuple(said)

    def check(self, baseline: Judgement) -> None:
        """Raise ``SurgeryError`` where nothing can be compared with this baseline."""
        if not self.is_finite or not baseline.is_finite:
            raise SurgeryError(
                "the judge's value of the model as it is is not finite: nothing can be compared "
                "with it"
            )
        if self.positions_first:
            raise SurgeryError(
                "the model reads along the first axis of its tokens: it takes [pos batch], and the "
                "study needs [batch pos]; wrap it in a module that hands on tokens.T and returns "
                "logits.transpose(0, 1), and judge that"
            )
        if not self.repeats:
            raise SurgeryError(
                f"the judge's value of the model as it is was {baseline.values.mean():.6g}, then "
                f"{self.again:.6g}, with the same random numbers: nothing can be compared with "
                "it; judge on fixed texts, without a clock or numbers from the system"
            )


def examine(model: nn.Module, judge: Judge, baseline: Judgement) -> Examined:
    """Judge the model as it is again, and ask it on other tokens."""
    again = judge_model(model, judge)
    call, value = again.calls[0], float(again.values.mean())
    return Examined(
        is_finite=again.is_finite,
        repeats=is_same_judgement(again, baseline),
        again=value,
        other_draws=value,
        positions_first=takes_positions_first(model, call),
        leaks=sees_the_future(model, call),
    )


def is_same_judgement(one: Judgement, other: Judgement) -> bool:
    """Whether two judgements agree, up to the order of sums."""
    if one.values.shape != other.values.shape:
        return False
    if not np.allclose(one.values, other.values, FLOAT_NOISE, FLOAT_NOISE, equal_nan=True):
        return False
    difference = largest_difference(one, other)
    return one.fingerprint == other.fingerprint or (
        difference is not None and difference < FLOAT_NOISE
    )
