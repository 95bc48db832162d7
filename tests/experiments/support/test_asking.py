"""Models are asked for the logits of every position in the way that they take."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from experiments.support.models.asking import Asked, Way, find_way
from gpt.errors import UsageError

VOCAB, POSITIONS = 11, 8
TOKENS = torch.randint(VOCAB, (3, POSITIONS), generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    """Mixes positions causally, so that texts and positions are told apart."""

    def __init__(self, axis=1):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.axis = nn.Embedding(VOCAB, 6), nn.Linear(6, VOCAB), axis

    def logits(self, tokens):
        return self.head(self.embed(tokens).cumsum(self.axis))


class Plain(Base):
    def forward(self, idx, targets=None):
        return self.logits(idx), None


class LastOnly(Base):
    def forward(self, idx, targets=None):
        if targets is None:
            return self.logits(idx)[:, [-1]], None
        logits = self.logits(idx)
        return logits, F.cross_entropy(logits.view(-1, VOCAB), targets.view(-1), ignore_index=-1)


class Flat(Base):
    def forward(self, idx, targets):
        logits = self.logits(idx).view(-1, VOCAB)
        return logits, F.cross_entropy(logits, targets.view(-1))


class Wide(Base):
    def forward(self, idx, attention_mask):
        assert attention_mask is None
        return self.logits(idx).new_zeros(*idx.shape, 6), self.logits(idx)


class Named(Base):
    def forward(self, idx):
        return {"hidden": self.embed(idx), "logits": self.logits(idx)}


class PositionsFirst(Base):
    def __init__(self):
        super().__init__(axis=0)

    def forward(self, src):
        return self.logits(src)


class Recurrent(Base):
    def __init__(self):
        super().__init__(axis=0)

    def init_hidden(self, batch):
        return torch.zeros(batch, 6)

    def forward(self, input, hidden):
        out = self.embed(input).cumsum(0) + hidden
        return F.log_softmax(self.head(out).view(-1, VOCAB), dim=1), hidden


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        (Plain, Way()),
        (LastOnly, Way(targets="targets")),
        (Flat, Way(targets="targets", flat=True)),
        (Wide, Way(place=1, extra=("attention_mask",))),
        (Named, Way()),
        (PositionsFirst, Way(positions_first=True)),
        (Recurrent, Way(positions_first=True, flat=True, extra=("hidden",))),
    ],
)
def test_the_way_is_found_and_gives_the_models_own_logits(kind, way):
    model = kind()
    assert find_way(model, TOKENS, VOCAB) == way
    whole = Base().logits(TOKENS)
    asked = Asked(model, way)(TOKENS)
    assert torch.allclose(asked.log_softmax(-1), whole.log_softmax(-1), atol=1e-6)


class Probabilities(Base):
    def forward(self, idx):
        return self.logits(idx).softmax(-1)


class Strange(Base):
    def forward(self, idx, temperature):
        return self.logits(idx) / temperature


class Last(Base):
    def forward(self, idx):
        return self.logits(idx)[:, -1]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Probabilities, "gives probabilities and not logits"),
        (Strange, "takes temperature beside tokens"),
        (Last, r"gives \[3, 11\] for tokens of shape \[3, 8\].*--judge judge.py:ask"),
    ],
)
def test_what_cannot_be_known_is_asked_for(kind, told):
    with pytest.raises(UsageError, match=told):
        find_way(kind(), TOKENS, VOCAB)
