import base64
import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from interp.report import Page, Section, write_report
from interp.report.quiz import Question, Quiz

from .conftest import HOSTILE, report_of

A4 = 695  # CSS pixels of its width between the margins


def beside(page):
    """What stands in the panel that is open."""
    return page.locator(".line.open + .panel-row .line-panel, .beside .line-panel")


@pytest.mark.parametrize("width", [360, 1400])
def test_a_click_on_a_line_shows_its_edit_and_what_came_of_it(report, opened, width):
    path, line, _ = report
    page, said, _ = opened(path, width=width)
    assert beside(page).count() == 0
    page.locator(f"#L{line} .c").click()
    panel = beside(page)
    assert panel.locator(".edit").all_inner_texts()[0].split("\n") == [
        "- x = x + attn_out",
        "+ x = attn_out",
    ]
    told = panel.inner_text()
    assert "+2.500 nats [+2.000 to +3.000]" in told
    assert "+1.400 nats [+1.300 to +1.500]" in told
    assert "raises the loss" in told
    assert "blocks.*.hook_resid_mid" in told
    assert panel.locator(".layers td.number").all_inner_texts() == ["+1.500", "+0.500"]
    assert panel.locator(".curve.cut, .curve.whole").count() == 2
    assert page.url.endswith(f"#L{line}")
    page.locator(f"#L{line} .c").click()
    assert beside(page).count() == 0
    assert said == []


def test_keys_go_from_effect_to_effect_open_and_close(report, opened):
    path, line, following = report
    page, said, _ = opened(path)
    effects = page.locator(".line[data-effect]").evaluate_all("rows => rows.map(row => row.id)")
    assert effects == [f"L{line}", f"L{following}"]  # not the norm: its interval holds zero
    focused = "document.activeElement.closest('.line')?.id"
    page.keyboard.press("j")
    assert page.evaluate(focused) == f"L{line}"
    page.keyboard.press("j")
    assert page.evaluate(focused) == f"L{following}"
    page.keyboard.press("j")
    assert page.evaluate(focused) == f"L{following}"
    page.keyboard.press("k")
    assert page.evaluate(focused) == f"L{line}"
    page.keyboard.press("Enter")
    assert beside(page).get_attribute("aria-label") == f"Line {line}"
    assert page.evaluate("document.activeElement.className") == "line-panel"
    page.keyboard.press("j")
    assert beside(page).get_attribute("aria-label") == f"Line {following}"
    page.keyboard.press("Escape")
    assert beside(page).count() == 0
    assert page.evaluate(focused) == f"L{following}"
    page.keyboard.press("?")
    assert page.locator("dialog[open]").inner_text().startswith("Keys")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert said == []


def test_a_link_to_a_line_opens_it(report, opened):
    path, line, following = report
    page, _, _ = opened(path, f"#L{following}")
    assert beside(page).get_attribute("aria-label") == f"Line {following}"
    assert page.locator(f"#L{following}").bounding_box()["y"] in range_of(page)
    page.evaluate(f"location.hash = 'L{line}'")
    page.wait_for_selector(f"#L{line}.open")
    assert beside(page).get_attribute("aria-label") == f"Line {line}"


def range_of(page):
    class Within:
        def __contains__(self, y):
            return 40 < y < page.viewport_size["height"] - 40

    return Within()


def test_the_source_opens_on_the_lines_with_an_effect_and_what_they_stand_in(report, opened):
    path, line, following = report
    page, _, _ = opened(path)
    shown = page.locator(".line:visible")
    code = page.locator(".line:visible .c").all_inner_texts()
    assert shown.evaluate_all("rows => rows.filter(row => 'effect' in row.dataset).length") == 2
    assert page.locator(f"#L{line}").is_visible() and page.locator(f"#L{following}").is_visible()
    assert [one.split()[0] for one in code[:2]] == ["class", "def"] and len(code) == 4
    page.get_by_role("button", name="All lines").click()
    assert page.locator(".line:visible").count() > 100
    page.get_by_role("button", name="Lines with an effect").click()
    assert page.locator(".line:visible").count() == 4


