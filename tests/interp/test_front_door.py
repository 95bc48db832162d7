"""The names that a user types: one line each, the same answers as the long way."""

import importlib
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

import interp as ip
from gpt.text import CharTokenizer
from interp.errors import UsageError

TEXTS = ["the cat sat on t", "a cat is not a d", "dogs do not sit "]
Z = "blocks.*.attn.hook_z"


@pytest.fixture
def reading(model, monkeypatch):
    """The model with a tokenizer, so that it takes text."""
    letters = "".join(sorted(set("".join(TEXTS) + "()[]")))
    model.tokenizer = CharTokenizer(letters)
    return model


def test_everything_that_is_offered_is_there_and_no_function_is_hidden_by_its_module():
    for name in ip.__all__:
        assert hasattr(ip, name), name
    for name in ("sweep", "attribution", "attention", "sites", "patch", "ablate", "plan"):
        assert callable(getattr(ip, name)), name
    for room in (ip.figures, ip.surgery, ip.runs, ip.report, ip.samples):
        for name in room.__all__:
            assert not isinstance(getattr(room, name), ModuleType) or name == "annotate", name


def test_ablate_is_the_sweep_of_zeros(reading):
    table = ip.ablate(reading, TEXTS, Z, each="head", progress=False)
    tokens = reading.to_tokens(TEXTS)
    where = ip.sites(reading, Z, each="head")
    swept = ip.sweep(reading, tokens, {site: ip.Zero() for site in where}, ip.loss, progress=False)
    pd.testing.assert_frame_equal(table, swept)
    with torch.no_grad(), ip.intervene(reading, {where[5]: ip.Zero()}):
        by_hand = ip.loss(reading(tokens), tokens).double().mean()
    assert table["value"][5] == pytest.approx(float(by_hand), abs=1e-6)
    assert ip.figures.heads(table).axes[0].images


def test_patch_is_activation_patching_of_the_texts_tokens(reading):
    table = ip.patch(reading, "(at)", "[at)", answer=")", wrong="]", progress=False)
    clean, corrupted = reading.to_tokens("(at)"), reading.to_tokens("[at)")
    metric = ip.logit_difference(*(reading.to_single_token(text) for text in ")]"))
    long = ip.activation_patching(reading, clean, corrupted, metric, ["resid_pre"], progress=False)
    pd.testing.assert_frame_equal(table.drop(columns=["clean_token", "corrupted_token"]), long)
    assert list(table["clean_token"][:4]) == [*"(at)"]
    assert table["recovered"][0] == pytest.approx(1.0, abs=1e-5)  # all that differs is put back
    labels = ip.figures.positions(table).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["(\n↓\n[", "a", "t", ")"]


def test_patch_says_in_a_sentence_what_cannot_be_patched(reading):
    with pytest.raises(UsageError, match=r"clean is \[1, 4\] tokens and corrupted \[1, 3\]"):
        ip.patch(reading, "(at)", "[at", answer=")", wrong="]")
    with pytest.raises(UsageError, match="'no' is not one token of this model"):
        ip.patch(reading, "(at)", "[at)", answer="no", wrong="]")
    with pytest.raises(UsageError, match="there are 2 answers for 1 texts"):
        ip.patch(reading, "(at)", "[at)", answer=[")", ")"], wrong="]")
    with pytest.raises(UsageError, match="has no to_tokens, so that it takes no text"):
        ip.tokens_of(torch.nn.Linear(1, 1), "a text")
    with pytest.raises(UsageError, match=r"as many tokens each, not \[1, 2\]"):
        ip.tokens_of(reading, ["a", "at"])
    with pytest.raises(UsageError, match="there is no text, or one of them is empty"):
        ip.tokens_of(reading, "")


def test_attention_is_the_models_own_patterns(reading):
    found = ip.attention(reading, "the cat")
    _, kept = reading.run_with_cache(reading.to_tokens("the cat"))
    rows = found[(found["layer"] == 1) & (found["head"] == 2)]
    own = kept["blocks.1.attn.hook_pattern"][0, 2]
    at = rows["query"].tolist(), rows["key"].tolist()
    np.testing.assert_allclose(rows["value"], own[at], atol=1e-6)
    assert "".join(found.drop_duplicates("query")["query_character"]) == "the cat"
    assert ip.figures.attention(found, layer=1, head=2).axes[0].images


MEMORY = """
import torch
from torch import nn


class Memory(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.table = nn.Embedding(size, 8)
        self.gate = nn.Linear(8, 8)
        self.out = nn.Linear(8, size)

    def forward(self, tokens):
        x = self.table(tokens)
        gated = self.gate(x)
        x = x + gated
        return self.out(x)
"""


def test_surgery_lines_are_the_losses_of_the_cut_model(tmp_path, monkeypatch):
    (tmp_path / "memory_of_letters.py").write_text(MEMORY)
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("memory_of_letters").Memory
    torch.manual_seed(0)
    model, tokens = kind(7), torch.randint(7, (4, 6))
    table = ip.surgery.lines(model, tokens, build=lambda seed: kind(7), progress=False)
    assert list(table["code"]) == MEMORY.splitlines()
    (line,) = table.index[table["code"].str.contains("x = x")]
    cuts = table.attrs["cuts"].query(f"line == {line + 1}").set_index("after")["delta"]
    with torch.no_grad():
        without = model.out(model.table(tokens))
        expected = ip.loss(without, tokens) - ip.loss(model(tokens), tokens)
    assert cuts["x = x"] == pytest.approx(float(expected.mean()), abs=1e-6)
    assert table["delta"][line] == cuts[table["after"][line]]
    assert ip.figures.lines(table).axes


def test_surgery_lines_of_a_class_without_a_file_is_one_sentence():
    typed: dict = {"nn": torch.nn, "__name__": "typed"}
    exec("class Typed(nn.Linear): pass", typed)
    with pytest.raises(ip.SurgeryError, match="Typed has no source file: put its class"):
        ip.surgery.lines(typed["Typed"](2, 2), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\x1b[31m&"])
def test_what_a_notebook_shows_is_escaped(text):
    from interp.display import code_html, frame_html, table_html

    shown = table_html(pd.DataFrame({text: [text, 1.5, None]}))
    for html in (shown, code_html(f"+{text}"), frame_html(text, 10)):
        assert "<script" not in html.replace("sandbox", "")
        assert "\x1b" not in shown
    assert "1.5" in shown


def test_receipts_sites_surgeries_and_attention_show_themselves(reading):
    tokens = reading.to_tokens(TEXTS)
    with ip.intervene(reading, {"blocks.0.hook_mlp_out": ip.Zero()}) as receipt:
        reading(tokens)
    assert "blocks.0.hook_mlp_out" in receipt._repr_html_()
    assert "model.py" in ip.sites(reading, Z)._repr_html_()
    source = ip.surgery.read_source(importlib.import_module("gpt.model").__file__)
    cut = ip.surgery.find(source, "bypass-call", qualname="Block.forward", target="ln1")
    assert "background:#f7d9bd" in cut._repr_html_()
    page = ip.attention(reading, "the cat")._repr_html_()
    assert page.startswith("<iframe") and "sandbox" in page


def test_attention_is_saved_as_a_page_of_its_own(reading, tmp_path):
    path = ip.attention(reading, "the cat").save_html(tmp_path / "attention.html")
    assert path.read_text().startswith("<!doctype html>")
