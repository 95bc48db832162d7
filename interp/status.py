"""What became of a cut?

Status("leak").has_effect                   # True: the trained model is another with the cut
table[table["status"].isin(TOOK_EFFECT)]    # tables hold the words themselves
"""

from enum import StrEnum


class Status(StrEnum):
    """What became of a cut, from the most to the least that is known of its effect."""

    CHANGED = "changed"
    LEAK = "leak"
    NONFINITE = "nonfinite"
    MISMATCH = "mismatch"
    EQUIVALENT = "equivalent"
    TRAIN_ONLY = "train-only"
    RETRAIN_ONLY = "retrain-only"
    ERROR = "error"
    TIMEOUT = "timeout"
    LOST = "lost"
    SCRIPTED = "scripted"
    IMPORTED = "imported"
    DEAD = "dead"
    UNCHECKED = "unchecked"

    @property
    def has_effect(self) -> bool:
        """Whether the trained model is another with the cut."""
        return self in WITH_EFFECT


WITH_LOSS = (Status.CHANGED, Status.LEAK)
"""The loss with the cut is a number."""
TOOK_EFFECT = (*WITH_LOSS, Status.NONFINITE)
WITH_EFFECT = (*TOOK_EFFECT, Status.MISMATCH)
TELLING = (*WITH_EFFECT, Status.ERROR, Status.TIMEOUT)
"""There is something to show of the trained model."""
BY_NATURE = (Status.EQUIVALENT, Status.TRAIN_ONLY, Status.RETRAIN_ONLY, Status.DEAD)
"""The trained model is the same with the cut, whatever the text."""
COMPARED = (Status.CHANGED, Status.UNCHECKED, "")
"""The loss is compared with that of the model as it is."""
UNJUDGED = (Status.ERROR, Status.TIMEOUT, Status.LOST)
QUIET = ("", Status.DEAD, Status.EQUIVALENT)

MARKS: dict[str, str] = {
    Status.LEAK: "L",
    Status.NONFINITE: "N",
    Status.MISMATCH: "≠",
    Status.EQUIVALENT: "=",
    Status.TRAIN_ONLY: "T",
    Status.RETRAIN_ONLY: "R",
    Status.ERROR: "E",
    Status.TIMEOUT: "…",
    Status.LOST: "?",
    Status.SCRIPTED: "S",
    Status.IMPORTED: "I",
    Status.DEAD: "·",
}
MEANINGS: dict[str, str] = {
    Status.LEAK: "later tokens reach earlier logits",
    Status.NONFINITE: "the loss is no number",
    Status.MISMATCH: "the line and its hook point disagree",
    Status.EQUIVALENT: "the same function",
    Status.TRAIN_ONLY: "acts in training only",
    Status.RETRAIN_ONLY: "acts when a model is built",
    Status.ERROR: "the model does not run or train without it",
    Status.TIMEOUT: "ended at its time limit",
    Status.LOST: "the machine stopped it: not known",
    Status.SCRIPTED: "TorchScript runs it: not cut",
    Status.IMPORTED: "runs when the file is imported: not cut",
    Status.DEAD: "never ran",
}
