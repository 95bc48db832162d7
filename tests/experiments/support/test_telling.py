import numpy as np
import pandas as pd

from experiments.support.pages.summary import summarise, trainings_of
from experiments.support.pages.telling import (
    BEFORE,
    LEFT_OUT,
    limits_of_trainings,
    of_surgeries,
    of_trainings,
    tell,
)


def effects(*deltas, **more):
    """One cut for each delta; an effect where it is beyond 0.02."""
    size = pd.Series(deltas)
    columns = {
        "file": "model.py",
        "line": size.index,
        "code": "x = y",
        "after": "x = x",
        "status": "changed",
        "surgery": "cut " + size.index.astype(str),
        "delta": size,
        "ci_low": size - 0.01,
        "ci_high": size + 0.01,
        "p_adjusted": np.where(size.abs() > 0.02, 0.01, 0.5),
        "n": 5,
    }
    return pd.DataFrame(columns | more)


def sentences(table, trainings=None):
    return tell(of_surgeries(table, BEFORE, "seed", trainings))


def test_the_summary_names_the_largest_effects_first():
    said = sentences(effects(0.1, 1.5, 0.3, 0.2))
    assert [sentence.split(",")[0] for sentence in said] == [
        "model.py:1",
        "model.py:2",
        "model.py:3",
    ]
    assert said[0] == (
        "model.py:1, cut before training, raises the loss by 1.500 nats (5 seeds: 95 % interval "
        "+1.490 to +1.510): x = y → x = x."
    )


def test_what_lowers_the_loss_is_named_however_small():
    said = sentences(effects(0.1, 1.5, 0.3, 0.2, -0.03))
    assert said[-1].startswith("model.py:4, cut before training, lowers the loss by 0.030 nats")
    assert len(said) == 4


def test_steps_of_a_pipeline_are_called_steps():
    table = of_surgeries(effects(0.001, -0.002), BEFORE, "seed").assign(how=LEFT_OUT)
    assert tell(table)[-1].startswith(
        "No effect shown, left out of the pipeline before training: model.py:0"
    )
    many = of_surgeries(effects(*[0.001] * 9), BEFORE, "seed").assign(how=LEFT_OUT)
    assert tell(many)[-1] == (
        "Of 9 steps left out of the pipeline before training, 9 show no effect."
    )


def test_what_shows_no_effect_is_said_to_show_none():
    said = sentences(effects(1.5, -0.01, 0.005))
    assert said[-1].startswith("No effect shown, cut before training: model.py:1 (-0.010 nats; 5 ")
    assert "model.py:2" in said[-1] and len(said) == 2
    many = sentences(effects(1.5, *[0.001] * 7))
    assert many[-1] == "Of 8 cuts before training, 7 show no effect."


def test_an_interval_beside_zero_that_correction_does_not_spare_shows_no_effect_and_says_why():
    table = effects(1.5, 0.3, 0.005)
    table.loc[1, "p_adjusted"] = 0.08
    found, null = sentences(table)
    assert "model.py:1 (+0.300 nats" in null and "model.py:1" not in found
    assert "p is 0.08 once corrected for all that was tested" in null


def test_two_seeds_are_told_point_by_point_and_after_what_is_known():
    unknown = {"ci_low": np.nan, "ci_high": np.nan, "p_adjusted": np.nan, "n": 2}
    table = pd.concat([effects(1.3105, **unknown), effects(0.5).assign(line=7)])
    trainings = pd.DataFrame({"surgery": "cut 0", "seed": [0, 1], "delta": [1.310, 1.311]})
    known, said = sentences(table.reset_index(drop=True), trainings)
    assert known.startswith("model.py:7")
    assert "changes the loss by +1.31" in said
    assert "(2 seeds: +1.310, +1.311; no interval from fewer than three)" in said


def trained(**variants):
    """Curves: a variant's best and last loss, five seeds that differ by a hundredth."""
    noise = (0.0, 0.01, -0.01, 0.005, -0.005)
    return pd.DataFrame(
        {
            "variant": variant,
            "label": variant,
            "file": "model.py",
            "lines": (len(variant),),
            "before": ("x = y",),
            "after": ("x = x",),
            "seed": seed,
            "step": step,
            "split": "val",
            "loss": loss + spread,
            "status": "changed",
        }
        for variant, (best, last) in variants.items()
        for seed, spread in enumerate(noise)
        for step, loss in ((0, 4.0), (100, best), (200, last))
    )


def told_of(curves, steps=None):
    return tell(of_trainings(summarise(curves, steps), trainings_of(curves)))


def test_a_last_loss_without_an_effect_does_not_hide_the_best_one():
    said = told_of(trained(none=(1.5, 2.5), a=(2.183, 2.5)))
    assert len(said) == 1
    assert said[0].startswith("a (model.py:1), cut before training, changes the loss by +0.000")
    assert "no effect shown" in said[0]
    assert "by the best loss of each training +0.683 nats" in said[0] and "raises" in said[0]


def test_where_best_and_last_agree_one_is_enough():
    said = told_of(trained(none=(2.0, 2.0), a=(2.5, 2.5)))
    assert len(said) == 1 and "best loss" not in said[0]


def test_trainings_that_were_stopped_say_so():
    curves = trained(none=(2.0, 2.0), a=(2.5, 2.5))
    assert "cut before training (stopped at step 200 of 500)" in told_of(curves, 500)[0]
    assert "stopped" not in told_of(curves, 200)[0]
    limits = limits_of_trainings(summarise(curves, 500))
    assert any("stopped at step 200 of 500" in sentence for sentence in limits)
