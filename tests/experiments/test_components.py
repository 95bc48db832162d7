"""Zero and mean ablation of every part, end to end."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

import gpt.model
from experiments.components import Config, alike_reading, drawn_parts, main, readings
from experiments.support.trained import StudyOptions, find_subject
from interp.metrics import loss


@pytest.fixture(scope="module")
def folder(small, runs, text) -> Path:
    return main(Config(runs=runs, text=str(text), examples=8)).parent


@pytest.fixture(scope="module")
def table(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def test_every_part_is_ablated_both_ways_and_says_all_that_a_result_says(table):
    assert table.groupby("site")["intervention"].agg(set).map({"zero", "mean"}.__eq__).all()
    assert table.groupby("kind")["site"].nunique().to_dict() == {
        "embedding": 2,
        "attention": 2,
        "MLP": 2,
        "residual stream": 5,
        "learned scale of a norm": 5,
    }
    expected = "site hook layer head pos neuron intervention metric baseline value delta ci_low"
    expected += " ci_high p_adjusted n file line code seed kind"
    assert set(expected.split()) <= set(table)
    assert (table["ci_low"] <= table["delta"]).all()
    assert (table["delta"] <= table["ci_high"]).all()
    assert table["delta"].is_monotonic_decreasing


def test_every_bar_names_a_line_of_the_model_as_it_stands_in_the_file(table):
    lines = Path(gpt.model.__file__).read_text(encoding="utf-8").splitlines()
    assert set(table["file"]) == {"gpt/model.py"}
    for line, code in zip(table["line"], table["code"], strict=True):
        assert lines[line - 1].strip().startswith(code.partition("\n")[0])


def test_a_final_norm_of_scale_zero_leaves_every_character_equally_likely(table, text):
    row = table.query("site == 'ln_final.weight' and intervention == 'zero'").iloc[0]
    assert row["value"] == pytest.approx(math.log(len(set(text.read_text()))), abs=1e-5)


def test_a_branch_whose_norm_has_scale_zero_writes_nothing(table):
    zeroed = table[table["intervention"] == "zero"].set_index("site")["delta"]
    for layer in (0, 1):
        for norm, branch in (("ln1", "hook_attn_out"), ("ln2", "hook_mlp_out")):
            whole = zeroed[f"blocks.{layer}.{branch}"]
            assert zeroed[f"blocks.{layer}.{norm}.weight"] == pytest.approx(whole, abs=1e-5)


def test_the_mean_of_a_learned_scale_is_that_number_in_every_place(table, runs, text):
    subject = find_subject(StudyOptions(runs=runs, text=str(text)))
    model, tokens = subject.model, subject.examples(8)
    with torch.no_grad():
        weight = model.get_submodule("blocks.1.ln2").weight
        weight.fill_(weight.mean())
        value = loss(model(tokens), tokens).mean().item()
    row = table.query("site == 'blocks.1.ln2.weight' and intervention == 'mean'").iloc[0]
    assert row["value"] == pytest.approx(value, abs=1e-5)


def test_the_figure_and_the_page_are_there(folder):
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "components.png",
        "components.svg",
        "components.pdf",
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "under zero ablation" in page
    assert "show no effect" in page


def test_a_large_model_is_measured_on_texts_enough_to_show_an_effect_of_its_many_parts():
    """A sign flip over n texts has no p below 2 / 2**n, which Holm multiplies by all that is
    tested: both ways of 122 parts of SmolLM2."""
    texts, _ = Config.large_model
    assert 2 / 2**texts * 2 * 122 < 0.05


def test_of_more_parts_than_a_figure_holds_those_that_write_are_drawn():
    kinds = ["attention", "MLP", "residual stream"]
    rows = [
        {"site": f"blocks.{layer}.{kind}", "kind": kind, "delta": 9.0 * (kind == kinds[2])}
        for layer in range(30)
        for kind in kinds
    ]
    table = pd.DataFrame(rows)
    assert set(drawn_parts(table)["kind"]) == {"attention", "MLP"}
    few = table.head(30)
    assert drawn_parts(few) is few


def test_too_few_examples_are_one_sentence(refused):
    assert "--examples is 1" in refused(main, Config, "--examples", "1")


def test_no_sentence_says_that_a_part_matters_whose_effect_is_not_shown(table):
    noisy = table.assign(ci_low=-1.0, ci_high=9.0, p_adjusted=0.6)
    said = " ".join(readings(noisy))
    assert "matters most" not in said
    assert said.count("is shown to matter under") == 2


def test_what_is_said_everywhere_alike_is_named_where_it_is_shown():
    ends = {"p_adjusted": 0.01, "n": 8, "kind": "MLP"}
    parts = pd.DataFrame(
        [
            {"site": "wild", "intervention": "zero", "delta": 2.0, "ci_low": 0.1, "ci_high": 4.0},
            {"site": "wild", "intervention": "mean", "delta": 0.5, "ci_low": 0.2, "ci_high": 0.8},
            {"site": "sure", "intervention": "zero", "delta": 0.9, "ci_low": 0.8, "ci_high": 1.0},
            {"site": "sure", "intervention": "mean", "delta": 0.1, "ci_low": 0.0, "ci_high": 0.2},
        ]
    ).assign(**ends)
    assert "is worth 0.800 nats, of sure" in alike_reading(parts)
    none = alike_reading(parts[parts["site"] == "wild"])
    assert none.startswith("None of them is shown to say something everywhere alike")
