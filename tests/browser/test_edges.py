"""Edges on a page in a real browser: what the controls hide, what keys reach, at any width."""

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

import gpt.model
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.report import EdgesView, MapView, Page, SourceView, write_report
from interp.surgery import read_source
from tests.interp.circuits.edge_tables import real_table

from .conftest import HOSTILE


@pytest.fixture(scope="module")
def table():
    return real_table()


def write_page(folder, table):
    codes = read_source(gpt.model).text.splitlines()
    lines = pd.DataFrame({"file": "model.py", "line": range(1, len(codes) + 1), "code": codes})
    boxes = architecture(GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=8)))
    parts = [
        EdgesView("The edges", table, lines),
        MapView("The map", boxes, lines, edges=table),
        SourceView("The source", lines, edges=table),
    ]
    return write_report(folder / "edges.html", Page("Edges", "Which line tells which?", parts))


@pytest.fixture(scope="module")
def path(tmp_path_factory, table):
    return write_page(tmp_path_factory.mktemp("edges"), table)


def drawn(page):
    """The edges whose arcs can be seen, and those whose rows can, each with its meaning."""
    arcs = page.locator("[data-edges] a.arc").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).display !== 'none')"
        ".map(one => one.getAttribute('aria-label').split(')')[0])"
    )
    rows = page.locator("[data-edges] tbody tr").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).display !== 'none')"
        ".map(one => `${one.cells[0].textContent} (${one.cells[1].textContent}`)"
    )
    return arcs, rows


def strongest(rows, count):
    kept = rows.loc[rows["delta"].abs().nlargest(count).index]
    return [f"{row['edge']} ({row['meaning']}" for row in kept.to_dict("records")]


def test_controls_hide_exactly_the_others_and_the_table_says_the_same(path, opened, table):
    page, said, asked = opened(path)
    first = table[table["meaning"] == "open"]
    assert drawn(page) == (strongest(first, 30),) * 2
    pick = {
        name: page.locator(f"[data-pick={name}]") for name in ("meaning", "from", "into", "most")
    }
    pick["most"].select_option("")
    assert drawn(page) == (strongest(first, len(first)),) * 2
    pick["from"].select_option("0")
    of = first[first["from_layer"] == 0]
    assert drawn(page) == (strongest(of, len(of)),) * 2
    pick["into"].select_option("logits")
    of = of[of["layer"].isna()]
    assert len(of) > 0 and drawn(page) == (strongest(of, len(of)),) * 2
    pick["from"].select_option("embed")
    pick["into"].select_option("1")
    pick["meaning"].select_option("direct")
    of = table[(table["meaning"] == "direct") & table["from_layer"].isna() & (table["layer"] == 1)]
    assert drawn(page) == (strongest(of, len(of)),) * 2
    pick["from"].select_option("")
    pick["into"].select_option("")
    pick["most"].select_option("10")
    of = table[table["meaning"] == "direct"]
    assert drawn(page) == (strongest(of, 10),) * 2
    page.locator("[data-pick=sure]").check()
    of = of[(of["p_adjusted"] < 0.05) & ((of["ci_low"] > 0) | (of["ci_high"] < 0))]
    assert drawn(page) == (strongest(of, 10),) * 2
    assert page.locator("[data-shown]").inner_text() == f"10 of {len(of)} edges are drawn."
    page.locator("[data-edges] thead button").first.click()  # sorted rows are still theirs
    assert sorted(drawn(page)[1]) == sorted(strongest(of, 10))
    pick["most"].select_option("")
    assert drawn(page)[0] == strongest(of, len(of))
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_an_arc_is_as_opaque_as_its_row_and_a_bundle_counts_what_is_drawn(path, opened, table):
    page, _, _ = opened(path)
    page.locator("[data-pick=most]").select_option("10")
    shown = page.locator("[data-edges] a.arc:not([hidden])")
    opacities = shown.locator(".seen").evaluate_all(
        "all => all.map(one => Number(getComputedStyle(one).strokeOpacity))"
    )
    first = table[table["meaning"] == "open"]["delta"].abs().nlargest(10)
    assert opacities == pytest.approx(
        list(0.12 + 0.88 * first / table["delta"].abs().max()), abs=1e-3
    )
    bundles = shown.evaluate_all("all => all.map(one => one.dataset.bundle)")
    counts = dict(
        page.locator("[data-edges] [data-count]:not([hidden])").evaluate_all(
            "all => all.map(one => [one.dataset.count, one.textContent])"
        )
    )
    assert counts == {
        name: f"\N{MULTIPLICATION SIGN}{bundles.count(name)}"
        for name in bundles
        if bundles.count(name) > 1
    }


