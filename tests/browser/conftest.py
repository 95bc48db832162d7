"""A report in a real browser: Debian's Chromium, driven from here, without a network."""

import shutil
from collections import namedtuple

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

import gpt.model
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.report import Figure, MapView, Page, Section, SourceView, write_report
from interp.surgery import find, find_all, read_source
from interp.surgery.annotate import annotated

Opened = namedtuple("Opened", "page said asked")
SOURCE = read_source(gpt.model)
HOSTILE = (
    "</script></code></pre><script>document.title='run'</script><!-- "
    '"><img src=x onerror="document.title=1"> \x00\x1b[31m\u202e\u2028 {{ 7 * 7 }}'
)


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser):
    """Opens a page; keeps what it says on the console and what it asks of any network."""
    contexts = []

    def open_page(path, anchor="", width=1400, theme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            java_script_enabled=script,
            accept_downloads=True,
        )
        contexts.append(context)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + anchor)
        return Opened(page, said, asked)

    yield open_page
    for context in contexts:
        context.close()


def tried(surgery, delta, low, high, status="changed", layer="all"):
    return {
        "id": surgery.id,
        "surgery": surgery.id,
        "file": surgery.file,
        "qualname": surgery.qualname,
        "line": surgery.line,
        "lines": surgery.lines,
        "operator": surgery.operator,
        "target": surgery.target,
        "code": surgery.before,
        "after": surgery.after,
        "reading": surgery.reading,
        "phases": ("judge", "train"),
        "layer": layer,
        "delta": delta,
        "ci_low": low,
        "ci_high": high,
        "n": 24.0,
        "status": status,
        "detail": "",
        "same_as": "",
    }


def report_of(folder, text="A finding."):
    """A page with one part of each kind, on the model's own source."""
    first, second = find_all(SOURCE, "cut-skip", qualname="Block.forward")
    norm = find(SOURCE, "drop-factor", qualname="LayerNorm.normalize", target="self.weight")
    table = pd.DataFrame(
        [
            tried(first, 2.5, 2.0, 3.0),
            tried(first, 1.5, 1.0, 2.0, layer="0"),
            tried(first, 0.5, 0.2, 0.8, layer="1"),
            tried(second, -0.2, -0.3, -0.1),
            tried(norm, 0.01, -0.1, 0.12),
        ]
    )
    retrained = pd.DataFrame([tried(first, 1.4, 1.3, 1.5), tried(norm, 0.01, -0.3, 0.3)])
    curves = pd.DataFrame(
        {"surgery": surgery, "seed": seed, "step": step, "split": "val", "loss": loss}
        for surgery, floor in (("", 1.9), (first.id, 3.3))
        for seed in (0, 1)
        for step, loss in enumerate(floor + np.exp(-np.arange(5)) + 0.05 * seed)
    )
    boxes = architecture(GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=8)))
    sites = {row["site"]: row["line"] for row in boxes[boxes["kind"] == "hook"].to_dict("records")}
    lines = annotated(SOURCE, table, retrained, sites)
    figure = matplotlib.figure.Figure(figsize=(4, 2))
    figure.subplots().plot([1, 2])
    figure.savefig(folder / "figure.svg")
    figure.savefig(folder / "figure.png")
    shown = Figure(text, folder / "figure.svg", folder / "figure.png")
    numbers = pd.DataFrame(
        {"name": ["b", "a", "c"], "loss": [10.123456, np.nan, -2.0], "said": [text] * 3}
    )
    page = Page(
        "What each line does",
        "What does the loss lose when a line is cut?",
        [
            SourceView("The source", lines, table, retrained, curves, boxes),
            MapView("The map", boxes, lines),
            Section("Numbers", text, [shown], numbers, f"--- a\n+++ b\n-{text}\n+x\n"),
        ],
        [{"experiment": "lines", "name": "demo", "command": "python -m experiments.lines"}],
        summary=[text],
        limitations=["Two seeds."],
    )
    return write_report(folder / "report.html", page), first.line, second.line


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The path of a report; the line of its largest effect; that of the next line with one."""
    return report_of(tmp_path_factory.mktemp("report"))
