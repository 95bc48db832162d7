"""What is asked of a sweep, and which way is each of its interventions answered?

A ``Request`` is what was asked. ``Routes`` sort its trials, by their number: those that enter the
residual stream of a model whose components are verified go on from there, on the ``FastPath``;
those in another model whose blocks are called in turn run from their block on, on the
``BlockPath``; the rest get a forward pass each. All three are found once, before anything is
answered, and never change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from interp.metrics import Metric
from interp.site import Model
from interp.sweeps.speed.components import Components
from interp.sweeps.speed.entries import Entry
from interp.sweeps.speed.grouping import BatchLimits, batch_limits
from interp.sweeps.trials import Trial

if TYPE_CHECKING:
    from interp.sweeps.by_block.path import BlockPath


@dataclass(frozen=True)
class Request:
    """What a sweep is asked.

    Args:
        tokens: what the model is run on.
        metric_tokens: what the metric is given beside the logits.
        memory: bytes that the sweep may hold at a time, beside the model.
        give_back: to be called now and then: gives free memory back to the system where the sweep
            holds more than half of what it may.
    """

    model: Model
    tokens: Int[Tensor, "batch pos"]
    metric_tokens: Int[Tensor, "batch pos"]
    trials: Sequence[Trial]
    metric: Metric
    memory: int
    give_back: Callable[[], None]

    @property
    def batch(self) -> int:
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        return self.tokens.shape[1]

    @property
    def limits(self) -> BatchLimits:
        return batch_limits(self.tokens.device)


@dataclass(frozen=True)
class FastPath:
    """Trials that go on from where they enter the residual stream, everything before it taken from
    the clean run.

    Args:
        components: the model's, verified.
        entries: where each trial enters, by its number.
        keeps_prefixes: whether the clean keys and values of earlier positions are at hand, so that
            only the positions from the first changed one on are computed.
        rounds: the trials, in rounds whose clean activations fit into memory together.
    """

    components: Components
    entries: Mapping[int, Entry]
    keeps_prefixes: bool
    rounds: Sequence[Sequence[int]]

    def clean_names(self, trials: Sequence[int]) -> list[str]:
        """The hook points whose clean values these trials need."""
        entries = [self.entries[trial] for trial in trials]
        names = dict.fromkeys(entry.hook for entry in entries)
        count = len(self.components.layers)
        for entry in entries:
            names |= dict.fromkeys(entry.needs)
            if entry.stage == "mid":
                names[f"blocks.{entry.layer}.hook_resid_mid"] = None
            following = entry.layer + (entry.stage != "pre")
            if following < count:
                names[f"blocks.{following}.hook_resid_pre"] = None
            if self.keeps_prefixes:
                for layer in range(following, count):
                    names |= {f"blocks.{layer}.attn.hook_{kind}": None for kind in "kv"}
        return list(names)


@dataclass(frozen=True)
class Routes:
    """Which way each trial of a request is answered.

    Args:
        fast_path: for those that enter the residual stream; None where no trial takes it.
        by_block: for those that run through the model's own blocks from the one that they change;
            None where no trial takes it.
        looped: the trials that get a forward pass each.
        notes: what this model could not be given, and why; sentences.
    """

    fast_path: FastPath | None
    by_block: "BlockPath | None"
    looped: Sequence[int]
    notes: Sequence[str]
