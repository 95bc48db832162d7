"""How is a trained model cut without building it again?

The code object of the edited function is swapped for one that passes its arguments on: to the
edited function in the chosen layers, elsewhere to the function as it was. Each is compiled as
the file would be, so that a name, a ``global`` or a ``yield`` that is cut means what it means in
the edited file. The function object stays: its globals, its closure (zero-argument ``super()``
works), its signature, every decorator around it. Weights are neither copied nor touched, and
everything is undone on exit.

    with perform(cut, model):
        damaged = model(tokens)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from interp.errors import SurgeryError
from interp.surgery.cutting.kept import Kept, afresh
from interp.surgery.cutting.modules import edited_name, know_lines
from interp.surgery.cutting.rewriting import rewritten
from interp.surgery.operators import OPERATORS
from interp.surgery.operators.stand_ins import STAND_INS
from interp.surgery.running.layers import inside_layers
from interp.surgery.running.loaded import loaded_functions
from interp.surgery.running.swapping import (
    compile_function,
    edited_function,
    everywhere,
    inner_codes,
    swap_codes,
)
from interp.surgery.source.edits import Edit, Surgery
from interp.surgery.source.imports import modules_named
from interp.surgery.source.syntax import FunctionNode, Source, Syntax, parse


@contextmanager
def perform(
    surgery: Surgery,
    model: nn.Module | None = None,
    *,
    names: Mapping[str, Any] | None = None,
    kept: Sequence[Kept] | None = None,
) -> Iterator[None]:
    """Inside the block, the functions that a surgery edits run as edited.

    Args:
        surgery: what is cut, in which layers.
        model: whose layers are meant; needed only where the surgery is made in some layers.
        names: what names that the edited code reads stand for, beyond the function's own globals.
        kept: what files keep of earlier runs, to be made anew; None is what ``lru_cache`` keeps in
            the surgery's file.

    Raises:
        SurgeryError: a function that is not loaded, or was loaded from another text than the file
            holds now; a layer that the model does not have.
    """
    if surgery.layers is not None and model is None:
        raise SurgeryError(f"{surgery.id} is made in some layers: say of which model")
    known = {**STAND_INS, **(names or {})}
    held = [Kept(part.source) for part in surgery.parts] if kept is None else kept
    with ExitStack() as stack:
        chosen: Callable[[], bool] = everywhere
        if surgery.layers is not None:
            assert model is not None
            chosen = stack.enter_context(inside_layers(model, surgery.layers))
        cut: set[str] | None = set()
        for part in in_order_of_import(surgery.parts):
            filename = edited_name(part)
            know_lines(filename, part.text)
            if is_of_operators(part):
                syntax = parse(part.source)
                codes = edited_codes(part, syntax, filename)
                stack.enter_context(swap_codes(syntax, codes, known, filename, chosen))
                nodes = by_function(part)
                names_cut = {name for node in nodes for name in syntax.qualname[node].split(".")}
                cut = None if cut is None else cut | names_cut
            else:
                changed = stack.enter_context(rewritten(part, known, chosen))
                held = [without_names(item, part.source, changed) for item in held]
                cut = None
        stack.enter_context(afresh(held, cut))
        yield


def in_order_of_import(parts: Sequence[Surgery]) -> list[Surgery]:
    """What is cut in each file, a file after those that its edited text imports: what it takes from
    them is then as the cut makes it."""
    modules = {part.source.module: part for part in parts}
    order: TopologicalSorter[str] = TopologicalSorter()
    for name, part in modules.items():
        order.add(name, *(modules_named(name, part.text) & {*modules} - {name}))
    try:
        return [modules[name] for name in order.static_order()]
    except CycleError:  # none of them can be imported first
        return list(parts)


def is_of_operators(surgery: Surgery) -> bool:
    """Whether operators made all of it: then each of its edits is within the body of a function."""
    operators = [one for part in surgery.parts for one in part.operator.split("+")]
    return all(one in OPERATORS for one in operators)


def without_names(kept: Kept, source: Source, names: frozenset[str]) -> Kept:
    """What a file keeps, but for names that an edit of it has given another value."""
    if kept.source != source:
        return kept
    return replace(kept, names=tuple(name for name in kept.names if name.name not in names))


def edited_codes(
    surgery: Surgery, syntax: Syntax, filename: str
) -> dict[FunctionType, tuple[FunctionNode, CodeType]]:
    """What each function that a surgery edits runs instead, with its ``def``."""
    codes: dict[FunctionType, tuple[FunctionNode, CodeType]] = {}
    for node, edits in by_function(surgery).items():
        edited = edited_function(syntax, node, edits)
        code = compile_function(syntax, node, edited.body, filename)
        functions = loaded_functions(surgery.source, node)
        if not functions:
            raise SurgeryError(
                f"{surgery.qualname} of {surgery.source.path} is not loaded: import the file "
                "before operating on it"
            )
        codes |= dict.fromkeys(functions, (node, code))
        codes |= inner_codes(syntax, node, code)
    return codes


def by_function(surgery: Surgery) -> dict[FunctionNode, list[Edit]]:
    """The edits, by the outermost function in which they are."""
    syntax = parse(surgery.source)
    found: dict[FunctionNode, list[Edit]] = {}
    for edit in surgery.edits:
        found.setdefault(syntax.owner_at(edit.start), []).append(edit)
    return found
