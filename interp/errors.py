"""The sentences this package answers bad input with."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What was given cannot work. The message is one sentence: what was wrong and what to do."""


class HookNameError(UsageError):
    """A site was asked for by a name or a glob that no hook point has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        why = f"nearest: {nearest(name, known)}"
        if name.endswith(("hook_q_input", "hook_k_input", "hook_v_input")):
            why = "where a model has it, it is there after model.set_use_split_qkv_input(True)"
        super().__init__(f"no hook point matches {name!r}; {why}")


class SiteError(UsageError):
    """The hook point exists, but not that part of it, or not in that form."""


class InterventionError(UsageError):
    """An intervention does not fit its site, or two of them claim the same part of one."""


class NoEffectError(UsageError):
    """An intervention never fired, or changed nothing."""


class NonFiniteError(UsageError):
    """An intervention, a metric or a statistic met a NaN or an infinity."""


class SurgeryWarning(UserWarning):
    """What a reader must know of a study's model as it is, or of its judge."""


class SurgeryError(UsageError):
    """A cut that cannot be found or made, or a file, model or judge that surgery cannot work on."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The ``count`` real names that look most like ``name``, for the end of an error message."""
    matches = difflib.get_close_matches(name, list(known), n=count, cutoff=0.0)
    return ", ".join(matches) or "none, there are none at all"
