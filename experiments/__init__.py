"""Short scripts, one question each. ``nanogpt-interp`` or ``python -m experiments`` lists them."""

import sys
from importlib.util import find_spec
from pathlib import Path

# ``python -m`` looks in the working folder first, where a student's own gpt.py may lie: such a
# folder is looked into last.
for _name in ("gpt", "interp"):
    for _folder in list(sys.path):
        _spec = find_spec(_name)
        _found = Path(_spec.origin) if _spec and _spec.origin else None
        if _found is not None and _found.parent.parent == Path(__file__).parent.parent:
            break
        sys.path.remove(_folder)
        sys.path.append(_folder)
    else:
        sys.exit(
            f"error: {_found or 'a folder'} hides the package {_name} of nanogpt-interp: rename "
            "it, or start the command as nanogpt-interp NAME, which does not look there"
        )
