"""Which trials enter a model's blocks, and how are the blocks run from there?"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import BlockRun, ModelBlocks, NotInTurnError
from interp.blocks.calling import BlockCall
from interp.errors import UsageError
from interp.hooking import attach_hooks
from interp.site import Model
from interp.sweeps.request import Request
from interp.sweeps.speed.components import NotRecognisedError
from interp.sweeps.speed.verifying import check_same_everywhere
from interp.sweeps.trials import Change

Where = Literal["before", "stream", "inside"]


@dataclass(frozen=True)
class BlockEntry:
    """Where a trial's change is made.

    Args:
        hook: the hook point's name.
        layer: the first block that runs with it.
        where: before the blocks; on the residual stream that enters the block; or inside it.
        behind: where the change is to be added too, see ``interp.streams``.
    """

    hook: str
    layer: int
    where: Where
    behind: HookPoint | None = None


@dataclass(frozen=True)
class Beginning:
    """How the blocks are called on some positions.

    Args:
        start: the first of them.
        stop: the one after the last.
        cache: the clean key/value cache of those before; None where there are none.
    """

    start: int
    stop: int
    calls: Sequence[BlockCall]
    cache: Any


@dataclass(frozen=True)
class BlockPath:
    """Trials that are carried through a model's own blocks.

    Args:
        entries: where each of them is made, by its number.
        clean: the clean run.
        changes: what trials change, of those that fitted into memory together.
        causal: whether no position of a text sees later ones.
        saves_positions: whether positions before the first changed one are spared.
        notes: what this model could not be given, and why.
        failures: the trials that got a forward pass each after all, with the reason.
    """

    request: Request
    blocks: ModelBlocks
    entries: Mapping[int, BlockEntry]
    clean: BlockRun
    changes: Mapping[int, Change] = field(default_factory=dict)
    causal: bool = False
    saves_positions: bool = False
    notes: list[str] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    _beginnings: dict[tuple[int, int], Beginning] = field(default_factory=dict, repr=False)

    def of(self, trials: Sequence[int]) -> "BlockPath":
        """The same with some of the trials."""
        entries = {trial: self.entries[trial] for trial in trials}
        changes = {trial: self.changes[trial] for trial in trials if trial in self.changes}
        return replace(self, entries=entries, changes=changes)

    @property
    def last_only(self) -> bool:
        """Whether the model gives the logits of a text's last position alone."""
        return self.clean.logits.shape[1] == 1 < self.request.length

    def after(self, layer: int) -> Tensor:
        """The clean residual stream behind a block, [batch pos d_model]."""
        following = layer + 1
        return self.clean.last if following == len(self.blocks) else self.clean.entering[following]

    def stop_for(self, reads: Sequence[int]) -> int:
        """The position after the last that runs."""
        return reads[-1] + 1 if self.causal and reads else self.request.length

    def explain_failures(self) -> list[str]:
        """How many trials were not carried after all, and what the first of them met."""
        return [
            f"  {len(self.failures)} got a forward pass each after all: {reason}"
            for reason in list(self.failures.values())[:1]
        ]

    def beginning(self, start: int, stop: int) -> Beginning:
        """How the blocks are called on some positions, so that they give there what the clean run
        gave; where they cannot be, on all up to ``stop``, or else on all of the texts."""
        if (start, stop) not in self._beginnings:
            tokens = self.request.tokens[:, :stop]
            try:
                with running_alone():
                    found = make_beginning(tokens, self.blocks, self.clean, start)
                    self._check_clean(found)
            except (NotInTurnError, NotRecognisedError) as error:
                length = self.request.length
                if start:
                    self.notes.append(f"  all positions run, not those from {start} on: {error}")
                    found = self.beginning(0, stop)
                elif stop < length:
                    self.notes.append(f"  all positions run, not those before {stop}: {error}")
                    found = self.beginning(0, length)
                else:
                    raise
            self._beginnings[start, stop] = found
        return self._beginnings[start, stop]

    def know(self, found: Beginning) -> None:
        """Keeps a way of calling the blocks that was seen to be right."""
        self._beginnings[found.start, found.stop] = found

    def _check_clean(self, found: Beginning) -> None:
        self.blocks.forget()
        everyone = torch.arange(self.request.batch)
        positions = slice(found.start, found.stop)
        for layer in range(len(self.blocks)):
            x = self.clean.entering[layer][:, positions]
            ours = self.blocks.call(layer, x, found.calls, everyone, found.cache)
            what = f"block {layer}, from position {found.start} on,"
            check_same_everywhere(ours, self.after(layer)[:, positions], what)


def make_beginning(tokens: Tensor, blocks: ModelBlocks, clean: BlockRun, start: int) -> Beginning:
    """How the blocks are called on the positions from ``start`` on.

    Raises:
        NotInTurnError: they cannot be.
    """
    cache = blocks.cache_of(tokens, start, clean.cache) if start else None
    return Beginning(start, tokens.shape[1], blocks.calls(tokens[:, start:], cache), cache)


@contextmanager
def running_alone() -> Iterator[None]:
    """Inside the block, whatever a part of a model raises that expects the whole model around it,
    or as many texts as there were, is a ``NotRecognisedError``."""
    try:
        yield
    except (NotInTurnError, NotRecognisedError, UsageError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise NotRecognisedError(f"its blocks do not run alone ({said})") from error


@contextmanager
def hooked(model: Model, pairs: Sequence[tuple[HookPoint, Any]]) -> Iterator[None]:
    """Inside the block, these functions act at their hook points, also where blocks run alone."""
    if not pairs:
        yield
        return
    watching = getattr(model, "watching", nullcontext)  # of a view of a model's lines
    with attach_hooks(pairs), watching():
        yield
