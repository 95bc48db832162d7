"""How well is each group of documents predicted, beside models that only counted?

run.save_figure(loss_by_group(run.table("losses"), run.table("lines")), "losses")
"""

import math

import pandas as pd
from matplotlib.figure import Figure

from interp.figures.style import WIDTH, finish_layout, print_style, prose, require

POINT, LINE = "#0173b2", "0.35"


def loss_by_group(table: pd.DataFrame, lines: pd.DataFrame) -> Figure:
    """A point for each group of documents with its interval, and a line for each reference.

    Args:
        table: a row for each group; columns group, name, documents, nats_per_token, low, high; the
            last two may be missing.
        lines: columns line and nats_per_token.

    Raises:
        UsageError: a column is missing.
    """
    require(table, ["group", "name", "documents", "nats_per_token", "low", "high"])
    require(lines, ["line", "nats_per_token"])
    with print_style():
        figure = Figure(figsize=(WIDTH, 1.3 + 0.28 * len(table)))
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        names = []
        for place, row in enumerate(table.to_dict("records")):
            loss = row["nats_per_token"]
            if math.isfinite(row["low"]):
                axes.plot([row["low"], row["high"]], [place, place], color=POINT, linewidth=1.6)
            axes.plot(loss, place, "o", color=POINT, markersize=5)
            name = "all documents" if row["group"] == "all" else f"{row['group']}: {row['name']}"
            names.append(prose(f"{name} ({row['documents']})"))
        styles = ("dotted", "dashed", "dashdot")
        for line, style in zip(lines.to_dict("records"), styles, strict=False):
            label = f"{line['line']}s, counted"
            axes.axvline(line["nats_per_token"], color=LINE, linestyle=style, label=label)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("nats per token on documents that it was not trained on")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        figure.suptitle(prose("What it predicts well, and what it does not"), x=0.01, ha="left")
        finish_layout(figure)
    return figure
