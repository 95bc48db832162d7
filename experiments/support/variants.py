"""Which lines does the course cut?

Each variant is described by what is cut, so that it is found again wherever the line has moved to.
"""

from collections.abc import Sequence

import gpt.model
from gpt.errors import UsageError, nearest
from interp import surgery
from interp.surgery import Surgery

CUTS: dict[str, list[dict[str, str]]] = {
    "no_residual": [{"operator": "cut-skip", "qualname": "Block.forward"}],
    "no_layer_norm": [
        {"operator": "bypass-call", "qualname": "Block.forward", "target": "ln1"},
        {"operator": "bypass-call", "qualname": "Block.forward", "target": "ln2"},
    ],
    "no_position_embedding": [
        {"operator": "drop-term", "qualname": "GPT.embed", "target": "pos_emb"}
    ],
    "single_head": [{"operator": "pin-attribute", "target": "n_head"}],
}
BASELINE = "none"


def course_variants(only: Sequence[str] = ()) -> dict[str, Surgery | None]:
    """The unablated model and the course's four surgeries, or those named in ``only``.

    The unablated model is always among them: a loss means nothing without it.

    Raises:
        UsageError: a name that is no variant.
    """
    for name in only:
        if name != BASELINE and name not in CUTS:
            known = [BASELINE, *CUTS]
            raise UsageError(f"there is no variant {name!r}; nearest: {nearest(name, known)}")
    source = surgery.read_source(gpt.model)
    variants: dict[str, Surgery | None] = {BASELINE: None}
    for name, cuts in CUTS.items():
        if not only or name in only:
            found = [cut for what in cuts for cut in surgery.find_all(source, **what)]
            variants[name] = surgery.combine(found)
    return variants
