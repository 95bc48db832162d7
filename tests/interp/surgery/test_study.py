import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gpt import model as model_file
from interp import surgery
from interp.errors import SurgeryError
from interp.runs import Run
from interp.site import source_lines
from interp.surgery.source.syntax import parse
from interp.verdicts import Verdict, verdict_of
from tests.interp.surgery.small_gpt import CONFIG, OTHERS, TOKENS, build, judge, loss, train

study_module = sys.modules["interp.surgery.studying.studies"]


@pytest.fixture(scope="module")
def study():
    torch.manual_seed(0)
    model = build(0)
    train(model, 0, 60)
    return surgery.study(
        build=build,
        judge=judge,
        files=[model_file],
        model=model,
        train=train,
        reference=lambda model: model.eval()(OTHERS),
        workers=0,
    )


@pytest.fixture(scope="module")
def table(study):
    chosen = [s.id for s in study.surgeries if s.operator == "cut-branch" or "gelu(" in s.before]
    alone = study.posthoc(chosen, layers="each")
    return pd.concat([study.posthoc(), alone[alone["layer"] != "all"]], ignore_index=True)


def row(table, operator, qualname, code="", layer="all", target=None):
    found = table[
        (table["operator"] == operator)
        & (table["qualname"] == qualname)
        & table["code"].str.contains(code, regex=False)
        & (table["layer"] == layer)
    ]
    if target is not None:
        found = found[found["target"] == target]
    assert len(found) == 1, found["id"].tolist()
    return found.iloc[0]


def test_every_line_of_a_forward_has_an_effect_or_a_status(study, table):
    syntax = parse(study.sources[0])
    seen = set(table["line"])
    forwards = [node for node in syntax.statements if syntax.qualname[node].endswith(".forward")]
    assert len(forwards) > 50
    assert {node.lineno for node in forwards} <= seen


def test_statuses_are_told_and_none_is_missing(table):
    assert set(table["status"]) <= set(surgery.Status)
    assert table["status"].notna().all()
    changed = table[table["status"] == "changed"]
    assert changed["delta"].notna().all()
    assert (changed["ci_low"] <= changed["delta"]).all()
    assert (changed["delta"] <= changed["ci_high"]).all()


def test_the_cut_and_the_hook_are_the_same_number(study, table):
    model = study.model
    lines = source_lines(model)
    for name, cut in [
        ("blocks.0.hook_attn_out", row(table, "cut-branch", "Block.forward", "attn_out", "0")),
        ("blocks.1.hook_mlp_out", row(table, "cut-branch", "Block.forward", "mlp_out", "1")),
    ]:
        with torch.no_grad():
            hooks = [(name, lambda x, hook: torch.zeros_like(x))]
            with model.hooks(fwd_hooks=hooks):
                hooked = loss(model).mean().item()
        assert hooked == pytest.approx(cut["value"], abs=1e-6)
        assert lines[name].line < cut["line"] <= lines[name].line + 4


def test_a_layer_alone_is_not_the_share_of_all(table):
    together = row(table, "bypass-call", "MLP.forward", "self.gelu")
    alone = [row(table, "bypass-call", "MLP.forward", "self.gelu", layer) for layer in "01"]
    assert together["status"] == "changed"
    assert all(one["status"] == "changed" for one in alone)
    assert together["delta"] != pytest.approx(sum(one["delta"] for one in alone), abs=1e-9)


def test_removing_the_causal_mask_is_a_leak(study, table):
    fused = row(table, "flip-bool", "CausalSelfAttention.forward", "is_causal=True")
    assert fused["status"] == "leak"
    spelled = study.spelled_out(table)
    ids = [s.id for s in spelled.surgeries if s.qualname == "CausalSelfAttention.attend"]
    explicit = spelled.posthoc(ids)
    mask = row(explicit, "bypass-call", "CausalSelfAttention.attend", "masked_fill")
    assert mask["status"] == "leak"


def test_forgetting_the_head_transpose_is_a_leak(table):
    forward = "CausalSelfAttention.forward"
    assert row(table, "bypass-call", forward, "z = z.transpose")["status"] == "leak"
    every = row(table, "bypass-call", forward, "q.transpose", target="every .transpose")
    assert every["status"] == "leak"


def test_the_model_as_it_is_never_leaks_and_neither_does_a_shuffle(table):
    shuffled = table[table["operator"] == "shuffle"]
    assert len(shuffled) > 20
    attention = shuffled["qualname"].eq("CausalSelfAttention.attend")
    assert "leak" not in set(shuffled.loc[~attention, "status"])
    assert "leak" not in set(table.loc[table["operator"] == "mean", "status"])


def test_dropout_acts_in_training_only_and_initialisation_in_retraining_only(table):
    dropout = row(table, "bypass-call", "MLP.forward", "F.dropout")
    assert dropout["status"] == "train-only"
    scaled = row(table, "drop-factor", "GPT.init_weights", "std / math.sqrt")
    assert scaled["status"] == "retrain-only"
    hook = row(table, "bypass-call", "MLP.forward", "self.hook_pre(x)")
    assert hook["status"] == "equivalent"


