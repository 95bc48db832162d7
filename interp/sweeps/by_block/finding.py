"""Which trials can be carried through a model's own blocks, and what does each of them change?

One run of the clean texts shows all of it: which modules are the blocks, where in the run each hook
point is reached, and what each intervention makes of the value there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformer_lens.hook_points import HookPoint

from interp.blocks import BlockRun, BlockTracer, ModelBlocks, NotInTurnError
from interp.blocks.calling import same_call
from interp.blocks.finding import Where as Moment
from interp.site import axes_of
from interp.streams import way_around
from interp.sweeps.by_block.asking import AskedChanges
from interp.sweeps.by_block.path import BlockEntry, BlockPath, hooked, running_alone
from interp.sweeps.by_block.proving import ProofNoise, proved_path
from interp.sweeps.request import Request
from interp.sweeps.speed.components import NotRecognisedError
from interp.sweeps.trials import Change

FEWEST = 4  # trials; a proof costs about as much as two


def find_block_path(request: Request, numbers: Sequence[int]) -> BlockPath | None:
    """The trials, of these numbers, that are carried through the model's blocks; None where there
    are too few for a proof to pay.

    Raises:
        NotRecognisedError: the model's blocks cannot be run alone.
        UsageError: an intervention that cannot be.
    """
    single = [number for number in numbers if len(request.trials[number].sites) == 1]
    if len(single) < FEWEST:
        return None
    try:
        with running_alone():
            return find_proved(request, single)
    except NotInTurnError as error:
        raise NotRecognisedError(str(error)) from error


def find_proved(request: Request, numbers: Sequence[int]) -> BlockPath | None:
    """As ``find_block_path``, of trials at one site each.

    Raises:
        NotInTurnError, NotRecognisedError, UsageError: as there.
    """
    tracer = BlockTracer(request.model)
    seen = CleanValues(request, tracer, numbers)
    with hooked(request.model, seen.pairs()):
        blocks, clean = tracer.run(request.tokens)
    require_room(request, clean)
    entries = seen.entries(blocks, clean)
    if len(entries) < FEWEST:
        return None
    changes = {number: each for number, each in seen.changes.items() if number in entries}
    return proved_path(BlockPath(request, blocks, entries, clean, changes))


def require_room(request: Request, clean: BlockRun) -> None:
    """Raises ``NotRecognisedError`` where the clean run does not fit into the memory given."""
    held = clean.nbytes
    if held > request.memory // 2:
        raise NotRecognisedError(
            f"what enters its blocks is {held / 2**20:.0f} MiB for these texts, more than half of "
            f"the {request.memory / 2**20:.0f} MiB given: give more memory, or fewer texts"
        )


@dataclass
class CleanValues:
    """What the clean run shows of the hook points that a sweep is about.

    Args:
        numbers: of the trials.
        moments: where each hook point was reached, with the identity of its value; None where it
            is reached several times, or by no value with a row for each text.
        changes: what each trial changes; of as many as fit into a quarter of the memory.
    """

    request: Request
    tracer: BlockTracer
    numbers: Sequence[int]
    moments: dict[HookPoint, tuple[dict[str, tuple[Moment, int]], int] | None] = field(
        default_factory=dict
    )
    changes: dict[int, Change] = field(default_factory=dict)
    held: int = 0

    def __post_init__(self) -> None:
        self.asked = AskedChanges(self.request, self.numbers)

    def pairs(self) -> list[tuple[HookPoint, Any]]:
        return [*((point, self.note) for point in self.asked.trials), *self.asked.masks.pairs]

    def note(self, value: Any, hook: HookPoint) -> None:
        if hook in self.moments:
            self.moments[hook] = None
            return
        self.moments[hook] = None
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return
        axes = axes_of(self.asked.names[hook], value.ndim)
        if "pos" not in axes or axes[0] != "batch" or len(value) != self.request.batch:
            return
        self.moments[hook] = self.tracer.moments(), id(value)
        if self.held > self.request.memory // 4:
            return
        found = self.asked.changes(value, hook)
        self.changes |= found
        self.held += sum(change.values.nbytes for change in found.values())

    def entries(self, blocks: ModelBlocks, clean: BlockRun) -> dict[int, BlockEntry]:
        """Where each trial is made, of those that are in the blocks or before them."""
        streams = {id(x): layer for layer, x in enumerate(clean.entering)}
        reached: dict[HookPoint, tuple[int, Any]] = {}
        for point, moment in self.moments.items():
            if moment is None:
                continue
            where, layer = moment[0][blocks.path]
            if where == "between" and streams.get(moment[1]) == layer:
                reached[point] = layer, "stream"
            elif where in ("inside", "before"):
                reached[point] = layer, where
        before = [point for point, (_, where) in reached.items() if where == "before"]
        for point in mixed_in(self.request, blocks, before):
            del reached[point]
        model, trials = self.request.model, self.request.trials
        return {
            number: BlockEntry(hook, *reached[point], way_around(model, hook))
            for point, numbers in self.asked.trials.items()
            for number in numbers
            if point in reached and (hook := trials[number].site.hook)
        }


def mixed_in(
    request: Request, blocks: ModelBlocks, points: Sequence[HookPoint]
) -> Iterator[HookPoint]:
    """Of hook points before the blocks, those by which more than the residual stream changes, as
    rotary angles do, or a mask."""
    tokens = request.tokens[:1]
    clean = blocks.calls(tokens) if points else []
    for point in points:
        noise = ProofNoise(request, 0)
        with hooked(request.model, [(point, noise.adding)]):
            changed = blocks.calls(tokens)
        same = all(same_call(*pair) for pair in zip(clean, changed, strict=True))
        if not same or not noise.made[point].any():  # no noise on a mask: nothing was tried
            yield point
