"""Which part of a model talks to which, and which of them are enough?

from interp.circuits import edge_effects

table = edge_effects(model, clean, corrupted, metric)                      # every edge, open
table = edge_effects(model, clean, corrupted, metric, meaning="direct")    # path patching
    table = path_effects(model, clean, corrupted, metric, "a0.h* -> a1.h1.k -> logits")
    table = run_circuits(model, clean, corrupted, {"two heads": ["a0.h1", "a1.h0"]}, metric)
    scores = score_edges(model, clean, corrupted, metric, method="EAP")        # and rank_edges
    curve = faithfulness_curve(model, clean, corrupted, metric, {"EAP": ranked})
    lattice = every_circuit(model, clean, corrupted, metric)                   # of a small model
    lattice.smallest(within=0.1), lattice.shapley()
    print(edge_twin(model, "a0.h1 -> a1.h0.k", clean).diff)                    # as a source edit
"""

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.edges import edge_effects
from interp.circuits.exhaustive.lattice import CircuitLattice
from interp.circuits.exhaustive.tree import every_circuit
from interp.circuits.finding.greedy import remove_greedily
from interp.circuits.finding.ranking import EdgeAudit, audit_edges, rank_edges
from interp.circuits.finding.scoring import score_edges
from interp.circuits.graph import Edge, Graph, Reader, Writer, graph_of_sizes
from interp.circuits.guarantees import (
    band_over_seeds,
    completeness,
    curve_areas,
    faithfulness_curve,
    minimality,
    split_texts,
)
from interp.circuits.paths import path_effects
from interp.circuits.running import run_circuits
from interp.circuits.twins import EdgeTwin, check_twins, edge_twin, where

__all__ = [
    "CircuitLattice",
    "Edge",
    "EdgeAudit",
    "EdgeTwin",
    "Graph",
    "Reader",
    "SummedRun",
    "Writer",
    "audit_edges",
    "band_over_seeds",
    "check_twins",
    "completeness",
    "curve_areas",
    "edge_effects",
    "edge_twin",
    "every_circuit",
    "faithfulness_curve",
    "graph_of_sizes",
    "minimality",
    "path_effects",
    "rank_edges",
    "remove_greedily",
    "run_circuits",
    "score_edges",
    "split_texts",
    "take_apart",
    "where",
]
