"""Which code is known by the version of its library?"""

import functools
import hashlib
import sys
from pathlib import Path


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LIBRARIES = words(
    "builtins math cmath operator _operator functools _functools itertools collections _collections"
    " _collections_abc typing types dataclasses enum numbers copy string re abc contextlib warnings"
    " torch numpy scipy einops jaxtyping beartype pandas sklearn transformer_lens transformers"
    " interp"
)
"""Whose code is known by its version, and which keep nothing between two calls but in objects."""

DRAWING = words(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout"
    " rrelu gumbel_softmax Dropout Dropout1d Dropout2d Dropout3d AlphaDropout"
    " FeatureAlphaDropout RReLU Linear Bilinear Embedding Conv1d Conv2d"
)
"""What draws wherever a function calls it; a model's own is switched off while it is evaluated."""


@functools.cache
def version_of_library(module: str | None) -> str | None:
    """The library that a module is of, with its version; None where it is of none that is known."""
    top = (module or "").partition(".")[0]
    if top not in LIBRARIES or top not in sys.modules:
        return None
    if top == "interp":
        folder = Path(__file__).parents[2]
        sources = sorted([*folder.glob("*.py"), *folder.glob("sweeps/**/*.py")])
        texts = b"".join(path.read_bytes() for path in sources)
        return f"interp {hashlib.sha256(texts).hexdigest()}"
    version = getattr(sys.modules[top], "__version__", None)
    return f"{top} {version if isinstance(version, str) else sys.version}"
