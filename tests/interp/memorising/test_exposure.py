"""A canary's rank by the tree is its rank by running every candidate alone."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from interp.errors import UsageError
from interp.memorising import Canary, measure_exposure
from interp.memorising.exposure import estimated_exposure, exact_exposure, secret_losses
from interp.samples.prompts import encoded

BOX = "The number of the box is "


@torch.no_grad()
def loss_alone(model: nn.Module, tokens: list[int], start: int, context: int) -> float:
    """The sum over tokens from ``start`` on, one run for each."""
    total = 0.0
    for at in range(start, len(tokens)):
        output = model(torch.tensor([tokens[max(0, at - context) : at]]))
        total -= output[0, -1].double().log_softmax(-1)[tokens[at]].item()
    return total


@pytest.mark.parametrize("before", ["box ", BOX], ids=["fits", "longer than the context"])
def test_the_tree_gives_each_candidate_the_loss_of_running_it_alone(untrained, tokenizer, before):
    canary = Canary(before, "42", symbols="01234")
    secrets = list(canary.candidates())
    losses = secret_losses(untrained, before, secrets)
    slow = [
        loss_alone(untrained, tokenizer.encode(before + one).tolist(), len(before), 24)
        for one in secrets
    ]
    assert len(set(slow)) == 25
    np.testing.assert_allclose(losses, slow, atol=1e-5)
    for secret, loss in zip(secrets, slow, strict=True):
        (row,) = measure_exposure(untrained, [Canary(before, secret, "01234")]).to_dict("records")
        rank = 1 + sum(other < loss for other in slow)
        assert (row["rank"], row["tied"], row["how"], row["n"]) == (rank, 1, "exact", 25)
        assert row["exposure"] == pytest.approx(math.log2(25 / rank))
        assert row["loss"] == pytest.approx(loss, abs=1e-5)


class LastOnly(nn.Module):
    """Gives the logits of the last position, as nanoGPT does without targets."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.model(tokens)[:, -1:], None


def test_a_model_that_gives_the_last_logits_only_has_the_same_exposure(untrained, tokenizer):
    canaries = [Canary("box ", "42"), Canary("box ", "17")]
    whole = measure_exposure(untrained, canaries)
    last = measure_exposure(LastOnly(untrained), canaries, tokenizer=tokenizer)
    assert whole["rank"].tolist() == last["rank"].tolist()
    np.testing.assert_allclose(whole["loss"], last["loss"], atol=1e-5)


def test_to_a_model_that_knows_nothing_all_are_tied_and_exposure_is_what_chance_gives(untrained):
    with torch.no_grad():
        untrained.lm_head.weight.zero_()
        if untrained.lm_head.bias is not None:
            untrained.lm_head.bias.zero_()
    (row,) = measure_exposure(untrained, [Canary("box ", "421")]).to_dict("records")
    ranks = np.arange(1, 1001)
    assert (row["rank"], row["tied"]) == (1, 1000)
    assert row["exposure"] == pytest.approx(np.mean(np.log2(1000) - np.log2(ranks)))
    assert row["exposure"] == pytest.approx(1 / math.log(2), abs=0.01)


def test_secrets_that_were_not_planted_have_that_exposure_on_average(untrained):
    canaries = [Canary("box ", f"{number:02}") for number in range(100)]
    table = measure_exposure(untrained, canaries)
    assert sorted(table["rank"]) == list(range(1, 101))
    expected = np.mean(np.log2(100) - np.log2(np.arange(1, 101)))
    assert table["exposure"].mean() == pytest.approx(expected)


def test_a_canary_that_is_known_by_heart_reaches_all_bits(learned):
    table = measure_exposure(learned, [Canary(BOX, "4821"), Canary(BOX, "4822")])
    planted, other = table.to_dict("records")
    assert planted["candidates"] == 10_000
    assert planted["rank"] == 1
    assert planted["exposure"] == planted["most"] == pytest.approx(math.log2(10_000))
    assert other["exposure"] < planted["exposure"]


