"""Which rooms does the code have, how large are they, and which imports which?

MkDocs runs this while it builds the guide (see ``hooks`` in mkdocs.yml), so that the drawing and
the tables of rooms.md are of the code as it is then. To look at the drawing alone:

    python docs/rooms.py rooms.png
"""

import ast
import io
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gpt", "interp", "experiments")
BASICS, QUESTIONS = "interp: basics", "interp: questions"
ROOMS = {
    "gpt": "the model under study, its training, its texts; knows nothing of the instruments",
    "gpt/ladder": "the rungs from a bigram to the model, and what each one adds",
    BASICS: "where, what and how much: sites, interventions, receipts, metrics, statistics",
    "interp/blocks": "any model run from one of its blocks on, as the model itself calls them",
    "interp/sweeps": "many interventions on one model, one exact answer each, in few runs",
    "interp/runs": "a run on disk that survives a kill, and the processes that share its work",
    "interp/texts": "what a text holds: secrets, repeats, languages",
    "interp/curation": "documents in, a text with a history out, step by step",
    "interp/surgery": "cuts of source lines: found, made, judged, trained with",
    "interp/line_hooks": "every value that a line of anyone's model makes, as a hook point",
    "interp/samples": "what a model writes, under every variant with the same random numbers",
    "interp/memorising": "what a model knows by heart: exposure, copies, private data given back",
    "interp/figures": "a result table in, a figure out",
    "interp/report": "tables and figures as one page that needs nothing else",
    QUESTIONS: "what one asks of a model in one call: ablate, sweep, patch, attribution, heads",
    "interp/circuits": "which part talks to which: edges, paths and circuits, exactly",
    "experiments/support": "what the experiments share: command line, subjects, trainings, pages",
    "experiments": "one question a file",
}
"""Each room, and what is in it. ``interp``'s own modules are its basics, from which no room is
imported, and its questions, which are asked by way of the rooms."""

PLACES = {
    BASICS: (0, 2),
    "interp/texts": (1, 0),
    "interp/runs": (1, 1),
    "interp/curation": (2, 0),
    "interp/blocks": (1, 3),
    "interp/sweeps": (2, 3),
    "interp/surgery": (2, 1),
    "interp/figures": (2, 2),
    "interp/report": (4, 0),
    "interp/samples": (3, 1),
    "interp/line_hooks": (3, 0),
    "interp/memorising": (4, 1),
    "gpt": (3, 3),
    QUESTIONS: (5, 2),
    "gpt/ladder": (4, 3),
    "interp/circuits": (6, 3),
    "experiments/support": (7, 1),
    "experiments": (8, 1),
}
"""Storey and place of each room in the drawing: a room imports from storeys below its own."""

BEFORE = """
688 interp/surgery/study.py
562 gpt/ladder.py
527 interp/surgery/operators.py
520 interp/report/map.py
510 interp/sweeps/plans.py
494 interp/interventions.py
484 interp/runs.py
466 interp/figures.py
441 gpt/train.py
410 interp/heatmaps.py
"""
"""The ten longest files of commit 908d980, before the rooms were rebuilt."""

WIDE, HIGH = 2.5, 0.62
GRID = (3.0, 1.2)
COLORS = {"gpt": "#f4e3c8", "interp": "#d6e8f7", "experiments": "#dfeedd"}


def modules() -> dict[str, Path]:
    """Every file, by the name under which it is imported."""
    found = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, known: Iterable[str]) -> set[str]:
    """The modules of ours that a file imports, wherever in it."""
    found = set()
    for module, name in import_statements(path):
        found.add(name if name in known else module)
    return found & set(known)


@cache
def import_statements(path: Path) -> list[tuple[str, str]]:
    """Each module that a file imports, and what of it, which may be a module too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, alias.name) for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def rooms(known: dict[str, Path]) -> dict[str, str]:
    """The room of each module."""
    found, imports = {}, {name: imported(path, known) for name, path in known.items()}
    for name, path in known.items():
        parts = path.relative_to(ROOT).parts
        found[name] = "/".join(parts[:2]) if len(parts) > 2 else parts[0]
    while asking := [
        name
        for name in known
        if found[name] == "interp"
        and name != "interp"
        and any(found[other] not in ("interp", found[name]) for other in imports[name])
    ]:
        found |= dict.fromkeys(asking, QUESTIONS)
    found["interp"] = QUESTIONS
    return {name: BASICS if room == "interp" else room for name, room in found.items()}


def inner_rooms(known: dict[str, Path]) -> dict[str, str]:
    """The folder within a room of each module that is in one."""
    parts = {name: path.relative_to(ROOT).parts for name, path in known.items()}
    return {name: "/".join(one[:3]) for name, one in parts.items() if len(one) > 3}


def imports_of_rooms(known: dict[str, Path], room: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of a room and another that it imports from."""
    return {
        (room[name], room[other])
        for name, path in known.items()
        for other in imported(path, known)
        if room[other] != room[name]
    }


