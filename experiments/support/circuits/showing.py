"""How does a page show a circuit, from a run's tables and figures alone?"""

import pandas as pd

from experiments.support.circuits.telling import (
    chosen,
    circuit_of,
    edge_words,
    edges_of,
    tell_findings,
)
from interp.report import Part, Section
from interp.runs import Run, SavedRun

SHOWN = 40  # edges in a table


def draw_figures(run: Run) -> None:
    """Figures, from the saved tables alone."""


def show_sections(run: SavedRun) -> list[Part]:
    """What the page shows."""
    said = tell_findings(run)
    effects = edges_of(run)
    columns = ["edge", "meaning", "delta", "ci_low", "ci_high", "p_adjusted", "n"]
    lines = ["line", "code", "reader_line", "reader_code"]
    shown: list[Part] = [
        Section("The circuit", text="\n\n".join(said[:3]), table=circuit_table(run)),
        Section(
            "Every edge", text="", table=effects[[*columns, *lines]].head(SHOWN), saved=run.table()
        ),
    ]
    return shown


def circuit_table(run: SavedRun) -> pd.DataFrame:
    """The edges of the smallest circuit, with what each does alone in either meaning."""
    edges = circuit_of(run, chosen(run))
    table = run.table()
    opened, direct = (
        table[table["meaning"] == meaning].set_index("edge") for meaning in ("open", "direct")
    )
    rows = opened.loc[[edge for edge in edges if edge in opened.index]]
    return pd.DataFrame(
        {
            "edge": [edge_words(edge) for edge in rows.index],
            "open": rows["delta"],
            "ci_low": rows["ci_low"],
            "ci_high": rows["ci_high"],
            "direct": direct["delta"].reindex(rows.index),
            "line": rows["line"],
            "code": rows["code"],
            "reader_line": rows["reader_line"],
            "reader_code": rows["reader_code"],
        }
    )