def test_lines_that_never_ran_are_dead(table):
    dead = table[table["status"] == "dead"]
    assert "LayerNorm.normalize" in set(dead["qualname"])
    assert "Block.forward" not in set(dead["qualname"])
    assert "CausalSelfAttention.attend" in set(dead["qualname"])


def test_an_error_names_its_stage_and_line(table):
    broken = row(table, "delete-statement", "CausalSelfAttention.forward", "d_model = x.shape")
    assert broken["status"] == "error"
    assert broken["detail"].startswith(f"judge, line {broken['line'] + 1}: NameError")


def test_surgeries_that_make_the_same_function_are_folded(table):
    deleted = row(table, "delete-statement", "MLP.forward", "self.gelu")
    bypassed = row(table, "bypass-call", "MLP.forward", "self.gelu")
    assert deleted["same_as"] == bypassed["id"]
    assert deleted["delta"] == bypassed["delta"]


def test_a_not_finite_result_names_operation_and_line(study, table):
    spelled = study.spelled_out(table)
    cut = next(
        s
        for s in spelled.surgeries
        if s.qualname == "CausalSelfAttention.attend"
        and s.operator == "bypass-call"
        and "softmax" in s.before
    )
    found = spelled.posthoc([cut.id]).iloc[0]
    assert found["status"] == "nonfinite"
    assert found["detail"] == f"the first NaN is made by bmm on line {cut.line + 3}"


