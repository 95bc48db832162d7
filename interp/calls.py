"""What does a model take when it is called?

"stop_at_layer" in call_parameters(model)
"""

import inspect
from collections.abc import Mapping
from typing import Any


def call_parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a call, by name: those of ``forward``, and those of a ``__call__`` that
    the model's class defines around it. Where ``forward`` was replaced on this very object, only
    the new one's count: what the class says need not be so any more.
    """
    forward = getattr(model, "forward", model)
    found = dict(inspect.signature(forward).parameters)
    if "forward" not in getattr(model, "__dict__", {}):
        found |= inspect.signature(type(model).__call__).parameters
    return found
