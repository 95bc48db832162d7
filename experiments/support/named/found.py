"""What is known of a named model before its weights are read, and what is it once they are?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from experiments.support.named.coding import TextTokens


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Attributes:
        context: how many tokens it reads at once.
        layers: its blocks; None where that is not known before it runs.
        heads: of a layer; likewise.
    """

    context: int
    layers: int | None = None
    heads: int | None = None


Check = Callable[[Size, TextTokens], None]
"""Sees a model's size and its tokens before anything is trained or read, and raises ``UsageError``
where what was asked for does not fit them."""


@dataclass(frozen=True)
class NamedModel:
    """A model that a word named, as it was read.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: of its texts.
        context: how many tokens it reads at once.
        about: what it is; belongs in a run's config.
        build: makes another of its kind, untrained, from a seed; None where its class takes its
            config alone.
        modules: the files of its folder that it needs, that of its class first; none of a library.
    """

    model: nn.Module
    tokenizer: TextTokens
    context: int
    about: dict[str, Any]
    build: Callable[[int], nn.Module] | None = None
    modules: Sequence[ModuleType] = ()
