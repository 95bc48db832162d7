import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from experiments.support.curating import ablating, measuring, planting
from experiments.support.curating.ablating import PipelineAblation, ablate_pipeline
from experiments.support.curating.leaving_out import DUPLICATES, NOTHING, WHOLE
from experiments.support.curating.planting import NEVER, SINGLE, plant_canaries
from gpt import checkpoint
from interp.curation import Pipeline, Step
from interp.memorising import measure_exposure
from interp.runs import SavedRun
from interp.status import Status
from interp.verdicts import compare_seeds
from tests.experiments.support.curating.piles import small_pile
from tests.experiments.support.curating.test_leaving_out import do_nothing

pytestmark = pytest.mark.usefixtures("small")
TABLES = ("results", "summary", "variants", "leaks", "measured", "memorised", "compared", "planted")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Few steps, and one that does nothing."""
    kept = Pipeline.default().without(
        "normalise", "markup", "language", "private", "secrets", "quality", "licences"
    )
    return Pipeline((*kept.steps, Step("idle", do_nothing)))


def ablated(runs: Path, pipeline: Pipeline) -> SavedRun:
    how = PipelineAblation(runs, "tiny", seeds=3, steps=4, workers=0)
    return SavedRun.at(ablate_pipeline(small_pile(), pipeline, how).parent)


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """Few canaries and passages, so that a model is measured in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planting, "COUNTS", dict.fromkeys(planting.COUNTS, 1))
        patch.setattr(measuring, "PASSAGES", 4)
        yield


@pytest.fixture(scope="module")
def run(small, few, tmp_path_factory, pipeline) -> SavedRun:
    return ablated(tmp_path_factory.mktemp("runs"), pipeline)


def test_a_step_that_changes_nothing_is_not_trained_without(run):
    results, summary = run.table(), run.table("summary").set_index("variant")
    assert summary.loc["idle", "status"] == Status.EQUIVALENT
    assert summary.loc["idle", "delta"] == 0
    losses = results[results["split"] == "val"].set_index(["seed", "step"])["loss"]
    by_variant = dict(
        list(losses.groupby(results[results["split"] == "val"]["variant"].to_numpy()))
    )
    pd.testing.assert_series_equal(by_variant["idle"], by_variant[WHOLE])
    made = {path.stem.rpartition("-")[0] for path in (run.folder / "models").iterdir()}
    assert "idle" not in made and "whole_pipeline" in made


def test_duplicates_across_the_split_are_a_leak_and_no_effect(run):
    summary = run.table("summary").set_index("variant")
    assert set(summary.index[summary["status"] == Status.LEAK]) == {DUPLICATES, NOTHING}
    assert "validation documents stand in its training text" in summary.loc[DUPLICATES, "detail"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "but that is a leak" in page
    assert "duplicates.py:" in page, [
        page[at.start() - 60 : at.end() + 60] for at in re.finditer("exact_duplicates", page)
    ]
    assert "same to the byte" in page


def test_differences_are_those_of_the_one_rule_for_seeds(run):
    results, summary = run.table(), run.table("summary").set_index("variant")
    last = results[(results["split"] == "val") & (results["step"] == results["step"].max())]
    losses = last.groupby("variant")["loss"].apply(list)
    found = compare_seeds(losses[NOTHING], losses[WHOLE])
    for name in ("delta", "ci_low", "ci_high", "p"):
        assert summary.loc[NOTHING, name] == pytest.approx(found[name], abs=1e-12, nan_ok=True)


def test_what_is_measured_of_a_model_is_what_its_weights_give(run):
    planted = run.table("planted").drop_duplicates("canary")
    measured = run.table("measured")
    kept = checkpoint.load(run.folder / "models" / "whole_pipeline-1.safetensors")
    own = measured[(measured["variant"] == WHOLE) & (measured["seed"] == 1)]
    canaries = [one.canary for one in plant_canaries(small_pile(), 0)[1]]
    assert [one.text for one in canaries] == list(planted["text"])
    exposed = measure_exposure(kept.model, canaries, tokenizer=kept.tokenizer, context=16)
    for how, name in ((SINGLE, "exposure_single"), (NEVER, "exposure_never")):
        rows = own[own["measure"] == name].set_index("of")["value"]
        assert len(rows) == (planted["planted"] == how).sum()
        for canary, value in rows.items():
            assert value == exposed.loc[canary, "exposure"]


def test_killed_anywhere_and_started_again_it_ends_with_the_same_tables(
    run, pipeline, tmp_path, monkeypatch
):
    calls = {"measured": 0}
    measure, save = measuring.measure_model, ablating.save_losses

    def interrupted(*given):
        calls["measured"] += 1
        if calls["measured"] == 5:
            raise KeyboardInterrupt
        return measure(*given)

    def killed(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "measure_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablated(tmp_path, pipeline)
    monkeypatch.setattr(ablating, "save_losses", killed)
    with pytest.raises(KeyboardInterrupt):
        ablated(tmp_path, pipeline)
    monkeypatch.setattr(ablating, "save_losses", save)
    again = ablated(tmp_path, pipeline)
    for name in TABLES:
        pd.testing.assert_frame_equal(again.table(name), run.table(name), check_exact=True)


def test_a_finished_run_started_again_trains_and_measures_nothing(run, pipeline, monkeypatch):
    monkeypatch.setattr(measuring, "measure_model", None)
    monkeypatch.setattr("experiments.support.retraining.train_side_by_side", None)
    before = run.digests()
    ablated(run.folder.parents[1], pipeline)
    assert run.digests() == before
