"""How much can be said for a circuit?

curve = faithfulness_curve(model, clean, corrupted, metric, {"EAP": ranked, "random": shuffled})
areas = curve_areas(curve)                # CPR and CMD of each method, with intervals
"""

from interp.circuits.guarantees.curves import MIB_SIZES, curve_areas, faithfulness_curve

__all__ = ["MIB_SIZES", "curve_areas", "faithfulness_curve"]
