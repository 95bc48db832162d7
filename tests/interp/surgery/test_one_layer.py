"""A cut in one layer alone: by its block it is what a run of the whole cut model says."""

import importlib
import sys

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from interp import surgery
from interp.interventions import Zero, intervene
from interp.line_hooks import hook_lines
from interp.logits import logits_of
from interp.surgery.judging.rows import headlines, leaves_line_out
from interp.surgery.studying import single_layers
from interp.surgery.studying.one_layer import LayerPlan

TOKENS = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(0))
OTHERS = torch.randint(0, 97, (3, 12), generator=torch.Generator().manual_seed(1))
LAYERS = 3


def build(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def judge(model):
    logits = logits_of(model(TOKENS), TOKENS).double()
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), TOKENS[:, 1:], reduction="none")
    return losses.mean(dim=1)


def study_of(model, make=build, file=modeling_llama, judged=judge):
    return surgery.study(
        build=make,
        judge=judged,
        files=[file],
        model=model,
        reference=lambda model: model(OTHERS),
        trains=False,
        workers=1,
    )


@pytest.fixture(scope="module")
def study():
    return study_of(build(0))


@pytest.fixture(scope="module")
def chosen(study):
    """Cuts of several kinds of what runs inside layers."""
    wanted = [
        ("cut-skip", "residual + hidden_states"),
        ("cut-branch", "residual + hidden_states"),
        ("mean", "value_states = self.v_proj"),
        ("zero", "value_states = self.v_proj"),
        ("zero", "attn_output = self.o_proj"),
        ("mean", "down_proj = self.down_proj"),
        ("zero", "down_proj = self.down_proj"),
        ("force-branch", "if attention_mask is not None"),
        ("drop-factor", "self.weight * hidden_states"),
        ("shuffle", "attn_weights = nn.functional.softmax"),
        ("zero", "variance = hidden_states"),
    ]
    return [
        cut
        for cut in study.surgeries
        if any(cut.operator == operator and code in cut.before for operator, code in wanted)
    ]


@pytest.fixture(scope="module")
def by_block(study, chosen):
    return alone(study.posthoc(chosen, layers="each"))


def alone(table):
    return table[table["layer"] != "all"].set_index("id")


def test_blocks_say_what_whole_runs_say(study, chosen, by_block):
    assert isinstance(study.layer_plan, LayerPlan)
    assert not by_block["detail"].str.contains(single_layers.BY_WHOLE_RUN).any()
    known = {cut.id: cut for cut in chosen}
    asked = [
        surgery.at_layers(known[row.surgery], [int(row.layer)]) for row in by_block.itertuples()
    ]
    whole = study._tried(asked, None)
    assert len(whole) == 3 * 12
    for found, row in zip(by_block.to_dict("records"), whole, strict=True):
        assert found["status"] == row["status"]
        for name in ("value", "delta", "ci_low", "ci_high"):
            assert found[name] == pytest.approx(row[name], rel=1e-6, abs=1e-6)
    assert {"changed", "leak"} <= {*by_block["status"]}


def test_cuts_that_are_alike_in_a_layer_are_told_to_be(by_block):
    alike = by_block[by_block["same_as"] != ""]
    assert len(alike)
    for row in alike.to_dict("records"):
        assert row["delta"] == by_block.loc[row["same_as"], "delta"]
        assert row["layer"] == by_block.loc[row["same_as"], "layer"]


def test_a_source_cut_in_one_layer_is_the_hook_on_that_layers_value(study):
    view = hook_lines(study.model, TOKENS)
    before = judge(study.model).numpy()
    for layer, names, code in [
        (0, ("self_attn.attn_output.5",), "attn_output = self.o_proj"),
        (1, ("self_attn.value_states",), "value_states = self.v_proj"),
        (2, ("mlp.down_proj",), "down_proj = self.down_proj"),
        (
            1,
            ("input_layernorm.returned", "post_attention_layernorm.returned"),
            "return self.weight * hidden_states",
        ),
    ]:
        cut = next(c for c in study.surgeries if c.operator == "zero" and code in c.before)
        table = alone(study.posthoc([cut], layers="each", within=[layer]))
        points = [f"model.layers.{layer}.{name}" for name in names]
        assert {view.hook_dict[point].source.line for point in points} == {cut.line}
        with intervene(view, dict.fromkeys(points, Zero())):
            hooked = judge(view).numpy()
        assert table["delta"].item() == pytest.approx((hooked - before).mean(), rel=1e-6, abs=1e-9)
        assert abs(table["delta"].item()) > 1e-4


