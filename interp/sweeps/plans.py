"""Which way is each question of a sweep answered, and what does that save?

A plan sorts the cells: those that enter the residual stream of a model whose anatomy is proven are
carried on from there; those elsewhere in a model that takes ``start_at_layer`` run from their layer
on; the rest get a forward pass each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.caching import cache
from interp.errors import NoEffectError, UsageError
from interp.logits import logits_of
from interp.memory import keeping_within
from interp.metrics import Metric
from interp.receipts import Effect
from interp.site import Model
from interp.sweeps.anatomy import Anatomy, NotRecognisedError, anatomy_of
from interp.sweeps.cells import Cell, Change, change_of
from interp.sweeps.entries import Entry, entry_of
from interp.sweeps.executing import Clean, measured
from interp.sweeps.looping import alone, from_layer
from interp.sweeps.planning import Cost, Flight, Group, flight_on, grouped
from interp.sweeps.proof import prove, prove_start, watched_by
from interp.sweeps.resuming import Answers, Recorder, Store
from interp.sweeps.running import at_once, clean_values
from interp.sweeps.scoring import Score, checked, score_of

UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Answer:
    """What some cells gave, and how many numbers each one changed."""

    cells: list[int]
    values: Float[np.ndarray, "cell batch"]
    changed: list[int]


@dataclass
class Plan:
    """How a sweep is computed; ``explain`` says it for people.

    Attributes:
        entered: the cells carried on from where they enter the residual stream, in windows whose
            clean activations fit into memory together.
        started: the cells that run from their layer on, by layer.
        looped: the cells that get a forward pass each.
        untouched: of the entered cells, those that change nothing that the metric reads.
        notes: what this model could not be given, and why.
    """

    model: Model
    tokens: Tensor
    against: Tensor
    cells: list[Cell]
    metric: Metric
    memory: int
    anatomy: Anatomy | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    entered: list[list[int]] = field(default_factory=list)
    started: dict[int, list[int]] = field(default_factory=dict)
    looped: list[int] = field(default_factory=list)
    untouched: list[int] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    baseline: Tensor | None = None
    reads: list[int] | None = None
    prefixes: bool = True

    def __post_init__(self) -> None:
        self.give_back = keeping_within(self.memory)

    def windows(self) -> Iterator["Window"]:
        """The entered cells, prepared one window at a time."""
        self.groups, self.untouched = [], []
        for cells in self.entered:
            yield prepared(self, cells)
            self.give_back()

    def answers(self, store: Store | None = None) -> Iterator[Answer]:
        """Run everything, a batch at a time.

        Args:
            store: where answers are kept, and taken from where they are there already.

        Raises:
            UsageError: a store, and a model, metric or intervention that cannot be known again.
        """
        recorder = None
        if self.started or self.looped:
            logits = logits_of(self.model(self.tokens), self.tokens)
            self.baseline = checked(self.metric(logits, self.against), self.batch)
            del logits
        for batch in self.batches():
            if store is not None and recorder is None:  # now the clean texts have been run
                decisive = [self.tokens, self.against, self.metric, self.baseline, self.reads]
                recorder = Recorder(store, self.model, decisive)
            if recorder is None or batch.how is None:
                values, changed = batch.compute()
            else:
                asked = [self.cells[cell] for cell in batch.cells]
                values, changed = recorder.answer(batch.how, asked, batch.compute)
            yield Answer(batch.cells, values, changed)
            del batch  # with it the window, which would be held while the next one is made
            self.give_back()

    def batches(self) -> Iterator["Batch"]:
        """What is computed together, one after the other."""
        for window in self.windows():
            yield from window.batches()
            del window
        for layer, cells in self.started.items():
            entering = f"blocks.{layer}.hook_resid_pre"
            x = cache(self.model, self.tokens, entering)[entering]
            step = at_once(self.tokens)
            for begin in range(0, len(cells), step):
                members = cells[begin : begin + step]
                yield Batch(
                    members, ("from layer", layer), partial(self.from_layer, x, layer, members)
                )
        for cell in self.looped:
            yield Batch([cell], ("loop",), partial(self.loop, cell))

    def from_layer(self, x: Tensor, layer: int, members: list[int]) -> Answers:
        cells = [self.cells[cell] for cell in members]
        values, effects = from_layer(self.model, x, self.against, layer, cells, self.metric)
        return exact(values), [changed_by([effect]) for effect in effects]

    def loop(self, cell: int) -> Answers:
        values, effects = alone(
            self.model, self.tokens, self.against, self.cells[cell], self.metric
        )
        return exact(values[None]), [changed_by(effects)]

    @property
    def batch(self) -> int:
        return len(self.tokens)

    @property
    def flight(self) -> Flight:
        """How much is under way at a time."""
        return flight_on(self.tokens.device)

    @property
    def flops(self) -> int | None:
        """Floating-point operations of the entered cells; None where none is."""
        return sum(group.flops for group in self.groups) if self.entered else None

    @property
    def loop_flops(self) -> int | None:
        """What forward passes for the same cells cost."""
        if self.anatomy is None:
            return None
        cost = Cost(self.anatomy, self.tokens.shape[1], self.reads or [])
        return cost.forward() * self.batch * sum(map(len, self.entered))

    def least_memory(self) -> int:
        """The bytes that the entered cells need where they go one by one."""
        base = working_bytes(self)
        one_by_one = [
            change_bytes(self, cell) + clean_bytes(self, set(names_for(self, [cell])))
            for cell in self.entries
        ]
        return base + max(one_by_one, default=0)

    def explain(self) -> str:
        """What the sweep saves and what it costs, for people to read."""
        length = self.tokens.shape[1]
        lines = [f"{len(self.cells)} interventions on {self.batch} texts of {length} tokens"]
        count = sum(map(len, self.entered))
        if count:
            assert self.anatomy is not None and self.flops is not None and self.loop_flops
            stages = {group.entry.stage for group in self.groups}
            heads = any(group.entry.kind.startswith("attn.") for group in self.groups)
            later = [group for group in self.groups if group.span[0] > 0]
            lines.append(
                f"{count} carried on from where they enter the residual stream, in "
                f"{len(self.groups)} batches of at most {self.flight.rows} tokens"
            )
            savings = {
                f"{len(self.untouched)} change nothing that the metric reads (texts that begin "
                "alike, for instance) and cost nothing": bool(self.untouched),
                "earlier layers are those of the clean run": bool(stages),
                "heads: what one head adds is exchanged, attention runs for that head alone": heads,
                f"{sum(len(group.cells) for group in later)} recompute only the positions from the "
                "first changed one on, with the clean run's keys and values before": bool(later),
                f"the metric reads {len(self.reads or [])} of {length} positions: only these are "
                "unembedded, and only these queries run in the last layer": len(self.reads or [])
                < length,
                f"{len(self.entered)} rounds, so that clean activations fit into memory": len(
                    self.entered
                )
                > 1,
            }
            lines += [f"  - {line}" for line, used in savings.items() if used]
            share = self.loop_flops / self.flops if self.flops else float("inf")
            lines.append(
                f"  {self.flops:.3g} floating-point operations; forward passes would take "
                f"{self.loop_flops:.3g}, {share:.1f} times as many"
            )
        if self.started:
            several = sum(map(len, self.started.values()))
            lines.append(f"{several} run from their layer on, several at a time")
        if self.looped:
            lines.append(f"{len(self.looped)} run in a forward pass each")
        return "\n".join(lines + self.notes)


@dataclass(frozen=True)
class Window:
    """Entered cells whose clean activations are held together."""

    plan: Plan
    anatomy: Anatomy
    changes: dict[int, Change]
    clean: Clean
    score: Score
    groups: list[Group]
    untouched: list[int]

    def batches(self) -> Iterator["Batch"]:
        if self.untouched:
            yield Batch(self.untouched, None, self.same)
        for group in self.groups:
            how = (group.span, group.examples)
            yield Batch(group.cells, how, partial(self.measured, group))

    def same(self) -> Answers:
        elements = [self.changes[cell].elements for cell in self.untouched]
        return exact(self.score.baseline.expand(len(self.untouched), -1)), elements

    def measured(self, group: Group) -> Answers:
        cells = [self.plan.cells[cell] for cell in group.cells]
        changes = [self.changes[cell] for cell in group.cells]
        values = measured(group, self.anatomy, cells, changes, self.clean, self.score)
        return exact(values), [change.elements for change in changes]


@dataclass(frozen=True)
class Batch:
    """Cells that are computed together.

    Args:
        how: what, beside the cells, decides the last bit of their answer; None where the answer
            is not worth being kept.
    """

    cells: list[int]
    how: tuple[Any, ...] | None
    compute: Callable[[], Answers]


def exact(values: Tensor) -> Float[np.ndarray, "cell batch"]:
    return values.double().cpu().numpy()


def changed_by(effects: Sequence[Effect]) -> int:
    """How many numbers an intervention changed.

    Raises:
        NoEffectError: a site that no run came past.
    """
    for effect in effects:
        if effect.missed:
            raise NoEffectError(
                f"{effect.intervention} never fired at {effect.missed[0]}: no run came past there"
            )
    return sum(effect.changed for effect in effects)


def plan_for(
    model: Model,
    tokens: Tensor,
    against: Tensor,
    cells: list[Cell],
    metric: Metric,
    memory: str | int | None,
) -> Plan:
    """Sort the cells by what the model offers, as far as that is proven.

    Raises:
        UsageError: a memory that reads like none, or too small a one.
    """
    plan = Plan(model, tokens, against, cells, metric, bytes_in(memory, tokens.device))
    alone = [number for number, cell in enumerate(cells) if len(cell.sites) == 1]
    rest = set(range(len(cells)))
    hooked = watched_by(model)
    try:
        if hooked:
            raise NotRecognisedError(f"there are hooks on its {hooked}")
        if torch.is_autocast_enabled(tokens.device.type):
            raise NotRecognisedError("autocast chooses the precision of its parts")
        anatomy = anatomy_of(model)
        found = {
            number: entry
            for number in alone
            if (entry := entry_of(cells[number].site, len(anatomy.layers)))
        }
        if found:
            prove(model, anatomy, tokens, list(dict.fromkeys(found.values())))
            plan.give_back()
            plan.anatomy, plan.entries = anatomy, found
            plan.entered = windows_of(plan)
            rest -= found.keys()
    except NotRecognisedError as error:
        plan.notes.append(f"this model is not taken apart: {error}")
    by_layer: dict[int, list[int]] = {}
    for number in alone:
        layer = cells[number].site.layer
        if number in rest and layer is not None:
            by_layer.setdefault(layer, []).append(number)
    if by_layer and not hooked:
        try:
            prove_start(model, tokens, min(by_layer))
            plan.started = by_layer
            rest -= {number for members in by_layer.values() for number in members}
        except NotRecognisedError as error:
            plan.notes.append(f"it runs from its first layer on: {error}")
    plan.looped = sorted(rest)
    return plan


def bytes_in(memory: str | int | None, device: torch.device) -> int:
    """A budget such as "2GiB" in bytes; by default that, or a quarter of what a GPU has free."""
    if memory is None:
        memory = torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else "2GiB"
    if isinstance(memory, int):
        return memory
    number, unit = memory[:-3].strip(), memory[-3:]
    if unit not in UNITS or not number.replace(".", "", 1).isdigit():
        raise UsageError(f"memory is {memory!r}; write it like 512MiB or 2GiB")
    return int(float(number) * UNITS[unit])


def prepared(plan: Plan, members: list[int]) -> Window:
    """Run the clean texts, see what each cell changes, and group the cells."""
    assert plan.anatomy is not None
    anatomy, length = plan.anatomy, plan.tokens.shape[1]
    names = names_for(plan, members)
    final = f"blocks.{len(anatomy.layers) - 1}.hook_resid_post"
    values = clean_values(plan.model, plan.tokens, [*names, final])
    score = score_of(plan.metric, plan.against, anatomy, values[final], plan.reads)
    plan.reads, plan.baseline = score.reads, score.baseline
    changes = {
        cell: change_of(plan.cells[cell], values[plan.entries[cell].hook]) for cell in members
    }
    shapes = {
        plan.entries[cell].hook: tuple(values[plan.entries[cell].hook].shape) for cell in members
    }
    cost = Cost(anatomy, length, score.reads)
    spans: dict[tuple[tuple[bool, bool], Entry], list[tuple[int, tuple[int, int]]]] = {}
    untouched = []
    for cell, change in changes.items():
        entry = plan.entries[cell]
        span = entry.reach(change.span, length) if change.span[1] else (0, 0)
        if not plan.prefixes and span[1]:
            span = (0, length)
        if cost.matters(entry, span):
            key = (same_parts(plan.cells[cell]), entry)
            spans.setdefault(key, []).append((cell, span))
        else:
            untouched.append(cell)
    wide = plan.batch * max(1, len(score.reads)) * score.clean.shape[2]
    most = len(members) if score.by_example else max(1, plan.flight.logits // wide)
    groups = [
        group
        for (_, entry), found in spans.items()
        for group in grouped(entry, found, cost, plan.batch, most, plan.flight)
    ]
    plan.groups += groups
    plan.untouched += untouched
    keys = {
        layer: (
            values[f"blocks.{layer}.attn.hook_k"].transpose(1, 2),
            values[f"blocks.{layer}.attn.hook_v"].transpose(1, 2),
        )
        for layer in range(len(anatomy.layers))
        if f"blocks.{layer}.attn.hook_k" in values
    }
    pre = [values.get(f"blocks.{layer}.hook_resid_pre") for layer in range(len(anatomy.layers))]
    clean = Clean(values, [*pre, values[final]], keys, shapes)
    return Window(plan, anatomy, changes, clean, score, groups, untouched)


def same_parts(cell: Cell) -> tuple[bool, bool]:
    """Cells that run together all name a head, or none does; likewise a neuron."""
    return cell.site.head is not None, cell.site.neuron is not None


def names_for(plan: Plan, members: Sequence[int]) -> list[str]:
    """The hook points whose clean values these cells need."""
    assert plan.anatomy is not None
    entries = [plan.entries[cell] for cell in members]
    names = dict.fromkeys(entry.hook for entry in entries)
    count = len(plan.anatomy.layers)
    for entry in entries:
        names |= dict.fromkeys(entry.needs)
        if entry.stage == "mid":
            names[f"blocks.{entry.layer}.hook_resid_mid"] = None
        following = entry.layer + (entry.stage != "pre")
        if following < count:
            names[f"blocks.{following}.hook_resid_pre"] = None
        if plan.prefixes:
            for layer in range(following, count):
                names |= {f"blocks.{layer}.attn.hook_{kind}": None for kind in "kv"}
    return list(names)


def windows_of(plan: Plan) -> list[list[int]]:
    """The entered cells in rounds whose clean activations fit into the budget.

    Raises:
        UsageError: not even one layer's cells do.
    """
    assert plan.anatomy is not None
    plain, reordered = plan.anatomy, plan.anatomy.in_order()
    for plan.prefixes, plan.anatomy in product((True, False), (reordered, plain)):
        base = working_bytes(plan)
        windows: list[list[int]] = []
        names: set[str] = set()
        changes = most = 0
        for cell in sorted(plan.entries, key=lambda cell: plan.entries[cell].layer):
            wider = names.union(names_for(plan, [cell]))
            own = change_bytes(plan, cell)
            if windows and base + changes + own + clean_bytes(plan, wider) <= plan.memory:
                windows[-1].append(cell)
                names, changes = wider, changes + own
            else:
                windows.append([cell])
                names, changes = set(names_for(plan, [cell])), own
            most = max(most, base + changes + clean_bytes(plan, names))
        if most <= plan.memory:
            return windows
    raise UsageError(
        f"memory is {plan.memory / 2**20:.0f} MiB; one layer of this sweep needs "
        f"{most / 2**20:.0f} MiB: give more, or fewer texts at a time"
    )


def width_of(plan: Plan, name: str) -> int:
    """Numbers that a hook point carries for each token."""
    assert plan.anatomy is not None
    layer = plan.anatomy.layers[0]
    d_model, inner = layer.out.weight.shape
    if name.endswith("hook_pattern"):
        return layer.heads * plan.tokens.shape[1]
    if name.endswith("hook_result"):
        return layer.heads * d_model
    if ".attn." in name:
        return inner
    return len(layer.W_post) if name.endswith("mlp.hook_post") else d_model


def clean_bytes(plan: Plan, names: set[str]) -> int:
    """Memory of clean values, and of one more of each kind while it is made."""
    each = plan.tokens.numel() * itemsize(plan)
    return sum(width_of(plan, name) for name in names) * each


def change_bytes(plan: Plan, cell: int) -> int:
    """Memory of what a cell changes."""
    assert plan.anatomy is not None
    site = plan.cells[cell].site
    tokens = plan.batch if site.pos is not None else plan.tokens.numel()
    width = width_of(plan, site.hook)
    if site.head is not None:
        width //= plan.anatomy.layers[0].heads
    if site.neuron is not None:
        width = 1
    return tokens * width * itemsize(plan)


def working_bytes(plan: Plan) -> int:
    """Memory of what is under way: a batch of rows, their logits, the clean ones and the metric's
    own copies, a hook point's value while an intervention makes another of it, and weights in
    another order."""
    assert plan.anatomy is not None
    layer, tokens = plan.anatomy.layers[0], plan.tokens.numel()
    d_model, inner = layer.out.weight.shape
    vocab = len(plan.anatomy.unembedding.weight)
    length = plan.tokens.shape[1]
    rows = max(plan.flight.rows, length)
    batch = rows * (6 * d_model + 6 * inner + 3 * len(layer.W_post))
    keys = rows * min(length, 16) * 2 * inner  # where rows are short, their prefixes are long
    making = 3 * tokens * max(width_of(plan, entry.hook) for entry in plan.entries.values())
    logits = 4 * tokens * vocab + 3 * min(plan.flight.logits, rows * vocab)
    return (batch + keys + making + logits) * itemsize(plan) + plan.anatomy.own_bytes


def itemsize(plan: Plan) -> int:
    assert plan.anatomy is not None
    return plan.anatomy.unembedding.weight.element_size()
