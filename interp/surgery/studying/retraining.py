"""What comes of a model that is built and trained with a cut made?

row = retrain(uncut, cut, seed=0)   # status, detail, value
"""

import warnings
from typing import Any

from interp.errors import SurgeryWarning
from interp.status import Status
from interp.surgery.cutting.modules import edited_names
from interp.surgery.judging import judge_model, same_draws, sees_the_future
from interp.surgery.judging.rows import Row, close, failure_row
from interp.surgery.source.edits import Surgery
from interp.surgery.studying.uncut import Uncut


def retrain(uncut: Uncut, surgery: Surgery | None, seed: int) -> dict[str, Any]:
    assert uncut.train is not None
    sources = {str(source.path) for source in uncut.sources}
    filenames = sources | (edited_names(surgery) if surgery else set())
    stage = "build"
    try:
        with uncut.made_in_building(surgery), same_draws(seed=seed):
            model = uncut.build(seed)
            stage = "train"
            uncut.train(model, seed)
            stage = "judge"
            judgement = judge_model(model, uncut.judge)
            if not judgement.is_finite:
                return {
                    "status": Status.NONFINITE,
                    "detail": "the trained model's loss is no number",
                }
            leaks = sees_the_future(model, judgement.calls[0])
    except (Exception, SystemExit) as error:
        return failure_row(stage, error, filenames)
    row = {"value": float(judgement.values.mean()), "n": len(judgement.values)}
    if leaks and surgery is not None and not uncut._baseline_leaks:
        return {**row, "status": Status.LEAK, "detail": "earlier logits depend on later tokens"}
    return {**row, "status": Status.CHANGED, "detail": ""}


def warn_of_changes(first: Row, second: Row, seed: int) -> None:
    """Warn where the model as it is came to another value when it was trained again."""
    if "value" in first and "value" in second and not close(first["value"], second["value"]):
        warnings.warn(
            f"Training is not repeatable: with seed {seed} the model as it is came to "
            f"{first['value']:.6g}, and then to {second['value']:.6g}. What seeds differ by "
            "holds this too.",
            SurgeryWarning,
            stacklevel=5,
        )