def test_a_mean_stands_in_per_layer_and_comes_from_the_reference_alone(study):
    cut = study.find(
        next(
            s.id
            for s in study.surgeries
            if s.operator == "mean" and s.qualname == "MLP.forward" and "self.fc" in s.before
        )
    )
    model = study.model
    _, cache = model.run_with_cache(OTHERS)
    hooks = [
        (
            f"blocks.{layer}.mlp.hook_pre",
            lambda x, hook: cache[hook.name].mean(dim=(0, 1), keepdim=True).expand_as(x),
        )
        for layer in (0, 1)
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        expected = loss(model).mean().item()
    assert study.posthoc([cut.id])["value"].item() == pytest.approx(expected, abs=1e-6)


def test_weights_and_functions_are_as_before(study, table):
    assert len(table)
    after = surgery.study(
        build=build, judge=judge, files=[model_file], model=study.model, workers=0
    )
    assert after.baseline.fingerprint == study.baseline.fingerprint


def test_retraining_by_swapped_code_is_retraining_from_edited_source(study):
    cut = surgery.find(study.sources[0], "drop-term", qualname="GPT.embed", target="pos_emb")
    id = next(s.id for s in study.surgeries if s.identity == cut.identity)
    found = study.retrain([id], seeds=[3, 4, 5]).iloc[0]
    values = []
    for seed in (3, 4, 5):
        module = surgery.edited_module(cut.source, cut)
        torch.manual_seed(seed)
        model = module.GPT(module.GPTConfig(**CONFIG, dropout=0.1), seed=seed)
        train(model, seed)
        values.append(judge(model).mean().item())
    assert found["value"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["status"] == "changed"
    assert found["noise"] > 0
    assert found["ci_low"] <= found["delta"] <= found["ci_high"]


def test_what_a_run_holds_is_not_tried_again_and_everything_else_is(study, tmp_path, monkeypatch):
    tried = []
    trial, training = study_module.try_cut, study_module.retrain

    def counted(self, surgery):
        tried.append(surgery.id)
        return trial(self, surgery)

    def trained(self, surgery, seed):
        tried.append(seed)
        return training(self, surgery, seed)

    monkeypatch.setattr(study_module, "try_cut", counted)
    monkeypatch.setattr(study_module, "retrain", trained)
    ids = [cut.id for cut in study.surgeries if cut.operator != "mean"][40:52]
    with Run.open(tmp_path, "lines", "test", {}) as run:
        made = replace(study, store=run, about={"text": "a"})

        def posthoc(some=ids, **changed):
            tried.clear()
            return replace(made, **changed).posthoc(some) if changed else made.posthoc(some)

        first = posthoc(ids[:7])
        assert tried == ids[:7]
        resumed = posthoc()
        assert tried == ids[7:]
        whole = posthoc()
        assert tried == []
        pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
        pd.testing.assert_frame_equal(whole.head(7), first, check_exact=True, check_dtype=False)
        pd.testing.assert_frame_equal(whole, study.posthoc(ids), check_exact=True)
        for other in (
            {"about": {"text": "b"}},
            {"model": build(1)},
            {"judge": lambda model: 2 * judge(model)},
        ):
            posthoc(ids[:3], **other)
            assert tried == ids[:3]

        def retrained(seeds):
            tried.clear()
            return made.retrain(ids[:1], seeds=seeds), list(tried)

        assert retrained([0, 1])[1] == [0, 1, 0, 1, 0]  # one twice: is training repeatable?
        table, more = retrained([0, 1, 2])
        assert more == [2, 2]
        pd.testing.assert_frame_equal(table, retrained([0, 1, 2])[0], check_exact=True)


def test_retraining_can_be_done_elsewhere(study):
    asked = []

    def elsewhere(tasks):
        asked.extend((cut.id if cut else "", seed) for cut, seed in tasks)
        return [
            {"status": "changed", "detail": "", "value": float(seed) + bool(cut)}
            for cut, seed in tasks
        ]

    id = study.surgeries[0].id
    trainings = study.trainings([id], seeds=[3, 5], elsewhere=elsewhere)
    assert list(trainings["id"]) == ["", "", id, id] and list(trainings["seed"]) == [3, 5, 3, 5]
    asked.clear()
    found = study.retrain([id], seeds=[3, 5], elsewhere=elsewhere).iloc[0]
    assert asked == [("", 3), ("", 5), (id, 3), (id, 5)]
    assert (found["delta"], found["baseline"], found["n"]) == (1.0, 4.0, 2)
    assert str(found["line"]) == str(study.surgeries[0].line)  # a number of a line, not 289.0
    assert np.isnan([found["ci_low"], found["ci_high"], found["p"]]).all()
    assert found["noise"] == pytest.approx(2**0.5)


def test_what_was_not_measured_is_blank_and_what_is_the_same_function_has_no_interval(table):
    unknown = table["detail"].str.startswith("what it does to the trained model is not known")
    unmeasured = table[unknown.fillna(False)]
    assert len(unmeasured) and set(unmeasured["status"]) == {"retrain-only"}
    assert unmeasured[["value", "delta", "ci_low", "ci_high"]].isna().all(axis=None)
    assert {verdict_of(row) for row in unmeasured.to_dict("records")} == {Verdict.UNKNOWN}
    by_nature = table[table["status"].isin(["equivalent", "train-only", "retrain-only"])]
    by_nature = by_nature.drop(unmeasured.index)
    exact = by_nature[by_nature["delta"] == 0]
    assert len(exact) and exact[["ci_low", "ci_high"]].isna().all(axis=None)
    assert {verdict_of(row) for row in by_nature.to_dict("records")} == {Verdict.NONE}


def test_only_cuts_that_take_effect_are_said_to_be_the_same_function(table):
    named = table[table["same_as"] != ""]
    assert len(named) and set(named["status"]) <= {"changed", "leak", "nonfinite"}


def test_headlines_prefer_the_cut_that_tells_most(table):
    lines = surgery.headlines(table).set_index("line")
    skip = row(table, "cut-skip", "Block.forward", "attn_out")
    assert lines.loc[skip["line"], "operator"] == "cut-skip"
    assert lines.index.is_unique


def test_an_unknown_id_names_the_nearest(study):
    with pytest.raises(
        SurgeryError, match=r"no surgery is called 'model.py:1:cut'; nearest: model"
    ):
        study.posthoc(["model.py:1:cut"])


def test_a_judge_that_gives_no_number_is_one_sentence():
    with pytest.raises(SurgeryError, match="the judge must return a number, or one per example"):
        surgery.study(build=build, judge=lambda m: m(TOKENS), files=[model_file], workers=0)


def test_a_judge_that_is_nan_on_the_model_as_it_is_is_one_sentence():
    with pytest.raises(SurgeryError, match="as it is is not finite"):
        surgery.study(
            build=build,
            judge=lambda m: m(TOKENS).mean() * float("nan"),
            files=[model_file],
            workers=0,
        )


def test_a_judge_that_never_calls_the_model_is_one_sentence():
    with pytest.raises(SurgeryError, match="the judge must call the model"):
        surgery.study(build=build, judge=lambda m: 1.0, files=[model_file], workers=0)


def test_a_model_without_logits_is_one_sentence():
    with pytest.raises(SurgeryError, match="so that it returns logits"):
        surgery.study(
            build=build,
            judge=lambda m: m(TOKENS, return_type="loss"),
            files=[model_file],
            workers=0,
        )


def test_retraining_without_train_is_one_sentence(study):
    other = surgery.study(build=build, judge=judge, files=[model_file], workers=0)
    with pytest.raises(SurgeryError, match="retraining needs train"):
        other.retrain([other.surgeries[0].id])


def test_children_and_this_process_find_the_same(study, table):
    sample = [s.id for s in study.surgeries][60:200:9]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = study.posthoc(sample)
        other = surgery.study(
            build=build,
            judge=judge,
            files=[model_file],
            model=study.model,
            train=train,
            reference=lambda model: model.eval()(OTHERS),
            workers=2,
        )
        there = other.posthoc(sample)
    finally:
        torch.set_num_threads(threads)
    assert here["status"].tolist() == there["status"].tolist()
    np.testing.assert_allclose(here["delta"], there["delta"], atol=1e-6)


def test_probes_leave_the_logits_as_they_are_to_the_bit(study):
    from interp.surgery.running.observing import Observations, observing

    model = study.model.eval()
    before = model(TOKENS)
    noted = Observations(study.sources[0])
    with observing(noted, "judge"):
        assert torch.equal(model(TOKENS), before)
    assert len(noted.seen) > 100
