"""Attribution against exact patching, end to end."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import attribution, patching
from experiments.attribution import BLIND, Config, main, of_kind, top_neurons
from experiments.patching import induction
from experiments.support.trainings.induction import InductionRecipe
from interp.caching import cache
from interp.interventions import Patch, intervene
from interp.metrics import logit_difference

VERIFY = 12


@pytest.fixture(scope="module")
def config(runs) -> Config:
    return Config(runs=runs, examples=8, length=16, steps=2, verify=VERIFY)


@pytest.fixture(scope="module")
def folder(config) -> Path:
    """The built-in task, on a model trained for a little less long than the experiment's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
        return main(config).parent


@pytest.fixture(scope="module")
def table(folder) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def test_every_part_at_every_position_and_every_neuron_is_scored_in_both_ways(table):
    counts = pd.crosstab(table["method"], table["kind"])
    assert len(counts) == 2
    positions, layers, heads, width = 31, 2, 2, 64
    assert (counts["embedding"] == positions).all()
    assert (counts["head"] == layers * heads * positions).all()
    assert (counts["MLP output"] == layers * positions).all()
    assert (counts["neuron"] == layers * 4 * width).all()


def test_in_each_panel_the_largest_scores_and_random_ones_are_patched_exactly(table):
    for _, rows in table.groupby("panel"):
        assert (rows["why"] == "largest").sum() == (rows["why"] == "random").sum() == VERIFY
        assert rows["exact"].notna().sum() == 2 * VERIFY
        least = rows.loc[rows["why"] == "largest", "approximate"].abs().min()
        assert (rows.loc[rows["why"] != "largest", "approximate"].abs() <= least).all()


def test_exact_is_what_patching_the_site_alone_does(config, table, monkeypatch):
    monkeypatch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
    task = induction(config)
    metric = logit_difference(task.answer, task.wrong)
    kept = cache(task.model, task.clean, ["hook_embed", "*hook_z", "*mlp_out", "*hook_post"])
    checked = table.dropna(subset="exact").groupby("kind").head(2)
    assert set(checked["kind"]) == {"embedding", "head", "MLP output", "neuron"}
    with torch.no_grad():
        before = metric(task.model(task.corrupted), task.clean)
        for row in checked.itertuples():
            with intervene(task.model, {row.site: Patch(kept)}, allow_no_effect=True):
                after = metric(task.model(task.corrupted), task.clean)
            assert row.exact == pytest.approx(float((after - before).mean()), abs=1e-4)


def test_audits_are_of_what_was_checked_with_embeddings_and_without(folder, table):
    audits = pd.read_parquet(folder / "audits.parquet")
    assert len(audits) == 6
    for row in audits.itertuples():
        rows = table[(table["panel"] == row.panel)]
        if row.name == "no embeddings":
            rows = rows[rows["kind"] != "embedding"]
        checked = rows.dropna(subset="exact")
        assert (row.of, row.sites) == (len(rows), len(checked))
        expected = np.corrcoef(checked["approximate"], checked["exact"])[0, 1]
        assert row.correlation == pytest.approx(expected)


def test_the_page_says_how_well_it_agrees_and_what_it_cannot_see(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "sites patched exactly, correlation" in page
    assert BLIND.split("'")[0] in page
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"approximations.{kind}" for kind in ("png", "svg", "pdf")}
    svg = (folder / "figures" / "approximations.svg").read_text(encoding="utf-8")
    assert svg.count("correlation") >= 6


def test_a_neuron_is_the_largest_only_where_its_effect_is_shown(table):
    neurons = of_kind(table, ["neuron"])
    exact = neurons["exact"].dropna().abs().sort_values(ascending=False)
    ends = ["exact_ci_low", "exact_ci_high", "exact_p_adjusted"]
    noisy = neurons.copy()
    noisy.loc[exact.index, ends] = [-9.0, 9.0, 0.6]
    told = top_neurons(noisy)
    assert "None is shown to matter: the largest change is that of" in told
    assert "no effect shown" in told
    sure = noisy.copy()
    sure.loc[exact.index[2], ends] = [1.0, 2.0, 0.001]
    assert f"The largest effect is that of {neurons['site'][exact.index[2]]}" in top_neurons(sure)
    one = neurons.assign(n=1, **dict.fromkeys(ends, float("nan")))
    told = top_neurons(one)
    assert f"The largest effect is that of {neurons['site'][exact.index[0]]}" in told
    assert "no interval from fewer than three" in told


def test_started_again_nothing_is_patched_again_and_the_table_is_the_same(
    folder, config, table, monkeypatch
):
    monkeypatch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
    monkeypatch.setattr("interp.sweeps.answering.measure_group", None)
    main(config)
    again = pd.read_parquet(folder / "results.parquet")
    pd.testing.assert_frame_equal(table, again, check_exact=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--steps", "-1"], "--steps is -1"),
        (["--verify", "0"], "--verify is 0"),
        (["--clean", "abc"], "--clean is given and --corrupted is not"),
    ],
)
def test_misuse_is_one_sentence_and_nothing_is_written(refused, arguments, sentence):
    assert sentence in refused(main, Config, *arguments)


def test_it_is_listed_with_its_question():
    assert attribution.__doc__.partition("\n")[0].endswith("?")
