import html
import re

import pandas as pd
import pytest

import gpt.model
from gpt.ladder import LECTURE, Bigram
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.errors import UsageError
from interp.report import MapView, Page
from interp.report.boxes import level_of
from interp.report.page import rendered
from interp.surgery import read_source


@pytest.fixture(scope="module")
def boxes():
    return architecture(GPT(GPTConfig(n_layer=3, n_head=2, n_embd=8, block_size=8)))


@pytest.fixture(scope="module")
def lines(boxes):
    """Our own source; the call of the attention has an effect, that of the MLP none that shows."""
    attention, mlp = (
        int(boxes.loc[boxes["name"] == f"blocks.0.{name}", "line"].iloc[0])
        for name in ("attn", "mlp")
    )
    rows = []
    for number, code in enumerate(read_source(gpt.model).text.splitlines(), 1):
        row = {"file": "model.py", "line": number, "code": code, "status": "", "surgery": ""}
        if number == attention:
            row |= {"status": "changed", "delta": 1.5, "ci_low": 1.0, "ci_high": 2.0}
            row |= {"surgery": "model.py:attn"}
        if number == mlp:
            row |= {"status": "changed", "delta": 0.1, "ci_low": -1.0, "ci_high": 1.0}
        rows.append(row)
    return pd.DataFrame(rows)


LAYERS = pd.DataFrame({"surgery": "model.py:attn", "layer": [0, 1, 2], "delta": [1.0, 0.01, None]})


def page(view):
    return rendered(Page("Title", "Question?", [view]))


def links(text):
    return re.findall(r'<a href="#the-map-box-(\d+)" data-box="\d+" class="(\w+) level-(\d)', text)


def details(text, title):
    found = [
        one
        for one in re.findall(r'<article id="the-map-box.*?</article>', text, re.S)
        if f'data-box-title="{title}"' in one
    ]
    return found[0]


def test_blocks_that_are_the_same_are_drawn_once(boxes):
    text = page(MapView("The map", boxes))
    kinds = [kind for _, kind, _ in links(text)]
    assert (
        kinds.count("box") == 2 + 4 + 2
    )  # embeddings; norm, attention, norm, MLP; norm, unembedding
    assert kinds.count("plus") == 1 + 2
    assert kinds.count("chip") == 4 + 3
    assert "3 times: blocks 0 to 2" in text
    assert "blocks.*.attn.hook_z" in text and "blocks.0.attn.hook_z" not in text


def test_a_block_that_differs_stands_alone(boxes):
    other = boxes.copy()
    other.loc[other["name"] == "blocks.1.mlp", "class"] = "Another"
    text = page(MapView("The map", other))
    assert [kind for _, kind, _ in links(text)].count("box") == 2 + 3 * 4 + 2
    assert all(f">block {number}</text>" in text for number in range(3))


def test_every_box_leads_to_what_is_known_of_it_and_to_its_lines(boxes, lines):
    text = page(MapView("The map", boxes, lines, LAYERS))
    ids = re.findall(r'<article id="the-map-box-(\d+)"', text)
    assert sorted(number for number, *_ in links(text)) == sorted(ids)
    attention = details(text, "attn")
    row = boxes[boxes["name"] == "blocks.0.attn"].iloc[0]
    assert f'href="#L{int(row["line"])}"' in attention
    assert f'href="#L{int(row["class_line"])}"' in attention
    told = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", attention)).split())
    assert "attn_out = self.attn(attn_in)" in told
    assert "[batch pos 8] → [batch pos 8]" in told
    assert "blocks.*.attn.hook_pattern [batch 2 pos key]" in told
    assert "blocks.*.hook_attn_out" in told
    assert "+1.500 nats [+1.000 to +2.000]" in told
    assert "0: +1.000 1: +0.010 2: no number" in told
    assert "hook_resid_mid" in details(text, "addition") or "hook_resid_mid" in text


def test_boxes_are_shaded_by_the_effect_of_the_line_that_calls_them(boxes, lines):
    text = page(MapView("The map", boxes, lines, LAYERS))
    number = {title: re.search(r"box-(\d+)", details(text, title))[1] for title in ("attn", "mlp")}
    levels = {number: level for number, _, level in links(text)}
    assert levels[number["attn"]] == "4"
    assert levels[number["mlp"]] == "0"  # its interval holds zero
    assert "no effect shown" in details(text, "mlp")
    assert [level_of(delta, 1.0) for delta in (0.0, 0.01, 0.05, -0.2, 1.0, float("nan"))] == [
        *(0, 1, 2, 3, 4, 0)
    ]


def test_models_of_another_shape_are_drawn_and_said_to_be(boxes):
    bigram = page(MapView("The map", architecture(Bigram(LECTURE))))
    assert "This model has no blocks" in bigram
    assert [kind for _, kind, _ in links(bigram)] == ["box"]
    bare = page(MapView("The map", boxes[(boxes["kind"] != "add") | (boxes["block"] == "")]))
    assert "No block adds to a residual stream" in bare


def test_whatever_names_hold_is_shown_as_text(boxes):
    hostile = '"><script>alert(1)</script>\u202e'
    other = boxes.replace({"attn": hostile, "CausalSelfAttention": hostile, "Linear": hostile})
    text = page(MapView("The map", other))
    assert text.count("<script") == 1
    assert "\u202e" not in text


def test_a_table_without_boxes_is_one_sentence(boxes):
    with pytest.raises(UsageError, match="has no boxes"):
        page(MapView("The map", boxes[boxes["kind"] == "hook"]))


def test_a_value_that_a_line_only_rearranges_is_placed_where_it_is_computed(boxes, lines):
    codes = list(lines["code"])
    made = [
        n
        for n, code in enumerate(codes, 1)
        if code.strip().startswith(("z = self.attend(", "z = F."))
    ]
    text = html.unescape(page(MapView("The map", boxes, lines)))
    assert len(made) == 2 and f"model.py:{made[0]} or {made[1]}" in text
    (row,) = re.findall(r'<th scope="row">V Output</th>.*?</tr>', text)
    assert f'href="#L{made[0]}"' in row
    assert all(codes[number - 1].strip() in row for number in made)
    assert "z = z.transpose(1, 2)" not in text
