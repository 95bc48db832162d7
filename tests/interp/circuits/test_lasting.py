"""Edges cut before training, beside their effect on the trained model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import gpt.model
from gpt.train import PRESETS
from interp import surgery
from interp.circuits import edge_twin
from interp.circuits.edges import measure_edges
from interp.circuits.lasting import cut_before_training
from interp.circuits.pairs import take_pair
from interp.circuits.twins.places import EdgeLines
from interp.errors import SurgeryError, UsageError
from interp.figures import damage_and_lasting_cost
from interp.hooking import evaluating
from interp.surgery import edited_module, read_source
from tests.interp.circuits.by_hand import gap, loss_of, random_gpt, random_pair

CLEAN, OTHER = random_pair(batch=6)
EDGES = ["embed -> m0", "a0.h1 -> a1.h0.k", "m1 -> logits"]


def built(seed):
    return random_gpt(seed=seed, n_layer=2)


def train(model, seed):
    model.train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(6):
        tokens = torch.randint(13, (8, 7), generator=generator)
        tokens[:, 1:] = tokens[:, :1]  # a text repeats its first token
        loss_of(model(tokens), tokens).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def judge(model):
    model.eval()
    with torch.no_grad():
        return loss_of(model(CLEAN), CLEAN)


@pytest.fixture(scope="module")
def study():
    return surgery.study(
        build=built, judge=judge, train=train, files=[gpt.model], trains=False, workers=0
    )


@pytest.fixture(scope="module")
def twins(study):
    lines = EdgeLines.of(study.model, CLEAN)
    return [edge_twin(study.model, edge, CLEAN, lines=lines) for edge in EDGES]


@pytest.fixture(scope="module")
def tables(study, twins):
    return cut_before_training(study, twins, seeds=[0, 1, 2])


@pytest.mark.parametrize("edge", ["embed -> a0.h1.v", *EDGES])
def test_cut_before_no_steps_of_training_an_edge_is_its_zero_ablation_by_hook(edge):
    config = replace(PRESETS["demo"].model, vocab_size=13)
    untrained = gpt.model.GPT(config, seed=3).eval()
    twin = edge_twin(untrained, edge, CLEAN)
    module = edited_module(read_source(gpt.model), twin.surgery)
    cut = module.GPT(module.GPTConfig(**vars(config)), seed=3).eval()
    with evaluating(untrained):
        pair = take_pair(untrained, CLEAN, OTHER)
        pair.deltas.update({w: -value for w, value in pair.patched.written.items()})
        by_hook = measure_edges(pair, [pair.graph.edge(edge)], gap)
        np.testing.assert_allclose(by_hook.values[0], gap(cut(CLEAN), CLEAN), atol=1e-6)
    assert np.abs(by_hook.values - by_hook.baseline).max() > 1e-6  # which does something


def test_damage_is_the_zero_ablation_of_the_trained_model(study, tables):
    table, _ = tables
    with evaluating(study.model):
        pair = take_pair(study.model, CLEAN, OTHER)
        pair.deltas.update({w: -value for w, value in pair.patched.written.items()})
        found = measure_edges(pair, [pair.graph.edge(edge) for edge in EDGES], loss_of)
    np.testing.assert_allclose(table["delta"], (found.values - found.baseline).mean(1), atol=1e-6)
    assert (table["ci_low"] < table["delta"]).all() and (table["delta"] < table["ci_high"]).all()
    assert (table["n"] == len(CLEAN)).all() and table["verdict"].notna().all()


def test_lasting_cost_is_that_of_models_that_never_had_the_edge(twins, tables):
    table, trainings = tables
    assert list(table["edge"]) == EDGES and (table["retrained_n"] == 3).all()
    assert list(trainings["edge"]) == [edge for edge in ["", *EDGES] for _ in range(3)]
    values = {}
    for edge, twin in [("", None), *zip(EDGES, twins, strict=True)]:
        module = edited_module(read_source(gpt.model), twin and twin.surgery)
        for seed in range(3):
            model = module.GPT(module.GPTConfig(**vars(built(seed).config)), seed=seed)
            model.load_state_dict(built(seed).state_dict())
            train(model, seed)
            values[edge, seed] = float(judge(model).mean())
    expected = [values[edge, seed] for edge in ["", *EDGES] for seed in range(3)]
    np.testing.assert_allclose(trainings["value"], expected, atol=1e-6)
    means = np.reshape(expected, (4, 3)).mean(axis=1)
    np.testing.assert_allclose(table["retrained_delta"], means[1:] - means[0], atol=1e-6)
    assert (table["retrained_ci_low"] < table["retrained_delta"]).all()
    np.testing.assert_allclose(trainings["delta"], np.array(expected) - means[0], atol=1e-6)


def test_the_figure_of_lines_takes_the_tables(tables):
    figure = damage_and_lasting_cost(*tables)
    said = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert all(edge in said for edge in EDGES)


def test_what_cannot_be_trained_is_refused(study, twins):
    with pytest.raises(UsageError, match="give at least one, and each once"):
        cut_before_training(study, [*twins, twins[0]])
    with pytest.raises(UsageError, match="give at least one"):
        cut_before_training(study, [])
    with pytest.raises(SurgeryError, match="seeds is empty"):
        cut_before_training(study, twins[:1], seeds=[])
