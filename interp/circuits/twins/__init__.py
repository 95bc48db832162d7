"""Which edit of the model's source is one edge's patch, and does it give what the hook gives?

    twin = edge_twin(model, "a1.h2 -> a3.h0.k", tokens)
    print(twin.diff)                                # readable, and ``git apply`` takes it
    twin.patch(clean, corrupted)                    # logits: the key reads the other value
    twin.run(clean)                                 # logits: the key reads nothing of the writer
    check_twins(model, clean, corrupted, metric)    # beside what hooks give

The writer's line notes what it wrote, and the reader's reads the stream less that, plus ``EDGE``'s
``other``: zero in the file, which cuts the edge; or what the writer writes in another run. Nothing
of what hooks compute goes into it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from torch import Tensor

from interp.circuits.edges import Meaning, choose_edges, edges_table, measure_edges
from interp.circuits.graph import Edge
from interp.circuits.pairs import Direction, take_pair
from interp.circuits.twins.making import EDGE
from interp.circuits.twins.places import EdgeLines, EdgePlace
from interp.circuits.twins.precisely import in_float64
from interp.circuits.twins.rewriting_edges import rewrite_edge
from interp.errors import SurgeryError, UsageError
from interp.hooking import evaluating
from interp.logits import logits_of
from interp.metrics import Metric, measure, metric_name
from interp.runs.files import write_atomically
from interp.site import Model
from interp.surgery.cutting.modules import edited_name, know_lines
from interp.surgery.running.loaded import Version, loaded_functions, version_of
from interp.surgery.running.swapping import compile_function, swap_codes
from interp.surgery.source.edits import Surgery
from interp.surgery.source.syntax import FunctionNode, Source, Syntax, parse
from interp.threads import quickest_threads

__all__ = ["EdgePlace", "EdgeTwin", "check_twins", "edge_twin", "where"]

ROUNDING = 1e-6
"""How far a twin may be from its hook, of the largest logit."""


@dataclass(frozen=True)
class EdgeTwin:
    """One edge's patch as an edit of the model's source.

    Args:
        surgery: the edit; it stands in files with nothing in the place of what the writer wrote.
        place: the lines of writer and reader.
    """

    model: Model = field(repr=False)
    edge: Edge
    surgery: Surgery = field(repr=False)
    place: EdgePlace = field(repr=False)

    @property
    def diff(self) -> str:
        """The edit as a unified diff."""
        return self.surgery.diff

    @property
    def file(self) -> str:
        """The reader's file."""
        return self.place.reader_file

    @property
    def line(self) -> int | None:
        """The reader's line."""
        return self.place.reader_line

    @property
    def before(self) -> str:
        """The lines that go, on one."""
        return self.surgery.before

    @property
    def after(self) -> str:
        """The lines that come, on one."""
        return self.surgery.after

    def run(
        self, tokens: Int[Tensor, "batch pos"], other: Float[Tensor, "..."] | float = 0
    ) -> Float[Tensor, "batch pos vocab"]:
        """The logits of the edited source.

        Args:
            tokens: the texts.
            other: what the reader reads in the place of what the writer wrote, [batch pos d_model];
                0 is nothing.

        Raises:
            SurgeryError: the run does not come by the writer's line, or not by the reader's.
        """
        with self.made(other) as edge:
            return self._logits(tokens, edge)

    def written(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "..."]:
        """What the writer adds to the stream, as its own line notes it."""
        with self.made() as edge:
            self._logits(tokens, edge)
        found: Tensor = edge["wrote"]
        return found

    def patch(
        self, clean: Int[Tensor, "batch pos"], corrupted: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos vocab"]:
        """The logits of clean texts, where the reader reads what the writer writes on others."""
        with self.made() as edge:
            self._logits(corrupted, edge)
            edge["other"] = edge.pop("wrote")
            return self._logits(clean, edge)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the edited files and ``edge.diff``; returns their paths.

        An edited file is imported in the place of the model's own. Its ``EDGE["other"]`` is 0,
        until it is set.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        found = [folder / part.source.file for part in self.surgery.parts]
        if len({*found}) < len(found):
            raise UsageError(f"{self.edge} edits two files of one name; apply its diff instead")
        for path, part in zip(found, self.surgery.parts, strict=True):
            write_atomically(path, part.text.encode())
        write_atomically(folder / "edge.diff", self.diff.encode())
        return [*found, folder / "edge.diff"]

    def _logits(self, tokens: Tensor, edge: "EdgeValues") -> Tensor:
        edge.read.clear()
        with evaluating(self.model):
            logits = logits_of(self.model(tokens), tokens)
        if "wrote" not in edge:
            raise SurgeryError(f"this run does not come by the line of {self.edge.writer}")
        if "other" not in edge.read:
            raise SurgeryError(f"this run does not come by the line of {self.edge.reader}")
        return logits

    @contextmanager
    def made(self, other: Any = 0) -> "Iterator[EdgeValues]":
        """Inside the block the model's code is the edited one, and reads this value."""
        values = EdgeValues(other=other)
        with ExitStack() as stack:
            for part in self.surgery.parts:
                syntax, codes, name = edited_functions(part, version_of(part.source))
                stack.enter_context(swap_codes(syntax, codes, {EDGE: values}, name))
            yield values


@lru_cache(maxsize=4)
def edited_functions(
    surgery: Surgery, version: Version
) -> tuple[Syntax, dict[FunctionType, tuple[FunctionNode, CodeType]], str]:
    """The edited file, what each function of it runs whose body was edited, and the name under
    which it runs.

    Args:
        surgery: the edit of one file.
        version: of that file: one that was loaded again has other functions.
    """
    name = edited_name(surgery)
    know_lines(name, surgery.text)
    before = parse(surgery.source)
    after = parse(Source(surgery.source.path, surgery.text, surgery.source.module))
    codes: dict[FunctionType, tuple[FunctionNode, CodeType]] = {}
    pairs = zip(before.outermost_functions(), after.outermost_functions(), strict=True)
    for old, node in pairs:
        if after.code(node) == before.code(old):
            continue
        code = compile_function(after, node, node.body, name)
        codes |= dict.fromkeys(loaded_functions(surgery.source, old), (node, code))
    return after, codes, name


class EdgeValues(dict[str, Any]):
    """What stands under ``EDGE`` in a run, and which of it was read."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)


def edge_twin(
    model: Model,
    edge: str | Edge,
    tokens: Int[Tensor, "batch pos"],
    *,
    meaning: Meaning = "open",
    split_embed: bool = False,
    lines: EdgeLines | None = None,
) -> EdgeTwin:
    """The edit of the source that is one edge's patch.

    Args:
        model: our GPT, or a view by ``interp.hook_lines``.
        edge: as it is written, such as ``a1.h2 -> a3.h0.k``.
        tokens: some texts, to see which lines run.
        meaning: as for ``edge_effects``; ``open`` alone has twins.
        split_embed: the position embedding as a writer of its own.
        lines: what ``EdgeLines.of`` found of this model, where several edges are asked for.

    Raises:
        UsageError: an edge that there is not; another meaning; what ``edge_effects`` raises of a
            model.
        SurgeryError: the model's lines cannot be rewritten so; says which and why.
    """
    require_open(meaning)
    lines = lines or EdgeLines.of(model, tokens, split_embed=split_embed)
    found = lines.summed.graph.edge(edge)
    return EdgeTwin(model, found, rewrite_edge(lines, found), lines.place(found))


def where(
    model: Model,
    edge: str | Edge,
    tokens: Int[Tensor, "batch pos"],
    *,
    split_embed: bool = False,
    lines: EdgeLines | None = None,
) -> EdgePlace:
    """An edge as lines of code; arguments as for ``edge_twin``."""
    lines = lines or EdgeLines.of(model, tokens, split_embed=split_embed)
    return lines.place(lines.summed.graph.edge(edge))


def check_twins(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metric: Metric,
    edges: Sequence[str | Edge] | None = None,
    *,
    meaning: Meaning = "open",
    direction: Direction = "corrupted into clean",
    split_embed: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Each edge patched by a hook, and by its twin in the source.

    Args:
        model, clean, corrupted, metric, edges, direction, split_embed, progress: as for
            ``edge_effects``.
        meaning: likewise; ``open`` alone has twins.

    Returns:
        One row per edge: ``edge writer reader``; ``metric``; the mean over texts ``by_hook`` and
        ``by_source``; ``difference``, the largest of any text; ``scale``, the largest logit;
        ``agrees``, whether the difference is at most 1e-6 of that; ``precision``, float64 where
        rounding of float32 came to more than that, and both were run again; ``diff``; ``detail``,
        why there is no twin, where there is none: ``agrees`` is then missing; ``n`` texts; and both
        lines as ``edge_effects`` has them.

    Raises:
        UsageError: what ``edge_effects`` raises; another meaning.
    """
    require_open(meaning)
    compare = partial(
        both_ways,
        *(model, clean, corrupted, metric),
        direction=direction,
        split_embed=split_embed,
        progress=progress,
    )
    table = compare(edges)
    unsure = (table["precision"] == "float32") & (table["agrees"] == False)  # noqa: E712  # or <NA>
    if unsure.any():
        with in_float64(model):
            again = compare(list(table.loc[unsure, "edge"]))
        table.loc[unsure] = again.set_index(table.index[unsure])
    return table


def both_ways(
    model: Model,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metric: Metric,
    edges: Sequence[str | Edge] | None,
    *,
    direction: Direction,
    split_embed: bool,
    progress: bool,
) -> pd.DataFrame:
    """What ``check_twins`` returns, of the model in the precision that it has."""
    into, source = (clean, corrupted) if direction.startswith("corr") else (corrupted, clean)
    with evaluating(model), quickest_threads(model):
        pair = take_pair(model, clean, corrupted, direction, split_embed)
        chosen = choose_edges(pair.graph, edges)
        by_hook = measure_edges(pair, chosen, metric, progress=progress)
        lines = EdgeLines.of(model, into, split_embed=split_embed)
        table = edges_table(pair, chosen, by_hook, lines.lines)
        logits = logits_of(model(into), into)
        scale, precision = float(logits.abs().max()), str(logits.dtype).removeprefix("torch.")
        rows: list[dict[str, Any]] = []
        bar = track(
            chosen,
            "running edited source",
            console=Console(stderr=True),
            transient=True,
            disable=not progress,
        )
        for edge, hooked in zip(bar, by_hook.values, strict=True):
            try:
                twin = edge_twin(model, edge, into, lines=lines)
            except SurgeryError as error:
                rows.append({"diff": "", "detail": str(error)})
                continue
            values = measure(metric, twin.patch(into, source), clean).double().cpu().numpy()
            difference = float(np.abs(values - hooked).max())
            agrees = difference <= ROUNDING * scale
            rows.append(
                {
                    "by_source": float(values.mean()),
                    "difference": difference,
                    "agrees": agrees,
                    "precision": precision,
                    "diff": twin.diff,
                    "detail": "" if agrees else "the hook and the edited source differ",
                }
            )
    columns = ["by_source", "difference", "agrees", "precision", "diff", "detail"]
    found = pd.DataFrame(rows, columns=columns)
    found["agrees"] = found["agrees"].astype("boolean")
    table = table.rename(columns={"value": "by_hook"})
    kept = table[["edge", "writer", "reader"]].assign(metric=metric_name(metric))
    kept["by_hook"] = table["by_hook"]
    kept[columns[:2]] = found[columns[:2]]
    kept["scale"] = scale
    kept[columns[2:]] = found[columns[2:]]
    kept["n"] = table["n"]
    places = ["file", "line", "code", "reader_file", "reader_line", "reader_code"]
    return kept.join(table[places])


def require_open(meaning: Meaning) -> None:
    if meaning != "open":
        raise UsageError(
            f"meaning is {meaning!r}, and only open edges have twins in the source: no line of a "
            "model keeps all behind the reader as it was; measure these by "
            'edge_effects(..., meaning="direct")'
        )
