"""beartype, put on a function when it is first called, and once for all functions made by one def.

jaxtyping asks a type checker to check a function's arguments and its result, through functions of
its own that have nothing but the signature. To build the check takes milliseconds. Most functions
of a package are never called in one process, and an inner function is made anew at each call of the
outer one.
"""

from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from beartype import beartype


class Checks:
    """All that were made, in a class: what keeps a model's state follows functions to the globals
    that they name, and would find every check there is."""

    known: ClassVar[dict[Hashable, Callable[..., Any]]] = {}

    @classmethod
    def of(cls, key: Hashable, signature: Callable[..., Any]) -> Callable[..., Any]:
        if key not in cls.known:
            cls.known[key] = beartype(signature)
        return cls.known[key]


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

    found: Callable[..., Any] | None = None

    def check(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal found
        if found is None:  # looked up once: code is slow to hash
            found = Checks.of(key, signature)
        return found(*args, **kwargs)

    return check
