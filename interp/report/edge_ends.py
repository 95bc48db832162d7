"""At which lines of a page do edges begin and end?

ends_of_edge(row, names)["to"]["line"]      # 113
edges_at_lines(table, names, "nats")        # what each line is told of its edges
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from interp.characters import visible
from interp.code_text import one_line
from interp.edge_looks import edge_sentence, strongest_edges
from interp.report.values import Row, empty, shown_name, with_text_keys

TOLD = 6
"""How many edges a line tells of, from it and to it."""


def ends_of_edge(row: Row, names: Sequence[str]) -> dict[str, Row]:
    """The lines at both ends of an edge: ``file line code``, and how the page calls the file,
    ``name``, empty where it does not show it. A line that is not known is None."""
    return {
        "from": line_at_end(row["file"], row["line"], row["code"], names),
        "to": line_at_end(row["reader_file"], row["reader_line"], row["reader_code"], names),
    }


def line_at_end(file: Any, line: Any, code: Any, names: Sequence[str]) -> Row:
    if empty(line) or empty(file) or not str(file):
        return {"file": "", "line": None, "code": "", "name": ""}
    name = name_shown(str(file), tuple(names))
    # of an edited file, the one that was edited
    called = name or str(file).partition(":")[0]
    return {"file": called, "line": int(line), "code": one_line_of(str(code)), "name": name}


# many edges end at one line
one_line_of, name_shown = lru_cache(256)(one_line), lru_cache(256)(shown_name)


def edges_at_lines(
    table: pd.DataFrame | None, names: Sequence[str], unit: str
) -> dict[tuple[str, int], list[Row]]:
    """What each line is told of its edges, the strongest first: a heading, texts, how many more."""
    found: dict[tuple[str, int], dict[str, list[Row]]] = {}
    if table is None:
        return {}
    for row in map(with_text_keys, strongest_edges(table, len(table)).to_dict("records")):
        for side, end in ends_of_edge(row, names).items():
            if end["name"] and end["line"] is not None:
                sides = found.setdefault((end["name"], end["line"]), {"from": [], "to": []})
                sides[side].append(row)
    headings = {"from": "Edges from this line", "to": "Edges to this line"}
    return {
        place: [
            {
                "heading": headings[side],
                "texts": [say_edge(row, unit) for row in rows[:TOLD]],
                "more": max(0, len(rows) - TOLD),
            }
            for side, rows in sides.items()
            if rows
        ]
        for place, sides in found.items()
    }


def say_edge(row: Row, unit: str) -> str:
    meaning = "" if empty(row.get("meaning")) else f" ({row['meaning']})"
    return visible(f"{row['edge']}{meaning}: {edge_sentence(row, unit)}")
