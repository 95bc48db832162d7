import functools
import math

import pytest
import torch

from interp.errors import UsageError
from interp.metrics import (
    accuracy,
    kl_from,
    logit_difference,
    loss,
    loss_at,
    metric_name,
    token_losses,
)

TOKENS = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1]])
LOGITS = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))


def nats(example, position):
    """The loss of one next token, from the definition."""
    weights = [math.exp(float(logit)) for logit in LOGITS[example, position]]
    return -math.log(weights[TOKENS[example, position + 1]] / sum(weights))


def test_the_loss_of_an_example_is_the_mean_of_minus_the_log_of_its_next_tokens_probabilities():
    expected = [sum(nats(example, p) for p in range(3)) / 3 for example in range(2)]
    torch.testing.assert_close(loss(LOGITS, TOKENS), torch.tensor(expected))
    assert token_losses(LOGITS, TOKENS)[1, 2] == pytest.approx(nats(1, 2))


def test_the_mean_over_examples_is_the_loss_that_the_model_reports(model, text_tokens):
    expected = model(text_tokens, return_type="loss")
    torch.testing.assert_close(loss(model(text_tokens), text_tokens).mean(), expected)


def test_the_loss_at_positions_is_of_the_tokens_that_follow_them():
    expected = torch.tensor([(nats(example, 0) + nats(example, 2)) / 2 for example in range(2)])
    torch.testing.assert_close(loss_at([0, 2])(LOGITS, TOKENS), expected)
    torch.testing.assert_close(loss_at([0, -2])(LOGITS, TOKENS), expected)
    assert loss_at(1)(LOGITS, TOKENS)[0] == pytest.approx(nats(0, 1))


def test_the_loss_at_a_mask_may_differ_from_example_to_example():
    mask = torch.tensor([[True, False, False, False], [False, True, True, False]])
    expected = torch.tensor([nats(0, 0), (nats(1, 1) + nats(1, 2)) / 2])
    torch.testing.assert_close(loss_at(mask)(LOGITS, TOKENS), expected)


def test_a_logit_difference_is_the_log_of_the_odds_of_two_tokens():
    probabilities = LOGITS.softmax(dim=-1)
    odds = (probabilities[:, -1, 2] / probabilities[:, -1, 0]).log()
    torch.testing.assert_close(logit_difference(2, 0)(LOGITS, TOKENS), odds)
    each = logit_difference(torch.tensor([2, 0]), torch.tensor([0, 1]), pos=1)(LOGITS, TOKENS)
    assert each[1] == pytest.approx(float(LOGITS[1, 1, 0] - LOGITS[1, 1, 1]))


def test_the_divergence_from_a_baseline_is_zero_for_itself_and_the_expected_log_ratio_for_others():
    other = LOGITS.flip(-1)
    p, q = LOGITS.softmax(dim=-1), other.softmax(dim=-1)
    expected = (p * (p / q).log()).sum(dim=-1)
    torch.testing.assert_close(kl_from(LOGITS)(other, TOKENS), expected.mean(dim=1))
    torch.testing.assert_close(kl_from(LOGITS, pos=2)(other, TOKENS), expected[:, 2])
    assert kl_from(LOGITS)(LOGITS + 5, TOKENS).abs().max() < 1e-6


def test_accuracy_is_the_share_of_next_tokens_that_are_likeliest():
    sure = torch.nn.functional.one_hot(torch.tensor([[2, 1, 0, 0], [1, 1, 1, 1]]), 3).float()
    assert accuracy(sure, TOKENS).tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_logits_in_half_precision_metrics_are_what_they_are_of_the_same_numbers(dtype):
    generator = torch.Generator().manual_seed(1)
    logits = (10 * torch.randn(3, 8, 50, generator=generator)).to(dtype)
    tokens = torch.randint(50, (3, 8), generator=generator)
    other = (logits + torch.randn(logits.shape, generator=generator)).to(dtype)
    for metric, same in (
        (loss, loss),
        (loss_at([1, 2]), loss_at([1, 2])),
        (logit_difference(1, 2), logit_difference(1, 2)),
        (accuracy, accuracy),
        (kl_from(other), kl_from(other.double())),
    ):
        expected = same(logits.double(), tokens)
        torch.testing.assert_close(metric(logits, tokens).double(), expected, rtol=1e-5, atol=1e-5)
    assert kl_from(logits.float())(logits, tokens).abs().max() < 1e-6


def right_at(pos):
    def metric(logits, tokens):
        return logits[:, pos].argmax(dim=-1) == tokens[:, pos]

    return metric


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (loss, "loss"),
        (loss_at([0, 2]), "loss_at([0, 2])"),
        (loss_at(torch.ones(2, 4, dtype=torch.bool)), "loss_at(one per example)"),
        (logit_difference(3, 5), "logit_difference(3, 5)"),
        (
            logit_difference(torch.tensor([1, 2]), 5, 0),
            "logit_difference(one per example, 5, pos=0)",
        ),
        (kl_from(LOGITS, pos=1), "kl_from(baseline, pos=1)"),
        (right_at(1), "right_at"),
        (functools.partial(loss, 2), "loss(2)"),
    ],
)
def test_a_metric_has_a_name_that_tells_it_from_others(metric, name):
    assert metric_name(metric) == name


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (loss_at(3), "next token after positions 0 to 2"),
        (loss_at([]), "next token after"),
        (loss_at(torch.ones(2, 4, dtype=torch.bool)), "never the last"),
        (loss_at(torch.ones(1, 4, dtype=torch.bool)), r"the mask is \[1, 4\]"),
        (logit_difference(torch.tensor([1]), 0), "for 2 examples"),
        (logit_difference(3, 0), "outside the vocabulary"),
        (logit_difference(1, 0, pos=4), "positions 0 to 3"),
        (kl_from(LOGITS[:1]), "must come from the same tokens"),
    ],
)
def test_a_metric_that_does_not_fit_is_a_sentence(metric, sentence):
    with pytest.raises(UsageError, match=sentence):
        metric(LOGITS, TOKENS)


def test_one_token_has_no_loss_and_no_accuracy():
    for metric in (loss, accuracy):
        with pytest.raises(UsageError, match="at least two tokens"):
            metric(LOGITS[:, :1], TOKENS[:, :1])
