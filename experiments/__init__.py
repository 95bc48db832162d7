"""Short scripts, one question each. ``nanogpt-interp`` or ``python -m experiments`` lists them."""

import sys
from importlib.util import find_spec
from pathlib import Path

for _name in ("gpt", "interp"):
    _spec = find_spec(_name)
    _found = Path(_spec.origin) if _spec and _spec.origin else None
    if _found is None or _found.parent.parent != Path(__file__).parent.parent:
        sys.exit(
            f"error: {_found or 'a folder'} hides the package {_name} of nanogpt-interp: rename "
            "it, or start the command as nanogpt-interp NAME, which does not look there"
        )
