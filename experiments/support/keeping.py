"""Where are trained weights kept, and are they those that are wanted?

path = model_path(runs, "gpt", about)
model = kept(path, load)                # None where nothing was kept, or what was is damaged
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
