"""What does a change do that goes one way through the model, and no other?

    table = path_effects(model, clean, corrupted, metric, ["a0.h1 -> a1.h*.k -> logits"])
    path_effects(model, clean, corrupted, metric, ["embed[pos=3] -> a1.h0.v[pos=6] -> logits"])

What the writer adds in the other run, less here, is handed to the first reader; what that changes
in what the reader's part writes is handed to the next one; the last goes to the logits. Everything
off the path stays as it is. Norms on the way see the changed stream.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise, product

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.circuits.edges import write_read
from interp.circuits.graph import ARROW, Graph, Reader, ReaderKind, Writer
from interp.circuits.measuring import Patched, PatchEdge, end_site, measure_patches
from interp.circuits.pairs import Direction, RunPair, take_pair
from interp.errors import UsageError, nearest
from interp.hooking import evaluating
from interp.metrics import Metric, metric_name
from interp.runs.workers import Elsewhere
from interp.site import Model
from interp.sweeps.resuming.answers import RowStore
from interp.threads import quickest_threads
from interp.verdicts import intervals_over_texts

STEP = re.compile(r"([^\[\]]+?)\s*(?:\[pos=(\d+)\])?")


@dataclass(frozen=True)
class PathStep:
    """A part on a path.

    Args:
        part: a writer where the path begins, then readers.
        pos: the only position at which what the part writes is handed on; None hands on all.
    """

    part: Writer | Reader
    pos: int | None = None

    def __str__(self) -> str:
        return str(self.part) if self.pos is None else f"{self.part}[pos={self.pos}]"


@dataclass(frozen=True)
class Path:
    """A writer, and readers one after the other, the last of which are the logits."""

    steps: tuple[PathStep, ...]

    def __str__(self) -> str:
        return ARROW.join(map(str, self.steps))


def path_effects(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "..."],
    metric: Metric,
    paths: str | Sequence[str],
    *,
    direction: Direction = "corrupted into clean",
    split_embed: bool = False,
    progress: bool = True,
    run: RowStore | None = None,
    elsewhere: Elsewhere | None = None,
) -> pd.DataFrame:
    """Every path alone, all else as it is, in one table.

    Args:
        model, clean, corrupted, metric, direction, split_embed, progress, run, elsewhere: as for
            ``edge_effects``.
        paths: as they are written: a writer, readers, and at last ``logits``. ``*`` stands for
            anything and gives all paths that fit; ``[pos=3]`` behind a part hands on what it writes
            at that position alone.

    Returns:
        One row per path: ``path``, its ``writer``, the number of ``parts`` on it, ``direction``;
        ``metric baseline value delta ci_low ci_high p_adjusted changed skipped n`` as for
        ``edge_effects``.

    Raises:
        UsageError: what ``edge_effects`` raises; a path that there is not.
    """
    with evaluating(model), quickest_threads(model):
        pair = take_pair(model, clean, corrupted, direction, split_embed)
        chosen = choose_paths(pair.graph, paths, clean.shape[1])
        options = {"progress": progress, "run": run, "elsewhere": elsewhere}
        patches = path_patches(pair, chosen, end_site(pair, metric).pos)
        found = measure_patches(pair, patches, metric, options)
    deltas = found.values - found.baseline
    table = pd.DataFrame(
        {
            "path": [str(path) for path in chosen],
            "writer": [str(path.steps[0].part) for path in chosen],
            "parts": [len(path.steps) for path in chosen],
        }
    )
    table["direction"], table["metric"] = direction, metric_name(metric)
    table["baseline"] = found.baseline.mean()
    table["value"] = found.values.mean(axis=1)
    table["delta"] = deltas.mean(axis=1)
    table = table.assign(**intervals_over_texts(deltas))
    table["changed"], table["skipped"] = found.changed, found.skipped
    table["n"] = len(found.baseline)
    return table


def choose_paths(graph: Graph, paths: str | Sequence[str], length: int) -> list[Path]:
    """The paths that are meant.

    Raises:
        UsageError: none, or one that there is not in this graph and texts of this length.
    """
    given = [paths] if isinstance(paths, str) else list(paths)
    if not given:
        raise UsageError("there are no paths to patch: name one, such as embed -> m0 -> logits")
    found: dict[Path, None] = {}
    for text in given:
        ways = parse_path(graph, text, length)
        fitting = [way for way in ways if broken_at(graph, way) is None]
        if not fitting:
            at = broken_at(graph, ways[0])
            assert at is not None
            raise UsageError(f"{text!r} is no path: {at[1]} reads nothing that {at[0]} writes")
        found |= dict.fromkeys(Path(way) for way in fitting)
    return list(found)


def parse_path(graph: Graph, text: str, length: int) -> list[tuple[PathStep, ...]]:
    """The ways that a text may mean."""
    parts = [part.strip() for part in text.split("->")]
    if len(parts) < 2 or parts[-1] != "logits":
        raise UsageError(
            f"{text!r} is no path: write a writer, readers and at last the logits, such as "
            "embed -> m0 -> logits"
        )
    choices: list[list[PathStep]] = []
    for number, part in enumerate(parts):
        matched = STEP.fullmatch(part)
        if matched is None:
            raise UsageError(f"{part!r} in {text!r} is no part; write it as a1.h2 or a1.h2[pos=3]")
        name, pos = matched[1], None if matched[2] is None else int(matched[2])
        if pos is not None and not (pos < length and name != "logits"):
            raise UsageError(
                f"{part!r} in {text!r}: the logits have no position here, and texts have positions "
                f"0 to {length - 1}"
            )
        known: Sequence[Writer | Reader] = graph.readers if number else graph.writers
        fitting = [each for each in known if fnmatchcase(str(each), name)]
        if not fitting:
            what = "reader" if number else "writer"
            raise UsageError(
                f"this model has no {what} {name!r}; nearest: {nearest(name, map(str, known))}"
            )
        choices.append([PathStep(each, pos) for each in fitting])
    return list(product(*choices))


def broken_at(graph: Graph, way: Sequence[PathStep]) -> tuple[PathStep, PathStep] | None:
    """Two parts of a way of which the second does not read the first; None where all do."""
    for one, other in pairwise(way):
        assert isinstance(other.part, Reader)
        before = set(graph.before(other.part))
        if not before.intersection(writers_of(graph, one.part)):
            return one, other
    return None


def writers_of(graph: Graph, part: Writer | Reader) -> list[Writer]:
    """What a part on a path writes as."""
    if isinstance(part, Writer):
        return [part]
    if part.layer is None:
        return []
    if part.kind == "mlp":
        return graph.mlp_writers(part.layer)
    return graph.attention_writers(part.layer)


def path_patches(
    pair: RunPair, paths: Sequence[Path], pos: int | None
) -> Iterator[tuple[int, Patched]]:
    """Each path's number, and what it adds to the stream that the logits read.

    Args:
        pos: the only position of it that is wanted; None wants all.
    """
    at = slice(None) if pos is None else slice(pos, pos + 1)
    end = pair.end_at(pos)
    held: dict[tuple[PathStep, ...], Tensor] = {}
    for first in {path.steps[0] for path in paths}:
        assert isinstance(first.part, Writer)
        held[first,] = alone_at(pair.deltas[first.part], first.pos)
    longest = max(len(path.steps) for path in paths)
    for length in range(2, longest + 1):
        for number, path in enumerate(paths):
            if len(path.steps) == length:  # the logits read what has come so far
                change = held[path.steps[:-1]][:, at]
                yield number, (end, PatchEdge(str(path), change.clone()))
        longer = {path.steps[:length] for path in paths if len(path.steps) > length}
        held = hand_on(pair, held, longer)


def hand_on(
    pair: RunPair,
    held: dict[tuple[PathStep, ...], Float[Tensor, "batch pos d_model"]],
    ways: set[tuple[PathStep, ...]],
) -> dict[tuple[PathStep, ...], Float[Tensor, "batch pos d_model"]]:
    """What the last part of each way writes, of what the way up to it was handed."""
    groups: dict[tuple[int, ReaderKind], list[tuple[PathStep, ...]]] = {}
    for way in ways:
        reader = way[-1].part
        assert isinstance(reader, Reader) and reader.layer is not None
        groups.setdefault((reader.layer, reader.kind), []).append(way)
    found = {}
    for (layer, kind), members in groups.items():
        before = list(dict.fromkeys(way[:-1] for way in members))
        row = {way: number for number, way in enumerate(before)}
        deltas = torch.stack([held[way] for way in before])
        made = pair.patched.blocks.changes(layer, deltas, [kind])[kind]
        if kind != "mlp":
            made = pair.patched.blocks.effects_inside(layer, kind, made, "z")
        for way in members:
            change = made[row[way[:-1]]]
            reader = way[-1].part
            assert isinstance(reader, Reader)
            if kind != "mlp":
                change = write_read(pair.patched, reader, change[None])[0]
            found[way] = alone_at(change, way[-1].pos)
    return found


def alone_at(
    change: Float[Tensor, "batch pos d_model"], pos: int | None
) -> Float[Tensor, "batch pos d_model"]:
    """A change at one position alone; of None, at all."""
    if pos is None:
        return change
    alone = torch.zeros_like(change)
    alone[:, pos] = change[:, pos]
    return alone
