"""In which order do edges matter, and how far are scores to be trusted?

rank_edges(scores, by="signed")[:100]       # the hundred edges to keep first
print(audit_edges(scores, exact))           # against exact effects of the same edges
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from interp.attribution import audit_scores
from interp.errors import UsageError

TOP = (0.01, 0.05, 0.1)  # shares of the edges that are audited


@dataclass(frozen=True)
class EdgeAudit:
    """How good scores of edges are where exact effects are known.

    Args:
        method: of the scores.
        edges: how many were compared.
        correlation: Pearson's, of scores and exact effects; NaN where either does not vary.
        rank_correlation: Spearman's, of their sizes, whatever the signs.
        slope: of the exact effects over the scores; below 1 where scores exaggerate.
        with_effect: how many have an exact effect; the others have no sign.
        wrong_signs: at how many of these the score's sign is another one.
        overlap: for several numbers k, the share of the k largest scores that are among the k
            largest exact effects, by size.
    """

    method: str
    edges: int
    correlation: float
    rank_correlation: float
    slope: float
    with_effect: int
    wrong_signs: int
    overlap: Mapping[int, float]

    def __str__(self) -> str:
        shared = ", ".join(f"{share:.0%} of the top {k}" for k, share in self.overlap.items())
        return (
            f"{self.method}, {self.edges} edges patched exactly: correlation "
            f"{self.correlation:.2f} (of ranks {self.rank_correlation:.2f}), slope "
            f"{self.slope:.2f}, the sign differs at {self.wrong_signs} of {self.with_effect}; "
            f"found {shared}"
        )


def rank_edges(
    scores: pd.DataFrame,
    by: Literal["signed", "absolute"] = "absolute",
    *,
    towards: int | None = None,
) -> list[str]:
    """Edges by how much they matter, the most important one first.

    Args:
        scores: of ``score_edges``, by one method; or any table of ``edge`` and ``score``.
        by: ``absolute``, the size of the score; ``signed``, how far it goes from the model's value
            towards that with no edge kept, so that edges which work against the model come last.
        towards: the sign of that way, 1 or -1; by default what the table says.

    Returns:
        The edges as they are written; of equal ones, in the table's order.

    Raises:
        UsageError: scores of several methods, or that are missing; no way to know the sign.
    """
    only_method(scores)
    values = scores["score"].to_numpy(dtype=float)
    if np.isnan(values).any():
        raise UsageError(
            f"{int(np.isnan(values).sum())} edges of the table have no score, so that they have no "
            "place in an order: leave them out"
        )
    if by == "absolute":
        values = np.abs(values)
    elif by == "signed":
        if towards is None:
            found = set(scores["towards"]) if "towards" in scores else set()
            if len(found) != 1 or found == {0}:
                raise UsageError(
                    "by='signed' needs to know whether the metric falls or rises from the whole "
                    "model to none of it, and the table does not say: give towards=-1 or 1"
                )
            (towards,) = found
        values = values * np.sign(towards)
    else:
        raise UsageError(f"by is {by!r}; it must be 'signed' or 'absolute'")
    return scores["edge"].iloc[np.argsort(-values, kind="stable")].tolist()


def audit_edges(scores: pd.DataFrame, exact: pd.DataFrame) -> EdgeAudit:
    """How well scores agree with exact effects.

    Args:
        scores: of ``score_edges``, by one method.
        exact: of ``score_edges`` with ``method="exact"``, or of ``edge_effects``, open: of the same
            edges or some of them.

    Raises:
        UsageError: scores of several methods; edges that have no score; no edges; another
            direction.
    """
    method = only_method(scores)
    if len(exact) == 0:
        raise UsageError("there are no exact effects to compare with: give at least one edge's")
    if "meaning" in exact and set(exact["meaning"]) != {"open"}:
        raise UsageError("scores estimate open effects; these are direct ones: take meaning='open'")
    for name in ("direction", "metric"):
        if name in scores and name in exact and set(scores[name]) != set(exact[name]):
            raise UsageError(
                f"the scores' {name} is {scores[name].iloc[0]!r} and the exact effects' is "
                f"{exact[name].iloc[0]!r}: compare effects of the same"
            )
    column = "score" if "score" in exact else "delta"
    approximate = scores.set_index("edge")["score"]
    if missing := [edge for edge in exact["edge"] if edge not in approximate.index]:
        raise UsageError(f"{missing[0]} and {len(missing) - 1} other edges have no score")
    one = approximate.loc[exact["edge"]].to_numpy(dtype=float)
    other = exact[column].to_numpy(dtype=float)
    found = audit_scores(one, other, 0)
    places = [pd.Series(np.abs(values)).rank() for values in (one, other)]
    order = [np.argsort(-np.abs(values), kind="stable") for values in (one, other)]
    ks = list(dict.fromkeys(max(1, round(share * len(one))) for share in TOP))
    overlap = {k: len({*order[0][:k]} & {*order[1][:k]}) / k for k in ks}
    varied = places[0].std() > 0 and places[1].std() > 0
    return EdgeAudit(
        method,
        len(one),
        found.correlation,
        float(places[0].corr(places[1])) if varied else float("nan"),
        found.slope,
        found.with_effect,
        found.wrong_signs,
        overlap,
    )


def only_method(scores: pd.DataFrame) -> str:
    """The method of a table of scores. Raises ``UsageError`` where there are several."""
    methods = sorted(set(scores["method"])) if "method" in scores else ["given"]
    if len(methods) != 1:
        raise UsageError(
            f"the table has scores of {len(methods)} methods ({', '.join(methods)}): give those of "
            "one"
        )
    return str(methods[0])
