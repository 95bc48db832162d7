"""What becomes of the trained model when one cut is made in it?

row = try_cut(uncut, cut)   # status, detail, value, baseline, delta, fingerprint ...
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from interp.errors import SurgeryError
from interp.interventions import intervene
from interp.status import Status
from interp.surgery.cutting.means import needs_mean
from interp.surgery.cutting.modules import edited_names
from interp.surgery.cutting.rewriting import RewriteError
from interp.surgery.judging import (
    FirstNaN,
    Judgement,
    judge_model,
    same_draws,
    sees_the_future,
)
from interp.surgery.judging.rebuilding import SAME_VALUE, MisfitError, is_same, rebuild
from interp.surgery.judging.rows import (
    FLOAT_NOISE,
    Row,
    compare_values,
    failure_row,
    largest_difference,
)
from interp.surgery.judging.training import training_fingerprint
from interp.surgery.judging.twins import Twin
from interp.surgery.running.layers import layer_modules
from interp.surgery.source.edits import Surgery, at_layers
from interp.surgery.studying.uncut import Uncut


def try_twin(uncut: Uncut, twin: Twin) -> Row:
    """The intervention on hook points that is the same cut as some surgeries."""
    changes = twin.interventions(uncut.hook_means)
    with (
        uncut.operated(uncut.prepare),
        intervene(cast(Any, uncut.model), changes, allow_no_effect=True),
    ):
        judgement = judge_model(uncut.model, uncut.judge)
    return {
        "status": Status.CHANGED,
        "intervention": twin.kind,
        "hook": twin.hook,
        "hook_delta": float((judgement.values - uncut.baseline.values).mean()),
    }


def try_cut(uncut: Uncut, surgery: Surgery) -> Row:
    """One surgery on the trained model: on the instance itself where what is cut ran while it was
    judged and nothing is kept; else on one that is built anew with the cut made."""
    made = uncut.with_preparation(surgery)
    filenames = edited_names(made) | {str(source.path) for source in uncut.sources}
    plan, hidden, anew = uncut.rebuilding, is_hidden(uncut, surgery), is_built_anew(uncut, surgery)
    if anew and plan.refusal:
        why = f"a model that is built anew is not the trained one: {plan.refusal}"
        return try_without_weights(uncut, surgery, made, filenames, why)
    stage, left_out = "build" if anew else "judge", list[str]()
    with ExitStack() as stack:
        try:
            model = graft(uncut, made) if anew and made.layers is not None else uncut.model
            stack.enter_context(uncut.operated(made, model))
            if anew and made.layers is None:
                model, left_out = rebuild(plan, uncut.build, model)
            stage = "judge"
            judgement = judge_model(model, uncut.judge)
            if not judgement.is_finite:
                return trace_nan(model, judgement, filenames)
            same = is_to_the_bit(uncut, judgement)
            ahead = not same and looks_ahead(uncut, model, judgement)
        except RewriteError as error:
            return {**not_measured(uncut), "detail": str(error)}
        except MisfitError as error:
            misfit = f"the trained weights do not fit: {error}"
            return try_without_weights(uncut, surgery, made, filenames, misfit)
        except (Exception, SystemExit) as error:
            return failure_row(stage, error, filenames)
    if same and hidden and not anew:
        why = f"its trace may be kept on the trained model, and none is built anew: {plan.refusal}"
        return try_without_weights(uncut, surgery, made, filenames, why)
    if same and not uncut.phases(surgery):
        detail = (
            "the edited lines do not run when the model is built, judged or trained; where they "
            "wait in a branch that is not taken, edit its condition too, in one diff or copy"
        )
        return {**unchanged(uncut), "status": Status.DEAD, "detail": detail}
    if same:
        return try_in_training(uncut, surgery, made, filenames)
    return compare_with_uncut(uncut, judgement, ahead, left_out)


def is_hidden(uncut: Uncut, surgery: Surgery) -> bool:
    """Whether the trained instance may hold what a line made, so that a cut of it there shows
    nothing."""
    return uncut.rebuilding.keeps or "judge" not in uncut.phases(surgery)


def is_built_anew(uncut: Uncut, surgery: Surgery) -> bool:
    """Whether a cut is made in a model that is built with it, not in the trained instance."""
    if uncut.phases(surgery) & {"import", "build"}:
        return True
    return is_hidden(uncut, surgery) and not uncut.rebuilding.refusal


def compare_with_uncut(
    uncut: Uncut, judgement: Judgement, ahead: bool, left_out: Sequence[str]
) -> Row:
    """The row of a mutant that is not the model as it is, to the bit."""
    row = compare_values(judgement.values, uncut.baseline.values)
    row["fingerprint"] = judgement.fingerprint
    difference = largest_difference(judgement, uncut.baseline)
    if difference is not None and difference < FLOAT_NOISE:
        if np.allclose(judgement.values, uncut.baseline.values, rtol=FLOAT_NOISE, atol=FLOAT_NOISE):
            detail = f"the same logits, up to {difference:.1g} of their spread"
            return {**row, "status": Status.EQUIVALENT, "detail": detail}
        detail = "the same logits: what changes is the loss that the model hands out"
        return {**row, "status": Status.CHANGED, "detail": detail}
    if ahead:
        detail = "earlier logits depend on later tokens"
        return {**row, "status": Status.LEAK, "detail": detail}
    return {**row, "status": Status.CHANGED, "detail": without_place(left_out)}


def without_place(weights: Sequence[str]) -> str:
    """That a cut model leaves out some of the trained weights."""
    if not weights:
        return ""
    more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
    return f"the cut model has no place for the trained {weights[0]}{more}"


def is_to_the_bit(uncut: Uncut, judgement: Judgement) -> bool:
    """Whether a mutant is the model as it is: the trained one or, built anew, its equal."""
    known = {uncut.baseline.fingerprint, uncut.rebuilding.fingerprint}
    return judgement.fingerprint in known and bool(
        np.allclose(judgement.values, uncut.baseline.values, rtol=0, atol=SAME_VALUE)
    )


def looks_ahead(uncut: Uncut, model: nn.Module, judgement: Judgement) -> bool:
    return not uncut._baseline_leaks and sees_the_future(model, judgement.calls[0])


def graft(uncut: Uncut, made: Surgery) -> nn.Module:
    """The trained model built anew, with the layers of ``made`` from one that was built with the
    cut.

    Raises:
        SurgeryError: what building with the cut changes lies outside the layers too.
    """
    assert made.layers is not None
    everywhere = at_layers(made, None)
    with uncut.operated(uncut.prepare):
        plain, _ = rebuild(uncut.rebuilding, uncut.build, uncut.model)
        other, _ = rebuild(uncut.rebuilding, uncut.build, uncut.model)
    with uncut.operated(everywhere):
        cut, _ = rebuild(uncut.rebuilding, uncut.build, uncut.model)
        whole = judge_model(cut, uncut.judge)
        transplant(cut, other, list(layer_modules(cut)))
        if not is_same(judge_model(other, uncut.judge), whole):
            raise SurgeryError(
                "what it changes when the model is built lies outside the layers, so that it "
                "cannot be made in some of them: leave layers out"
            )
    transplant(cut, plain, made.layers)
    return plain


def transplant(donor: nn.Module, model: nn.Module, layers: Sequence[int]) -> None:
    """Put some of one model's layers into another."""
    wanted = {id(module) for layer in layers for module in layer_modules(donor).get(layer, [])}
    for name, module in list(donor.named_modules()):
        if id(module) in wanted:
            model.set_submodule(name, module)


def try_without_weights(
    uncut: Uncut, surgery: Surgery, made: Surgery, filenames: set[str], why: str
) -> Row:
    """A surgery after which the trained model cannot be had: only whether one can be built and
    trained with it is known."""
    row = try_in_training(uncut, surgery, made, filenames)
    if row["status"] == Status.ERROR:
        return row
    detail = f"what it does to the trained model is not known: {why}"
    return {**row, **not_measured(uncut), "detail": detail}


def not_measured(uncut: Uncut) -> Row:
    """What is known of a surgery that only training can show."""
    nothing = {"value": np.nan, "delta": np.nan, "fingerprint": np.nan}
    return {**unchanged(uncut), **nothing, "status": Status.RETRAIN_ONLY}


def unchanged(uncut: Uncut) -> Row:
    """The numbers of a surgery that leaves the trained model as it is."""
    return {
        "value": uncut.baseline.values.mean(),
        "baseline": uncut.baseline.values.mean(),
        "delta": 0.0,  # exactly, on any text: there is no interval
        "n": len(uncut.baseline.values),
        "fingerprint": uncut.baseline.fingerprint,
    }


def try_in_training(uncut: Uncut, surgery: Surgery, made: Surgery, filenames: set[str]) -> Row:
    """What a surgery without effect on the trained model does to building and training one."""
    same = unchanged(uncut)
    alone = surgery.layers is not None or needs_mean(made)  # a mean is of the trained model
    if alone or not uncut.trains:
        return {**same, "status": Status.EQUIVALENT, "detail": "the same logits, to the bit"}
    try:
        with uncut.made_in_building(made), same_draws():
            cut = training_fingerprint(uncut.build, uncut.baseline.calls[0], uncut.targets)
    except (Exception, SystemExit) as error:
        return failure_row("build or train", error, filenames)
    if uncut._training is None:
        detail = "the same logits, to the bit; what it does in training is not known"
        return {**same, "status": Status.EQUIVALENT, "detail": detail}
    if cut == uncut._training:
        return {**same, "status": Status.EQUIVALENT, "detail": "the same logits, to the bit"}
    phases = uncut.phases(surgery)
    if "judge" not in phases and phases & {"import", "build"}:
        detail = "acts when a model is built: the trained weights stand in for what it does"
        return {**same, "status": Status.RETRAIN_ONLY, "detail": detail}
    if cut.logits == uncut._training.logits and cut.beside != uncut._training.beside:
        detail = "changes what the model hands out beside its logits, such as a loss of its own"
        return {**same, "status": Status.TRAIN_ONLY, "detail": detail}
    return {**same, "status": Status.TRAIN_ONLY, "detail": "acts in training only"}


def trace_nan(model: nn.Module, judgement: Judgement, filenames: set[str]) -> Row:
    call = judgement.calls[0]
    with FirstNaN(filenames) as first, torch.no_grad(), same_draws(model):
        model(*call.args, **call.kwargs)
    where = "" if first.line is None else f" on line {first.line}"
    detail = f"the first NaN is made by {first.operation}{where}"
    if first.operation is None:
        detail = "an infinity, and no NaN before the loss"
    return {"status": Status.NONFINITE, "detail": detail, "fingerprint": judgement.fingerprint}