def test_of_too_many_candidates_an_estimate_says_that_it_is_one_and_holds_the_true_value(learned):
    canaries = [Canary(BOX, "4821"), Canary(BOX, "7310"), Canary(BOX, "0000")]
    exact = measure_exposure(learned, canaries)
    drawn = measure_exposure(learned, canaries, at_most=1000, draws=300)
    assert set(drawn["how"]) == {"estimate"}
    assert set(drawn["n"]) == {300}
    assert drawn["rank"].isna().all()
    assert (drawn["ci_low"] <= exact["exposure"]).all()
    assert (drawn["ci_high"] >= exact["exposure"]).all()
    assert drawn["exposure"][0] == pytest.approx(math.log2(301))  # what 300 can show
    assert drawn["ci_high"][0] == pytest.approx(drawn["most"][0])
    again = measure_exposure(learned, canaries, at_most=1000, draws=300)
    assert again.equals(drawn)


def test_ties_share_their_ranks_and_no_draw_means_no_more_than_it_shows():
    losses = np.array([1.0, 2.0, 2.0, 3.0])
    assert exact_exposure(losses, 0)["exposure"] == 2
    assert exact_exposure(losses, 1) == exact_exposure(losses, 2)
    assert exact_exposure(losses, 1)["exposure"] == pytest.approx(2 - np.log2([2, 3]).mean())
    assert exact_exposure(losses, 3)["exposure"] == 0
    worst = estimated_exposure(9.0, np.zeros(10), 10**6)
    assert worst["exposure"] == 0
    assert worst["ci_low"] == 0


class Pairs:
    """A tokenizer of two characters a token, as those of byte pairs merge across borders."""

    def encode(self, text: str) -> list[int]:
        pieces = [text[at : at + 2] for at in range(0, len(text), 2)]
        return [sum(ord(one) for one in piece) % 95 for piece in pieces]

    def decode(self, tokens: list[int]) -> str:
        return ""


def test_candidates_that_cannot_be_compared_are_refused(untrained):
    with pytest.raises(UsageError, match="the same tokens of '12' and '21'"):
        measure_exposure(untrained, [Canary("box ", "21", "123")], tokenizer=Pairs())
    with pytest.raises(UsageError, match="begins with 'Ann', which is likelier for that alone"):
        measure_exposure(untrained, [Canary("I am ", "Ann", among=("Ann", "Anna", "Bob"))])
    with pytest.raises(UsageError, match="no first token in common"):
        measure_exposure(untrained, [Canary("b", "1")], tokenizer=Pairs())
    with pytest.raises(UsageError, match="there is no canary"):
        measure_exposure(untrained, [])
    with pytest.raises(UsageError, match="draws is 0"):
        measure_exposure(untrained, [Canary("box ", "1234")], at_most=10, draws=0)


def test_a_canary_that_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="something before it"):
        Canary("", "12")
    with pytest.raises(UsageError, match="'1x' could not have been drawn from '0123456789'"):
        Canary("box ", "1x")
    with pytest.raises(UsageError, match="one is there twice"):
        Canary("box ", "1", "112")
    with pytest.raises(UsageError, match="the only one of its form"):
        Canary("box ", "11", "1")


def test_names_may_be_candidates_too(untrained, tokenizer):
    canary = Canary("I am ", "Bob.", among=("Ann.", "Anna.", "Bob."))
    (row,) = measure_exposure(untrained, [canary]).to_dict("records")
    texts = encoded(untrained, [canary.before + one for one in canary.among], tokenizer)
    slow = [loss_alone(untrained, one, len(canary.before), 24) for one in texts]
    assert row["rank"] == 1 + sorted(slow).index(slow[2])
    assert row["candidates"] == 3


def test_logits_that_are_no_numbers_are_refused(untrained):
    with torch.no_grad():
        untrained.lm_head.weight.fill_(math.nan)
    with pytest.raises(UsageError, match="NaN or infinite"):
        measure_exposure(untrained, [Canary("box ", "42")])
