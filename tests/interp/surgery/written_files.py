"""Texts that are imported as files."""

import importlib.util
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from interp.surgery.operators.stand_ins import STAND_INS

numbers = itertools.count()


def import_text(folder: Path, text: str | bytes) -> ModuleType:
    """A text as an imported file."""
    return import_with({}, folder, text)


def import_cut(folder: Path, text: str | bytes) -> ModuleType:
    """A cut's text as an imported file, with the stand-ins that it may name."""
    return import_with(STAND_INS, folder, text)


def import_with(names: Mapping[str, object], folder: Path, text: str | bytes) -> ModuleType:
    name = f"written_{next(numbers)}"
    path = folder / f"{name}.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    vars(module).update(names)
    spec.loader.exec_module(module)
    return module
