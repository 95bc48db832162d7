"""Operations are those that the products of matrices take."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.support.proposing.costing import (
    cost_table,
    multiplied_parameters,
    operations_of_token,
    size_of_layers,
)
from tests.experiments.support.proposing.material import curate_pages, read_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return read_subject(curate_pages(tmp_path_factory.mktemp("pages") / "text"))


def test_operations_are_those_of_the_matrix_products_that_run(subject):
    model, context = subject.inner, subject.context
    vectors = sum(weight.numel() for weight in model.parameters() if weight.ndim == 1)
    weights = multiplied_parameters(model) - vectors
    layers, width = size_of_layers(model) or (0, 0)
    assert (layers, width) == (2, 16)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(subject.examples(1))
    products = [
        count for op, count in counter.get_flop_counts()["Global"].items() if "mm" in str(op)
    ]
    linear = 2 * weights * context
    attention = 4 * layers * context * context * width  # of the whole square, where half counts
    assert sum(products) in (linear, linear + attention)
    half = operations_of_token(weights, layers, context, width) * context
    assert half == linear + attention // 2


def test_costs_follow_from_the_recipe_and_energy_is_an_estimate(subject):
    table = cost_table(subject, 30, {"steps": 10, "batch_size": 4}).set_index("what")
    value = table["value"]
    assert value["tokens of training"] == 10 * 4 * 48
    assert value["training"] == 3 * value["a token"] * value["tokens of training"]
    assert value["parameters"] == sum(one.numel() for one in subject.inner.parameters())
    assert value["energy of training"] == pytest.approx(value["time of training"] * 30 / 3600)
    assert table.loc["energy of training", "how"].startswith("ESTIMATE: 30 W were assumed")


def test_what_is_not_known_of_a_training_is_said(subject):
    table = cost_table(subject, 30, None).set_index("what")
    assert table.loc["training", "how"] == "not known: it was trained elsewhere"
    assert table["value"].isna().sum() == 4