def test_boxes_and_lines_lead_to_each_other(report, opened):
    path, line, _ = report
    page, said, _ = opened(path)
    page.locator("a.plus").nth(1).click()
    box = page.locator(".map-box.chosen")
    assert "x = x + attn_out" in box.inner_text()
    assert "blocks.*.hook_resid_mid [batch pos 8]" in box.inner_text()
    box.get_by_role("link", name=re.compile(f":{line}")).first.click()
    page.wait_for_selector(f"#L{line}.open")
    beside(page).get_by_role("link", name="addition").click()
    assert page.locator(".map-box.chosen").get_attribute("id") == box.get_attribute("id")
    page.locator("a.box").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(".map-box.chosen h3").inner_text() == "wte Embedding"
    assert said == []


def test_tables_sort_by_the_exact_numbers_with_what_is_missing_last(report, opened):
    path, *_ = report
    page, _, _ = opened(path)
    head = page.locator(".table thead th").nth(1)

    def column(number):
        return page.locator(f".table tbody tr > :nth-child({number})").all_inner_texts()

    assert column(2) == ["10.1235", "—", "-2.0000"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(2) == ["-2.0000", "10.1235", "—"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(2) == ["10.1235", "-2.0000", "—"]
    page.locator(".table thead th").nth(0).get_by_role("button").click()
    assert column(1) == ["a", "b", "c"]


def test_a_table_is_saved_as_csv_with_all_its_digits_and_a_figure_as_it_was_drawn(
    report, opened, tmp_path
):
    path, *_ = report
    page, said, _ = opened(path)
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert saving.value.suggested_filename == "numbers.csv"
    assert list(table) == ["name", "loss", "said"]
    assert table["loss"].tolist()[::2] == [10.123456, -2.0] and table["loss"].isna()[1]
    links = {kind: page.get_by_role("link", name=kind, exact=True) for kind in ("SVG", "PNG")}
    saved = {
        kind: base64.b64decode(link.get_attribute("href").partition(";base64,")[2])
        for kind, link in links.items()
    }
    assert saved["SVG"] == (path.parent / "figure.svg").read_bytes()
    with (
        Image.open(io.BytesIO(saved["PNG"])) as small,
        Image.open(path.parent / "figure.png") as drawn,
    ):  # fewer colours, which nobody sees
        pair = [np.asarray(one.convert("RGB"), dtype=float) for one in (small, drawn)]
    assert np.abs(pair[0] - pair[1]).max() < 24
    assert said == []


def test_a_spreadsheet_computes_nothing_of_a_saved_table_and_numbers_stay_numbers(opened, tmp_path):
    live = [
        "=1+1",
        "@SUM(1)",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "\t=1",
        "\uff1d1",
        '=HYPERLINK("x")',
        " =1",
    ]
    plain = ["-0.5", "+1.25e-3", "a;=1+1", "a|=1", 'x",=1', "none"]
    table = pd.DataFrame({"=head": live + plain, "n": np.arange(14) - 8.5})
    page = Page("t", "q?", [Section("s", table=table)], [{}])
    page, *_ = opened(write_report(tmp_path / "page.html", page))
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.reader(io.StringIO(text)))
    assert [float(number) for _, number in rows[1:]] == table["n"].tolist()
    assert [cell for cell, _ in rows[:9]] == [f"'{cell.strip()}" for cell in ["=head", *live]]
    assert [cell for cell, _ in rows[9:]] == plain
    for separator in ";|\t":  # of another country's spreadsheet
        for row in csv.reader(io.StringIO(text), delimiter=separator):
            assert not [cell for cell in row if cell.startswith(("=", "@"))]


def test_the_theme_follows_the_system_until_it_is_chosen(report, opened):
    path, *_ = report
    paper = "getComputedStyle(document.body).backgroundColor"
    light, _, _ = opened(path, theme="light")
    dark, _, _ = opened(path, theme="dark")
    assert light.evaluate(paper) != dark.evaluate(paper)
    as_dark = dark.evaluate(paper)
    light.keyboard.press("d")
    assert light.evaluate(paper) == as_dark
    light.reload()
    assert light.evaluate(paper) == as_dark
    light.get_by_role("button", name="Dark theme").click()
    assert light.evaluate(paper) != as_dark


@pytest.mark.parametrize("width", [360, 1600])
def test_nothing_is_wider_than_the_window(report, opened, width):
    path, line, _ = report
    page, _, _ = opened(path, f"#L{line}", width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_nothing_but_the_file_is_asked_for_and_nothing_is_said(report, opened):
    path, line, _ = report
    page, said, asked = opened(path, f"#L{line}")
    page.keyboard.press("j")
    page.locator("a.box").first.click()
    page.wait_for_timeout(100)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []


def test_whatever_texts_contain_nothing_executes(tmp_path, opened):
    path, line, _ = report_of(tmp_path, text=HOSTILE)
    page, said, _ = opened(path, f"#L{line}")
    page.locator(".table thead button").first.click()
    page.wait_for_timeout(100)
    assert page.title() == "What each line does"
    assert page.locator("script").count() == 1
    assert page.locator("img[onerror]").count() == 0
    assert (
        page.locator(".summary p").first.inner_text().startswith("</script></code></pre><script>")
    )
    assert not re.search("[\x00\x1b\u202e\u2028]", page.locator("body").inner_text())
    assert said == []


def test_an_injected_script_would_be_stopped_by_the_policy(report, opened, tmp_path):
    path, *_ = report
    text = path.read_text(encoding="utf-8")
    changed = tmp_path / "changed.html"
    injected = "<script>document.title = 'run'</script><p onclick=\"document.title = 'run'\">x</p>"
    changed.write_text(text.replace("<main", f"{injected}<main", 1), encoding="utf-8")
    page, said, _ = opened(changed)
    page.locator("p[onclick]").click()
    assert page.title() == "What each line does"
    assert any("Content Security Policy" in line for line in said)


def test_without_script_all_is_there_to_read(report, opened):
    path, line, _ = report
    page, _, _ = opened(path, f"#L{line}", script=False)
    panel = page.locator(f"#L{line} + .panel-row .line-panel")
    assert panel.is_visible()
    assert "+2.500 nats" in panel.inner_text()
    assert page.locator(".map-box").nth(3).is_visible()
    assert not page.get_by_role("button", name="Save as CSV").is_visible()
    assert page.locator(".table").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_no_violation(report, opened, theme, width):
    path, line, _ = report
    page, _, _ = opened(path, f"#L{line}", theme=theme, width=width)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found] == []


def test_printed_pages_hold_the_source_and_no_controls(report, opened):
    path, line, _ = report
    page, _, _ = opened(path)
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Save as CSV").is_visible()
    assert not page.locator(".bar").is_visible()
    assert page.locator(f"#L{line}").is_visible()
    heads = page.locator(".code thead th").filter(visible=True).all_inner_texts()
    assert [head.strip() for head in heads] == [
        "line",
        "cut",
        "bar",
        "layers",
        "lasting",
        "bar",
        "code",
    ]
    page.set_viewport_size({"width": A4, "height": 1000})
    # what is wider than the paper has the browser shrink the whole page
    assert page.evaluate("document.documentElement.scrollWidth") <= A4
    paper = page.pdf(format="A4")
    assert 2 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 3


def test_a_table_of_which_some_rows_are_shown_is_saved_whole(tmp_path, opened):
    whole = pd.DataFrame({"name": ["=1+1", "b", "c"], "value": [1 / 3, -2.0, np.nan]})
    part = Section("s", table=whole.head(1), saved=whole)
    page, _, _ = opened(write_report(tmp_path / "page.html", Page("t", "q?", [part])))
    assert page.get_by_text("1 of 3 rows are shown; the file has all.").is_visible()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save as CSV").click()
    saving.value.save_as(tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv")
    assert read["name"].tolist() == ["'=1+1", "b", "c"]
    np.testing.assert_array_equal(read["value"], whole["value"])


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_every_section_is_reached_from_the_bar_without_scrolling_it(report, opened, width):
    path, *_ = report
    page, said, _ = opened(path, width=width)
    for shortcut in page.locator(".shortcuts a:visible").all():
        box = shortcut.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    sections = page.locator("main h2:not(#summary)").evaluate_all("all => all.map(one => one.id)")
    links = page.locator("[data-menu] a")
    assert [
        href.removeprefix("#")
        for href in links.evaluate_all("all => all.map(one => one.getAttribute('href'))")
    ] == sections
    for number in range(links.count()):
        page.locator("[data-menu] summary").click()
        box = links.nth(number).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] > 0
        links.nth(number).click()
        assert not page.locator("[data-menu]").evaluate("menu => menu.open")
    page.locator("[data-menu] summary").click()
    page.keyboard.press("Escape")
    assert not links.first.is_visible()
    assert said == []


def test_a_line_that_was_linked_to_is_unlit_when_the_reader_moves_on(report, opened):
    path, line, following = report
    page, *_ = opened(path, f"#L{line}")

    def lit():
        plain = page.locator(".line:not([data-effect])").first
        ground = "row => getComputedStyle(row.querySelector('.c')).backgroundColor"
        rows = page.locator(".line[data-effect]")
        return [
            row.get_attribute("id")
            for row in rows.all()
            if row.evaluate(ground) != plain.evaluate(ground)
        ]

    assert lit() == [f"L{line}"]
    page.keyboard.press("j")
    assert lit() == [f"L{following}"]
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    assert lit() == []


def test_a_table_wider_than_its_box_fades_where_there_is_more_of_it(opened, tmp_path):
    narrow = Section("narrow", table=pd.DataFrame({"a": [1.0]}))
    wide = Section("wide", table=pd.DataFrame({f"a long column {n}": [1.0] for n in range(20)}))
    page, *_ = opened(write_report(tmp_path / "page.html", Page("t", "q?", [narrow, wide])))
    boxes = page.locator(".table .wide")
    mask = "box => getComputedStyle(box).maskImage"
    page.wait_for_selector('[data-more="right"]')
    assert boxes.nth(0).evaluate(mask) == "none" != boxes.nth(1).evaluate(mask)
    boxes.nth(1).evaluate("box => box.scrollLeft = 50")
    page.wait_for_selector('[data-more="both"]')
    boxes.nth(1).evaluate("box => box.scrollLeft = box.scrollWidth")
    page.wait_for_selector('[data-more="left"]')


def test_on_paper_halves_stand_side_by_side_and_a_quiz_is_a_line(opened, tmp_path):
    halves = [Section(f"h{n}", f"Text {n}.", code="-x\n+y\n", half=True) for n in range(4)]
    quiz = Quiz([Question([1], "It doubles.", "-x\n+y\n")], "m.py", ["x", "y"])
    whole = Page("t", "q?", [*halves, quiz], summary=["a", "b", "c", "d"])
    page, *_ = opened(write_report(tmp_path / "page.html", whole))
    page.emulate_media(media="print")
    boxes = [box.bounding_box() for box in page.locator("main > .half").all()]
    rows = [(round(box["y"]), box["x"] > boxes[0]["x"]) for box in boxes]
    assert rows[0][0] == rows[1][0] < rows[2][0] == rows[3][0]
    assert [right for _, right in rows] == [False, True] * 2
    assert not page.locator(".half .diff, .quiz-table, .more").filter(visible=True).count()
    assert "1 questions" not in page.locator(".quiz").inner_text()
    assert "--worksheet" in page.locator(".quiz").inner_text()
    page.emulate_media(media="screen")
    assert not page.get_by_text("--worksheet").is_visible()
    assert page.locator(".half .diff").first.is_visible()
