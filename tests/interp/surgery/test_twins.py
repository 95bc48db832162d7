"""A surgery and an intervention that are the same cut: found, made, and held against each other."""

import sys
import textwrap

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gpt.model
from gpt import GPT, GPTConfig
from interp import surgery
from interp.interventions import Zero
from interp.site import source_lines
from interp.surgery.judging.twins import Twin, ablated_expression, found_twins

TOKENS = torch.randint(0, 29, (4, 12), generator=torch.Generator().manual_seed(0))
OTHERS = torch.randint(0, 29, (4, 12), generator=torch.Generator().manual_seed(1))


def build(seed: int) -> GPT:
    size = GPTConfig(vocab_size=29, n_layer=2, n_head=2, n_embd=16, block_size=12)
    model = GPT(size, seed=seed).eval()
    with torch.no_grad():  # large enough for every part to matter
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(0)), alpha=0.1)
    return model


@torch.no_grad()
def judge(model: nn.Module) -> Tensor:
    logits = model(TOKENS).double()
    return F.cross_entropy(logits[:, :-1].mT, TOKENS[:, 1:], reduction="none").mean(1)


@pytest.fixture(scope="module")
def study():
    return surgery.study(
        build=build,
        judge=judge,
        files=[gpt.model],
        model=build(0),
        reference=lambda model: model(OTHERS),
        workers=0,
    )


@pytest.fixture(scope="module")
def spelled_out(study):
    """The same with attention and norms spelt out, where every hook point lies on the way."""
    forced = [
        cut.id
        for cut in study.surgeries
        if cut.operator == "force-branch" and "watched" in cut.before
    ]
    other = study.spelled_out(study.posthoc(forced))
    assert other is not None
    return other


def twins_of(study):
    return [(cut, twin) for cut in study.surgeries if (twin := study.twins.of(cut))]


def test_every_hook_point_is_the_twin_of_its_own_line(study, spelled_out):
    lines = source_lines(study.model)
    found = {
        name: cut.line
        for cut, twin in twins_of(spelled_out)
        if cut.operator == "zero" and cut.line == lines[twin.names[0]].line
        for name in twin.names
    }
    # an intervention never opens attention that is masked; a surgery on the scores does
    missing = set(lines) - set(found)
    assert {name.rpartition(".")[2] for name in missing} == {"hook_attn_scores"}
    assert all(lines[name].line == line for name, line in found.items())


def test_twins_do_the_same_to_the_loss_in_every_layer(study):
    pairs = [cut.id for cut, _ in twins_of(study)][::3]
    table = study.posthoc(pairs, layers="each")
    assert (table["hook"] != "").all()
    assert (table["delta"] - table["hook_delta"]).abs().max() < 1e-6
    assert table["delta"].abs().max() > 0.1
    assert {"Zero", "Mean"} == set(table["intervention"])
    alone = table[table["layer"] == "1"]
    assert len(alone) > 5
    assert alone["hook"].str.startswith("blocks.1.").all()


def test_the_branch_and_the_position_embedding_are_found_by_their_cuts(study):
    hooks = {(cut.operator, cut.target): twin.hook for cut, twin in twins_of(study)}
    assert hooks["cut-branch", "attn_out"] == "blocks.*.hook_attn_out"
    assert hooks["cut-branch", "mlp_out"] == "blocks.*.hook_mlp_out"
    assert hooks["drop-term", "pos_emb"] == "hook_pos_embed"
    assert not any(operator == "cut-skip" for operator, _ in hooks)  # the norm reads it too


def test_a_mean_of_two_norms_is_at_neither_a_mean(spelled_out):
    found = [(cut.operator, twin.hook) for cut, twin in twins_of(spelled_out)]
    assert any(kind == "zero" and "hook_normalized" in hook for kind, hook in found)
    assert not any(kind == "mean" and "hook_normalized" in hook for kind, hook in found)


