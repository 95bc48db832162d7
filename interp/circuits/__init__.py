"""Which part of a model talks to which, and which of them are enough?

from interp.circuits import edge_effects

table = edge_effects(model, clean, corrupted, metric)                      # every edge, open
table = edge_effects(model, clean, corrupted, metric, meaning="direct")    # path patching
"""

from interp.circuits.contributions import SummedRun, take_apart
from interp.circuits.edges import edge_effects
from interp.circuits.graph import Edge, Graph, Reader, Writer, graph_of_sizes

__all__ = [
    "Edge",
    "Graph",
    "Reader",
    "SummedRun",
    "Writer",
    "edge_effects",
    "graph_of_sizes",
    "take_apart",
]
