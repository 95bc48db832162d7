"""The heads and the text: pointed at, clicked, and by the keyboard alone."""

import numpy as np
import pytest

from interp.report import Page, write_report
from interp.report.attention import AttentionView

TEXT = [*"to be<>"]


def pattern(layer, head):
    """Each query looks at the token ``head + 1`` back, and a little at itself."""
    weights = np.zeros((len(TEXT), len(TEXT)))
    for query in range(len(TEXT)):
        weights[query, max(0, query - head - 1)] += 0.8
        weights[query, query] += 0.2
    return weights


@pytest.fixture
def heads(opened, tmp_path):
    patterns = {(layer, head): pattern(layer, head) for layer in (0, 1) for head in (0, 1, 2)}
    page = Page("Attention", "Where?", [AttentionView(TEXT, patterns, (1, 0))])
    there = opened(write_report(tmp_path / "page.html", page))
    yield there.page
    assert there.said == []
    assert [url for url in there.asked if not url.startswith(("file:", "data:"))] == []


def told(page):
    return page.locator("[data-told]").inner_text()


def chosen(page):
    return page.locator("[data-head][aria-checked=true]").get_attribute("aria-label")


def test_the_last_character_is_the_query_at_first(heads):
    assert chosen(heads) == "head 1.0"
    assert told(heads) == (
        'From ">" (position 6) it looks at "<" (position 5) 0.80, ">" (position 6) 0.20.'
    )


def test_a_click_on_a_head_and_on_a_character_choose_them(heads):
    heads.locator("[data-head]").nth(2).click()
    assert chosen(heads) == "head 0.2"
    heads.locator("[data-position]").nth(4).click()
    assert 'From "e" (position 4) it looks at "o" (position 1) 0.80' in told(heads)
    shaded = heads.locator("[data-position]").nth(1)
    assert float(shaded.evaluate("e => e.style.getPropertyValue('--weight')")) == 0.8


def test_hovering_shows_the_weight_of_what_is_under_the_mouse(heads):
    heads.locator("[data-position]").nth(5).hover()
    hover = heads.locator("[data-hover]")
    assert hover.inner_text() == 'From ">" (position 6) to "<" (position 5): 0.80'
    canvas = heads.locator("[data-pattern]")
    box = canvas.bounding_box()
    cell = box["width"] / len(TEXT)
    canvas.hover(position={"x": 2.5 * cell, "y": 3.5 * cell})
    assert hover.inner_text() == 'From "b" (position 3) to "␣" (position 2): 0.80'
    canvas.hover(position={"x": 5.5 * cell, "y": 3.5 * cell})
    assert hover.inner_text() == '"<" (position 5) comes later: no attention.'
    canvas.click(position={"x": 2.5 * cell, "y": 3.5 * cell})
    assert told(heads).startswith('From "b" (position 3)')


def test_all_of_it_goes_by_keyboard(heads):
    heads.locator("[data-head][aria-checked=true]").focus()
    heads.keyboard.press("ArrowRight")
    heads.keyboard.press("ArrowUp")
    assert chosen(heads) == "head 0.1"
    heads.keyboard.press("Tab")
    assert heads.evaluate("document.activeElement.dataset.position") == "6"
    heads.keyboard.press("ArrowLeft")
    assert told(heads).startswith('From "<" (position 5) it looks at "b" (position 3) 0.80')
    heads.keyboard.press("Home")
    assert told(heads) == 'From "t" (position 0) it looks at "t" (position 0) 1.00.'


def test_the_large_pattern_is_drawn_in_the_colour_of_the_theme(heads):
    read = """() => {
        const canvas = document.querySelector("[data-pattern]");
        return [...canvas.getContext("2d").getImageData(0, 1, 2, 1).data];
    }"""
    light = heads.evaluate(read)
    assert light[3] > light[7] > 0  # 0.8 on the first key, 0.2 on the query itself
    heads.locator("[data-theme-toggle]").click()
    dark = heads.evaluate(read)
    assert dark[0] > 150 > light[0]
    assert dark[3] == light[3]


def test_without_its_script_the_small_patterns_are_there(opened, tmp_path):
    page = Page("Attention", "Where?", [AttentionView(TEXT, {(0, 0): pattern(0, 0)})])
    there = opened(write_report(tmp_path / "page.html", page), script=False).page
    assert there.locator("[data-head] img").first.is_visible()
    assert not there.locator(".attention-large").is_visible()
