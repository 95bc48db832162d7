"""What does every line of a model's own source file do for the loss?

table = surgery.lines(model, tokens)     # a row for each line, with the cut that costs most
figures.lines(table)
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from interp.errors import SurgeryError, UsageError
from interp.logits import logits_of
from interp.metrics import Metric, loss, measure
from interp.runs import Run
from interp.site import Model, source_lines
from interp.surgery.annotate import annotated
from interp.surgery.source.syntax import Source
from interp.surgery.studying.studies import study
from interp.surgery.studying.uncut import Build
from interp.tokens import tokens_of
from interp.verdicts import correct


def lines(
    model: nn.Module,
    tokens: str | Sequence[str] | Int[Tensor, "..."],
    *,
    metric: Metric = loss,
    build: Build | None = None,
    file: str | Path | None = None,
    reference: Int[Tensor, "batch pos"] | None = None,
    layers: bool = False,
    workers: int | None = None,
    limit_s: float = 20.0,
    progress: bool = True,
    store: Run | None = None,
) -> pd.DataFrame:
    """Cut every line of a model's source, one at a time, and measure the loss of the trained model.

    Args:
        model: the trained model, called with tokens; its output is logits or holds them.
        tokens: what it is judged on: a text, several of as many tokens each, or tokens.
        metric: what is measured, one number per text; by default the loss, in nats per token.
        build: makes an untrained model from a seed, for lines that run when a model is built; by
            default the model's class is called with its ``config`` or ``cfg``.
        file: the source file; by default the one that the model's class stands in.
        reference: texts over which the means are taken that stand in for a line's value; by default
            ``tokens``.
        layers: cut in each layer alone too.
        workers, limit_s, store: as for ``study``.
        progress: show a bar.

    Returns:
        ``annotated``'s table: a row for each line of the file; ``delta`` is the loss with the cut,
        less that without, for the cut of that line that costs most, with its interval over texts.
        ``attrs["cuts"]`` is the table of all cuts.

    Raises:
        SurgeryError: a model whose class has no source file; errors of ``study``.
    """
    ids = tokens_of(cast(Model, model), tokens)
    others = ids if reference is None else reference
    path = Path(file) if file is not None else file_of(model)

    @torch.no_grad()
    def judge(judged: nn.Module) -> Float[Tensor, "batch"]:
        judged.eval()
        return measure(metric, logits_of(judged(ids), ids), ids)

    def refer(judged: nn.Module) -> None:
        judged.eval()
        judged(others)

    made = study(
        build=build or builder_of(model),
        judge=judge,
        files=[path],
        model=model,
        reference=refer,
        workers=workers,
        limit_s=limit_s,
        store=store,
        about={"what": "lines"},
    )
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task("cutting lines")

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        cuts = correct(made.posthoc(layers="each" if layers else None, progress=tell))
    source: Source = made.sources[0]
    hooked = lines_of_hook_points(model, path)
    table = annotated(source, cuts, sites=hooked)
    table.attrs["cuts"] = cuts
    return table


def file_of(model: nn.Module) -> Path:
    """The file that a model's class stands in."""
    try:
        found = inspect.getsourcefile(type(model))
    except TypeError:  # a class that was typed into an interpreter
        found = None
    if found is None or not Path(found).is_file():
        raise SurgeryError(
            f"{type(model).__name__} has no source file: put its class into a file and import it"
        )
    return Path(found)


def builder_of(model: nn.Module) -> Build:
    """What makes another model of the same size, as far as the model tells how."""

    def build(seed: int) -> nn.Module:
        for name in ("config", "cfg"):
            config: Any = getattr(model, name, None)
            if config is not None:
                torch.manual_seed(seed)
                return type(model)(config)
        raise SurgeryError(
            f"how a {type(model).__name__} is built is not known: give build=, a function from a "
            "seed to an untrained model"
        )

    return build


def lines_of_hook_points(model: nn.Module, path: Path) -> dict[str, int]:
    """The hook points whose value a line of the file computes; none where the model has none."""
    if not hasattr(model, "hook_dict"):
        return {}
    try:
        found = source_lines(cast(Any, model))
    except UsageError:  # it does not run on two tokens: nothing is known of its hook points
        return {}
    return {name: line.line for name, line in found.items() if Path(line.path) == path}
