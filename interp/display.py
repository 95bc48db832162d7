"""How does a result look in a notebook? As HTML in which nothing acts: all text is escaped.

table_html(receipt.table())
"""

from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from interp.characters import visible


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML: text escaped and ``visible``, numbers with four digits."""
    heads = Markup("").join(Markup("<th>{}</th>").format(visible(str(name))) for name in table)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(cell(value) for value in row))
        for row in table.itertuples(index=False)
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(heads, rows)


def cell(value: Any) -> Markup:
    if isinstance(value, float):
        return Markup('<td style="text-align:right">{}</td>').format(
            "" if pd.isna(value) else f"{value:.4g}"
        )
    if value is None or value is pd.NA:
        return Markup("<td></td>")
    return Markup('<td style="text-align:left">{}</td>').format(visible(str(value)))


def code_html(text: str) -> str:
    """Code or a diff, in a monospaced font; lines taken out and put in are tinted."""
    tints = {"+": "#d6e8f7", "-": "#f7d9bd"}
    lines = [
        Markup('<span style="background:{};color:#111">{}</span>').format(tints[line[0]], line)
        if line[:1] in tints and not line.startswith(("+++", "---"))
        else escape(line)
        for line in map(visible, text.splitlines())
    ]
    return Markup('<pre style="line-height:1.3">{}</pre>').format(Markup("\n").join(lines))


def frame_html(page: str, height: int) -> str:
    """A whole page inside a notebook: it cannot reach what is around it."""
    return Markup(
        '<iframe srcdoc="{}" sandbox="allow-scripts" style="width:100%;height:{}px;border:0">'
        "</iframe>"
    ).format(page, height)
