import sys

import pytest

from tests.interp.surgery.written_files import import_text


@pytest.fixture
def load(tmp_path):
    """Imports a text as a file of its own."""
    names = []

    def loaded(text):
        module = import_text(tmp_path, text)
        names.append(module.__name__)
        return module

    yield loaded
    for name in names:
        del sys.modules[name]
