"""What does a cut do in one layer alone, where the layers before it need not run again?

The cut block is called alone, on the residual stream that enters it in the model as it is; what
comes out is carried through the blocks behind it, those of many layers together. Two cuts after
which a block says the same, to the bit, are the same function there and are carried once.

    plan = plan_layers(uncut)                   # or a sentence on why there is none
    row = try_blocks(uncut, plan, cut, [0, 1])  # what comes out of each cut block, and a whole run
    row = carry_on(uncut, plan, cut, [0, 1])       # what becomes of it: value, delta ...
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.blocks import ModelBlocks, NotInTurnError, trace_blocks
from interp.deciding import Decisions
from interp.errors import UsageError
from interp.status import Status
from interp.surgery.cutting.modules import edited_names
from interp.surgery.cutting.rewriting import RewriteError
from interp.surgery.judging import FirstNaN, Judgement, bytes_of, judge_model, same_draws
from interp.surgery.judging.rows import FLOAT_NOISE, Row, failure_row
from interp.surgery.running.layers import layer_modules
from interp.surgery.source.edits import Surgery, at_layers
from interp.surgery.studying.posthoc import (
    compare_with_uncut,
    not_measured,
    try_cut,
    unchanged,
)
from interp.surgery.studying.uncut import Uncut

TOKENS = 2**13  # that are carried together: a block of 576 needs some 100 MB for them
LEAK = 1e-4  # of what comes out of a block at a position


@dataclass(frozen=True)
class LayerPlan:
    """How each block of the model as it is runs alone, on the texts that it is judged on.

    Attributes:
        entering: what each block is handed.
        other: the same with the later positions of another text, by which a look ahead shows.
        after: a hash of what comes out of each.
    """

    blocks: ModelBlocks
    calls: Sequence[Any]
    entering: Sequence[Float[Tensor, "batch pos d_model"]]
    other: Sequence[Float[Tensor, "batch pos d_model"]]
    after: Sequence[str]


@torch.no_grad()
def plan_layers(uncut: Uncut) -> LayerPlan | str:
    """How the blocks of a model run alone; a sentence where they do not."""
    calls = uncut.baseline.calls
    if len(calls) != 1 or calls[0].kwargs or len(calls[0].args) != 1:
        return "the judge does not call the model once, with tokens alone"
    if uncut.rebuilding.keeps:
        return "running the model leaves something on it"
    tokens = calls[0].tokens
    try:
        with uncut.operated(uncut.prepare), same_draws(uncut.model):
            blocks, run = trace_blocks(uncut.model, tokens)
            plan = LayerPlan(
                blocks,
                blocks.calls(tokens),
                run.entering,
                [later_changed(x) for x in run.entering],
                [hash_of(x) for x in (*run.entering[1:], run.last)],
            )
            own = layer_modules(uncut.model)
            if any(module not in own.get(i, ()) for i, module in enumerate(blocks.modules)):
                return f"its {blocks.path} are not numbered as its layers are"
            x = run.entering[0]
            for layer in range(len(blocks)):
                x = blocks.call(layer, x, plan.calls, torch.arange(len(tokens)))
            logits = blocks.unembed(x)
            decided = decision_of(uncut.model, blocks, tokens)
    except (NotInTurnError, UsageError) as error:
        return str(error)
    wanted = calls[0].logits
    if logits.shape != wanted.shape or (logits - wanted).abs().max() > FLOAT_NOISE * wanted.std():
        return "its blocks called one by one come to other logits than the model"
    return decided or plan


def decision_of(model: Any, blocks: ModelBlocks, tokens: Tensor) -> str:
    """Where the model decides by what its blocks make, as one that leaves early does: a cut may
    change what is decided, for all that is carried together. Empty where it does not."""
    decisions = Decisions()

    def follow(module: nn.Module, args: Any, kwargs: Any) -> None:
        decisions.follow(blocks.stream_given(args, kwargs))

    handle = blocks.modules[0].register_forward_pre_hook(follow, with_kwargs=True)
    try:
        with decisions:
            model(tokens)
    finally:
        handle.remove()
    return decisions.sentence if decisions.found else ""


def later_changed(x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """A residual stream with the second half of its positions in reverse order, and of the text
    before."""
    half = x.shape[1] // 2
    changed = x.clone()
    changed[:, half:] = x[:, half:].flip(1).roll(1, 0)
    return changed


def hash_of(x: Tensor) -> str:
    return hashlib.sha256(bytes_of(x + 0.0)).hexdigest()  # + 0.0: a negative zero is a zero


def try_blocks(
    uncut: Uncut, plan: LayerPlan, surgery: Surgery, layers: Sequence[int], whole: int
) -> Row:
    """What comes out of each block with a cut in it.

    Returns:
        ``layers``: for each ``layer`` the ``hash`` of what comes out, and ``row`` where it tells
        what became of the cut; ``whole``: the row of a whole run with the cut in that layer alone,
        against which what is carried is checked.
    """
    made = uncut.with_preparation(at_layers(surgery, layers))
    filenames = edited_names(made) | {str(source.path) for source in uncut.sources}
    found = []
    try:
        with uncut.operated(made), torch.no_grad():
            for layer in layers:
                try:
                    found.append({"layer": layer, **try_block(uncut, plan, layer, filenames)})
                except (Exception, SystemExit) as error:
                    row = failure_row("judge", error, filenames)
                    found.append({"layer": layer, "hash": "", "row": row})
    except RewriteError as error:
        row = {**not_measured(uncut), "detail": str(error)}
        found = [{"layer": layer, "hash": "", "row": row} for layer in layers]
    checked = try_cut(uncut, at_layers(surgery, [whole]))
    return {"status": Status.CHANGED, "detail": "", "layers": found, "whole": checked}


def try_block(uncut: Uncut, plan: LayerPlan, layer: int, filenames: set[str]) -> Row:
    """``hash`` of what comes out of one block as it is now, ``row`` if that tells all, ``ahead``:
    whether it looks ahead."""
    before = plan.entering[layer]
    x = call_block(uncut, plan, layer, before)
    name = hash_of(x)
    if name == plan.after[layer]:
        row = {**unchanged(uncut), "status": Status.EQUIVALENT}
        return {"hash": name, "row": {**row, "detail": "the same logits, to the bit"}}
    if torch.isnan(x).any():
        with FirstNaN(filenames) as first:
            call_block(uncut, plan, layer, before)
        where = "" if first.line is None else f" on line {first.line}"
        detail = f"the first NaN is made by {first.operation}{where}"
        return {"hash": name, "row": {"status": Status.NONFINITE, "detail": detail}}
    half = x.shape[1] // 2
    changed = call_block(uncut, plan, layer, plan.other[layer])
    moved = (changed - x)[:, :half].norm(dim=-1) > LEAK * x[:, :half].norm(dim=-1)
    return {"hash": name, "ahead": bool(moved.any()) and not uncut._baseline_leaks}


def call_block(uncut: Uncut, plan: LayerPlan, layer: int, x: Tensor) -> Tensor:
    with same_draws(uncut.model):
        return plan.blocks.call(layer, x, plan.calls, torch.arange(len(x)))


def carry_on(uncut: Uncut, plan: LayerPlan, surgery: Surgery, layers: Sequence[int]) -> Row:
    """What becomes of the model with a cut in each of some layers alone: ``layers``, a row for
    each, the layer behind which nothing is cut any more last."""
    made = uncut.with_preparation(at_layers(surgery, layers))
    rows: list[Row] = []
    batch, length = plan.entering[0].shape[:2]
    together = max(1, TOKENS // (batch * length))
    for start in range(0, len(layers), together):
        some = sorted(layers[start : start + together])
        with uncut.operated(made), torch.no_grad():
            cut = {layer: call_block(uncut, plan, layer, plan.entering[layer]) for layer in some}
        with uncut.operated(uncut.prepare), torch.no_grad():
            x = plan.entering[0][:0]
            for layer in range(some[0], len(plan.blocks)):
                if len(x):
                    examples = torch.arange(batch).repeat(len(x) // batch)
                    x = plan.blocks.call(layer, x, plan.calls, examples)
                if layer in cut:
                    x = torch.cat([x, cut[layer]])
            for layer, last in zip(some, x.split(batch), strict=True):
                with plan.blocks.ending_with(last):
                    judgement = judge_model(uncut.model, uncut.judge)
                rows.append({"layer": layer, **row_of_judgement(uncut, judgement)})
    return {"status": Status.CHANGED, "detail": "", "layers": rows}


def row_of_judgement(uncut: Uncut, judgement: Judgement) -> Row:
    if not judgement.is_finite:
        detail = "an infinity behind this layer, and no NaN in it"
        return {"status": Status.NONFINITE, "detail": detail}
    return compare_with_uncut(uncut, judgement, False, ())


def as_leak(row: Row) -> Row:
    """A row of a cut with which the block looks ahead."""
    if row["status"] != Status.CHANGED:
        return row
    return {**row, "status": Status.LEAK, "detail": "earlier logits depend on later tokens"}


def is_borne_out(row: Row, whole: Row) -> bool:
    """Whether what was carried is what a whole run of the cut model comes to."""
    if row["status"] != whole["status"]:
        return False
    if row["status"] not in (Status.CHANGED, Status.LEAK):
        return True
    return bool(abs(row["value"] - whole["value"]) <= FLOAT_NOISE * max(1.0, abs(whole["value"])))
