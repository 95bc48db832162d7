"""Does a model decide by an activation what it computes, as one with an early exit does?

Rows of a batch are then not computed each for itself: what one of them makes the model do, it does
to all. So where a run draws a truth or a number out of what the sweep changes, each intervention
needs a run of its own.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from interp.tracing import written_in

OTHERS = {"torch", "jaxtyping", "beartype"}  # whose lines stand between
REFERENCES = 64  # to values, of which most are gone by then


class Decisions(TorchDispatchMode):
    """Inside the block, sees where a truth or a number is drawn out of what was computed from the
    values that it follows. Whole numbers pass, and the places where something is so: models take
    tokens to their experts by them, each for itself.

    Attributes:
        found: file and line of the first such place; None where there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: str | None = None
        self._followed: set[StorageWeakRef] = set()
        self._resting = False

    def follow(self, value: Tensor) -> Tensor:
        """The value, from now on followed wherever it goes."""
        if len(self._followed) >= REFERENCES:  # what is left of freed values pins memory
            self._followed = {each for each in self._followed if not each.expired()}
        self._followed.add(StorageWeakRef(value.untyped_storage()))
        return value

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside the block, nothing counts as a decision."""
        self._resting = True
        try:
            yield
        finally:
            self._resting = False

    @property
    def sentence(self) -> str:
        """Why a sweep over such a model runs it whole."""
        return (
            f"what it computes depends on a number that it takes from an activation, at "
            f"{self.found}, so that texts in a batch do not run each for itself"
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        result = func(*args, **kwargs)
        if func is torch.ops.aten.nonzero.default:
            return result
        if any(StorageWeakRef(each.untyped_storage()) in self._followed for each in given):
            for each in tree_leaves(result):
                if isinstance(each, Tensor):
                    self.follow(each)
                elif isinstance(each, bool | float) and not self._resting and self.found is None:
                    self.found = calling_line()
        return result


def calling_line() -> str:
    """The innermost line that runs and is the model's own, as ``file:line``."""
    frames = [
        frame
        for frame in traceback.extract_stack(limit=60)
        if frame.filename != __file__ and not OTHERS.intersection(Path(frame.filename).parts)
    ]
    if not frames:
        return "some line"
    return f"{Path(written_in(frames[-1].filename)).name}:{frames[-1].lineno}"
