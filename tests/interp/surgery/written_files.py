"""Texts that are imported as files."""

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

from interp.surgery.operators.stand_ins import STAND_INS

numbers = itertools.count()


def import_text(folder: Path, text: str | bytes) -> ModuleType:
    """A text as an imported file, beside which lie the stand-ins that a cut's text may name."""
    name = f"written_{next(numbers)}"
    path = folder / f"{name}.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    vars(module).update(STAND_INS)
    spec.loader.exec_module(module)
    return module
