"""How is a sweep computed, and what does that save?"""

from collections.abc import Sequence
from dataclasses import dataclass

from interp.sweeps.by_block.path import BlockPath
from interp.sweeps.by_block.rounds import prepare_block_rounds
from interp.sweeps.by_block.waves import Wave
from interp.sweeps.request import FastPath, Request, Routes
from interp.sweeps.rounds import prepare_rounds
from interp.sweeps.speed.grouping import Cost, Group


@dataclass(frozen=True)
class Plan:
    """How a sweep is computed; ``explain`` says it for people.

    Args:
        request: what is asked.
        routes: which way each intervention is answered, by its number.
        reads: the positions that the metric reads; None where no intervention takes the fast path.
        groups: the interventions on the fast path, as they run together.
        waves: those that run through the model's own blocks, as they run together.
        untouched: those that change nothing that the metric reads.
    """

    request: Request
    routes: Routes
    reads: Sequence[int] | None
    groups: Sequence[Group]
    waves: Sequence[Wave]
    untouched: Sequence[int]

    @property
    def flops(self) -> int | None:
        """Floating-point operations of the fast path; None where no intervention takes it."""
        return sum(group.flops for group in self.groups) if self.routes.fast_path else None

    @property
    def loop_flops(self) -> int | None:
        """What forward passes for the same interventions cost."""
        path = self.routes.fast_path
        if path is None:
            return None
        cost = Cost(path.components, self.request.length, list(self.reads or []))
        return cost.forward() * self.request.batch * len(path.entries)

    def explain(self) -> str:
        """What the sweep saves and what it costs, for people to read."""
        request, routes = self.request, self.routes
        lines = [
            f"{len(request.trials)} interventions on {request.batch} texts of {request.length} "
            "tokens"
        ]
        if routes.fast_path:
            lines += self._explain_fast_path(routes.fast_path)
        if routes.by_block:
            lines += self._explain_blocks(routes.by_block)
        if routes.looped:
            lines.append(f"{len(routes.looped)} run in a forward pass each")
            several = sum(len(request.trials[trial].sites) > 1 for trial in routes.looped)
            if several:
                lines.append(
                    f"  - {several} because several sites are changed together: a sweep carries on "
                    "from one place alone"
                )
        return "\n".join([*lines, *routes.notes])

    def _explain_fast_path(self, path: FastPath) -> list[str]:
        assert self.flops is not None and self.loop_flops is not None
        share = self.loop_flops / self.flops if self.flops else float("inf")
        return [
            f"{len(path.entries)} carried on from where they enter the residual stream, in "
            f"{len(self.groups)} batches of at most {self.request.limits.rows} tokens",
            *(f"  - {saving}" for saving, used in self._savings(path).items() if used),
            f"  {self.flops:.3g} floating-point operations; forward passes would take "
            f"{self.loop_flops:.3g}, {share:.1f} times as many",
        ]

    def _explain_blocks(self, path: BlockPath) -> list[str]:
        trials = [trial for wave in self.waves for trial in wave.trials]
        whole = len(trials) * self.request.tokens.numel() * len(path.blocks)
        run = sum(wave.tokens for wave in self.waves)
        later = sum(len(wave.trials) for wave in self.waves if wave.start)
        untouched = [trial for trial in self.untouched if trial in path.entries]
        reads, length = len(self.reads or []), self.request.length
        used = {
            f"{len(untouched)} change nothing that the metric reads (texts that begin alike, for "
            "instance) and cost nothing": bool(untouched),
            f"{later} run only the positions from the first changed one on; those before are in "
            "the model's own key/value cache": later > 0,
            f"the metric reads {reads} of {length} positions: only these are unembedded": reads
            < length,
        }
        share = whole / run if run else float("inf")
        return [
            f"{len(path.entries)} carried through the model's own {path.blocks.path} from the "
            f"block that they change, in {len(self.waves)} batches of at most "
            f"{self.request.limits.rows} tokens",
            *(f"  - {saving}" for saving, is_used in used.items() if is_used),
            f"  {run:.3g} runs of a block on a token; forward passes would take {whole:.3g}, "
            f"{share:.1f} times as many",
            *path.notes,
            *path.explain_failures(),
        ]

    def _savings(self, path: FastPath) -> dict[str, bool]:
        """What saves work, and whether it does so in this sweep."""
        reads, length = len(self.reads or []), self.request.length
        later = [group for group in self.groups if group.span[0] > 0]
        return {
            f"{len(self.untouched)} change nothing that the metric reads (texts that begin "
            "alike, for instance) and cost nothing": bool(self.untouched),
            "earlier layers are those of the clean run": bool(self.groups),
            "heads: what one head adds is exchanged, attention runs for that head alone": any(
                group.entry.kind.startswith("attn.") for group in self.groups
            ),
            f"{sum(len(group.trials) for group in later)} recompute only the positions from the "
            "first changed one on, with the clean run's keys and values before": bool(later),
            f"the metric reads {reads} of {length} positions: only these are "
            "unembedded, and only these queries run in the last layer": reads < length,
            f"{len(path.rounds)} rounds, so that clean activations fit into memory": len(
                path.rounds
            )
            > 1,
        }


def make_plan(request: Request, routes: Routes, reads: list[int] | None = None) -> Plan:
    """A plan, from runs of the clean texts: what an intervention changes decides what it costs.

    Args:
        reads: the positions that the metric reads; by default what it reads of the clean logits.

    Raises:
        UnforeseenReadError: the metric reads other positions of other logits.
    """
    groups: list[Group] = []
    waves: list[Wave] = []
    untouched: list[int] = []
    for prepared in prepare_rounds(request, routes.fast_path, reads):
        groups += prepared.groups
        untouched += prepared.untouched
        reads = prepared.score.reads
        del prepared  # with it the clean activations, which must not be held while others are made
    if routes.by_block:
        for found in prepare_block_rounds(routes.by_block, reads):
            waves += found.waves
            untouched += found.untouched
            reads = found.score.reads
            del found
    return Plan(request, routes, reads, groups, waves, untouched)