def test_twins_that_differ_are_a_status_that_says_both_numbers(study, monkeypatch):
    cuts = [cut for cut, twin in twins_of(study) if twin.hook == "blocks.*.hook_attn_out"]
    other = next(cut for cut in study.surgeries if cut.operator == "cut-skip")
    sound = study.posthoc([cuts[0], other])
    first_only = lambda twin, means: {twin.names[0]: Zero()}  # noqa: E731
    monkeypatch.setattr(Twin, "interventions", first_only)
    table = study.posthoc([cuts[0], other])
    wrong, right = table.to_dict("records")
    assert wrong["status"] == "mismatch"
    assert f"by {wrong['delta']:+.9f}, and Zero at" in wrong["detail"]
    assert f"by {wrong['hook_delta']:+.9f}: the same cut, so one of them is" in wrong["detail"]
    assert wrong["delta"] == sound["delta"][0] != wrong["hook_delta"]
    assert right["status"] == sound["status"][1]
    assert "mismatch" in surgery.headlines(table)["status"].tolist()


def test_an_intervention_that_fails_leaves_the_surgery_what_it_is(study, monkeypatch):
    cut = next(cut for cut, twin in twins_of(study) if twin.hook == "blocks.*.hook_attn_out")
    sound = study.posthoc([cut]).iloc[0]
    failing = lambda twin, means: {"nowhere": Zero()}  # noqa: E731
    monkeypatch.setattr(Twin, "interventions", failing)
    row = study.posthoc([cut]).iloc[0]
    assert (row["status"], row["delta"]) == (sound["status"], sound["delta"])
    assert "not compared with Zero at blocks.*.hook_attn_out: " in row["detail"]
    assert "nowhere" in row["detail"]


HOOKED = """
    from torch import nn
    from transformer_lens import HookedRootModule
    from transformer_lens.hook_points import HookPoint

    class Small(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(29, 8)
            self.a = nn.Linear(8, 8)
            self.b = nn.Linear(8, 8)
            self.out = nn.Linear(8, 29)
            self.hook_a = HookPoint()
            self.hook_b = HookPoint()
            self.setup()

        def forward(self, tokens):
            x = self.embed(tokens)
            a = self.a(x)
            seen = self.hook_a(a)
            b = self.hook_b(self.b(x))
            x = seen + b
            x = x + a
            return self.out(x)
"""


@pytest.fixture
def hooked(tmp_path, monkeypatch):
    path = tmp_path / "hooked_small.py"
    path.write_text(textwrap.dedent(HOOKED))
    monkeypatch.syspath_prepend(str(tmp_path))
    import hooked_small

    yield hooked_small
    sys.modules.pop("hooked_small")


def test_a_value_that_is_read_past_its_hook_point_has_no_twin(hooked):
    model = hooked.Small().eval()
    study = surgery.study(
        build=lambda seed: hooked.Small(), judge=judge, files=[hooked], model=model, workers=0
    )
    found = {(cut.operator, cut.target, cut.before): twin.hook for cut, twin in twins_of(study)}
    assert found == {
        ("zero", "seen", "seen = self.hook_a(a)"): "hook_a",
        ("drop-term", "seen", "x = seen + b"): "hook_a",
        ("zero", "b", "b = self.hook_b(self.b(x))"): "hook_b",
        ("drop-term", "b", "x = seen + b"): "hook_b",
    }


def test_looking_for_twins_leaves_the_model_as_it_was(study):
    before = judge(study.model)
    again = found_twins(study.model, study.sources, lambda: judge(study.model))
    assert torch.equal(judge(study.model), before)
    assert again.sites == study.twins.sites
    assert not any(point._forward_hooks for point in study.model.hook_dict.values())


def test_what_a_surgery_empties_is_read_off_its_syntax():
    cut = surgery.find(surgery.read_source(gpt.model), "cut-branch", code="x = x + attn_out")
    node = ablated_expression(cut)
    assert node is not None and getattr(node, "id", "") == "attn_out"
    assert ablated_expression(surgery.find(cut.source, "bypass-call", target="self.gelu")) is None
