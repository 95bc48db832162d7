"""In which module of a model is its run just now?

with following_modules(model) as run:
    ...                                  # run.frame.path inside a line: model.layers.3.self_attn
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, no_type_check

from torch import nn

from interp.surgery.running.layers import around_every_call


@dataclass
class Frame:
    """One call of a module.

    Args:
        path: the module's, in the model.
        counts: how often what in it has run.
        left: the path of the module that it called last, with what that returned.
    """

    path: str
    counts: Counter[Any] = field(default_factory=Counter)
    left: tuple[str, Any] = ("", None)


@dataclass
class Following:
    """Where a run is.

    Args:
        frames: the modules whose forward is running, from the outermost; None is one that is not
            the model's.
        thread: that runs the model.
    """

    frames: list[Frame | None] = field(default_factory=list)
    thread: int = field(default_factory=threading.get_ident)

    @property
    @no_type_check  # runs for every value: checks would take seconds
    def frame(self) -> Frame | None:
        """The innermost; None outside the model, and in other threads."""
        here = threading.get_ident() == self.thread
        return self.frames[-1] if self.frames and here else None


@contextmanager
def following_modules(
    model: nn.Module, entering: Callable[[str, tuple[Any, ...]], None] = lambda path, args: None
) -> Iterator[Following]:
    """Inside the block, an object that says in which module the run is. No hook is put on any.

    Args:
        model: the model.
        entering: is told each module's path and arguments, before it runs.
    """
    paths = {id(module): path for path, module in model.named_modules()}
    run = Following()

    @no_type_check  # runs for every value: checks would take seconds
    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() != run.thread:
            return
        path = paths.get(id(module))
        if path is None:
            run.frames.append(None)
            return
        entering(path, args)
        run.frames.append(Frame(path))

    @no_type_check  # runs for every value: checks would take seconds
    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == run.thread and run.frames:
            left, frame = run.frames.pop(), run.frame
            if left is not None and frame is not None:
                frame.left = left.path, output

    with around_every_call(enter, leave):
        yield run
