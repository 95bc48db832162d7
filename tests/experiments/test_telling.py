import numpy as np
import pandas as pd

from experiments.telling import BEFORE, COLUMNS, told


def effects(*deltas):
    """One cut for each delta; a NaN interval where nobody knows, sure where it is beyond 0.02."""
    size = pd.Series(deltas)
    numbers = size.index.astype(str)
    columns = {
        "name": "cut " + numbers,
        "how": "cut before training",
        "way": BEFORE,
        "line": "model.py:" + numbers,
        "code": "x = y → x = x",
        "delta": size,
        "ci_low": size - 0.01,
        "ci_high": size + 0.01,
        "sure": size.abs() > 0.02,
        "n": "5 seeds",
    }
    return pd.DataFrame(columns, columns=COLUMNS)


def test_the_summary_names_the_largest_effects_first():
    said = told(effects(0.1, 1.5, 0.3, 0.2))
    assert [sentence.split(" ")[1] for sentence in said] == ["1", "2", "3"]
    assert said[0].startswith("cut 1 (model.py:1), cut before training, costs +1.500 nats")


def test_what_lowers_the_loss_is_named_however_small():
    said = told(effects(0.1, 1.5, 0.3, 0.2, -0.03))
    assert said[-1].startswith("cut 4 (model.py:4), cut before training, lowers the loss by 0.030")
    assert len(said) == 4


def test_what_cannot_be_told_from_noise_is_said_to_be_that():
    said = told(effects(1.5, -0.01, 0.005))
    assert "cannot be told from no change: cut 1 (-0.010" in said[-1] and "cut 2" in said[-1]
    assert len(said) == 2


def test_an_interval_without_zero_that_correction_does_not_spare_is_no_null_result():
    table = effects(1.5, 0.3, 0.005)
    table.loc[1, "sure"] = False
    chance, null = told(table)[1:]
    assert "these might be chance among 3 cuts" in chance and "cut 1 (+0.300" in chance
    assert "cannot be told from no change: cut 2" in null and "cut 1" not in null


def test_one_seed_has_no_interval_and_is_told_as_it_is():
    table = effects(1.5).assign(ci_low=np.nan, ci_high=np.nan, sure=False, n="1 seed")
    assert told(table) == [
        "cut 0 (model.py:0), cut before training, costs +1.500 nats (1 seed, no interval): "
        "x = y → x = x."
    ]
