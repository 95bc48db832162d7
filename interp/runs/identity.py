"""Which task is this: what decides its rows, as one hash?"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import UsageError


def identity_of(**parts: Any) -> str:
    """The hash of everything that decides a task's rows: equal parts, equal identity.

        identity_of(source=source, config=asdict(config), seed=3)

    The sha256 of canonical JSON: keys sorted, floats exact, 1 and 1.0 apart. Raises ``UsageError``
    where a part is nothing that JSON can hold.
    """
    canonical = json.dumps(to_json_value(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_json_value(value: Any) -> Any:
    """The value as JSON gives it back: numpy numbers exact, tuples as lists, paths as text."""

    def convert(part: Any) -> Any:
        if isinstance(part, np.generic):
            return part.item()
        if isinstance(part, Path):
            return str(part)
        raise UsageError(f"{part!r} ({type(part).__name__}) cannot be kept as JSON: convert it")

    return json.loads(json.dumps(value, default=convert))
