import functools

import pytest

from tests.interp.surgery.written_files import import_text


@pytest.fixture
def load(tmp_path):
    """Imports a text as a file of its own."""
    return functools.partial(import_text, tmp_path)