def test_headlines_are_cut_layer_by_layer_and_only_where_asked(study, chosen):
    ids = [cut.id for cut in chosen[:6]]
    table = study.posthoc(ids, layers="headlines", within=[2])
    single = table[table["layer"] != "all"]
    shown = headlines(table)
    took = shown[shown["status"].isin(["changed", "leak", "nonfinite"])]
    assert set(single["surgery"]) == set(took["surgery"]) and set(single["layer"]) == {"2"}
    with pytest.raises(surgery.SurgeryError, match=r"no layer 7; its layers are \[0, 1, 2\]"):
        study.posthoc(ids, layers="each", within=[7])


SHARED = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        y = self.linear(x)
        y = torch.tanh(y)
        x = x + y
        return x

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(97, 16)
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(16, 97)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in (*self.layers, *self.layers):
            x = layer(x)
        return self.head(x)
"""


@pytest.fixture
def twice_called(tmp_path, monkeypatch):
    (tmp_path / "twice_called.py").write_text(SHARED)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("twice_called")
    del sys.modules["twice_called"]


def test_blocks_that_are_called_twice_fall_back_to_whole_runs(twice_called):
    model = twice_called.Twice().eval()
    study = study_of(model, lambda seed: twice_called.Twice(), twice_called)
    cut = next(cut for cut in study.surgeries if cut.operator == "zero" and "tanh" in cut.before)
    table = alone(study.posthoc([cut], layers="each"))
    assert isinstance(study.layer_plan, str) and "in the order 0, 1, 0, 1" in study.layer_plan
    with torch.no_grad(), surgery.perform(surgery.at_layers(cut, [1]), model):
        expected = judge(model)
    assert table.loc[f"{cut.id}@1", "value"] == pytest.approx(expected.mean().item(), abs=1e-9)


EARLY = SHARED.replace("(*self.layers, *self.layers)", "self.layers").replace(
    "x = layer(x)\n", "x = layer(x)\n            if x.std() > 99:\n                break\n"
)


def test_a_model_that_may_leave_early_falls_back_to_whole_runs(tmp_path, monkeypatch):
    (tmp_path / "leaves_early.py").write_text(EARLY)
    monkeypatch.syspath_prepend(tmp_path)
    leaves_early = importlib.import_module("leaves_early")

    model = leaves_early.Twice().eval()
    study = study_of(model, lambda seed: leaves_early.Twice(), leaves_early)
    cut = next(cut for cut in study.surgeries if cut.operator == "zero" and "tanh" in cut.before)
    table = alone(study.posthoc([cut], layers="each"))
    assert isinstance(study.layer_plan, str)
    assert "depends on a number that it takes from an activation, at leaves_early.py:" in (
        study.layer_plan
    )
    with torch.no_grad(), surgery.perform(surgery.at_layers(cut, [0]), model):
        expected = judge(model)
    assert table.loc[f"{cut.id}@0", "value"] == pytest.approx(expected.mean().item(), abs=1e-9)


def test_a_cut_whose_block_tells_otherwise_is_run_whole(study, chosen, monkeypatch):
    monkeypatch.setattr(single_layers, "is_borne_out", lambda row, whole: False)
    cut = next(cut for cut in chosen if cut.operator == "cut-skip")
    table = alone(study.posthoc([cut], layers="each"))
    assert table["detail"].str.contains(single_layers.BY_WHOLE_RUN).all() and len(table) == LAYERS
    with torch.no_grad(), surgery.perform(surgery.at_layers(cut, [2]), study.model):
        expected = judge(study.model)
    assert table.loc[f"{cut.id}@2", "value"] == pytest.approx(expected.mean().item(), abs=1e-9)


def test_a_model_that_comes_trained_is_never_trained(twice_called, monkeypatch):
    for module in ("interp.surgery.studying.uncut", "interp.surgery.studying.posthoc"):
        monkeypatch.setattr(f"{module}.training_fingerprint", None)
    study = study_of(twice_called.Twice().eval(), lambda seed: twice_called.Twice(), twice_called)
    same = next(cut for cut in study.surgeries if "self.linear = nn" not in cut.before)
    assert study.posthoc([same])["detail"].notna().all() and study.training_notes == ()
    assert {phase for cut in study.surgeries for phase in study.phases(cut)} == {"build", "judge"}


def test_a_line_is_left_out_where_its_one_call_is():
    assert leaves_line_out("bypass-call", "x = self.norm(x)", "x = x")
    assert leaves_line_out("bypass-call", "x = x.to(float)", "x = x")
    assert leaves_line_out("delete-statement", "self.norm = norm", "pass")
    assert not leaves_line_out("bypass-call", "return w * x.to(float)", "return w * x")
    assert not leaves_line_out("bypass-call", "v = x.pow(2).mean(-1)", "v = x.mean(-1)")
    assert not leaves_line_out("zero", "x = self.norm(x)", "x = zeros_like(x)")
