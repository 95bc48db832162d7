"""How does what a variant writes differ from what the model writes as it is?

    table = compare_samples(measured)   # variant measure value baseline delta ci_low ci_high ...

Samples are paired by prompt and seed, whose random numbers are the same. One rule says what an
effect is, here as everywhere: ``interp.verdicts``.
"""

import numpy as np
import pandas as pd

from interp.errors import UsageError
from interp.samples.measures import MEASURES
from interp.verdicts import compare_texts, correct

PAIRED_BY = ("prompt", "seed")
COMPARED = [
    *("variant", "measure", "value", "baseline", "delta", "ci_low", "ci_high", "p", "n"),
    "p_adjusted",
]


def compare_samples(measured: pd.DataFrame, baseline: str = "") -> pd.DataFrame:
    """One row for each variant and measure.

    Args:
        measured: what ``measure_texts`` gives, of the model as it is and of variants.
        baseline: what the model as it is is called among the variants.

    Returns:
        ``variant measure``; ``value``, the variant's mean over samples, and ``baseline``, that of
        the model as it is over the same prompts and seeds; ``delta`` with its interval over
        prompts and seeds, ``p`` and ``p_adjusted`` (Holm over all rows); and ``n``, the pairs in
        which both have something to count. The model as it is stands first, with its value alone.

    Raises:
        UsageError: the model as it is is not among the variants; a sample is there twice.
    """
    by = list(PAIRED_BY)
    if baseline not in set(measured["variant"]):
        raise UsageError(f"there is no sample of {baseline!r}, to compare the others with")
    if measured.duplicated(["variant", *by]).any():
        raise UsageError("two samples of one variant have the same prompt and seed")
    names = list(dict.fromkeys([baseline, *measured["variant"]]))
    whole = measured[measured["variant"] == baseline].set_index(by)
    rows = []
    for variant in names:
        own = measured[measured["variant"] == variant].set_index(by)
        for name in (one.name for one in MEASURES):
            row = {"variant": variant, "measure": name}
            if variant == baseline:
                values = own[name].dropna()
                rows.append({**row, "value": values.mean(), "n": len(values)})
                continue
            pairs = pd.concat([own[name], whole[name]], axis=1, join="inner").dropna()
            cut, uncut = pairs.to_numpy(dtype=float).T
            about = {"value": mean_of(cut), "baseline": mean_of(uncut), "n": len(pairs)}
            rows.append({**row, **about, **compare_texts(cut, uncut)})
    return correct(pd.DataFrame(rows, columns=COMPARED[:-1]))[COMPARED]


def mean_of(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan
