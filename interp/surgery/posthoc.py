"""What becomes of the trained model when one cut is made in it?

row = try_cut(uncut, cut)   # status, detail, value, baseline, delta, fingerprint ...
"""

from typing import Any, cast

import numpy as np
import torch

from interp.interventions import intervene
from interp.surgery.edits import Surgery
from interp.surgery.judging import (
    FirstNaN,
    Judgement,
    judged,
    sees_the_future,
    training_fingerprint,
)
from interp.surgery.modules import edited_name
from interp.surgery.performing import following_layers, performed
from interp.surgery.rows import Row, compared, failed, largest_difference
from interp.surgery.uncut import Uncut

FLOAT_NOISE = 1e-5  # of the logits' spread: the same sum in another order


def try_cut(uncut: Uncut, surgery: Surgery) -> Row:
    """One surgery on the trained model, and the intervention that is the same cut."""
    row = judge_cut(uncut, surgery)
    twin = uncut.twins.of(surgery)
    if twin is None or row["status"] in ("error", "timeout", "retrain-only"):
        return row
    changes = twin.interventions(uncut.hook_means)
    with (
        uncut.operated(uncut.prepare),
        intervene(cast(Any, uncut.model), changes, allow_no_effect=True),
    ):
        judgement = judged(uncut.model, uncut.judge)
    delta = float((judgement.values - uncut.baseline.values).mean())
    return {**row, "intervention": twin.kind, "hook": twin.hook, "hook_delta": delta}


def judge_cut(uncut: Uncut, surgery: Surgery) -> Row:
    made = uncut.with_preparation(surgery)
    filenames = {edited_name(made), *(str(source.path) for source in uncut.sources)}
    baseline = uncut.baseline
    with following_layers(uncut.model) as layer, uncut.operated(made):
        uncut.current_layer.append(layer)
        try:
            judgement = judged(uncut.model, uncut.judge)
            if judgement.fingerprint != baseline.fingerprint and judgement.is_finite:
                ahead = looks_ahead(uncut, judgement)
            elif not judgement.is_finite:
                return trace_nan(uncut, judgement, filenames)
        except Exception as error:
            return failed("judge", error, filenames)
        finally:
            uncut.current_layer.pop()
    if judgement.fingerprint == baseline.fingerprint and np.array_equal(
        judgement.values, baseline.values
    ):
        return try_in_training(uncut, surgery, made, filenames)
    row = compared(judgement.values, baseline.values)
    row["fingerprint"] = judgement.fingerprint
    difference = largest_difference(judgement, baseline)
    if difference is not None and difference < FLOAT_NOISE:
        detail = f"the same logits, up to {difference:.1g} of their spread"
        return {**row, "status": "equivalent", "detail": detail}
    if judgement.fingerprint != baseline.fingerprint and ahead:
        detail = "earlier logits depend on later tokens"
        return {**row, "status": "leak", "detail": detail}
    return {**row, "status": "changed", "detail": ""}


def looks_ahead(uncut: Uncut, judgement: Judgement) -> bool:
    call = judgement.calls[0]
    return not uncut._baseline_leaks and sees_the_future(uncut.model, call)


def try_in_training(
    uncut: Uncut, surgery: Surgery, made: Surgery, filenames: set[str]
) -> dict[str, Any]:
    """What a surgery without effect on the trained model does to building and training one."""
    same: dict[str, Any] = {
        "value": uncut.baseline.values.mean(),
        "baseline": uncut.baseline.values.mean(),
        "delta": 0.0,  # exactly, on any text: there is no interval
        "n": len(uncut.baseline.values),
        "fingerprint": uncut.baseline.fingerprint,
    }
    if surgery.layers is not None:
        return {**same, "status": "equivalent", "detail": "the same logits, to the bit"}
    try:
        with performed(made):
            fingerprint = training_fingerprint(uncut.build, uncut.baseline.calls[0])
    except Exception as error:
        return failed("build or train", error, filenames)
    if fingerprint == uncut._training:
        return {**same, "status": "equivalent", "detail": "the same logits, to the bit"}
    phases = uncut.phases(surgery)
    if "judge" not in phases and "build" in phases:
        unmeasured = {"value": np.nan, "delta": np.nan}  # what was cut did not run
        detail = "acts when a model is built"
        return {**same, **unmeasured, "status": "retrain-only", "detail": detail}
    return {**same, "status": "train-only", "detail": "acts in training only"}


def trace_nan(uncut: Uncut, judgement: Judgement, filenames: set[str]) -> dict[str, Any]:
    call = judgement.calls[0]
    with FirstNaN(filenames) as first, torch.no_grad():
        uncut.model(*call.args, **call.kwargs)
    where = "" if first.line is None else f" on line {first.line}"
    detail = f"the first NaN is made by {first.operation}{where}"
    if first.operation is None:
        detail = "an infinity, and no NaN before the loss"
    return {"status": "nonfinite", "detail": detail, "fingerprint": judgement.fingerprint}
