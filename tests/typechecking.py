"""beartype, put on a function when it is first called, and once for all functions made by one def.

jaxtyping asks a type checker to check a function's arguments and its result, through functions of
its own that have nothing but the signature. To build the check takes milliseconds. Most functions
of a package are never called in one process, and an inner function is made anew at each call of the
outer one.
"""

from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

_checked: dict[Hashable, Callable[..., Any]] = {}


def beartype_when_called(signature: Callable[..., Any]) -> Callable[..., Any]:
    """What jaxtyping made of a signature, checked as ``beartype`` checks it."""
    key = (
        signature.__module__,
        signature.__qualname__,
        signature.__code__,
        tuple(signature.__annotations__.items()),
        len(signature.__defaults__ or ()),
        frozenset(signature.__kwdefaults__ or ()),
    )

    def check(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        found = _checked.get(key)
        if found is None:
            found = _checked[key] = beartype(signature)
        return found(*args, **kwargs)

    return check
