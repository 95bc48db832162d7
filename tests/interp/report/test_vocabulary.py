"""The boxes of the visualisation are found where Python itself says that the lines are."""

import inspect
import re
from pathlib import PurePath

import pandas as pd

import gpt.model
from gpt.ladder import LECTURE, Bigram
from gpt.model import GPT, MLP, Block, CausalSelfAttention, GPTConfig, LayerNorm
from interp.architecture import architecture
from interp.report import MapView, Page
from interp.report.page import rendered
from interp.report.vocabulary import BOXES, functions_of, vocabulary

TEXT = inspect.getsource(gpt.model)
SMALL = GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=8)


def test_every_box_of_the_visualisation_is_a_line_of_our_model():
    found = vocabulary(architecture(GPT(SMALL)), {"model.py": TEXT})
    assert list(found["box"]) == [entry.box for entry in BOXES]
    lines = TEXT.splitlines()
    classes = {kind.__name__: kind for kind in (GPT, MLP, Block, CausalSelfAttention, LayerNorm)}
    for row in found.to_dict("records"):
        kind, _, function = row["function"].partition(".")
        body, first = inspect.getsourcelines(getattr(classes[kind], function))
        assert first <= row["line"] < first + len(body)
        assert lines[row["line"] - 1].strip().startswith(row["code"].split("\n")[0][:12])


def test_boxes_are_the_values_of_the_hook_points_that_they_show():
    found = vocabulary(architecture(GPT(SMALL)), {"model.py": TEXT}).set_index("box")
    assert "self.query(" in found.loc["Q vectors", "code"]
    assert "softmax" in found.loc["Attn Matrix Softmax", "code"]
    assert found.loc["Projection Weights", "name"] == "blocks.*.attn.proj"
    assert found.loc["MLP Projection Weights", "name"] == "blocks.*.mlp.proj"
    assert found.loc["Layer Norm (last)", "name"] == "ln_final.hook_normalized"
    assert found.loc["Attention Matrix", "shape"] == "batch 2 pos key"
    assert found.loc["Tokens", "shape"] == "batch pos"


def test_a_model_without_such_boxes_has_no_rows_for_them():
    found = vocabulary(architecture(Bigram(LECTURE)), {})
    assert set(found["box"]) < {entry.box for entry in BOXES}
    assert "Q vectors" not in set(found["box"])
    assert (found["function"] == "").all()  # without its text, nobody knows


def test_functions_are_named_with_their_class_and_a_broken_file_has_none():
    lines = [
        "class A:",
        "  def f(self):",
        "    def g():",
        "      return 1",
        "    return g",
        "x = 1",
    ]
    named = functions_of("\n".join(lines))
    assert (named[1], named[2], named[4], named[5]) == ("A", "A.f", "A.f.g", "A.f")
    assert 6 not in named
    assert functions_of("def (") == {}


def test_the_page_shows_the_table_below_the_map_and_links_its_lines():
    boxes = architecture(GPT(SMALL))
    lines = pd.DataFrame({"file": "model.py", "code": TEXT.splitlines(), "status": ""})
    lines["line"] = range(1, len(lines) + 1)
    page = rendered(Page("Title", "Question?", [MapView("The map", boxes, lines)]))
    words = page[page.index("map-words") :]
    row = re.search(r"<tr><th scope=\"row\">Q vectors</th>.*?</tr>", words)[0]
    hook = boxes[boxes["site"] == "blocks.0.attn.hook_q"].iloc[0]
    place = f"{PurePath(hook['file']).name}:{hook['line']:.0f}"
    assert f'<a href="#L{hook["line"]:.0f}">{place}</a>' in row
    assert "CausalSelfAttention.forward" in row
