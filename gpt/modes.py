"""Is a model training, or is it being looked at?

with in_mode(model, training=False):
    loss = model(tokens, return_type="loss")  # without dropout
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """All of ``model`` in one mode within the block; after it each module in its own again."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before.items():
            module.training = was_training
