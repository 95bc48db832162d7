"""The heads and the text: pointed at, clicked, and by the keyboard alone."""

import itertools

import numpy as np
import pytest
import torch

from gpt.model import GPT, GPTConfig
from interp.heads import attention
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
    assert heads.evaluate("'pattern' in document.activeElement.dataset")
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


def test_arrow_keys_move_from_cell_to_cell_of_the_large_pattern(heads):
    heads.locator("[data-pattern]").focus()
    heads.keyboard.press("ArrowUp")
    heads.keyboard.press("ArrowLeft")
    assert told(heads).startswith('From "<" (position 5)')
    hover = heads.locator("[data-hover]")
    assert hover.inner_text() == 'From "<" (position 5) to "e" (position 4): 0.80'
    for _ in range(9):
        heads.keyboard.press("ArrowDown")  # no further than the last
    assert told(heads).startswith('From ">" (position 6)')


def test_both_axes_and_the_scale_say_what_they_are(heads):
    for axis in ("[data-queries]", "[data-keys-looked-at]"):
        assert heads.locator(f"{axis} span:visible").all_inner_texts() == [*"to␣be<>"]
    text = heads.locator(".attention-grid").inner_text()
    assert "query: the token that looks" in text and "key: the token looked at" in text
    marks = heads.locator(".attention-scale span").all_inner_texts()
    assert marks == ["0", "0.05", "0.25", "0.5", "1"]


WIDE = ["<|endoftext|>", "Ġthe", "🦊", "日本語", "Ġinternationalization", "\n", "\u202e", "x"]


def overlapping(page, axis):
    """Labels of an axis that meet, as a reader sees them."""
    boxes = page.locator(f"{axis} span:visible").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().toJSON())"
    )
    side, size = ("top", "height") if axis == "[data-queries]" else ("left", "width")
    boxes.sort(key=lambda box: box[side])
    near = itertools.pairwise(boxes)
    return [one for one, other in near if one[side] + 0.8 * one[size] > other[side]]


@pytest.mark.parametrize("width", [700, 1400])
@pytest.mark.parametrize("tokens", [WIDE, [*"def f(x):\n  y"] * 10 + [*"the last"], ["日"] * 64])
def test_labels_never_overlap_and_shortened_ones_have_the_whole_in_a_title(
    opened, tmp_path, tokens, width
):
    weights = np.tril(np.full((len(tokens), len(tokens)), 0.01))
    page = Page("Attention", "Where?", [AttentionView(tokens, {(0, 0): weights})])
    there = opened(write_report(tmp_path / "page.html", page), width=width).page
    for axis in ("[data-queries]", "[data-keys-looked-at]"):
        shown = there.locator(f"{axis} span:visible").count()
        assert shown >= min(len(tokens), 20)
        assert overlapping(there, axis) == []
    across = there.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert across
    if tokens is WIDE:
        for place in ("[data-queries]", "[data-keys-looked-at]", "[data-text]"):
            label = there.locator(f"{place} span").nth(4)
            assert label.inner_text() == "Ġinternat…"
            assert label.get_attribute("title") == "Ġinternationalization"


def test_in_a_notebooks_frame_it_works_and_its_links_stay_in_it(opened, tmp_path):
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=16))
    frame = attention(model, torch.arange(12))._repr_html_()
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><body>{frame}</body>", encoding="utf-8")
    there = opened(path)
    inside = there.page.frames[1]
    inside.locator("[data-head]").nth(1).click()
    assert inside.locator("[data-name]").inner_text() == "Head 0.1"
    before = inside.locator("[data-pattern]").bounding_box()["y"]
    inside.locator("[data-menu] summary").click()
    inside.locator("[data-menu] a").last.click()
    inside.locator("[data-theme-toggle]").click()
    assert inside.evaluate("document.documentElement.dataset.theme") == "dark"
    assert inside.locator("[data-pattern]").bounding_box()["y"] < before
    assert there.said == []
    assert [url for url in there.asked if not url.startswith(("file:", "data:"))] == []


def test_without_its_script_the_small_patterns_are_there(opened, tmp_path):
    page = Page("Attention", "Where?", [AttentionView(TEXT, {(0, 0): pattern(0, 0)})])
    there = opened(write_report(tmp_path / "page.html", page), script=False).page
    assert there.locator("[data-head] img").first.is_visible()
    assert not there.locator(".attention-large").is_visible()
