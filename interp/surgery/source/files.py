"""Which text does a Python file hold, and under which name is it imported?"""

import importlib.util
import sys
import tokenize
from pathlib import Path


def decode_python(path: Path) -> str:
    """A file's text, in the encoding that its first lines declare.

    Raises:
        OSError: it cannot be read.
        SyntaxError, UnicodeDecodeError, ValueError: it is no text in the encoding it declares.
    """
    with path.open("rb") as raw:
        encoding, _ = tokenize.detect_encoding(raw.readline)
    return path.read_bytes().decode(encoding)


def module_name(path: Path) -> str:
    """The name under which ``path`` is imported: of a loaded module, else its dotted path below
    the outermost folder that is a package."""
    for name, module in list(sys.modules.items()):
        if name != "__main__" and getattr(module, "__file__", None) == str(path):
            return name
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    dotted = ".".join(parts)
    if len(parts) == 1 or importlib.util.find_spec(parts[0]) is not None:
        return dotted
    return path.stem
