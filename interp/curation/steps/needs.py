"""What does a step need to see?"""

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def whole_pile(function: Function) -> Function:
    """Mark a step that reads the whole pile, more than once if it likes. Any other sees a chunk of
    the pile at a time, perhaps in another process, and must not remember one for the next."""
    function.reads_whole_pile = True  # type: ignore[attr-defined]
    return function


def reads_whole_pile(function: Callable) -> bool:
    return getattr(function, "reads_whole_pile", False)