def test_arcs_end_at_the_lines_of_their_rows(path, opened, table):
    page, _, _ = opened(path, width=390)
    page.locator("[data-pick=most]").select_option("")
    ends = page.locator("[data-edges] a.arc:not([hidden])").evaluate_all(
        """all => all.map(one => {
          const seen = one.querySelector(".seen"), at = (length) => {
            const point = seen.getPointAtLength(length).matrixTransform(seen.getScreenCTM());
            return point.y;
          };
          return [one.getAttribute("aria-label").split(" (")[0], at(0), at(seen.getTotalLength())];
        })"""
    )
    lines = dict(
        page.locator(".edges-line .n").evaluate_all(
            """all => all.map(one => {
              const box = one.parentElement.getBoundingClientRect();
              return [Number(one.textContent), [box.top, box.bottom]];
            })"""
        )
    )
    rows = table[table["meaning"] == "open"].set_index("edge")
    assert len(ends) == len(rows)
    for edge, start, end in ends:
        for height, line in ((start, rows.loc[edge, "line"]), (end, rows.loc[edge, "reader_line"])):
            top, bottom = lines[line]
            assert top < height < bottom


def test_keys_reach_every_arc_and_what_it_says_is_shown(path, opened):
    page, _, _ = opened(path)
    page.locator("[data-pick=most]").select_option("10")
    labels = page.locator("[data-edges] a.arc:not([hidden])").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    page.locator("[data-pick=sure]").focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == labels[0]
    reached = [labels[0]]
    for _ in labels[1:]:
        page.keyboard.press("ArrowDown")
        reached.append(page.evaluate(focused))
    assert reached == labels
    assert page.locator("[data-edges] [data-told]").inner_text() == labels[-1]
    page.keyboard.press("Home")
    assert page.evaluate(focused) == labels[0]
    page.keyboard.press("Enter")
    row = page.evaluate("document.querySelector('tr:target').cells[0].textContent")
    assert labels[0].startswith(row)
    page.locator("[data-map] a.arc").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".map-box.chosen")
    assert page.url.endswith(page.locator(".map-box.chosen").get_attribute("id"))


@pytest.mark.parametrize("width, theme", [(390, "dark"), (1440, "light")])
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_window(path, opened, width, theme):
    page, said, _ = opened(path, width=width, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []
    assert said == []


def test_without_script_and_on_paper_arcs_and_table_are_there(path, opened, table):
    page, _, _ = opened(path, script=False)
    first = table[table["meaning"] == "open"]
    assert drawn(page) == (strongest(first, 30),) * 2
    assert not page.locator(".edges-controls").is_visible()
    page, _, _ = opened(path)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 695, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 695
    assert drawn(page) == (strongest(first, 30),) * 2
    assert not page.locator(".edges-controls").is_visible()
    strip = page.locator(".edges-line")
    assert strip.filter(visible=True).count() == strip.count() > 8
    assert page.locator("svg.arcs").bounding_box()["height"] == pytest.approx(
        page.locator(".edges-lines").bounding_box()["height"], abs=1
    )
    color = page.locator("[data-edges] a.arc .seen").first.evaluate(
        "one => getComputedStyle(one).stroke"
    )
    assert color == "rgb(31, 111, 178)" or color == "rgb(194, 87, 26)"


def test_whatever_a_table_holds_nothing_executes(tmp_path, opened, table):
    names = ("edge", "code", "reader_code", "metric", "meaning", "direction")
    page, said, _ = opened(write_page(tmp_path, table.assign(**dict.fromkeys(names, HOSTILE))))
    page.locator("[data-pick=most]").select_option("10")
    assert page.title() == "Edges"
    assert page.locator("script").count() == 1 and page.locator("img[onerror]").count() == 0
    assert page.locator("[data-edges] a.arc:not([hidden])").count() == 10
    assert np.isfinite(page.evaluate("document.documentElement.scrollWidth")) and said == []
