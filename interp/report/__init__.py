"""How does a run become a page that people read?

One HTML file that holds everything it shows: it opens from disk, asks no network, runs nothing but
its own one script, can be read without that, and shows whatever code, labels and titles contain as
text.

    section = Section("No residual", "The loss stays at the unigram entropy.", figures, table, diff)
    page = Page(title, question, [section], [run.description])
    write_report(run.folder / "report.html", page)

A page is made of parts, shown in their order; ``interp.report.page`` says what a part is.
"""

from interp.report.edges import EdgesView
from interp.report.map import MapView
from interp.report.page import Page, Part, as_json, write_report
from interp.report.sections import Figure, Section
from interp.report.source import SourceView
from interp.report.writing import WritingView

__all__ = [
    "EdgesView",
    "Figure",
    "MapView",
    "Page",
    "Part",
    "Section",
    "SourceView",
    "WritingView",
    "as_json",
    "write_report",
]
