"""Where are trained weights kept, and is what is kept that which is wanted?

path = model_path(runs, "gpt", about)
model = kept(path, load)                # None where nothing was kept, or what was is damaged
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import gpt
import interp
from gpt.errors import UsageError
from interp.runs import identity_of
from interp.runs.files import note, remove_unfinished

Loaded = TypeVar("Loaded")


def kept(path: Path, load: Callable[[Path], Loaded]) -> Loaded | None:
    """What was trained before, None where nothing was; or where it is damaged, which is said."""
    remove_unfinished(path.parent)
    if not path.exists():
        return None
    try:
        return load(path)
    except UsageError as error:
        note(f"{error}; it is made again now")
        return None


def require_same(path: Path, held: Any, wanted: Any) -> None:
    """Raises ``UsageError`` where a file is of another training than its name says."""
    if held != wanted:
        raise UsageError(f"{path} holds the weights of another training")


def model_path(runs: Path, kind: str, about: dict[str, Any]) -> Path:
    """Where a trained model lies: its name holds all that decides its weights."""
    return runs / "models" / f"{kind}-{identity_of(**about)[:16]}.safetensors"


@cache
def hash_code() -> str:
    """The sha256 of all files of the packages: code, templates, reference data."""
    whole = hashlib.sha256()
    files = (str(gpt.__file__), str(interp.__file__))
    for folder in (*(Path(file).parent for file in files), Path(__file__).parents[1]):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                content = path.read_bytes()
                whole.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return whole.hexdigest()
