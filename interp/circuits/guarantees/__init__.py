"""How much can be said for a circuit?

finding, judging = split_texts(clean, corrupted, answer, wrong)
curve = faithfulness_curve(model, clean, corrupted, metric, {"EAP": ranked, "random": shuffled})
curve_areas(curve)                                            # CPR and CMD, with intervals
minimality(model, clean, corrupted, circuit, metric)          # which edges could be left out
completeness(model, clean, corrupted, circuit, metric)        # the same cut from both
band_over_seeds({seed: curve_areas(curves[seed]) for seed in curves})
"""

from interp.circuits.guarantees.complete import completeness
from interp.circuits.guarantees.curves import MIB_SIZES, curve_areas, faithfulness_curve
from interp.circuits.guarantees.held_out import split_texts
from interp.circuits.guarantees.minimal import minimality
from interp.circuits.guarantees.seeds import band_over_seeds

__all__ = [
    "MIB_SIZES",
    "band_over_seeds",
    "completeness",
    "curve_areas",
    "faithfulness_curve",
    "minimality",
    "split_texts",
]
