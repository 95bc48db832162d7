"""How is a model built from edited source?

The edited text is compiled and run as a module of its own, beside the real one. Its lines have the
numbers of the file, and ``linecache`` knows the edited text: tracebacks, debuggers and
``inspect.getsource`` show what really runs.

    variant = edited_module(source, cut)
    model = variant.GPT(variant.GPTConfig(vocab_size=65))
"""

import importlib
import linecache
import sys
from types import ModuleType

from interp.code_text import lines_of
from interp.errors import SurgeryError
from interp.surgery.operators.stand_ins import STAND_INS
from interp.surgery.source.edits import Surgery
from interp.surgery.source.syntax import Source


def edited_module(source: Source, surgery: Surgery | None = None) -> ModuleType:
    """A fresh module of ``source``, with a surgery made; None leaves it as it is.

    Raises:
        SurgeryError: the surgery is of another source or of several, is made in some layers only
            (which a module cannot be), or the edited source does not run.
    """
    if surgery is None:
        text, filename, suffix, shown = source.text, str(source.path), "uncut", source.file
    else:
        if surgery.source != source:
            raise SurgeryError(f"{surgery.id} is a surgery of {surgery.source.path}, not {source}")
        if surgery.beside:
            files = ", ".join(part.file for part in surgery.parts)
            raise SurgeryError(
                f"{surgery.id} is a cut of {files} together, and a module is one file: build the "
                "model inside `with surgery.perform(cut):`"
            )
        if surgery.layers is not None:
            raise SurgeryError(
                f"{surgery.id} is made in some layers only; a module is edited for all: "
                "leave layers out, or apply it to a model that stands"
            )
        text, suffix, shown = surgery.text, surgery.identity[:12], surgery.id
        filename = edited_name(surgery)
        know_lines(filename, text)
    if source.package:
        importlib.import_module(source.package)
    module = ModuleType(f"{source.module}#{suffix}")
    module.__file__ = filename
    module.__package__ = source.package
    module.__dict__.update(STAND_INS)
    sys.modules[module.__name__] = module  # dataclasses and inspect look a class up there
    try:
        exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        raise SurgeryError(
            f"{shown} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def edited_name(surgery: Surgery) -> str:
    """The file name under which edited code of its first file runs, shown by tracebacks."""
    lines = "+".join(map(str, surgery.lines))
    return f"{surgery.source.path}:{lines}:{surgery.operator}#{surgery.identity[:12]}"


def edited_names(surgery: Surgery) -> set[str]:
    """The file names under which edited code runs, one for each file."""
    return {edited_name(part) for part in surgery.parts}


def know_lines(filename: str, text: str) -> None:
    """Let ``linecache``, and with it every traceback, know a file that is on no disk."""
    lines = lines_of(text)
    linecache.cache[filename] = (len(text), None, lines, filename)
