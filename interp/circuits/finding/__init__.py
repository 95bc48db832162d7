"""Which edges make up the circuit that does a task?

scores = score_edges(model, clean, corrupted, metric, method="EAP-IG inputs")
    rank_edges(scores)[:100]                    # the hundred edges to keep first
    print(audit_edges(scores, exact))           # how far the scores can be trusted
    tries = remove_greedily(model, clean, corrupted, metric, threshold=0.05)
"""

from interp.circuits.finding.greedy import remove_greedily
from interp.circuits.finding.ranking import EdgeAudit, audit_edges, rank_edges
from interp.circuits.finding.scoring import Method, score_edges

__all__ = ["EdgeAudit", "Method", "audit_edges", "rank_edges", "remove_greedily", "score_edges"]
