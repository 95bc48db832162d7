"""Programs that no other test starts: what they import is there."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("benchmarks", "docs")
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.stem != "__init__"
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_finds_what_it_imports(program):
    try:
        importlib.import_module(program)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("gpt", "interp", "experiments", "tests"):
            raise
        pytest.skip(f"{error.name}, which it is compared with, is not installed")
