"""What comes of a model that is built and trained with a cut made?

row = retrain(uncut, cut, seed=0)   # status, detail, value
"""

from typing import Any

from interp.status import Status
from interp.surgery.cutting.modules import edited_names
from interp.surgery.judging import judge_model, same_draws, sees_the_future
from interp.surgery.judging.rows import failure_row
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
