import re

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import gpt.model
from gpt.ladder import LECTURE, Bigram
from gpt.model import GPT, GPTConfig
from interp.architecture import architecture
from interp.errors import UsageError
from interp.site import observe
from interp.surgery import edited_module, find, read_source

SOURCE = read_source(gpt.model)
CODE = SOURCE.text.splitlines()


@pytest.fixture(scope="module")
def model():
    return GPT(GPTConfig(n_layer=3, n_head=2, n_embd=8, block_size=8, vocab_size=11))


@pytest.fixture(scope="module")
def table(model):
    return architecture(model)


def test_every_box_has_the_line_that_calls_it(table):
    rows = table[table["kind"] != "hook"]
    for row in rows.to_dict("records"):
        assert row["code"] == CODE[int(row["line"]) - 1].strip()
        if row["kind"] == "module":
            assert f"self.{row['name'].rpartition('.')[2]}(" in row["code"]
        else:
            assert " + " in row["code"]


def test_lines_of_an_edited_model_are_of_the_file_that_was_edited(table):
    edited = edited_module(SOURCE, find(SOURCE, "untie"))
    config = edited.GPTConfig(n_layer=3, n_head=2, n_embd=8, block_size=8, vocab_size=11)
    found = architecture(edited.GPT(config))
    assert list(found["file"]) == list(table["file"])
    assert set(table["file"]) == {"gpt/model.py"}
    assert list(found["line"].dropna()) == list(table["line"].dropna())


def test_all_called_modules_are_there_once_and_nothing_else(table, model):
    called = table[table["kind"] == "module"]["name"]
    kinds = (HookPoint, nn.ModuleList, gpt.model.Block, GPT)
    modules = [name for name, module in model.named_modules() if not isinstance(module, kinds)]
    assert sorted(called) == sorted(modules)


def test_the_stream_s_additions_are_found_in_their_blocks(table):
    sums = table[table["kind"] == "add"]
    assert sums["block"].tolist() == ["", "0", "0", "1", "1", "2", "2"]
    assert sums["code"].tolist()[:3] == [
        "x = tok_emb + pos_emb",
        "x = x + attn_out",
        "x = x + mlp_out",
    ]
    assert set(sums["shape"]) == {"batch pos 8"}


def test_hook_points_have_their_box_their_line_and_their_shape(table, model):
    hooks = table[table["kind"] == "hook"].set_index("site")
    seen = observe(model, None)
    assert set(hooks.index) == set(seen)
    for site, (shape, line) in seen.items():
        assert hooks.loc[site, "line"] == line.line
        assert len(hooks.loc[site, "shape"].split()) == len(shape)
    assert hooks.loc["blocks.1.attn.hook_z", ["block", "part", "shape"]].tolist() == [
        *("1", "attn"),
        "batch pos 2 4",
    ]
    assert hooks.loc["blocks.1.attn.hook_pattern", "shape"] == "batch 2 pos key"
    assert hooks.loc["blocks.2.hook_resid_mid", ["block", "part"]].tolist() == ["2", ""]
    assert hooks.loc["ln_final.hook_scale", ["block", "part"]].tolist() == ["", "ln_final"]


def test_shapes_and_classes(table):
    boxes = table[table["kind"] == "module"].set_index("name")
    assert boxes.loc["blocks.0.mlp.fc", ["takes", "shape"]].tolist() == [
        "batch pos 8",
        "batch pos 32",
    ]
    assert boxes.loc["wpe", ["takes", "shape"]].tolist() == ["pos", "pos 8"]
    assert boxes["source"].to_dict() == {name: name in ("wte", "wpe") for name in boxes.index}
    named = boxes[boxes["class_line"].notna()]
    assert set(named["class"]) == {"LayerNorm", "CausalSelfAttention", "MLP"}
    for row in named.to_dict("records"):
        assert re.match(rf"class {row['class']}\b", CODE[int(row["class_line"]) - 1])
    assert boxes.loc["blocks.0.attn.query", ["block", "part", "depth"]].tolist() == ["0", "attn", 2]


def test_the_model_is_left_as_it_was(model):
    tokens = torch.tensor([[1, 2, 3]])
    model.train()
    before = model(tokens)
    fired = []
    model.add_hook("hook_logits", lambda value, hook: fired.append(hook.name))
    architecture(model)
    assert fired == []
    assert model.training and all(module.training for module in model.modules())
    assert torch.equal(model(tokens), before)
    assert fired == ["hook_logits"]
    model.reset_hooks()


def test_models_without_blocks_have_boxes_all_the_same():
    bigram = architecture(Bigram(LECTURE))
    assert bigram[bigram["kind"] == "module"]["name"].tolist() == ["wte"]
    assert set(bigram["block"]) == {""}


class Side(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(x)


class Parallel(HookedRootModule):
    """Items of a list that read the same value are no blocks."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.sides = nn.ModuleList(Side() for _ in range(2))
        self.hook_out = HookPoint()
        self.setup()

    def forward(self, tokens):
        x = self.embed(tokens)
        left, right = [side(x) for side in self.sides]
        return self.hook_out(left + right)


def test_modules_side_by_side_are_no_blocks():
    table = architecture(Parallel())
    assert set(table["block"]) == {""}
    assert table[table["depth"] == 1]["name"].tolist() == [
        *("embed", "sides.0", "sides.1", "+", "hook_out")
    ]


class Functional(HookedRootModule):
    def __init__(self):
        super().__init__()
        self.hook_x = HookPoint()
        self.setup()

    def forward(self, tokens):
        return self.hook_x(tokens * 1.0)


def test_a_model_that_calls_no_module_is_one_sentence():
    with pytest.raises(UsageError, match="Functional calls no module"):
        architecture(Functional())


def test_a_bridge_over_another_s_model_is_seen_through(bridge):
    table = architecture(bridge)
    boxes = table[(table["kind"] != "hook") & (table["depth"] == 1)]
    blocks = ["ln_1", "attn", "+", "ln_2", "mlp", "+"]
    assert boxes["part"].tolist() == [
        *("embed", "pos_embed", "+"),
        *blocks,
        *blocks,
        *("ln_final", "unembed"),
    ]
    assert boxes.loc[boxes["name"] == "blocks.1.mlp", "class"].item() == "GPT2MLP"
    sums = boxes[boxes["kind"] == "add"]
    assert all(path.endswith("modeling_gpt2.py") for path in sums["file"])
    assert all("+" in code for code in sums["code"])
