"""A search for a name finds one thing: what may be defined in several modules, and why."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("gpt", "interp", "experiments")

OF_EVERY_EXPERIMENT = "every experiment says so of itself, and its record names it"
OF_EACH_PACKAGE = "gpt and interp do not import each other"
AS_ITS_FIGURE = "a figure is called as the function whose table it draws"
ALLOWED = {
    "Config": OF_EVERY_EXPERIMENT,
    "main": OF_EVERY_EXPERIMENT,
    "parts": OF_EVERY_EXPERIMENT,
    "draw": OF_EVERY_EXPERIMENT,
    "effects": OF_EVERY_EXPERIMENT,
    "readings": OF_EVERY_EXPERIMENT,
    "limits": OF_EVERY_EXPERIMENT,
    "UsageError": OF_EACH_PACKAGE,
    "HookNameError": OF_EACH_PACKAGE,
    "nearest": OF_EACH_PACKAGE,
    "attention": AS_ITS_FIGURE,
    "completeness": AS_ITS_FIGURE,
    "head_scores": AS_ITS_FIGURE,
    "lines": AS_ITS_FIGURE,
    "minimality": AS_ITS_FIGURE,
}


def definitions() -> dict[str, list[str]]:
    """Where each function and class stands that is defined at the top of a module, by its name."""
    found = defaultdict(list)
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def in_several(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """The names that several modules define, with where they do."""
    files = {name: {place.rpartition(":")[0] for place in found[name]} for name in found}
    return {name: found[name] for name, among in files.items() if len(among) > 1}


def test_no_two_modules_define_the_same_name():
    found = {name: at for name, at in in_several(definitions()).items() if name not in ALLOWED}
    said = [f"{name} is defined at {', '.join(places)}" for name, places in found.items()]
    assert not said, "\n".join([*said, "call one of them by what tells it from the other"])


def test_every_exception_is_still_one():
    assert ALLOWED.keys() <= in_several(definitions()).keys()


def test_what_every_experiment_defines_stands_in_experiments_and_nowhere_else():
    found = definitions()
    for name in (name for name, reason in ALLOWED.items() if reason == OF_EVERY_EXPERIMENT):
        folders = {str(Path(place).parent) for place in found[name]}
        assert folders == {"experiments"}, (name, found[name])
