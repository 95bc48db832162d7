"""What does a function look up when it runs, and does it keep anything for the next time?

Read off its bytecode: global names with the attributes read off them (``torch.pi`` is the chain
``("torch", "pi")``), what it imports, and what it writes outside itself.
"""

import dis
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

STARTS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
GOES_ON = {"LOAD_ATTR", "LOAD_METHOD"}
KEEPS = {"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"}
BETWEEN = {"EXTENDED_ARG", "CACHE", "NOP"}


@dataclass
class Lookups:
    """What a function and those written within it look up.

    Attributes:
        chains: global names, each with the attributes read off it at once.
        imports: modules, each with the name taken from it ("" for the module itself).
        names: everything that it names: globals, attributes of anything, and texts, by which an
            attribute may be looked up too.
        keeps: the name of a variable outside it that it writes.
        writes: the name of an attribute that it writes.
    """

    chains: set[tuple[str, ...]] = field(default_factory=set)
    imports: set[tuple[str, str]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    keeps: str | None = None
    writes: str | None = None


def lookups_in(code: CodeType) -> Lookups:
    found = Lookups()
    for each in codes_in(code):
        collect(each, found)
    return found


def codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def collect(code: CodeType, found: Lookups) -> None:
    found.names |= {*code.co_names, *(text for text in code.co_consts if isinstance(text, str))}
    chain: tuple[str, ...] = ()
    module = ""
    taken = True
    for step in dis.get_instructions(code):
        if step.opname in BETWEEN:
            continue
        if chain and step.opname in GOES_ON:
            chain = (*chain, step.argval)
            continue
        if chain:
            found.chains.add(chain)
        chain = (step.argval,) if step.opname in STARTS else ()
        if step.opname == "IMPORT_NAME":
            if not taken:
                found.imports.add((module, ""))
            module, taken = step.argval, False
        elif step.opname == "IMPORT_FROM":
            found.imports.add((module, step.argval))
            taken = True
        elif step.opname in KEEPS:
            others = (*code.co_freevars, *(() if step.opname.endswith("DEREF") else (step.argval,)))
            found.keeps = step.argval if step.argval in others else found.keeps
        elif step.opname in ("STORE_ATTR", "DELETE_ATTR"):
            found.writes = step.argval
    if chain:
        found.chains.add(chain)
    if not taken:
        found.imports.add((module, ""))


def code_parts(code: CodeType) -> list[Any]:
    """What a function's code is, but for where it stands."""
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code, code.co_exceptiontable, *names, *shape, code.co_consts]


def without_checks(value: Any) -> Any:
    """A function without the checks of shapes that tests put around it."""
    while isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        made_by = value.__globals__.get("__name__", "").partition(".")[0]
        if made_by != "jaxtyping" and not value.__code__.co_filename.startswith("<@beartype"):
            break
        value = value.__wrapped__
    return value
