"""Whether a cut acts in training is seen by everything that training moves."""

import torch
from torch import nn

from interp.surgery.judging import Call
from interp.surgery.judging.training import training_fingerprint

TOKENS = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """A model whose norm keeps a running mean: a buffer, or a tensor that is a plain attribute."""

    def __init__(self, momentum, buffer=True, table=5, kept=True):
        super().__init__()
        self.e, self.h = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.momentum, self.kept = momentum, kept
        self.register_buffer("table", torch.zeros(table))  # nothing moves it
        if buffer:
            self.register_buffer("mean", torch.zeros(8))
        else:
            self.mean = torch.zeros(8)
        self.seen = None

    def forward(self, tokens):
        x = self.e(tokens)
        if self.training:
            now = x.detach().mean((0, 1))
            self.mean = (1 - self.momentum) * self.mean + self.momentum * now
            self.seen = now if self.kept else None  # for looking at: no statistic
        else:
            now = self.mean
        return self.h(x - now)


def fingerprint(**how):
    call = Call((TOKENS,), {}, Model(0.1)(TOKENS).detach())
    return training_fingerprint(lambda seed: Model(**how), call, "")


def test_statistics_that_training_moves_tell_two_trainings_apart():
    for buffer in (True, False):
        plain = fingerprint(momentum=0.1, buffer=buffer)
        assert plain == fingerprint(momentum=0.1, buffer=buffer)
        assert plain.steps != fingerprint(momentum=0.2, buffer=buffer).steps
        assert plain.steps != fingerprint(momentum=0.0, buffer=buffer).steps


def test_tables_and_what_a_run_keeps_for_looking_at_do_not():
    plain = fingerprint(momentum=0.1)
    assert plain == fingerprint(momentum=0.1, table=9)
    assert plain == fingerprint(momentum=0.1, kept=False)
