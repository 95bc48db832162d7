import importlib
import sys

import pytest

from interp import surgery
from interp.surgery.source.imports import hash_of_imports, imported_files

FILES = {
    "studied_model.py": "import math\nimport torch\nfrom near_layers import Layer\n",
    "near_layers.py": "import pack_of_parts.inner\n\nclass Layer:\n    pass\n",
    "pack_of_parts/__init__.py": "from .other import OTHER\n",
    "pack_of_parts/inner.py": "SIZE = 3\n",
    "pack_of_parts/other.py": "OTHER = 4\n",
    "stranger.py": "x = 1\n",
}


@pytest.fixture
def source(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("stranger")
    yield surgery.read_source(importlib.import_module("studied_model"))
    for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
        del sys.modules[name]


MODULES = {"studied_model", "near_layers", "pack_of_parts", "stranger"}


def test_what_is_imported_from_files_at_hand_is_found_at_any_remove(source, tmp_path):
    found = {str(path.relative_to(tmp_path)) for path in imported_files([source])}
    assert found == {*FILES} - {"studied_model.py", "stranger.py"}


def test_an_edit_of_what_is_imported_shows_and_no_other(source, tmp_path):
    before = hash_of_imports([source])
    (tmp_path / "stranger.py").write_text("x = 2\n")
    assert hash_of_imports([source]) == before
    for name in ("near_layers.py", "pack_of_parts/inner.py", "pack_of_parts/other.py"):
        (tmp_path / name).write_text(FILES[name] + "# edited\n")
        assert hash_of_imports([source]) != before
        (tmp_path / name).write_text(FILES[name])
    assert hash_of_imports([source]) == before


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + FILES["near_layers.py"].encode(),
        b"# coding: latin-1\n# \xfc\n" + FILES["near_layers.py"].encode(),
        FILES["near_layers.py"].encode() + b"class (:\n",
    ],
    ids=["a byte order mark", "Latin-1", "broken since"],
)
def test_a_file_is_followed_however_it_is_written(source, tmp_path, content):
    (tmp_path / "near_layers.py").write_bytes(content)
    found = {str(path.relative_to(tmp_path)) for path in imported_files([source])}
    assert {"near_layers.py", "pack_of_parts/inner.py", "pack_of_parts/other.py"} <= found
