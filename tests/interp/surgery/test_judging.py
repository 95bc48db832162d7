"""Whether a model looks ahead is asked with tokens that it can read."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from interp.surgery.judging import calls_of, sees_the_future, takes_positions_first
from tests.interp.surgery.small_gpt import TOKENS


class Model(nn.Module):
    """More logits than tokens, as of a head that is padded or left out."""

    def __init__(self, ahead):
        super().__init__()
        self.e, self.h, self.ahead = nn.Embedding(5, 8), nn.Linear(8, 64), ahead

    def forward(self, tokens):
        x = self.e(tokens)
        return self.h(x + x.flip(1) if self.ahead else x)


@pytest.mark.parametrize("ahead", [True, False])
def test_there_may_be_more_logits_than_tokens(ahead):
    model = Model(ahead).eval()
    for top in (5, 2):
        tokens = torch.randint(top, (3, 8), generator=torch.Generator().manual_seed(1))
        with calls_of(model) as calls:
            model(tokens)
        assert sees_the_future(model, calls[0]) == ahead
        assert not takes_positions_first(model, calls[0])


def test_a_model_that_looks_ahead_is_seen_to():
    class Mixer(nn.Module):
        def forward(self, tokens):
            return F.one_hot(tokens, 29).float().flip(1)

    from interp.surgery.judging import calls_of, sees_the_future

    model = Mixer()
    with calls_of(model) as calls:
        model(TOKENS)
    assert sees_the_future(model, calls[0])


def test_a_model_that_draws_random_numbers_is_no_leak_for_that():
    from interp.surgery.judging import calls_of, sees_the_future

    class Dropping(nn.Module):
        def __init__(self, ahead):
            super().__init__()
            self.embedding, self.ahead = nn.Embedding(9, 9), ahead

        def forward(self, tokens):
            x = nn.functional.dropout(self.embedding(tokens), 0.5, training=True)
            return x + x.flip(1) if self.ahead else x

    tokens = torch.randint(9, (3, 8))
    for ahead in (False, True):
        model = Dropping(ahead).eval()
        with calls_of(model) as calls:
            model(tokens)
        assert sees_the_future(model, calls[0]) == ahead