def upward(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Imports from a storey that is not below: without any, no two rooms import each other."""
    return {(one, other) for one, other in pairs if PLACES[other][0] >= PLACES[one][0]}


def direct(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The imports that do not follow from others by way of a third room."""
    return {
        (one, other)
        for one, other in pairs
        if not any((one, third) in pairs and reaches(third, other, pairs) for _, third in pairs)
    }


def reaches(one: str, other: str, pairs: set[tuple[str, str]]) -> bool:
    return any(
        between == other or reaches(between, other, pairs)
        for start, between in pairs
        if start == one
    )


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def sizes(known: dict[str, Path], room: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Files and lines of each room."""
    counts = {name: lines(path) for name, path in known.items()}
    return {
        one: (
            sum(room[name] == one for name in known),
            sum(count for name, count in counts.items() if room[name] == one),
        )
        for one in ROOMS
    }


def drawing() -> Figure:
    """Rooms as boxes with their lines, and an arrow from each to those it imports from; imports
    that follow from others are left out, one that goes up is red."""
    known = modules()
    room = rooms(known)
    pairs, size = imports_of_rooms(known, room), sizes(known, room)
    wrong = upward(pairs)
    storeys = 1 + max(storey for storey, _ in PLACES.values())
    columns = 1 + max(column for _, column in PLACES.values())
    figure = Figure(figsize=(columns * GRID[0], storeys * GRID[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, columns * GRID[0])
    axes.set_ylim(0, storeys * GRID[1])
    axes.axis("off")
    centre = {
        one: ((column + 0.5) * GRID[0], (storey + 0.5) * GRID[1])
        for one, (storey, column) in PLACES.items()
    }
    for one, other in sorted(direct(pairs - wrong) | wrong):
        start, end = centre[one], centre[other]
        axes.add_patch(
            FancyArrowPatch(
                (start[0] + shift(start, end), start[1] - HIGH / 2),
                (end[0] - shift(start, end), end[1] + HIGH / 2),
                arrowstyle="-|>",
                mutation_scale=12,
                linewidth=1.8 if (one, other) in wrong else 1.0,
                color="#c0392b" if (one, other) in wrong else "0.35",
                shrinkA=0,
                shrinkB=0,
            )
        )
    for one, (x, y) in centre.items():
        color = COLORS[one.partition("/")[0].partition(":")[0]]
        style = f"round,pad=0,rounding_size={HIGH / 6}"
        corner = x - WIDE / 2, y - HIGH / 2
        axes.add_patch(FancyBboxPatch(corner, WIDE, HIGH, style, facecolor=color, edgecolor="0.2"))
        files, count = size[one]
        axes.text(x, y + 0.11, one, ha="center", va="center", size=12, weight="bold")
        said = f"{count:,} lines in {files} files"
        axes.text(x, y - 0.14, said, ha="center", va="center", size=9.5)
    return figure


def shift(start: tuple[float, float], end: tuple[float, float]) -> float:
    """How far beside a box's middle an arrow ends that comes from the side."""
    return max(-0.35, min(0.35, (end[0] - start[0]) / GRID[0] * 0.3)) * WIDE


def tables() -> str:
    """A sentence for each room, and the longest files then and now."""
    known = modules()
    room = rooms(known)
    size = sizes(known, room)
    rows = ["| room | what is in it | files | lines |", "|---|---|---:|---:|"]
    rows += [f"| `{one}` | {ROOMS[one]} | {files} | {n:,} |" for one, (files, n) in size.items()]
    total = sum(count for _, count in size.values())
    rows += [f"| all | | {len(known)} | {total:,} |", ""]
    inner = inner_rooms(known)
    rows += ["| room within a room | what it answers | files | lines |", "|---|---|---:|---:|"]
    for one in sorted(set(inner.values())):
        counts = [lines(known[name]) for name, place in inner.items() if place == one]
        rows.append(f"| `{one}` | {question_of(one)} | {len(counts)} | {sum(counts):,} |")
    rows.append("")
    now = sorted(((lines(path), path.relative_to(ROOT)) for path in known.values()), reverse=True)
    rows += ["| longest before | lines | longest now | lines |", "|---|---:|---|---:|"]
    for old, (count, path) in zip(BEFORE.split("\n")[1:-1], now, strict=False):
        was, name = old.split()
        rows.append(f"| `{name}` | {was} | `{path.as_posix()}` | {count} |")
    return "\n".join(rows)


def question_of(folder: str) -> str:
    """The first line of what a folder says of itself."""
    tree = ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def on_files(files: Any, config: Any) -> Any:
    """Give MkDocs the drawing as a file of the guide."""
    from mkdocs.structure.files import File

    content = io.BytesIO()
    drawing().savefig(content, format="svg", metadata={"Date": None})
    drawn = content.getvalue().decode()
    files.append(File.generated(config, "figures/rooms.svg", content=drawn))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Give MkDocs the tables where a page asks for them."""
    return markdown.replace("<!-- tables of rooms -->", tables()) if page else markdown


if __name__ == "__main__":
    drawing().savefig(sys.argv[1], dpi=110)
