"""The notebooks as files; that they run from a clean kernel is what pytest does with them."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SMALL = 256 * 1024  # bytes
ABSOLUTE = re.compile(r"(?<![\w./:])(?:/(?:home|Users|root|tmp|usr|work|mnt|opt|var)/|[A-Z]:\\)")
TEACHES = "teaches"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def cells(path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"  # every ipykernel is called so
    return notebook.cells


def test_there_are_five():
    assert [path.name[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_"]


def test_a_notebook_is_small_and_names_no_place_on_a_disk(path):
    content = path.read_text(encoding="utf-8")
    assert len(content) < SMALL
    assert ABSOLUTE.findall(content) == []


def test_outputs_are_kept_where_they_teach_and_nowhere_else(cells):
    code = [cell for cell in cells if cell.cell_type == "code"]
    kept = [cell for cell in code if cell.outputs]
    assert kept == [cell for cell in code if TEACHES in cell.metadata.get("tags", [])]
    assert all(output.output_type != "error" for cell in kept for output in cell.outputs)
    assert all(cell.execution_count is None for cell in code)


def test_a_question_stands_before_every_figure(cells):
    for before, cell in pairwise(cells):
        drawn = "figures." in cell.source or "plt.show" in cell.source
        if cell.cell_type == "code" and drawn:
            assert before.cell_type == "markdown"
