"""The guide builds without a warning, asks nothing of other hosts, and holds every public name."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import docs.vocabulary
import gpt
import gpt.model
import interp
import interp.surgery
from experiments.support.listing import questions
from interp.surgery import enumerate_surgeries, read_source

ROOT = Path(__file__).parents[2]
FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    built = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def named_in(site: Path) -> set[str]:
    """Every name in the reference, with those under which it is exported."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}


def exported() -> Iterator[str]:
    for package in (gpt, interp, interp.surgery):
        yield from (f"{package.__name__}.{name}" for name in package.__all__)


def sources_of_users() -> Iterator[str]:
    """The code of every experiment and of every notebook's cells."""
    for path in ROOT.glob("experiments/*.py"):
        yield path.read_text()
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).split("\n")
                yield "\n".join(line for line in lines if line[:1] not in ("%", "!"))


def imported() -> Iterator[str]:
    """The names that experiments and notebooks take from the packages."""
    for source in sources_of_users():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and re.match(r"(gpt|interp)\b", node.module or ""):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    if not inspect.ismodule(getattr(module, alias.name, module)):
                        yield f"{node.module}.{alias.name}"


class Fetches(HTMLParser):
    """Collects what a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHING and given.get("rel") != "canonical":
            self.found.append(given.get(FETCHING[tag]) or "")


def test_every_exported_name_is_in_the_reference(site: Path) -> None:
    assert sorted({*exported()} - named_in(site)) == []


def test_every_name_that_experiments_and_notebooks_import_is_in_the_reference(site: Path) -> None:
    assert sorted({*imported()} - named_in(site)) == []


def test_every_member_that_a_reference_page_names_is_there(site: Path) -> None:
    named = named_in(site)
    asked = set()
    for page in ROOT.glob("docs/reference/*.md"):
        for module, members in re.findall(
            r"^::: (\S+)\n    options:\n      members: \[(.*)\]", page.read_text(), re.MULTILINE
        ):
            asked |= {f"{module}.{member.strip()}" for member in members.split(",") if member}
    assert len(asked) > 100
    assert sorted(asked - named) == []


def test_every_exported_name_has_a_docstring() -> None:
    for name in exported():
        package, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(package), attribute)
        if callable(value):
            assert inspect.getdoc(value), name


def test_no_page_fetches_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        fetches = Fetches()
        fetches.feed(page.read_text())
        assert fetches.found
        assert [url for url in fetches.found if re.match(r"(https?:)?//", url)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_every_page_is_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        target = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert f'href="{target}"' in start or target == "index.html", target


def test_the_table_of_boxes_is_that_of_the_model_as_it_is() -> None:
    """Lines move: ``python -m docs.vocabulary`` writes the table again."""
    page = docs.vocabulary.PAGE.read_text(encoding="utf-8")
    assert docs.vocabulary.with_table(page) == page, "run python -m docs.vocabulary"


def test_the_readme_names_every_experiment() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in questions() if f"| `{name}` |" not in readme] == []


def test_every_cut_that_the_guide_names_by_its_line_is_one_that_the_model_has():
    found = enumerate_surgeries(read_source(gpt.model))
    known = {cut.id for cut in found}
    known |= {f"model.py:{cut.line}:zero" for cut in found}  # which only a run of the model finds
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "experiments/retrain.py"]
    named = {
        (page.name, f"model.py:{cut}")
        for page in pages
        for cut in re.findall(
            r"(?:model\.py:|`)(\d+:[a-z-]+(?:\[[^]]+\])?)", page.read_text(encoding="utf-8")
        )
    }
    assert len(named) >= 10
    assert not {(page, cut) for page, cut in named if cut not in known}
