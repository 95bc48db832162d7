"""What do the trials of one round change, and which of them run together?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from interp.sweeps.request import FastPath, Request
from interp.sweeps.running import clean_values
from interp.sweeps.speed.entries import Entry
from interp.sweeps.speed.executing import Clean
from interp.sweeps.speed.grouping import Cost, Group, group_trials
from interp.sweeps.speed.scoring import Score, prepare_score
from interp.sweeps.trials import Change, Trial, change_of

Spans = dict[tuple[tuple[bool, bool], Entry], list[tuple[int, tuple[int, int]]]]
"""Trials that may run together, each with the positions that it changes."""


@dataclass(frozen=True)
class Round:
    """Trials of the fast path whose clean activations are held together.

    Args:
        changes: what each trial changes, by its number.
        groups: the trials to be computed.
        untouched: the trials that change nothing that the metric reads.
    """

    clean: Clean
    score: Score
    changes: Mapping[int, Change]
    groups: Sequence[Group]
    untouched: Sequence[int]


def prepare_rounds(
    request: Request, path: FastPath | None, reads: list[int] | None
) -> Iterator[Round]:
    """The rounds of a fast path, one at a time: let go of each before asking for the next.

    Args:
        reads: the positions that the metric reads; by default what it reads of the clean logits.
    """
    for members in path.rounds if path else ():
        assert path is not None
        prepared = prepare_round(request, path, members, reads)
        reads = prepared.score.reads
        yield prepared
        del prepared
        request.give_back()


def prepare_round(
    request: Request, path: FastPath, members: Sequence[int], reads: list[int] | None
) -> Round:
    """Run the clean texts, see what each trial changes, and group the trials."""
    count = len(path.components.layers)
    final = f"blocks.{count - 1}.hook_resid_post"
    values = clean_values(request.model, request.tokens, [*path.clean_names(members), final])
    vocab = len(path.components.unembedding.weight)
    score = prepare_score(
        *(request.metric, request.metric_tokens, path.components.logits, vocab),
        *(values[final], reads),
    )
    hooks = {trial: path.entries[trial].hook for trial in members}
    changes = {
        trial: change_of(request.trials[trial], values[hook]) for trial, hook in hooks.items()
    }
    cost = Cost(path.components, request.length, score.reads)
    spans, untouched = sort_by_reach(request, path, changes, cost)
    wide = request.batch * max(1, len(score.reads)) * score.clean.shape[2]
    most = len(members) if score.by_example else max(1, request.limits.logits // wide)
    groups = [
        group
        for (_, entry), found in spans.items()
        for group in group_trials(entry, found, cost, request.batch, most, request.limits)
    ]
    shapes = {hook: tuple(values[hook].shape) for hook in hooks.values()}
    pre = [values.get(f"blocks.{layer}.hook_resid_pre") for layer in range(count)]
    clean = Clean(values, [*pre, values[final]], keys_and_values(values, count), shapes)
    return Round(clean, score, changes, groups, untouched)


def sort_by_reach(
    request: Request, path: FastPath, changes: Mapping[int, Change], cost: Cost
) -> tuple[Spans, list[int]]:
    """The trials whose changes reach what the metric reads; and those whose changes do not."""
    spans: Spans = {}
    untouched = []
    for trial, change in changes.items():
        entry = path.entries[trial]
        span = entry.reach(change.span, request.length) if change.span[1] else (0, 0)
        if not path.keeps_prefixes and span[1]:
            span = (0, request.length)
        if cost.matters(entry, span):
            key = (parts_named(request.trials[trial]), entry)
            spans.setdefault(key, []).append((trial, span))
        else:
            untouched.append(trial)
    return spans, untouched


def parts_named(trial: Trial) -> tuple[bool, bool]:
    """Whether a trial names a head, and a neuron: those that run together agree in this."""
    return trial.site.head is not None, trial.site.neuron is not None


def keys_and_values(values: Mapping[str, Tensor], layers: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Clean keys and values [batch head pos d_head] of the layers that have them, by layer."""
    return {
        layer: (
            values[f"blocks.{layer}.attn.hook_k"].transpose(1, 2),
            values[f"blocks.{layer}.attn.hook_v"].transpose(1, 2),
        )
        for layer in range(layers)
        if f"blocks.{layer}.attn.hook_k" in values
    }
