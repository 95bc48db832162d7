"""How does what a variant writes differ from what the model writes as it is?

    table = compare_samples(measured)   # variant measure value baseline delta ci_low ci_high ...

Samples are paired by prompt and seed, whose random numbers are the same. What several trainings of
a variant wrote is compared training by training: texts of one training have its luck in common, so
that eight prompts of three trainings are three measurements of what training with a cut leads to,
not twenty-four. One rule says what an effect is, here as everywhere: ``interp.verdicts``.
"""

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.samples.measures import MEASURES
from interp.verdicts import compare_seeds, compare_texts, correct

TRAININGS, TEXTS = "trainings", "texts of one training"
COMPARED = [
    *("variant", "measure", "value", "baseline", "delta", "ci_low", "ci_high", "p", "n", "over"),
    "p_adjusted",
]


def compare_samples(measured: pd.DataFrame, baseline: str = "") -> pd.DataFrame:
    """One row for each variant and measure.

    Args:
        measured: what ``measure_texts`` gives, of the model as it is and of variants. A column
            ``training`` says which training of its variant wrote a sample; without one, or with
            the same in all rows, all are of one model.
        baseline: what the model as it is is called among the variants.

    Returns:
        ``variant measure``; ``value``, the variant's mean over samples, and ``baseline``, that of
        the model as it is over the same prompts and seeds; ``delta`` with its interval, ``p`` and
        ``p_adjusted`` (Holm over all rows). The interval is over what ``over`` says, of which
        there are ``n``: ``texts of one training``, pairs in which both have something to count; or
        ``trainings``, each with the mean of its texts, by ``compare_seeds``. The model as it is
        stands first, with its value alone.

    Raises:
        UsageError: the model as it is is not among the variants; a sample is there twice.
    """
    by = ["training", "prompt", "seed"]
    measured = measured if "training" in measured else measured.assign(training=0)
    several = len(set(measured["training"])) > 1
    if baseline not in set(measured["variant"]):
        raise UsageError(f"there is no sample of {baseline!r}, to compare the others with")
    if measured.duplicated(["variant", *by]).any():
        raise UsageError("two samples of one variant have the same training, prompt and seed")
    names = list(dict.fromkeys([baseline, *measured["variant"]]))
    whole = measured[measured["variant"] == baseline].set_index(by)
    rows = []
    for variant in names:
        own = measured[measured["variant"] == variant].set_index(by)
        for name in (one.name for one in MEASURES):
            row = {"variant": variant, "measure": name, "over": TRAININGS if several else TEXTS}
            pairs = pd.concat([own[name], whole[name]], axis=1, join="inner").dropna()
            if several:  # each counts once, however many of its texts have something to count
                pairs = pairs.groupby(level="training").mean()
            cut, uncut = pairs.to_numpy(dtype=float).T
            row |= {"value": mean_of(cut), "n": len(pairs)}
            if variant != baseline:
                compare = compare_seeds if several else compare_texts
                row |= {"baseline": mean_of(uncut), **compare(cut, uncut)}
            rows.append(row)
    return correct(pd.DataFrame(rows, columns=COMPARED[:-1]))[COMPARED]


def mean_of(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan
